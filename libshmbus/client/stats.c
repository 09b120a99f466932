/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of handles, connections and the bus.
 *
 * The books of a subscription are computed from its seat, its ring and the arena's record, by
 * whoever asks, while publishers push and the receiver receives. What is reported as lost is lost:
 * the tail is read first, then what the receiver has in hand, then its counters, so that a message
 * that is being received while its slot is overwritten is not taken for lost. Hence the largest
 * figure reported so far is right, too, and lost never decreases.
 */
#include "client/stats.h"

#include <shmbus/stats.h>

#include "base/err.h"
#include "client/options.h"
#include "client/publishing.h"

static uint64_t sb_sub_linear(const struct shmbus_sub *sub, uint64_t pos)
{
    return sb_ring_linear(pos, sub->reader.capacity, sub->reader.bits);
}

/* Positions from the cursor on that the receiver is looking at under a hold. */
static uint64_t sb_sub_in_hand(const struct shmbus_sub *sub, uint64_t *cursor)
{
    /* Acquire: a cursor that has passed a message shows it as taken. */
    uint64_t at = sb_load_acquire(&sub->reader.seat->cursor);
    uint64_t holds = sb_load_acquire(&sub->reader.seat->holds);
    uint64_t hand = 0;
    for (uint64_t i = 0; i < holds && i < SB_HELD_MAX; i++) {
        uint64_t word = sb_load_acquire(&sub->reader.seat->hold[i]);
        uint64_t count = word - sb_hold_word(at, 0);
        if (word && count <= SB_HELD_MAX && count > hand)
            hand = count;
    }
    *cursor = sb_sub_linear(sub, at);
    return hand;
}

/* Messages between two linear positions that their owners took back; nothing without the mark. */
static uint64_t sb_sub_tombstones(const struct shmbus_sub *sub, uint64_t from, uint64_t to)
{
    uint64_t found = 0;
    if (!(sb_load_acquire(&sub->reader.ring->flags) & SB_RING_TOMBSTONED) || from >= to)
        return 0;
    if (to - from > sub->reader.capacity)
        from = to - sub->reader.capacity;
    for (; from < to; from++) {
        const struct sb_slot *slot = &sub->reader.ring->slot[from % sub->reader.capacity];
        uint64_t desc = sb_load_acquire(&slot->desc);
        found += desc == SB_DESC_TOMBSTONE &&
                 sb_load_acquire(&slot->seq) == from / sub->reader.capacity + 1;
    }
    return found;
}

static void sb_books_lose(struct sb_books *books, uint64_t count)
{
    if (count > books->queued)
        count = books->queued;
    books->queued -= count;
    books->dropped += count;
}

/* What a drop_oldest ring has lost besides what its seat and tail tell. */
static void sb_sub_correct(const struct shmbus_sub *sub, struct sb_books *books, uint64_t seen,
                           uint64_t tail, uint64_t cursor, uint64_t hand)
{
    uint64_t end = sb_sub_linear(sub, tail);
    uint64_t at = end - books->queued;
    /* A shared ring goes on after this seat's end, over what is still queued. */
    uint64_t written = sb_sub_linear(sub, seen);
    if (written > sub->reader.capacity && written - sub->reader.capacity > at)
        sb_books_lose(books, written - sub->reader.capacity - at);
    at = end - books->queued;
    sb_books_lose(books, sb_sub_tombstones(sub, at, end));
    uint64_t gone = at > cursor ? at - cursor : 0;
    if (hand > gone)
        hand = gone;
    if (hand > books->dropped)
        hand = books->dropped;
    books->dropped -= hand;
    books->queued += hand;
}

/* Lost is at least what was reported before. */
static void sb_sub_never_less(struct shmbus_sub *sub, struct sb_books *books)
{
    uint64_t seen = sb_load_relaxed(&sub->dropped_seen);
    while (books->dropped > seen) {
        if (sb_cas_acq_rel(&sub->dropped_seen, &seen, books->dropped))
            return;
    }
    sb_books_lose(books, seen - books->dropped);
}

struct sb_books sb_sub_books(const struct shmbus_sub *sub, bool gone)
{
    uint64_t seen = sb_ring_tail_seen(sub->reader.ring, sub->reader.capacity, sub->reader.bits);
    uint64_t rejected = sb_load_relaxed(&sub->reader.ring->rejected) - sub->rec->rejected_base;
    uint64_t end = sb_load_acquire(&sub->rec->end);
    uint64_t tail = sb_seat_tail(sub->reader.seat, end, seen);
    uint64_t cursor, hand = sb_sub_in_hand(sub, &cursor);
    struct sb_books books = sb_seat_books(sub->reader.seat, sub->start, tail, rejected,
                                          sub->reader.capacity, sub->full, gone);
    if (gone)
        return books;
    if (sub->full == SB_DROP_OLDEST)
        sb_sub_correct(sub, &books, seen, tail, cursor, hand);
    sb_sub_never_less((struct shmbus_sub *)sub, &books);
    return books;
}

int shmbus_sub_stats(const struct shmbus_sub *sub, struct shmbus_queue_stats *stats, size_t size)
{
    int ret = sb_sub_mine(sub);
    if (ret)
        return ret;
    struct sb_books books = sb_sub_books(sub, false);
    struct shmbus_queue_stats all = {.offered = books.offered,
                                     .received = books.received,
                                     .queued = books.queued,
                                     .dropped = books.dropped,
                                     .queue_len = sub->reader.capacity,
                                     .full = sub->full};
    return sb_options_write(stats, size, &all, sizeof(all), "figures of a subscription");
}

uint64_t shmbus_sub_dropped(const struct shmbus_sub *sub)
{
    return sb_sub_mine(sub) ? 0 : sb_sub_books(sub, false).dropped;
}

int shmbus_conn_stats(struct shmbus_conn *conn, struct shmbus_conn_stats *stats, size_t size)
{
    int ret = sb_conn_mine(conn);
    if (ret)
        return ret;
    struct shmbus_conn_stats all = {0};
    if (!conn->observer) {
        const struct sb_publishing *p = conn->publishing;
        all.published = sb_load_relaxed(&p->seq);
        all.publish_failed = sb_load_relaxed(&p->failed);
        all.refused = sb_load_relaxed(&p->refused);
        all.routes = sb_load_relaxed(&p->route_count);
        all.heap_used = sb_load_relaxed(&p->heap.buddy.used) * SB_BUDDY_UNIT;
        all.heap_size = sb_load_acquire(&conn->rec->heap_size);
        all.heap_limit = conn->heap_limit;
    }
    sb_lock_acquire(&conn->list);
    all.received = conn->closed_received;
    all.dropped = conn->closed_dropped;
    for (const struct shmbus_sub *sub = conn->subs; sub; sub = sub->next) {
        struct sb_books books = sb_sub_books(sub, false);
        all.received += books.received;
        all.dropped += books.dropped;
        all.subscriptions += sb_sub_reason(sub) == SB_REASON_NONE;
    }
    sb_lock_release(&conn->list);
    return sb_options_write(stats, size, &all, sizeof(all), "figures of a connection");
}
