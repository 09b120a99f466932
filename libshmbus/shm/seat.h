/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seat: one reader's place at a ring.
 *
 * Who: one thread of the seat's process takes (look, take, pass); any thread of it gives holds back
 * (sb_seat_unhold). Publishers and the coordinator only read. Nobody else writes.
 *
 * A reader marks the positions that it is about to read with a hold, makes that visible with a full
 * fence, and looks again: if the slot is still of its lap, the owner of the chunk either sees the
 * hold before it reuses the chunk, or has not yet found the chunk passed. An owner looks in the
 * other order: positions first, full fence, then holds (shm/target.h).
 *
 * In a drop_oldest ring a slot may be overwritten at any time, so taking is: hold, fence, read
 * descriptor and seq again, use that descriptor, move the cursor. In a reject_newest ring nothing
 * is overwritten before the cursor has passed it: hold, then release the cursor. The same steps
 * serve both; the second look costs nothing there.
 *
 * Counting: `taken` and `skipped` are stored before the cursor, `returned` when the receive
 * returns. Whoever adds up (sb_seat_books) finds what is between the second look and `taken` by its
 * hold. A reader that dies before it has returned a message has dropped it.
 *
 * Progress: wait-free but for being lapped; each retry means that a whole lap of messages came.
 * Death: a dead reader's seat is taken away by the coordinator; until then it pins what it holds
 * and, in a reject_newest ring, what it has not read.
 *
 * Trust: descriptors come from memory that publishers write: what they name is checked by the
 * caller. The tail is checked for plausibility against the slot that was seen.
 */
#ifndef SB_SHM_SEAT_H
#define SB_SHM_SEAT_H

#include "shm/ring.h"

/* What a reading thread needs; everything but cursor is fixed. Made by sb_seat_reader(). */
struct sb_reader {
    const uint64_t *end;        /* in the seat's record; NULL: the seat has none */
    const struct sb_ring *ring; /* may be a read-only mapping */
    struct sb_seat *seat;
    uint32_t capacity;
    uint32_t bits;
    uint64_t mask;   /* of the index */
    uint64_t cursor; /* copy of seat->cursor */
};

/* A reader at a seat of a ring whose next position is cursor. */
SB_INLINE struct sb_reader sb_seat_reader(const struct sb_ring *ring, struct sb_seat *seat,
                                          uint32_t capacity, uint64_t cursor)
{
    uint32_t bits = sb_log2_ceil(capacity);
    return (struct sb_reader){.ring = ring,
                              .seat = seat,
                              .capacity = capacity,
                              .bits = bits,
                              .mask = (UINT64_C(1) << bits) - 1,
                              .cursor = cursor};
}

enum sb_look {
    SB_LOOK_EMPTY,
    SB_LOOK_READY,
    SB_LOOK_LAPPED, /* the position has been overwritten: sb_seat_jump() */
};

SB_INLINE const struct sb_slot *sb_seat_slot(const struct sb_reader *r, uint64_t pos)
{
    return &r->ring->slot[pos & r->mask];
}

/* Whether the message at pos is there. */
SB_INLINE enum sb_look sb_seat_look(const struct sb_reader *r, uint64_t pos)
{
    /* Pairs with the CAS of the push. */
    uint64_t seq = sb_load_acquire(&sb_seat_slot(r, pos)->seq);
    uint64_t lap = sb_ring_lap(pos, r->bits);
    if (sb_likely(seq == lap + 1))
        return SB_LOOK_READY;
    /* A lap that no position can have was not written by a push: nothing to jump to. */
    return seq <= lap || seq > sb_ring_lap(UINT64_MAX, r->bits) ? SB_LOOK_EMPTY : SB_LOOK_LAPPED;
}

/* Puts a word into the first hold, which must be free and which publishers always look at. */
SB_INLINE void sb_seat_hold_first(uint64_t *hold, uint64_t word)
{
    /* The exchange and the fence order the hold before the second look; pairs with the owner's
     * fence between positions and holds. */
    (void)sb_exchange_acq_rel(hold, word);
    sb_fence_full_after_rmw();
}

