/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of the bus and the listings of what is open: asked of the coordinator. */
#include "client/figures.h"

#include <stdlib.h>
#include <string.h>

#include <uuid/uuid.h>

#include "base/err.h"
#include "client/client.h"
#include "client/options.h"

void sb_figures_of_arena(struct shmbus_bus_stats *stats, const struct sb_arena_header *header)
{
    *stats = (struct shmbus_bus_stats){.queue_len = header->queue_len,
                                       .full = header->full,
                                       .coordinator_pid = header->coordinator_pid,
                                       .arena_size = sb_load_acquire(&header->size),
                                       .arena_used = sb_load_relaxed(&header->used)};
    static_assert(sizeof(stats->s_wild) == sizeof(header->s_wild), "a wildcard and its NUL");
    memcpy(stats->s_wild, header->s_wild, sizeof(stats->s_wild) - 1);
    memcpy(stats->m_wild, header->m_wild, sizeof(stats->m_wild) - 1);
}

int shmbus_bus_stats(struct shmbus_conn *conn, struct shmbus_bus_stats *stats, size_t size)
{
    int ret = sb_conn_check(conn);
    if (ret)
        return ret;
    struct sb_control_head request = {.type = SB_CONTROL_BUS_STATS};
    struct sb_bus_stats_reply reply;
    ret = sb_request(conn, &request, sizeof(request), &reply, sizeof(reply));
    if (ret)
        return ret;
    struct shmbus_bus_stats all;
    sb_figures_of_arena(&all, conn->header);
    all.connections = reply.connections;
    all.subscriptions = reply.subscriptions;
    all.routes = reply.routes;
    all.retained = reply.retained;
    all.retained_bytes = reply.retained_bytes;
    all.retained_watches = reply.watches;
    all.retained_views = reply.views;
    all.endpoints = reply.endpoints;
    all.dropped = reply.dropped;
    all.publish_failed = reply.publish_failed;
    return sb_options_write(stats, size, &all, sizeof(all), "figures of the bus");
}

/* The text forms of a handle's patterns, in memory that is used again for the next one. */
struct sb_pattern_texts {
    const char *text[SB_PATTERNS_MAX];
    char *memory;
    size_t size;
};

/* One listing: pages are fetched into `page`, entries are handed to `entry`. */
struct sb_listing {
    struct shmbus_conn *conn;
    int (*entry)(struct sb_listing *listing, const void *entry);
    int (*visit_handle)(const struct shmbus_handle_info *info, void *arg);
    int (*visit_conn)(const struct shmbus_conn_info *info, void *arg);
    void *arg;
    struct sb_pattern_texts texts;
};

/* Adds one text; *used is how much of the memory is. */
static int sb_listing_add_text(struct sb_listing *listing, const uint8_t *pattern, size_t len,
                               size_t *used)
{
    struct sb_pattern_texts *texts = &listing->texts;
    const struct sb_wildcards *wildcards = &listing->conn->wildcards;
    size_t needed;
    int ret = sb_topic_check(pattern, len, true);
    if (ret == 0)
        ret = sb_topic_format(pattern, len, wildcards, NULL, 0, &needed);
    if (ret)
        return ret;
    if (texts->size - *used < needed) {
        char *more = realloc(texts->memory, *used + needed);
        if (more == NULL)
            return sb_fail(SHMBUS_E_NOMEM, "no memory for the text of a pattern");
        texts->memory = more;
        texts->size = *used + needed;
    }
    ret = sb_topic_format(pattern, len, wildcards, texts->memory + *used, needed, NULL);
    *used += needed;
    return ret;
}

/* Makes the texts of a list of patterns; *count is how many. */
static int sb_listing_texts(struct sb_listing *listing, const uint8_t *list, size_t len,
                            size_t *count)
{
    const uint8_t *pattern;
    size_t at = 0, used = 0, n = 0, pattern_len;
    size_t start[SB_PATTERNS_MAX];
    int ret;
    while ((ret = sb_control_next_pattern(list, len, &at, &pattern, &pattern_len)) > 0) {
        if (n == SB_PATTERNS_MAX)
            return sb_fail(SHMBUS_E_INVALID, "a handle with more than %d patterns",
                           SB_PATTERNS_MAX);
        start[n++] = used;
        ret = sb_listing_add_text(listing, pattern, pattern_len, &used);
        if (ret)
            return ret;
    }
    for (size_t i = 0; i < n; i++)
        listing->texts.text[i] = listing->texts.memory + start[i];
    *count = n;
    return ret;
}

