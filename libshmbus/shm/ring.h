/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring: many producers, any number of seats, no locks, one CAS per message.
 *
 * Who: any number of threads and processes push at once. Readers only read slots (shm/seat.h).
 * The coordinator reads the tail and helps it forward.
 *
 * Invariants:
 *  - A slot is {seq, desc}; it changes only by one 128-bit CAS, by producers only, and seq never
 *    goes back. At the same seq only a tombstone can follow, put by the chunk's owner. seq is one
 * more than the lap of the last write; 0: never written. Zeroed memory is an empty ring.
 *  - A position is lap << bits | index. All positions below the tail have been written; at most the
 *    position of the tail itself has been written, too, when its producer has not yet moved the
 *    tail (t' is the tail that counts this one).
 *
 * Linearisation: a push takes effect with the CAS of its slot. Moving the tail is a courtesy that
 * any later party does as well.
 *
 * Progress: lock-free. A push retries only when another push, or a tombstone in its slot, has
 * succeeded; retries are bounded, because on memory that others write nothing is promised.
 *
 * Death: nothing is claimed before it is written. A producer that dies before its slot's CAS has
 * done nothing, after it everything; one that is stopped for hours fails its CAS, since seq has
 * moved on.
 *
 * Trust: the segment is writable by others. Capacity and place come from the arena (the caller's
 * sb_ring_view); of the segment only tail, seq and desc are read, each once, and checked.
 */
#ifndef SB_SHM_RING_H
#define SB_SHM_RING_H

#include <stdbool.h>

#include "base/bits.h"
#include "shm/layout.h"

/* A ring as one process sees it. */
struct sb_ring_view {
    struct sb_ring *mem;
    uint32_t capacity;
    uint32_t bits; /* of the index: ceil(log2(capacity)) */
    uint64_t mask; /* of the index */
};

SB_INLINE struct sb_ring_view sb_ring_view(struct sb_ring *mem, uint32_t capacity)
{
    uint32_t bits = sb_log2_ceil(capacity);
    return (struct sb_ring_view){mem, capacity, bits, (UINT64_C(1) << bits) - 1};
}

SB_INLINE uint64_t sb_ring_index(uint64_t pos, uint32_t bits)
{
    return pos & ((UINT64_C(1) << bits) - 1);
}

SB_INLINE uint64_t sb_ring_lap(uint64_t pos, uint32_t bits)
{
    return pos >> bits;
}

SB_INLINE uint64_t sb_ring_next(uint64_t pos, uint32_t capacity, uint32_t bits)
{
    if (sb_unlikely(sb_ring_index(pos, bits) + 1 >= capacity))
        return (sb_ring_lap(pos, bits) + 1) << bits;
    return pos + 1;
}

/* sb_ring_next() with the mask of the index at hand. */
SB_INLINE uint64_t sb_ring_next_masked(uint64_t pos, uint32_t capacity, uint64_t mask)
{
    if (sb_unlikely((pos & mask) + 1 >= capacity))
        return (pos | mask) + 1;
    return pos + 1;
}

/* count (at most capacity) positions on. */
SB_INLINE uint64_t sb_ring_advance(uint64_t pos, uint32_t count, uint32_t capacity, uint32_t bits)
{
    uint64_t index = sb_ring_index(pos, bits) + count;
    if (index < capacity)
        return pos + count;
    return ((sb_ring_lap(pos, bits) + 1) << bits) + (index - capacity);
}

/* The number of positions before pos: for counting. */
SB_INLINE uint64_t sb_ring_linear(uint64_t pos, uint32_t capacity, uint32_t bits)
{
    return sb_ring_lap(pos, bits) * capacity + sb_ring_index(pos, bits);
}

/* One lap before pos, 0 in the first lap: the oldest position that can still be there when pos is
 * the tail. */
SB_INLINE uint64_t sb_ring_lap_before(uint64_t pos, uint32_t bits)
{
    uint64_t lap = UINT64_C(1) << bits;
    return pos >= lap ? pos - lap : 0;
}

enum sb_push {
    SB_PUSH_DONE,
    SB_PUSH_FULL,    /* reject_newest only, found by the caller's limit */
    SB_PUSH_SPOILED, /* a slot holds what no push can have written, or others never stop */
    SB_PUSH_AGAIN,   /* inside only: another push came first */
};

/* How many slots ahead of a push its cache line is asked for; readers have it otherwise. */
#define SB_PUSH_AHEAD 16

/* More failed attempts in a row than there can be producers between their CASes. */
#define SB_PUSH_TRIES 100000u

/* sb_ring_push() beyond its first attempt. */
enum sb_push sb_ring_push_again(const struct sb_ring_view *ring, uint64_t desc, uint64_t limit,
                                uint64_t *pos);

/* One attempt of a push: SB_PUSH_DONE, SB_PUSH_FULL, SB_PUSH_SPOILED, or SB_PUSH_AGAIN. */
SB_INLINE enum sb_push sb_ring_push_once(const struct sb_ring_view *ring, uint64_t desc,
                                         uint64_t limit, uint64_t *pos)
{
    struct sb_ring *mem = ring->mem;
    uint64_t mask = ring->mask;
    uint32_t capacity = ring->capacity;
    /* Pairs with the release in the tail's CAS: a tail that covers a slot shows that slot. */
    uint64_t tail = sb_load_acquire(&mem->tail);
    uint64_t index = tail & mask;
    uint64_t lap = sb_ring_lap(tail, ring->bits);
    if (sb_unlikely(tail >= limit))
        return SB_PUSH_FULL;
    if (sb_unlikely(index >= capacity))
        return SB_PUSH_SPOILED;
    struct sb_slot *slot = &mem->slot[index];
    sb_prefetch_write(slot + SB_PUSH_AHEAD);
    uint64_t seq = sb_load_acquire(&slot->seq);
    uint64_t old = sb_load_relaxed(&slot->desc);
    uint64_t next = tail + 1;
    if (sb_unlikely(index + 1 == capacity))
        next = (tail | mask) + 1;
    if (sb_likely(seq == lap)) {
        /* Releases the chunk; pairs with the reader's acquire loads of seq and desc. */
        if (sb_unlikely(!sb_cas_pair((struct sb_pair *)(void *)slot, seq, old, lap + 1, desc)))
            return SB_PUSH_AGAIN;
        *pos = tail;
        sb_cas_acq_rel(&mem->tail, &tail, next);
        return SB_PUSH_DONE;
    }
    if (seq == lap + 1)
        sb_cas_acq_rel(&mem->tail, &tail, next);
    else if (sb_load_acquire(&mem->tail) == tail)
        return SB_PUSH_SPOILED;
    return SB_PUSH_AGAIN;
}

/*
 * One attempt of a push that does not end a lap: one more than its position, or 0 with nothing
 * changed, whatever the reason.
 */
SB_INLINE uint64_t sb_ring_push_inside(const struct sb_ring_view *ring, uint64_t desc,
                                       uint64_t limit)
{
    struct sb_ring *mem = ring->mem;
    /* Pairs with the release in the tail's CAS: a tail that covers a slot shows that slot. */
    uint64_t tail = sb_load_acquire(&mem->tail);
    uint64_t index = tail & ring->mask;
    uint64_t lap = sb_ring_lap(tail, ring->bits);
    if (sb_unlikely(tail >= limit || index + 1 >= ring->capacity))
        return 0;
    struct sb_slot *slot = &mem->slot[index];
    sb_prefetch_write(slot + SB_PUSH_AHEAD);
    if (sb_unlikely(sb_load_acquire(&slot->seq) != lap ||
                    !sb_cas_pair((struct sb_pair *)(void *)slot, lap, sb_load_relaxed(&slot->desc),
                                 lap + 1, desc)))
        return 0;
    uint64_t next = tail + 1;
    sb_cas_acq_rel(&mem->tail, &tail, next);
    return next;
}

/*
 * Pushes desc and stores its position. With limited true (reject_newest) only below limit, the
 * position that would overwrite what the reader has not passed; at the limit SB_PUSH_FULL, and the
 * caller may look at the reader's cursor again. Never blocks.
 */
SB_INLINE enum sb_push sb_ring_push(const struct sb_ring_view *ring, uint64_t desc, bool limited,
                                    uint64_t limit, uint64_t *pos)
{
    if (!limited)
        limit = UINT64_MAX;
    enum sb_push ret = sb_ring_push_once(ring, desc, limit, pos);
    return sb_unlikely(ret == SB_PUSH_AGAIN) ? sb_ring_push_again(ring, desc, limit, pos) : ret;
}

/* Replaces desc at pos, which was pushed there, by a tombstone, unless it has been overwritten. The
 * ring must have been marked SB_RING_TOMBSTONED before. Only the chunk's owner. */
SB_INLINE void sb_ring_tombstone(const struct sb_ring_view *ring, uint64_t pos, uint64_t desc)
{
    struct sb_slot *slot = &ring->mem->slot[pos & ring->mask];
    uint64_t seq = sb_ring_lap(pos, ring->bits) + 1;
    (void)sb_cas_pair((struct sb_pair *)(void *)slot, seq, desc, seq, SB_DESC_TOMBSTONE);
}

/*
 * t': the tail, or one more if the slot there is already of this lap. Writes nothing. What comes
 * out is a position of the ring, whatever others have written: readers index with it.
 */
uint64_t sb_ring_tail_seen(const struct sb_ring *mem, uint32_t capacity, uint32_t bits);

/* t' after helping the tail to it; for parties that may write the segment. A position, too. */
uint64_t sb_ring_tail_exact(struct sb_ring *mem, uint32_t capacity, uint32_t bits);

/* Counts a refusal, or marks the ring spoiled and counts it so. */
void sb_ring_refused(struct sb_ring *mem, enum sb_push why);

#endif
