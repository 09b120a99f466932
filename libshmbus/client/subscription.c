/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a subscription.
 *
 * It is on its connection's list from the moment it is granted until its user frees it; then on the
 * list of those that are leaving, until its last message is released. shmbus_release() only gives
 * the hold back and looks at nothing after that, so that it costs the same in any thread at any
 * time: what has been released is found by the next call that may wait (sb_sub_leave_all(),
 * sb_linger_sweep()), which tells the coordinator and frees. Until then an empty seat pins nothing.
 */
#include "client/subscription.h"

#include <stdlib.h>

#include "base/err.h"
#include "client/recv.h"
#include "client/request.h"
#include "client/source.h"
#include "client/stats.h"
#include "client/why.h"
#include "shm/bell.h"

int sb_sub_mine(const struct shmbus_sub *sub)
{
    if (sub == NULL)
        return sb_fail(SHMBUS_E_INVALID, "the subscription is NULL");
    if (sub->magic != SB_MAGIC_SUB)
        return sb_fail(SHMBUS_E_INVALID, "this is no subscription, or it was freed");
    if (sb_conn_forked(sub))
        return sb_fail(SHMBUS_E_FORKED,
                       "the subscription was made before a fork, by the parent: connect anew");
    return 0;
}

void sb_sub_enlist(struct shmbus_sub *sub)
{
    struct shmbus_conn *conn = sub->conn;
    sb_conn_ref(conn);
    sb_lock_acquire(&conn->list);
    sub->next = conn->subs;
    conn->subs = sub;
    sb_lock_release(&conn->list);
}

void sb_sub_destroy(struct shmbus_sub *sub)
{
    if (sub->sources)
        sb_sources_free(sub->conn, sub->sources);
    sb_mapping_put(sub->conn, sub->ring_mapping);
    sb_mapping_put(sub->conn, sub->bell_mapping);
    for (size_t i = 0; i < sub->pattern_count; i++)
        free(sub->patterns[i]);
    free(sub->patterns);
    sub->magic = 0;
    free(sub);
}

/* Off the list, its figures to the connection's totals, and among those that are leaving. */
static void sb_sub_delist(struct shmbus_sub *sub)
{
    struct shmbus_conn *conn = sub->conn;
    sb_lock_acquire(&conn->list);
    struct shmbus_sub **at = &conn->subs;
    while (*at != sub)
        at = &(*at)->next;
    *at = sub->next;
    struct sb_books books = sb_sub_books(sub, true);
    conn->closed_received += books.received;
    conn->closed_dropped += books.dropped;
    sub->next = conn->leaving;
    conn->leaving = sub;
    sb_lock_release(&conn->list);
}

void sb_sub_give_up(struct shmbus_sub *sub)
{
    struct shmbus_conn *conn = sub->conn;
    sb_conn_ref(conn);
    sb_lock_acquire(&conn->list);
    sub->next = conn->leaving;
    conn->leaving = sub;
    sb_lock_release(&conn->list);
}

/* Takes one that is leaving and has no message unreleased off its list. */
static struct shmbus_sub *sb_sub_next_leaving(struct shmbus_conn *conn)
{
    sb_lock_acquire(&conn->list);
    struct shmbus_sub **at = &conn->leaving;
    while (*at && !sb_recv_idle(*at))
        at = &(*at)->next;
    struct shmbus_sub *sub = *at;
    if (sub)
        *at = sub->next;
    sb_lock_release(&conn->list);
    return sub;
}

static struct sb_seat_request sb_sub_request(const struct shmbus_sub *sub, uint32_t type)
{
    return (struct sb_seat_request){
        .head.type = type, .seat = sub->seat_index, .seat_gen = sub->seat_gen};
}

void sb_sub_leave_all(struct shmbus_conn *conn, bool wait)
{
    struct shmbus_sub *sub;
    while ((sub = sb_sub_next_leaving(conn)) != NULL) {
        struct sb_seat_request leave = sb_sub_request(sub, SB_CONTROL_LEAVE);
        struct sb_control_head reply;
        if (wait) {
            int ret = sb_request(conn, &leave, sizeof(leave), &reply, sizeof(reply));
            (void)ret; /* late: it was sent and will be served; away: the next one will see */
        } else {
            sb_lock_acquire(&conn->control);
            sb_request_post(conn, &leave, sizeof(leave));
            sb_lock_release(&conn->control);
        }
        sb_sub_destroy(sub);
        sb_conn_unref(conn);
    }
}

/*
 * Connections that may have subscriptions leaving, freed or not; each is referenced.
 */
static struct sb_lock sb_linger_lock;
static struct shmbus_conn *sb_lingering;

void sb_linger(struct shmbus_conn *conn)
{
    sb_lock_acquire(&sb_linger_lock);
    sb_lock_acquire(&conn->list);
    if (conn->leaving && !conn->lingers) {
        conn->lingers = true;
        sb_conn_ref(conn);
        conn->next_lingering = sb_lingering;
        sb_lingering = conn;
    }
    sb_lock_release(&conn->list);
    sb_lock_release(&sb_linger_lock);
}

