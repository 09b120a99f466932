/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of a linear space (a connection's heap, the coordinator's arena) in units of 256 bytes.
 *
 * The space itself is never touched: everything the allocator knows is in private memory, so a
 * peer that can read or write the space can do nothing to it. Binary buddies: a request takes an
 * aligned power-of-two block and gives the units behind the request back at once, so that what is
 * lost is less than a unit, whatever the size.
 *
 * One thread at a time; the caller locks.
 */
#ifndef SB_SHM_BUDDY_H
#define SB_SHM_BUDDY_H

#include "base/atomic.h"
#include "base/bits.h"
#include "base/compiler.h"

#define SB_BUDDY_UNIT 256u
#define SB_BUDDY_LEVELS 29u
#define SB_BUDDY_MAX_UNITS ((uint64_t)1 << (SB_BUDDY_LEVELS - 1))

/* An outcome, no failure: nothing of that size is free now; growing the space would help. */
enum { SB_BUDDY_FULL = 1 };

struct sb_buddy {
    uint64_t units;                  /* size of the space */
    uint64_t used;                   /* units handed out */
    unsigned levels;                 /* of the tree that spans the space */
    uint8_t *level[SB_BUDDY_LEVELS]; /* see buddy.c */
};

/* An empty space; deinit gives back its private memory. No failure. */
void sb_buddy_init(struct sb_buddy *b);
void sb_buddy_deinit(struct sb_buddy *b);

/*
 * Makes the space `bytes` long (rounded down to a unit); a space never shrinks, so fewer than now
 * changes nothing. The only function that allocates private memory: two bytes a unit, 0.8 %.
 * SHMBUS_E_LIMIT beyond 64 GiB, SHMBUS_E_NOMEM; nothing has changed then.
 */
int sb_buddy_grow(struct sb_buddy *b, uint64_t bytes) SB_MUST_CHECK;

/*
 * Takes `bytes` (at least 1; rounded up to units) and stores where they begin: aligned to the
 * power of two that holds them. 0, or SB_BUDDY_FULL. O(log size), never blocks.
 */
int sb_buddy_alloc(struct sb_buddy *b, uint64_t bytes, uint64_t *offset) SB_MUST_CHECK;

/* Takes the first `bytes` of a space of which nothing has been taken yet: a header's place. */
void sb_buddy_reserve(struct sb_buddy *b, uint64_t bytes);

/* Gives back what alloc (or reserve, at 0) handed out for the same `bytes`. O(log size). */
void sb_buddy_free(struct sb_buddy *b, uint64_t offset, uint64_t bytes);

/* Bytes handed out, in whole units. */
SB_INLINE uint64_t sb_buddy_used(const struct sb_buddy *b)
{
    return sb_load_relaxed(&b->used) * SB_BUDDY_UNIT;
}

SB_INLINE uint64_t sb_buddy_size(const struct sb_buddy *b)
{
    return b->units * SB_BUDDY_UNIT;
}

#endif
