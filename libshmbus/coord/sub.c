/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/sub.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/err.h"
#include "coord/pattern.h"
#include "coord/reap.h"
#include "coord/route.h"
#include "coord/segment.h"
#include "coord/stats.h"
#include "os/memfd.h"

/* What was asked for, checked. */
struct sb_coord_wish {
    uint32_t capacity;
    uint32_t full;
    uint8_t *patterns; /* sorted; owned */
    uint32_t patterns_len;
    uint32_t pattern_count;
};

static int sb_coord_sub_parse(const struct sb_coord *c, const struct sb_subscribe_request *request,
                              struct sb_coord_wish *wish)
{
    int64_t len = request->queue_len;
    if (len == INT64_MIN)
        len = c->options.queue_len;
    if (len < 0 || len > SB_QUEUE_MAX)
        return sb_fail(SHMBUS_E_INVALID, "queue_len %" PRId64 ": 1 to %u are possible", len,
                       SB_QUEUE_MAX);
    if (len == 0)
        return sb_fail(SHMBUS_E_INVALID, "queue_len 0: this version of the bus has no queues "
                                         "without memory; ask for 1 or more");
    wish->capacity = (uint32_t)len;
    wish->full = request->full ? request->full : c->options.full;
    if (wish->full != SB_DROP_OLDEST && wish->full != SB_REJECT_NEWEST)
        return sb_fail(SHMBUS_E_INVALID,
                       "full %u: a queue that is full can drop_oldest (%u) or reject_newest (%u); "
                       "it never blocks a publisher",
                       request->full, SB_DROP_OLDEST, SB_REJECT_NEWEST);
    if (request->flags != 0)
        return sb_fail(SHMBUS_E_INVALID, "subscribe has no flags 0x%x in this version",
                       request->flags);
    return sb_coord_pattern_sort((const uint8_t *)(request + 1), request->patterns_len,
                                 request->pattern_count, &wish->patterns, &wish->patterns_len,
                                 &wish->pattern_count);
}

/* A place in the inbox, allocated and zeroed: whoever sees the seat sees it so. */
static int sb_coord_sub_slot(struct sb_coord *c, struct sb_coord_conn *conn, uint32_t *slot)
{
    uint32_t found = sb_bitset_first_absent(&conn->slots);
    if (found >= SB_COORD_SEATS_MAX)
        return sb_fail(SHMBUS_E_LIMIT,
                       "the connection has %u subscriptions, and at most %u are possible",
                       conn->seat_count, SB_COORD_SEATS_MAX);
    int ret = sb_bitset_reserve(&conn->slots, found);
    if (ret)
        return ret;
    uint64_t end = sizeof(struct sb_inbox) + ((uint64_t)found + 1) * sizeof(struct sb_seat);
    if (end > conn->inbox_size) {
        uint64_t size = conn->inbox_size;
        while (size < end)
            size *= 2;
        if (size > SB_COORD_INBOX_LIMIT)
            size = SB_COORD_INBOX_LIMIT;
        ret = sb_memfd_commit(conn->inbox_fd, conn->inbox_size, size);
        if (ret)
            return ret;
        struct sb_conn_rec *rec = sb_coord_table_record(&c->conns, conn->index);
        conn->inbox_size = size;
        sb_store_release(&rec->inbox_size, size);
    }
    /* Publishers may still be looking at the seat that was here before: single stores. */
    uint64_t *words = (uint64_t *)(void *)sb_coord_seat_at(conn, found);
    for (size_t i = 0; i < sizeof(struct sb_seat) / sizeof(*words); i++)
        sb_store_relaxed(&words[i], 0);
    sb_bitset_add(&conn->slots, found);
    *slot = found;
    return 0;
}

/* How many may sleep at the ring's bell and have to be woken by one push: with one seat one, else
 * each seat's reader, behind as many threads of other seats as can be in a receive. */
static uint32_t sb_coord_sub_wakes(uint32_t seats)
{
    return seats <= 1 ? 1 : seats * SB_HELD_MAX;
}

