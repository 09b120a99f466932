/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of handles, connections and the bus. The books of a subscription are computed from its
 * seat, its ring and the arena's record, by whoever asks (shm/seat.h).
 */
#include "client/stats.h"

#include <shmbus/stats.h>

#include "base/err.h"
#include "client/options.h"
#include "client/publishing.h"

struct sb_books sb_sub_books(const struct shmbus_sub *sub, bool gone)
{
    const struct sb_reader *r = &sub->reader;
    struct sb_books books = sb_seat_books(r->seat, sub->rec, r->ring, r->capacity, sub->full, gone);
    sb_seat_books_keep(&((struct shmbus_sub *)sub)->seen, &books);
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
        all.publish_failed = sb_load_relaxed(&conn->inbox->publish_failed);
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
