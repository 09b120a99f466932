/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/reap.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "coord/conn.h"
#include "coord/sub.h"

#define SB_COORD_REAP_FIRST (10 * SB_NS_PER_MS)
#define SB_COORD_REAP_LAST SB_NS_PER_S

static uint64_t sb_coord_reap_linear(const struct sb_coord_ring *ring, uint64_t pos)
{
    return sb_ring_linear(pos, ring->view.capacity, ring->view.bits);
}

/* Whether the seat has nothing to read below the noted tail. */
static bool sb_coord_reap_seat_beyond(const struct sb_coord_seat *seat, uint64_t noted)
{
    const struct sb_seat *place = sb_coord_seat_at(seat->conn, seat->slot);
    uint64_t cursor = sb_load_acquire(&place->cursor); /* a hold on what it passed is seen, too */
    uint64_t at = cursor > seat->start ? cursor : seat->start;
    return at >= (noted < seat->end ? noted : seat->end);
}

static bool sb_coord_reap_held_below(const struct sb_coord_seat *seat, uint64_t noted)
{
    const struct sb_seat *place = sb_coord_seat_at(seat->conn, seat->slot);
    for (uint32_t i = 0; i < SB_HELD_MAX; i++) {
        uint64_t hold = sb_load_acquire(&place->hold[i]); /* 0: its reads are done */
        if (hold != 0 && hold >> 8 < noted)
            return true;
    }
    return false;
}

static bool sb_coord_reap_passed(const struct sb_coord *c, const struct sb_coord_passing *passing)
{
    const struct sb_coord_ring *ring = sb_coord_table_object(&c->rings, passing->ring);
    if (!ring || ring->gen != passing->gen)
        return true;
    bool overwritten = ring->full == SB_DROP_OLDEST &&
                       sb_coord_reap_linear(ring, sb_coord_ring_tail(ring)) >
                           sb_coord_reap_linear(ring, passing->tail) + ring->view.capacity;
    for (const struct sb_coord_seat *s = ring->seats; s && !overwritten; s = s->next_in_ring) {
        if (!sb_coord_reap_seat_beyond(s, passing->tail))
            return false;
    }
    /* Positions before holds; pairs with the reader's fence between its hold and its second look.
     */
    sb_fence_full();
    for (const struct sb_coord_seat *s = ring->seats; s; s = s->next_in_ring) {
        if (sb_coord_reap_held_below(s, passing->tail))
            return false;
    }
    return true;
}

/* Notes the tails of all rings that messages of the connection may be in; false without memory. */
static bool sb_coord_reap_note(struct sb_coord *c, struct sb_coord_conn *conn)
{
    conn->passing = calloc((size_t)c->rings.used + 1, sizeof(*conn->passing));
    if (!conn->passing)
        return false;
    for (uint32_t i = sb_coord_table_next(&c->rings, 0); i != SB_NONE;
         i = sb_coord_table_next(&c->rings, i + 1)) {
        const struct sb_coord_ring *ring = c->rings.object[i];
        if (ring->seats && sb_bitset_has(&ring->publishers, conn->index))
            conn->passing[conn->passing_count++] = (struct sb_coord_passing){
                .ring = i, .gen = ring->gen, .tail = sb_coord_ring_tail(ring)};
    }
    conn->noted = true;
    return true;
}

/* Whether nothing of the connection is queued or held any more. */
static bool sb_coord_reap_conn_passed(struct sb_coord *c, struct sb_coord_conn *conn)
{
    if (!conn->noted && !sb_coord_reap_note(c, conn))
        return false;
    for (size_t i = 0; i < conn->passing_count;) {
        if (sb_coord_reap_passed(c, &conn->passing[i]))
            conn->passing[i] = conn->passing[--conn->passing_count];
        else
            i++;
    }
    return conn->passing_count == 0;
}

/* Frees the connections that have passed; true when none is left. */
static bool sb_coord_reap_conns(struct sb_coord *c)
{
    struct sb_coord_conn **link = &c->gone;
    while (*link) {
        struct sb_coord_conn *conn = *link;
        if (sb_coord_reap_conn_passed(c, conn)) {
            *link = conn->next_gone;
            sb_coord_conn_free(c, conn);
        } else {
            link = &conn->next_gone;
        }
    }
    return c->gone == NULL;
}

/* True when no retired memory is left. */
static bool sb_coord_reap_collect(struct sb_coord *c)
{
    const uint64_t **pins;
    if (c->arena.slab.retired_bytes == 0)
        return true;
    size_t n = sb_coord_conn_pins(c, &pins);
    if (n == SIZE_MAX)
        return false;
    uint64_t left = sb_slab_collect(&c->arena.slab, pins, n);
    free(pins);
    sb_store_relaxed(&c->arena.header->used, c->arena.slab.used);
    return left == 0;
}

static void sb_coord_reap_arm(struct sb_coord *c);

static void sb_coord_reap_look(void *ctx)
{
    struct sb_coord *c = ctx;
    c->reap_timer = 0;
    bool done = sb_coord_sub_retry(c);
    done &= sb_coord_reap_conns(c);
    done &= sb_coord_reap_collect(c);
    if (done)
        return;
    c->reap_pause *= 2;
    if (c->reap_pause > SB_COORD_REAP_LAST)
        c->reap_pause = SB_COORD_REAP_LAST;
    sb_coord_reap_arm(c);
}

static void sb_coord_reap_arm(struct sb_coord *c)
{
    if (sb_loop_timer(c->loop, sb_clock_after(c->reap_pause), sb_coord_reap_look, c,
                      &c->reap_timer) != 0)
        c->reap_timer = 0;
}

void sb_coord_reap_soon(struct sb_coord *c)
{
    if (c->reap_timer && c->reap_pause == SB_COORD_REAP_FIRST)
        return;
    if (c->reap_timer)
        sb_loop_timer_cancel(c->loop, c->reap_timer);
    c->reap_pause = SB_COORD_REAP_FIRST;
    sb_coord_reap_arm(c);
}

void sb_coord_reap_conn(struct sb_coord *c, struct sb_coord_conn *conn)
{
    conn->next_gone = c->gone;
    c->gone = conn;
    (void)sb_coord_reap_note(c, conn); /* without memory the timer's next look does it */
    sb_coord_reap_soon(c);
}

void sb_coord_reap_arena(struct sb_coord *c)
{
    uint64_t retired = c->arena.slab.retired_bytes;
    if (retired == 0)
        return;
    if (retired < (uint64_t)c->conns.used * SB_PINS * sizeof(uint64_t) || !sb_coord_reap_collect(c))
        if (!c->reap_timer)
            sb_coord_reap_soon(c);
}