static void sb_coord_sub_rewake(struct sb_coord *c, const struct sb_coord_conn *conn,
                                const struct sb_coord_ring *ring)
{
    if (ring->full == SB_DROP_OLDEST) {
        struct sb_ring_rec *rec = sb_coord_table_record(&c->rings, ring->index);
        sb_store_relaxed(&rec->wakes, sb_coord_sub_wakes(ring->seat_count));
        return;
    }
    for (const struct sb_coord_seat *s = conn->seats; s; s = s->next_of_conn) {
        struct sb_ring_rec *rec = sb_coord_table_record(&c->rings, s->ring->index);
        if (s->ring->full == SB_REJECT_NEWEST)
            sb_store_relaxed(&rec->wakes, sb_coord_sub_wakes(conn->unshared_count));
    }
}

/* Memory, bell and patterns for a ring that is not listed yet. */
static int sb_coord_sub_ring(struct sb_coord *c, struct sb_coord_conn *conn,
                             struct sb_coord_wish *wish, struct sb_coord_ring **made)
{
    struct sb_coord_ring *ring;
    int ret = sb_coord_ring_take(c, conn->user, wish->capacity, wish->full, &ring);
    if (ret)
        return ret;
    if (wish->full == SB_DROP_OLDEST)
        ret = sb_coord_bell_take(c, conn->user, ring, NULL, &ring->bell);
    else
        ring->bell = conn->bell;
    if (ret == 0)
        ret =
            sb_coord_arena_copy(&c->arena, wish->patterns, wish->patterns_len, &ring->patterns_at);
    if (ret) {
        if (wish->full == SB_DROP_OLDEST && ring->bell.segment)
            sb_coord_bell_give(c, &ring->bell);
        ring->bell.segment = NULL;
        sb_coord_ring_give(c, ring);
        return ret;
    }
    ring->patterns = sb_take_ptr(wish->patterns);
    ring->patterns_len = wish->patterns_len;
    ring->pattern_count = wish->pattern_count;
    struct sb_ring_rec *rec = sb_coord_table_record(&c->rings, ring->index);
    rec->segment = ring->segment->index;
    rec->offset = ring->offset;
    rec->capacity = wish->capacity;
    rec->full = wish->full;
    rec->bell_segment = ring->bell.segment->index;
    rec->bell = ring->bell.index;
    sb_store_relaxed(&rec->seats, SB_NONE);
    sb_store_relaxed(&rec->wakes, 1);
    sb_store_release(&rec->gen, ring->gen); /* odd: the fields above are complete */
    *made = ring;
    return 0;
}

static void sb_coord_sub_free_ring(struct sb_coord *c, struct sb_coord_ring *ring)
{
    if (ring->full == SB_DROP_OLDEST)
        sb_coord_bell_give(c, &ring->bell);
    ring->bell.segment = NULL;
    sb_coord_arena_retire_copy(&c->arena, ring->patterns_at, ring->patterns_len);
    free(sb_take_ptr(ring->patterns));
    ring->patterns_len = 0;
    sb_bitset_deinit(&ring->publishers);
    sb_coord_ring_give(c, ring);
}

