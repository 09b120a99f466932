/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/seat.h"

uint64_t sb_seat_jump(struct sb_reader *r)
{
    uint64_t from = r->cursor;
    uint64_t index = sb_ring_index(from, r->bits);
    uint64_t seq = sb_load_acquire(&r->ring->slot[index].seq);
    uint64_t lap = sb_ring_lap(from, r->bits);
    if (seq <= lap + 1) /* cannot be after SB_LOOK_LAPPED; a spoiled ring */
        return 0;
    /* The slot was written in lap seq - 1, so the tail is beyond it, and what lies a lap and more
     * before that is gone. The tail is at most a lap further on; anything else is not believed. */
    uint64_t least = sb_ring_next((seq - 2) << r->bits | index, r->capacity, r->bits);
    uint64_t most = ((seq - 1) << r->bits) + index;
    uint64_t oldest = sb_ring_lap_before(sb_load_acquire(&r->ring->tail), r->bits);
    if (oldest < least || oldest > most || sb_ring_index(oldest, r->bits) >= r->capacity)
        oldest = least;
    uint64_t end = r->end ? sb_load_acquire(r->end) : SB_OPEN_END;
    if (oldest > end)
        oldest = end;
    if (oldest <= from)
        return 0;
    sb_seat_pass(r, oldest, 0, 0);
    return sb_ring_linear(oldest, r->capacity, r->bits) -
           sb_ring_linear(from, r->capacity, r->bits);
}

static uint64_t sb_less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

struct sb_books sb_seat_books(const struct sb_seat *seat, uint64_t start, uint64_t tail,
                              uint64_t rejected, uint32_t capacity, uint32_t full, bool dead)
{
    uint32_t bits = sb_log2_ceil(capacity);
    struct sb_books books;
    /* taken before the cursor, as they are stored the other way round. */
    uint64_t cursor = sb_load_acquire(&seat->cursor);
    uint64_t taken = sb_load_relaxed(&seat->taken);
    uint64_t returned = sb_load_relaxed(&seat->returned);
    uint64_t skipped = sb_load_relaxed(&seat->skipped);
    uint64_t first = sb_ring_linear(start, capacity, bits);
    uint64_t end = sb_ring_linear(tail, capacity, bits);
    uint64_t at = sb_ring_linear(cursor > start ? cursor : start, capacity, bits);
    if (end < first)
        end = first;
    if (full == SB_DROP_OLDEST && end > capacity && at < end - capacity)
        at = end - capacity;
    if (at > end)
        at = end;
    uint64_t passed = at - first;
    if (skipped > passed)
        skipped = passed;
    books.offered = end - first - skipped;
    if (returned > passed - skipped)
        returned = passed - skipped;
    if (taken < returned)
        taken = returned;
    books.received = returned;
    books.queued = dead ? 0 : end - at;
    books.dropped = dead ? books.offered - returned : sb_less(passed - skipped, taken);
    if (full == SB_REJECT_NEWEST) {
        books.offered += rejected;
        books.dropped += rejected;
    }
    return books;
}