static const char *sb_listing_kind(uint32_t kind)
{
    return kind == 1 ? "subscription" : "unknown";
}

static int sb_listing_handle(struct sb_listing *listing, const void *of_page)
{
    const struct sb_handle_entry *entry = of_page;
    size_t count = 0;
    int ret = sb_listing_texts(listing, (const uint8_t *)(entry + 1), entry->patterns_len, &count);
    if (ret)
        return sb_fail_prefix(SHMBUS_E_COORD, "bus %s", listing->conn->name);
    char id[37];
    uuid_unparse_lower(entry->conn_id, id);
    struct shmbus_queue_stats queue = {.offered = entry->offered,
                                       .received = entry->received,
                                       .queued = entry->queued,
                                       .dropped = entry->dropped,
                                       .queue_len = entry->queue_len,
                                       .full = entry->full};
    struct shmbus_handle_info info = {.kind = sb_listing_kind(entry->kind),
                                      .patterns = listing->texts.text,
                                      .pattern_count = count,
                                      .conn_id = id,
                                      .pid = entry->pid,
                                      .queue = &queue};
    return listing->visit_handle(&info, listing->arg);
}

static int sb_listing_conn(struct sb_listing *listing, const void *of_page)
{
    const struct sb_conn_entry *entry = of_page;
    char id[37], principal[256];
    size_t len = entry->principal_len;
    if (len >= sizeof(principal))
        return sb_fail(SHMBUS_E_COORD, "bus %s: a principal of %zu bytes", listing->conn->name,
                       len);
    memcpy(principal, entry + 1, len);
    principal[len] = '\0';
    uuid_unparse_lower(entry->conn_id, id);
    struct shmbus_conn_info info = {.conn_id = id,
                                    .principal = principal,
                                    .principal_len = len,
                                    .pid = entry->pid,
                                    .uid = entry->uid,
                                    .gid = entry->gid,
                                    .subscriptions = entry->subscriptions,
                                    .routes = entry->routes,
                                    .heap_size = entry->heap_size};
    return listing->visit_conn(&info, listing->arg);
}

/* Hands out the entries of one page. */
static int sb_listing_page(struct sb_listing *listing, const struct sb_page_reply *page)
{
    const void *entry;
    size_t at = 0;
    int ret;
    while ((ret = sb_control_next_entry(page, &at, &entry)) > 0) {
        ret = listing->entry(listing, entry);
        if (ret)
            return ret;
    }
    return ret ? sb_fail_prefix(SHMBUS_E_COORD, "bus %s", listing->conn->name) : 0;
}

static int sb_listing_run(struct sb_listing *listing, uint32_t type)
{
    struct sb_page_reply *page = malloc(SB_CONTROL_MAX);
    if (page == NULL)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a listing");
    int ret = 0;
    for (uint32_t from = 0; ret == 0 && from != UINT32_MAX;) {
        struct sb_page_request request = {.head.type = type, .from = from};
        ret = sb_request(listing->conn, &request, sizeof(request), page, SB_CONTROL_MAX);
        if (ret == 0)
            ret = sb_listing_page(listing, page);
        if (ret == 0 && page->next <= from)
            ret =
                sb_fail(SHMBUS_E_COORD, "bus %s: a listing that does not end", listing->conn->name);
        from = page->next;
    }
    free(page);
    free(listing->texts.memory);
    return ret;
}

int shmbus_bus_handles(struct shmbus_conn *conn,
                       int (*visit)(const struct shmbus_handle_info *handle, void *arg), void *arg)
{
    int ret = sb_conn_check(conn);
    if (ret)
        return ret;
    struct sb_listing listing = {
        .conn = conn, .entry = sb_listing_handle, .visit_handle = visit, .arg = arg};
    return sb_listing_run(&listing, SB_CONTROL_HANDLES);
}

int shmbus_bus_connections(struct shmbus_conn *conn,
                           int (*visit)(const struct shmbus_conn_info *info, void *arg), void *arg)
{
    int ret = sb_conn_check(conn);
    if (ret)
        return ret;
    struct sb_listing listing = {
        .conn = conn, .entry = sb_listing_conn, .visit_conn = visit, .arg = arg};
    return sb_listing_run(&listing, SB_CONTROL_CONNS);
}