/* Lists the seat, its start still 0. */
static void sb_coord_sub_announce(struct sb_coord *c, struct sb_coord_seat *seat)
{
    struct sb_coord_ring *ring = seat->ring;
    struct sb_coord_conn *conn = seat->conn;
    struct sb_seat_rec *rec = sb_coord_table_record(&c->seats, seat->index);
    struct sb_ring_rec *ring_rec = sb_coord_table_record(&c->rings, ring->index);
    rec->conn = conn->index;
    rec->offset = sizeof(struct sb_inbox) + (uint64_t)seat->slot * sizeof(struct sb_seat);
    rec->ring = ring->index;
    rec->pattern_count = ring->pattern_count;
    rec->patterns = ring->patterns_at;
    rec->patterns_len = ring->patterns_len;
    rec->rejected_base = sb_load_relaxed(&ring->view.mem->rejected);
    rec->serial = ++c->serial;
    sb_store_relaxed(&rec->start, 0);
    sb_store_relaxed(&rec->end, SB_OPEN_END);
    sb_store_relaxed(&rec->closing, 0u);
    sb_store_relaxed(&rec->reason, SB_REASON_NONE);
    sb_store_relaxed(&rec->next, ring->seats ? ring->seats->index : SB_NONE);
    sb_store_release(&rec->gen, seat->gen);          /* odd: the fields above are complete */
    sb_store_release(&ring_rec->seats, seat->index); /* and so is what the list leads to */
    seat->next_in_ring = ring->seats;
    ring->seats = seat;
    ring->seat_count++;
    ring->open_count++;
    seat->next_of_conn = conn->seats;
    conn->seats = seat;
    conn->seat_count++;
    conn->open_count++;
    conn->unshared_count += ring->full == SB_REJECT_NEWEST;
    sb_coord_sub_rewake(c, conn, ring);
}

static int sb_coord_seat_new(struct sb_coord *c, struct sb_coord_conn *conn,
                             struct sb_coord_ring *ring, struct sb_coord_seat **made)
{
    struct sb_coord_seat *seat = calloc(1, sizeof(*seat));
    if (!seat)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a subscription");
    int ret = sb_coord_sub_slot(c, conn, &seat->slot);
    if (ret == 0) {
        ret = sb_coord_table_take(&c->seats, seat, &seat->index);
        if (ret)
            sb_bitset_drop(&conn->slots, seat->slot);
    }
    if (ret) {
        free(seat);
        return ret;
    }
    const struct sb_seat_rec *rec = sb_coord_table_record(&c->seats, seat->index);
    seat->gen = rec->gen + 1;
    seat->conn = conn;
    seat->ring = ring;
    seat->end = SB_OPEN_END;
    *made = seat;
    return 0;
}

/* Takes the seat off all lists and gives its record and its place back. */
static void sb_coord_seat_free(struct sb_coord *c, struct sb_coord_seat *seat)
{
    struct sb_coord_ring *ring = seat->ring;
    struct sb_coord_conn *conn = seat->conn;
    struct sb_seat_rec *rec = sb_coord_table_record(&c->seats, seat->index);
    struct sb_coord_seat **link = &ring->seats;
    struct sb_ring_rec *ring_rec = sb_coord_table_record(&c->rings, ring->index);
    uint32_t *shared = &ring_rec->seats;
    while (*link != seat) {
        struct sb_seat_rec *before = sb_coord_table_record(&c->seats, (*link)->index);
        shared = &before->next;
        link = &(*link)->next_in_ring;
    }
    *link = seat->next_in_ring;
    sb_store_release(shared, seat->next_in_ring ? seat->next_in_ring->index : SB_NONE);
    sb_store_release(&rec->gen, seat->gen + 1);
    /* A reader that sees a field of the record's next use sees this generation, too. */
    sb_fence_release();
    link = &conn->seats;
    while (*link != seat)
        link = &(*link)->next_of_conn;
    *link = seat->next_of_conn;
    ring->seat_count--;
    conn->seat_count--;
    conn->unshared_count -= ring->full == SB_REJECT_NEWEST;
    sb_coord_sub_rewake(c, conn, ring);
    sb_bitset_drop(&conn->slots, seat->slot);
    sb_coord_table_give(&c->seats, seat->index);
    free(seat);
}

void sb_coord_sub_advance(struct sb_coord *c)
{
    struct sb_arena_header *header = c->arena.header;
    sb_store_release(&header->epoch, sb_load_relaxed(&header->epoch) + 1);
    sb_fence_full(); /* tails are read after it; pairs with the fence before a publisher's look */
}

