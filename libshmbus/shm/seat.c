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

/*
 * Books. Figures count linear positions from the seat's start on.
 *
 * No look may see a drop that does not come true, as the largest one reported stays. So t' and the
 * cursor come first: what they say is gone is gone. Then the tombstones, a full fence, and the
 * holds: a reader that has had its second look before the slot was overwritten, or before its
 * message was taken back, had stored its hold before that, and the hold is seen, or has been given
 * back since and what it was for is seen in `taken` and `skipped`, which come last.
 */
struct sb_seat_span {
    const struct sb_seat *seat;
    const struct sb_ring *ring;
    uint32_t capacity, bits;
    uint64_t start;     /* linear; what follows counts from here */
    uint64_t cursor;    /* before the holds were looked at */
    uint64_t gone, end; /* from gone on it can be queued, from end on it is not the seat's */
    uint64_t rejected;
};

static uint64_t sb_less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t sb_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t sb_most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t sb_seat_since(const struct sb_seat_span *s, uint64_t pos)
{
    uint64_t since = sb_less(sb_ring_linear(pos, s->capacity, s->bits), s->start);
    return sb_least(since, SB_BOOKS_MAX);
}

/* Messages in the span that their owners took back; nothing without the mark. */
static uint64_t sb_seat_tombstones(const struct sb_seat_span *s)
{
    if (!(sb_load_acquire(&s->ring->flags) & SB_RING_TOMBSTONED))
        return 0;
    uint64_t found = 0;
    for (uint64_t i = sb_most(s->gone, sb_less(s->end, s->capacity)); i < s->end; i++) {
        uint64_t at = s->start + i;
        const struct sb_slot *slot = &s->ring->slot[at % s->capacity];
        /* desc first, as in sb_seat_read_slot(). */
        uint64_t desc = sb_load_acquire(&slot->desc);
        found += desc == SB_DESC_TOMBSTONE && sb_load_acquire(&slot->seq) == at / s->capacity + 1;
    }
    return found;
}

/*
 * Positions below `to` in a reader's hand, each once. A hold that begins before the cursor is of
 * messages that were taken, whatever else it covers.
 */
static uint64_t sb_seat_in_hand(const struct sb_seat_span *s, uint64_t to)
{
    uint64_t first[SB_HELD_MAX], end[SB_HELD_MAX], hand = 0;
    uint64_t holds = sb_least(sb_load_acquire(&s->seat->holds), SB_HELD_MAX);
    uint32_t n = 0;
    for (uint64_t i = 0; i < holds; i++) {
        /* Acquire: a hold that was given back shows what was taken under it. */
        uint64_t word = sb_load_acquire(&s->seat->hold[i]);
        uint64_t linear = sb_ring_linear(word >> 8, s->capacity, s->bits);
        uint64_t from = sb_seat_since(s, word >> 8);
        if (word == 0 || linear < s->start || from < s->cursor || from >= to)
            continue;
        uint32_t k = n++;
        for (; k > 0 && first[k - 1] > from; k--) {
            first[k] = first[k - 1];
            end[k] = end[k - 1];
        }
        first[k] = from;
        end[k] = sb_least(from + sb_least(sb_hold_count(word), SB_HELD_MAX), to);
    }
    uint64_t upto = 0;
    for (uint32_t i = 0; i < n; i++) {
        hand += sb_less(end[i], sb_most(first[i], upto));
        upto = sb_most(upto, end[i]);
    }
    return hand;
}

/* Reads where the seat stands, in this order; false while its end is being found. */
static bool sb_seat_span_read(struct sb_seat_span *s, const struct sb_seat_rec *rec, uint32_t full)
{
    uint64_t refused = sb_load_relaxed(&s->ring->rejected);
    uint64_t tail = sb_seat_since(s, sb_ring_tail_seen(s->ring, s->capacity, s->bits));
    /* A tail or refusals beyond the end to be are told by closing; pairs with the coordinator's
     * fence behind storing it. */
    sb_fence_full();
    bool closing = sb_load_acquire(&rec->closing);
    uint64_t end = sb_load_acquire(&rec->end); /* shows rejected_end */
    if (end != SB_OPEN_END)
        refused = sb_load_relaxed(&rec->rejected_end);
    s->rejected = full == SB_REJECT_NEWEST ? sb_less(refused, rec->rejected_base) : 0;
    s->rejected = sb_least(s->rejected, SB_BOOKS_MAX);
    s->cursor = sb_seat_since(s, sb_load_acquire(&s->seat->cursor));
    /* A reader may return what it had seen before the end was stored. */
    s->end = end == SB_OPEN_END ? tail : sb_least(tail, sb_most(sb_seat_since(s, end), s->cursor));
    s->gone = full == SB_DROP_OLDEST ? sb_most(s->cursor, sb_less(tail, s->capacity)) : s->cursor;
    s->gone = sb_least(s->gone, s->end);
    return !closing || end != SB_OPEN_END;
}

struct sb_books sb_seat_books(const struct sb_seat *seat, const struct sb_seat_rec *rec,
                              const struct sb_ring *ring, uint32_t capacity, uint32_t full,
                              bool dead)
{
    struct sb_seat_span s = {.seat = seat, .ring = ring, .capacity = capacity};
    s.bits = sb_log2_ceil(capacity);
    s.start = sb_ring_linear(sb_load_acquire(&rec->start), capacity, s.bits);
    /* Before t', so that it is not more than was offered until then. */
    uint64_t returned = sb_load_acquire(&seat->returned);
    bool known = sb_seat_span_read(&s, rec, full);
    uint64_t tombstones = sb_seat_tombstones(&s);
    /* Positions and tombstones before holds; pairs with the reader's fence between its hold and its
     * second look. */
    sb_fence_full();
    uint64_t hand = sb_seat_in_hand(&s, tombstones ? s.end : s.gone);
    uint64_t taken = sb_load_relaxed(&seat->taken), skipped = sb_load_relaxed(&seat->skipped);

    struct sb_books books = {.offered = sb_less(s.end, skipped)};
    books.received = sb_least(returned, books.offered);
    uint64_t left = books.offered - books.received;
    uint64_t lost = sb_less(sb_less(sb_less(s.gone + tombstones, taken), skipped), hand);
    books.dropped = dead ? left : sb_least(lost, left);
    books.queued = left - books.dropped;
    if (known || dead) {
        books.offered += s.rejected;
        books.dropped += s.rejected;
        return books;
    }
    books.queued += books.dropped; /* what was reported before is nearer to it */
    books.dropped = 0;
    return books;
}

/* The larger of a figure and the largest seen, which it becomes. */
static uint64_t sb_books_largest(uint64_t *seen, uint64_t figure)
{
    uint64_t before = sb_load_relaxed(seen);
    while (figure > before) {
        if (sb_cas_acq_rel(seen, &before, figure))
            return figure;
    }
    return before;
}

void sb_seat_books_keep(struct sb_books_seen *seen, struct sb_books *books)
{
    books->received = sb_books_largest(&seen->received, books->received);
    books->dropped = sb_books_largest(&seen->dropped, books->dropped);
    books->queued = sb_less(books->offered, books->received + books->dropped);
    books->offered = books->received + books->queued + books->dropped;
}