/* Marks count positions from the cursor on as being read, under hold h (0..SB_HELD_MAX-1, free). */
SB_INLINE void sb_seat_hold(const struct sb_reader *r, uint32_t h, uint32_t count)
{
    if (sb_unlikely(h >= sb_load_relaxed(&r->seat->holds)))
        sb_store_release(&r->seat->holds, (uint64_t)h + 1);
    /* As above; orders holds, too. */
    (void)sb_exchange_acq_rel(&r->seat->hold[h], sb_hold_word(r->cursor, count));
    sb_fence_full_after_rmw();
}

/* The message in a slot, looked at again under a hold, if the slot still is of that seq; else
 * SB_LOOK_LAPPED. */
SB_INLINE enum sb_look sb_seat_read_slot(const struct sb_slot *slot, uint64_t seq, uint64_t *desc)
{
    /* desc first: seq only grows, so if it still is the same afterwards, desc was of it, too. Both
     * acquire: the chunk's bytes come after. */
    uint64_t found = sb_load_acquire(&slot->desc);
    if (sb_unlikely(sb_load_acquire(&slot->seq) != seq))
        return SB_LOOK_LAPPED;
    *desc = found;
    return SB_LOOK_READY;
}

/* The message at pos, likewise. */
SB_INLINE enum sb_look sb_seat_read(const struct sb_reader *r, uint64_t pos, uint64_t *desc)
{
    return sb_seat_read_slot(sb_seat_slot(r, pos), sb_ring_lap(pos, r->bits) + 1, desc);
}

/* Gives hold h back; the owner's acquire load of the hold sees all reads done. */
SB_INLINE void sb_seat_unhold(struct sb_seat *seat, uint32_t h)
{
    sb_store_release(&seat->hold[h], 0);
}

/* Moves the cursor to next; with taken more messages about to be returned, skipped more that do not
 * belong here. What lies between and is neither counts as dropped. */
SB_INLINE void sb_seat_pass(struct sb_reader *r, uint64_t next, uint32_t taken, uint32_t skipped)
{
    if (taken)
        sb_bump_relaxed(&r->seat->taken, taken);
    if (sb_unlikely(skipped))
        sb_bump_relaxed(&r->seat->skipped, skipped);
    /* Release: whoever sees the cursor beyond a position sees the hold on it, too. */
    r->cursor = next;
    sb_store_release(&r->seat->cursor, next);
}

/* A free hold, or SB_HELD_MAX if there is none. */
SB_INLINE uint32_t sb_seat_free_hold(const struct sb_seat *seat)
{
    if (sb_likely(sb_load_acquire(&seat->hold[0]) == 0))
        return 0;
    for (uint32_t h = 1; h < SB_HELD_MAX; h++) {
        if (sb_load_acquire(&seat->hold[h]) == 0)
            return h;
    }
    return SB_HELD_MAX;
}

/*
 * After SB_LOOK_LAPPED: moves the cursor to the oldest position that can still be there, but not
 * beyond the seat's end, and returns how many positions were jumped over.
 */
uint64_t sb_seat_jump(struct sb_reader *r);

/*
 * The books of a seat: offered = received + queued + dropped, and no sum overflows, whatever is
 * found in memory that others write. Exact at rest and after any crash; in between, dropped and
 * received are never more than they will turn out to be, while offered and queued may be off by
 * what the reader does during the look (tests/model/counting.py, leave.py).
 */
struct sb_books {
    uint64_t offered, received, queued, dropped;
};

/* No honest figure of a seat is larger, and the sum of two is still far from overflowing. */
#define SB_BOOKS_MAX (UINT64_C(1) << 61)

/*
 * Reads the books of an announced seat. rec is its record in the arena; capacity and full are the
 * ring's. With dead true its reader is gone: what it has not returned counts as dropped. Any
 * thread of any process that has these mapped, reading only; while the reader takes and publishers
 * push. Looks at every queued slot if the ring is marked as tombstoned. Never blocks.
 */
struct sb_books sb_seat_books(const struct sb_seat *seat, const struct sb_seat_rec *rec,
                              const struct sb_ring *ring, uint32_t capacity, uint32_t full,
                              bool dead);

/* The largest figures that were reported of a seat: only of these two is that right at rest. */
struct sb_books_seen {
    uint64_t received, dropped; /* atomic */
};

/* Makes books report no less than was reported before, and remembers it. Any thread. */
void sb_seat_books_keep(struct sb_books_seen *seen, struct sb_books *books);

#endif