static struct shmbus_conn *sb_linger_take_all(void)
{
    sb_lock_acquire(&sb_linger_lock);
    struct shmbus_conn *all = sb_lingering;
    sb_lingering = NULL;
    for (struct shmbus_conn *conn = all; conn; conn = conn->next_lingering)
        conn->lingers = false;
    sb_lock_release(&sb_linger_lock);
    return all;
}

void sb_linger_sweep(void)
{
    struct shmbus_conn *next;
    for (struct shmbus_conn *conn = sb_linger_take_all(); conn; conn = next) {
        next = conn->next_lingering;
        if (sb_conn_forked(conn))
            continue; /* the parent's */
        sb_sub_leave_all(conn, false);
        sb_linger(conn);
        sb_conn_unref(conn);
    }
}

/* Keeps the first reason; returns the one that is kept. */
static uint32_t sb_sub_keep_reason(struct shmbus_sub *sub, uint32_t reason)
{
    uint32_t none = SB_REASON_NONE;
    return sb_cas_acq_rel(&sub->why, &none, reason) ? reason : none;
}

uint32_t sb_sub_reason(const struct shmbus_sub *sub)
{
    uint32_t reason = sb_load_acquire(&sub->why);
    if (reason != SB_REASON_NONE)
        return reason;
    /* State first: the coordinator closes the seats before it stops the bus, and a seat that it
     * closed carries the better reason. Pairs with its release stores. */
    uint32_t state = sb_load_acquire(&sub->conn->header->state);
    reason = sb_load_acquire(&sub->rec->reason);
    if (reason == SB_REASON_NONE && state == SB_BUS_STOPPED)
        reason = SB_REASON_BUS_STOPPED;
    if (reason == SB_REASON_NONE)
        return reason;
    return sb_sub_keep_reason((struct shmbus_sub *)sub, reason);
}

void sb_sub_close_all(struct shmbus_conn *conn, uint32_t reason)
{
    sb_lock_acquire(&conn->list);
    for (struct shmbus_sub *sub = conn->subs; sub; sub = sub->next) {
        sb_sub_keep_reason(sub, reason);
        sb_fence_full(); /* the reason before the look for sleepers, as after a push */
        sb_bell_ring(sub->bell, sb_load_relaxed(&sub->ring_rec->wakes));
    }
    sb_lock_release(&conn->list);
}

int shmbus_unsubscribe(struct shmbus_conn *conn, struct shmbus_sub *sub)
{
    int ret = sb_conn_mine(conn);
    if (ret == 0)
        ret = sb_sub_mine(sub);
    if (ret)
        return ret;
    if (sub->conn != conn)
        return sb_fail(SHMBUS_E_FOREIGN, "the subscription is of another connection");
    if (sb_sub_reason(sub) != SB_REASON_NONE)
        return 0;
    struct sb_seat_request request = sb_sub_request(sub, SB_CONTROL_UNSUBSCRIBE);
    struct sb_control_head reply;
    ret = sb_request(conn, &request, sizeof(request), &reply, sizeof(reply));
    /* A bus that has ended has closed it. */
    return ret == SHMBUS_E_DISCONNECTED || sb_sub_reason(sub) != SB_REASON_NONE ? 0 : ret;
}

/* What nobody will receive any more pins nothing. */
static void sb_sub_pass_rest(struct shmbus_sub *sub)
{
    uint64_t end = sb_load_acquire(&sub->rec->end);
    if (end != SB_OPEN_END && end > sb_load_relaxed(&sub->reader.seat->cursor))
        sb_store_release(&sub->reader.seat->cursor, end);
}

void shmbus_sub_free(struct shmbus_sub *sub)
{
    if (sub == NULL || sb_conn_forked(sub))
        return; /* in a forked child everything is the parent's */
    struct shmbus_conn *conn = sub->conn;
    int ret = shmbus_unsubscribe(conn, sub);
    (void)ret; /* an open seat that is left ends all the same */
    sb_sub_pass_rest(sub);
    sb_conn_ref(conn);
    sb_sub_delist(sub);
    sb_sub_leave_all(conn, true);
    sb_linger(conn);
    sb_conn_unref(conn);
    sb_linger_sweep();
}

const char *shmbus_sub_why(const struct shmbus_sub *sub)
{
    if (sub == NULL)
        return "";
    if (sb_conn_forked(sub))
        return "forked";
    return sb_why_word(sb_sub_reason(sub));
}

size_t shmbus_sub_patterns(const struct shmbus_sub *sub)
{
    return sub ? sub->pattern_count : 0;
}

const char *shmbus_sub_pattern(const struct shmbus_sub *sub, size_t i)
{
    return sub && i < sub->pattern_count ? sub->patterns[i]->text : NULL;
}
