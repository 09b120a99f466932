/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/stats.h"

#include <string.h>

#include "base/bits.h"
#include "coord/sub.h"

struct sb_books sb_coord_stats_seat(struct sb_coord *c, struct sb_coord_seat *seat, bool dead)
{
    const struct sb_coord_ring *ring = seat->ring;
    struct sb_books books = sb_seat_books(sb_coord_seat_at(seat->conn, seat->slot),
                                          sb_coord_table_record(&c->seats, seat->index),
                                          ring->view.mem, ring->view.capacity, ring->full, dead);
    sb_seat_books_keep(&seat->seen, &books);
    return books;
}

uint64_t sb_coord_stats_failed(struct sb_coord_conn *conn)
{
    uint64_t failed = conn->inbox ? sb_load_relaxed(&conn->inbox->publish_failed) : 0;
    if (failed > conn->publish_failed)
        conn->publish_failed = failed < SB_BOOKS_MAX ? failed : SB_BOOKS_MAX;
    return conn->publish_failed;
}

void sb_coord_stats_add(uint64_t *total, uint64_t figure)
{
    *total = figure < INT64_MAX - *total ? *total + figure : INT64_MAX;
}

void sb_coord_stats_bus(struct sb_coord *c, struct sb_bus_stats_reply *reply)
{
    reply->publish_failed = c->gone_failed;
    for (uint32_t i = sb_coord_table_next(&c->conns, 0); i != SB_NONE;
         i = sb_coord_table_next(&c->conns, i + 1)) {
        struct sb_coord_conn *conn = c->conns.object[i];
        reply->subscriptions += conn->open_count;
        sb_coord_stats_add(&reply->publish_failed, sb_coord_stats_failed(conn));
        if (conn->state == SB_CONN_ATTACHED) {
            reply->connections++;
            reply->routes += conn->route_count;
        }
    }
    reply->dropped = c->gone_dropped;
    for (uint32_t i = sb_coord_table_next(&c->seats, 0); i != SB_NONE;
         i = sb_coord_table_next(&c->seats, i + 1))
        sb_coord_stats_add(&reply->dropped,
                           sb_coord_stats_seat(c, c->seats.object[i], false).dropped);
}

/* Room for an entry and its tail at the end of the page, zeroed; NULL when the page is full. */
static void *sb_coord_stats_entry(struct sb_page_reply *page, size_t fixed, size_t tail)
{
    size_t size = sb_align_up(fixed + tail, 8);
    if (size > SB_CONTROL_MAX - page->head.size)
        return NULL;
    uint8_t *entry = (uint8_t *)page + page->head.size;
    memset(entry, 0, size);
    *(uint32_t *)(void *)entry = (uint32_t)size;
    page->head.size += (uint32_t)size;
    page->count++;
    return entry;
}

static bool sb_coord_stats_handle(struct sb_coord *c, struct sb_coord_seat *seat,
                                  struct sb_page_reply *page)
{
    const struct sb_coord_ring *ring = seat->ring;
    struct sb_handle_entry *entry = sb_coord_stats_entry(page, sizeof(*entry), ring->patterns_len);
    if (!entry)
        return false;
    const struct sb_conn_rec *conn = sb_coord_table_record(&c->conns, seat->conn->index);
    struct sb_books books = sb_coord_stats_seat(c, seat, false);
    entry->kind = 1;
    memcpy(entry->conn_id, conn->id, sizeof(entry->conn_id));
    entry->pid = (uint32_t)seat->conn->pid;
    entry->full = ring->full;
    entry->queue_len = ring->view.capacity;
    entry->offered = books.offered;
    entry->received = books.received;
    entry->queued = books.queued;
    entry->dropped = books.dropped;
    entry->pattern_count = ring->pattern_count;
    entry->patterns_len = ring->patterns_len;
    memcpy(entry + 1, ring->patterns, ring->patterns_len);
    return true;
}

void sb_coord_stats_handles(struct sb_coord *c, uint32_t from, struct sb_page_reply *page)
{
    page->next = UINT32_MAX;
    for (uint32_t i = sb_coord_table_next(&c->seats, from); i != SB_NONE;
         i = sb_coord_table_next(&c->seats, i + 1)) {
        struct sb_coord_seat *seat = c->seats.object[i];
        if (seat->reason == SB_REASON_NONE && !sb_coord_stats_handle(c, seat, page)) {
            page->next = i;
            return;
        }
    }
}

static bool sb_coord_stats_conn(struct sb_coord *c, const struct sb_coord_conn *conn,
                                struct sb_page_reply *page)
{
    const struct sb_conn_rec *rec = sb_coord_table_record(&c->conns, conn->index);
    struct sb_conn_entry *entry = sb_coord_stats_entry(page, sizeof(*entry), rec->principal_len);
    if (!entry)
        return false;
    entry->pid = rec->pid;
    memcpy(entry->conn_id, rec->id, sizeof(entry->conn_id));
    entry->uid = rec->uid;
    entry->gid = rec->gid;
    entry->subscriptions = conn->open_count;
    entry->routes = conn->route_count;
    entry->heap_size = conn->heap_size;
    entry->principal_len = rec->principal_len;
    memcpy(entry + 1, c->arena.base + rec->principal, rec->principal_len);
    return true;
}

void sb_coord_stats_conns(struct sb_coord *c, uint32_t from, struct sb_page_reply *page)
{
    page->next = UINT32_MAX;
    for (uint32_t i = sb_coord_table_next(&c->conns, from); i != SB_NONE;
         i = sb_coord_table_next(&c->conns, i + 1)) {
        const struct sb_coord_conn *conn = c->conns.object[i];
        if (conn->state == SB_CONN_ATTACHED && !sb_coord_stats_conn(c, conn, page)) {
            page->next = i;
            return;
        }
    }
}