/* Announces a seat and lets routes lead to its ring. */
static int sb_coord_sub_join(struct sb_coord *c, struct sb_coord_conn *conn,
                             struct sb_coord_ring *ring, struct sb_coord_seat **made)
{
    struct sb_coord_seat *seat = NULL;
    int ret = sb_coord_seat_new(c, conn, ring, &seat);
    if (ret)
        return ret;
    sb_coord_sub_announce(c, seat);
    if (!ring->listed) {
        ret = sb_coord_route_list(c, ring);
        if (ret) {
            ring->open_count--;
            conn->open_count--;
            sb_coord_seat_free(c, seat);
            return ret;
        }
    }
    sb_coord_sub_advance(c);
    struct sb_seat_rec *rec = sb_coord_table_record(&c->seats, seat->index);
    seat->start = sb_coord_ring_tail(ring);
    sb_store_release(&rec->start, seat->start);
    *made = seat;
    return 0;
}

int sb_coord_sub_add(struct sb_coord *c, struct sb_coord_conn *conn,
                     const struct sb_subscribe_request *request, struct sb_coord_seat **seat)
{
    struct sb_coord_wish wish = {0};
    int ret = sb_coord_sub_parse(c, request, &wish);
    if (ret)
        return ret;
    struct sb_coord_ring *ring = NULL;
    if (wish.full == SB_DROP_OLDEST)
        ring =
            sb_coord_pattern_shared(c, conn->user, wish.capacity, wish.patterns, wish.patterns_len);
    if (!ring)
        ret = sb_coord_sub_ring(c, conn, &wish, &ring);
    free(wish.patterns);
    if (ret)
        return ret;
    ret = sb_coord_sub_join(c, conn, ring, seat);
    if (ret && ring->seat_count == 0)
        sb_coord_sub_free_ring(c, ring);
    return ret;
}

/* The last open seat of a ring has closed: no route leads to it any more. */
static void sb_coord_sub_unlist(struct sb_coord *c, struct sb_coord_ring *ring)
{
    if (sb_coord_route_unlist(c, ring) != 0) {
        ring->next_closed = c->closed_rings;
        c->closed_rings = ring;
        sb_coord_reap_soon(c);
    }
    sb_coord_sub_advance(c);
}

void sb_coord_sub_close(struct sb_coord *c, struct sb_coord_seat *seat, uint32_t reason)
{
    struct sb_coord_ring *ring = seat->ring;
    if (seat->reason)
        return;
    if (--ring->open_count == 0)
        sb_coord_sub_unlist(c, ring);
    seat->conn->open_count--;
    seat->reason = reason;
    struct sb_seat_rec *rec = sb_coord_table_record(&c->seats, seat->index);
    sb_store_relaxed(&rec->closing, 1u);
    /* Who has read a later tail sees that the seat is closing; pairs with the fence of
     * sb_seat_books. */
    sb_fence_full();
    seat->end = sb_coord_ring_tail(ring);
    sb_store_relaxed(&rec->rejected_end, sb_load_relaxed(&ring->view.mem->rejected));
    sb_store_release(&rec->end, seat->end); /* whoever sees it sees rejected_end */
    sb_store_release(&rec->reason, reason); /* whoever sees it sees end */
    sb_fence_full();
    sb_bell_ring(sb_coord_bell_at(&ring->bell), INT32_MAX);
}

void sb_coord_sub_leave(struct sb_coord *c, struct sb_coord_seat *seat)
{
    struct sb_coord_ring *ring = seat->ring;
    sb_coord_sub_close(c, seat, SB_REASON_UNSUBSCRIBED);
    sb_coord_stats_add(&c->gone_dropped, sb_coord_stats_seat(c, seat, true).dropped);
    sb_coord_seat_free(c, seat);
    if (ring->seat_count == 0 && !ring->listed)
        sb_coord_sub_free_ring(c, ring);
}

bool sb_coord_sub_retry(struct sb_coord *c)
{
    struct sb_coord_ring **link = &c->closed_rings;
    while (*link) {
        struct sb_coord_ring *ring = *link;
        if (sb_coord_route_unlist(c, ring) != 0)
            return false;
        *link = ring->next_closed;
        sb_coord_sub_advance(c);
        if (ring->seat_count == 0)
            sb_coord_sub_free_ring(c, ring);
    }
    return true;
}
