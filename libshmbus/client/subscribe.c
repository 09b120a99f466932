/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribing: what is asked for is checked, asked for, and its seat looked at and mapped. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "client/options.h"
#include "client/recv.h"
#include "client/source.h"
#include "client/subscription.h"

#define SB_PATTERNS_BYTES 65536u /* encoded, of one subscription */

static int sb_subscribe_options(const struct shmbus_subscribe_options *given,
                                struct shmbus_subscribe_options *options)
{
    int ret = given ? sb_options_read(options, sizeof(*options), given, "subscribe") : 0;
    if (ret)
        return ret;
    int64_t len = options->queue_len;
    if (len != SHMBUS_QUEUE_DEFAULT && (len < 1 || len > SHMBUS_QUEUE_MAX))
        return sb_fail(SHMBUS_E_INVALID,
                       "queue_len %" PRId64 ": a queue holds 1 to %" PRId64
                       " messages; SHMBUS_QUEUE_DEFAULT is the bus's setting",
                       len, SHMBUS_QUEUE_MAX);
    if (options->full > SHMBUS_REJECT_NEWEST)
        return sb_fail(SHMBUS_E_INVALID,
                       "full %u: SHMBUS_DROP_OLDEST (1) and SHMBUS_REJECT_NEWEST (2) are possible; "
                       "none blocks, since one slow receiver would stop every publisher",
                       options->full);
    if (options->flags)
        return sb_fail(SHMBUS_E_INVALID, "subscribe flags %#x: none is known, so leave it 0",
                       options->flags);
    return 0;
}

/* A copy of a pattern in its user's form, in one piece of memory; NULL on failure, with *ret set.
 */
static struct shmbus_topic_view *sb_pattern_new(const struct shmbus_conn *conn,
                                                struct shmbus_topic pattern, int *ret)
{
    size_t needed;
    *ret = sb_topic_copy(pattern, &conn->wildcards, NULL, 0, &needed, NULL);
    if (*ret)
        return NULL;
    struct shmbus_topic_view *view = malloc(sizeof(*view) + needed);
    if (view == NULL) {
        *ret = sb_fail(SHMBUS_E_NOMEM, "no memory for a pattern of %zu bytes", needed);
        return NULL;
    }
    *ret = sb_topic_copy(pattern, &conn->wildcards, view + 1, needed, NULL, view);
    if (*ret) { /* changed meanwhile by another thread */
        free(view);
        return NULL;
    }
    return view;
}

/* Checks and copies the patterns; *bytes is what their list takes. */
static int sb_sub_add_patterns(struct shmbus_sub *sub, const struct shmbus_topic *patterns,
                               size_t count, size_t *bytes)
{
    sub->patterns = calloc(count, sizeof(struct shmbus_topic_view *));
    if (sub->patterns == NULL)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for %zu patterns", count);
    size_t encoded = 0;
    for (size_t i = 0; i < count; i++) {
        int ret;
        struct shmbus_topic_view *view = sb_pattern_new(sub->conn, patterns[i], &ret);
        if (view == NULL)
            return count > 1 ? sb_fail_prefix(ret, "pattern %zu of %zu", i + 1, count) : ret;
        sub->patterns[sub->pattern_count++] = view;
        encoded += view->encoded_len;
    }
    if (encoded > SB_PATTERNS_BYTES)
        return sb_fail(SHMBUS_E_INVALID,
                       "%zu patterns of together %zu bytes: a subscription may have %u", count,
                       encoded, SB_PATTERNS_BYTES);
    *bytes = encoded + count * sizeof(uint16_t);
    return 0;
}

static int sb_sub_new(struct shmbus_conn *conn, const struct shmbus_topic *patterns, size_t count,
                      size_t *bytes, struct shmbus_sub **made)
{
    struct shmbus_sub *sub = calloc(1, sizeof(*sub));
    if (sub == NULL)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a subscription");
    sub->magic = SB_MAGIC_SUB;
    sub->fork_id = conn->fork_id;
    sub->conn = conn;
    sub->sources = sb_sources_new();
    int ret = sub->sources ? sb_sub_add_patterns(sub, patterns, count, bytes)
                           : sb_fail(SHMBUS_E_NOMEM, "no memory for a subscription");
    if (ret) {
        sb_sub_destroy(sub);
        return ret;
    }
    *made = sub;
    return 0;
}

/* Asks for the seat. */
static int sb_sub_ask(struct shmbus_sub *sub, const struct shmbus_subscribe_options *options,
                      size_t bytes, struct sb_subscribe_reply *reply)
{
    if (sub->conn->observer)
        return sb_fail(SHMBUS_E_DENIED, "an observer can only ask for figures: connect without "
                                        "SHMBUS_CONNECT_OBSERVER to subscribe");
    size_t size = sizeof(struct sb_subscribe_request) + bytes;
    struct sb_subscribe_request *request = calloc(1, size);
    if (request == NULL)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a request of %zu bytes", size);
    request->head.type = SB_CONTROL_SUBSCRIBE;
    request->queue_len = options->queue_len;
    request->full = options->full;
    request->pattern_count = (uint32_t)sub->pattern_count;
    request->patterns_len = (uint32_t)bytes;
    uint8_t *at = (uint8_t *)(request + 1);
    for (size_t i = 0; i < sub->pattern_count; i++) {
        uint16_t len = (uint16_t)sub->patterns[i]->encoded_len;
        memcpy(at, &len, sizeof(len));
        memcpy(at + sizeof(len), sub->patterns[i]->encoded, len);
        at += sizeof(len) + len;
    }
    int ret = sb_request(sub->conn, request, size, reply, sizeof(*reply));
    free(request);
    return ret;
}

static int sb_sub_nonsense(const struct shmbus_sub *sub, const char *what)
{
    return sb_fail(SHMBUS_E_COORD, "bus %s: a subscription was granted that makes no sense: %s",
                   sub->conn->name, what);
}

/* Reads the records of the seat that was granted. */
static int sb_sub_read_records(struct shmbus_sub *sub, const struct sb_subscribe_reply *reply)
{
    const struct shmbus_conn *conn = sub->conn;
    struct sb_region arena = sb_conn_arena(conn);
    sub->seat_index = reply->seat;
    sub->seat_gen = reply->seat_gen;
    sub->ring_index = reply->ring;
    sub->ring_gen = reply->ring_gen;
    sub->rec = sb_table_at(arena, &conn->header->seats, reply->seat, sizeof(*sub->rec));
    sub->ring_rec = sb_table_at(arena, &conn->header->rings, reply->ring, sizeof(*sub->ring_rec));
    if (sub->rec == NULL || sb_load_acquire(&sub->rec->gen) != reply->seat_gen ||
        sub->rec->conn != conn->index || sub->rec->ring != reply->ring)
        return sb_sub_nonsense(sub, "its seat");
    if (sub->ring_rec == NULL || sb_load_acquire(&sub->ring_rec->gen) != reply->ring_gen)
        return sb_sub_nonsense(sub, "its ring");
    uint64_t offset = sub->rec->offset;
    uint64_t allocated = sb_load_acquire(&conn->rec->inbox_size);
    if (allocated > conn->inbox_limit || offset < sizeof(struct sb_inbox) || offset % 64 != 0 ||
        offset > allocated || allocated - offset < sizeof(struct sb_seat))
        return sb_sub_nonsense(sub, "its place in the inbox");
    sub->reader.seat = (void *)((uint8_t *)conn->inbox + offset);
    sub->reader.capacity = sub->ring_rec->capacity;
    sub->full = sub->ring_rec->full;
    if (sub->reader.capacity == 0 || sub->reader.capacity > SB_QUEUE_MAX ||
        (sub->full != SB_DROP_OLDEST && sub->full != SB_REJECT_NEWEST))
        return sb_sub_nonsense(sub, "its queue");
    uint64_t start = sb_load_acquire(&sub->rec->start);
    sub->reader = sb_seat_reader(NULL, sub->reader.seat, sub->reader.capacity, start);
    return 0;
}

static uint32_t sb_sub_segment_gen(const struct shmbus_conn *conn, uint32_t index)
{
    const struct sb_segment_rec *rec =
        sb_table_at(sb_conn_arena(conn), &conn->header->segments, index, sizeof(*rec));
    return rec ? sb_load_acquire(&rec->gen) : 0;
}

/* Maps ring and bell. */
static int sb_sub_map(struct shmbus_sub *sub)
{
    struct shmbus_conn *conn = sub->conn;
    uint32_t rings = sub->ring_rec->segment, bells = sub->ring_rec->bell_segment;
    struct sb_mapping_want want[] = {
        {SB_MAP_RINGS_READ, rings, sb_sub_segment_gen(conn, rings), NULL},
        {SB_MAP_BELLS, bells, sb_sub_segment_gen(conn, bells), NULL},
    };
    int ret = sb_mapping_get(conn, want, sb_array_len(want));
    if (ret)
        return ret;
    sub->ring_mapping = want[0].mapping;
    sub->bell_mapping = want[1].mapping;
    if (sub->ring_mapping == NULL || sub->bell_mapping == NULL)
        return sb_sub_nonsense(sub, "its memory is not to be had");
    struct sb_region segment = {sub->ring_mapping->base, sub->ring_mapping->size};
    uint64_t offset = sub->ring_rec->offset;
    sub->reader.ring = sb_arena_at(segment, offset, sb_ring_bytes(sub->reader.capacity));
    if (sub->reader.ring == NULL || offset % 64 != 0)
        return sb_sub_nonsense(sub, "its ring lies outside of its segment");
    if (sub->ring_rec->bell >= sub->bell_mapping->size / sizeof(struct sb_bell))
        return sb_sub_nonsense(sub, "its bell lies outside of its segment");
    sub->bell = (struct sb_bell *)(void *)sub->bell_mapping->base + sub->ring_rec->bell;
    return 0;
}

/* Takes the seat that was granted. */
static int sb_sub_adopt(struct shmbus_sub *sub, const struct sb_subscribe_reply *reply)
{
    int ret = sb_sub_read_records(sub, reply);
    if (ret == 0)
        ret = sb_sub_map(sub);
    if (ret)
        return ret;
    sb_store_release(&sub->reader.seat->cursor, sub->reader.cursor);
    sb_recv_init(sub);
    return 0;
}

int shmbus_subscribe_many(struct shmbus_conn *conn, const struct shmbus_topic *patterns,
                          size_t count, const struct shmbus_subscribe_options *given,
                          struct shmbus_sub **out)
{
    struct shmbus_subscribe_options options = SHMBUS_SUBSCRIBE_OPTIONS_INIT;
    int ret = sb_conn_check(conn);
    if (ret == 0)
        ret = sb_subscribe_options(given, &options);
    if (ret)
        return ret;
    if (count == 0 || count > SHMBUS_PATTERNS_MAX || patterns == NULL)
        return sb_fail(SHMBUS_E_INVALID, "%zu patterns: a subscription has 1 to %d",
                       patterns ? count : 0, SHMBUS_PATTERNS_MAX);
    if (out == NULL)
        return sb_fail(SHMBUS_E_INVALID, "there is no place to put the subscription: sub is NULL");
    struct shmbus_sub *sub = NULL;
    struct sb_subscribe_reply reply;
    size_t bytes = 0;
    ret = sb_sub_new(conn, patterns, count, &bytes, &sub);
    if (ret)
        return ret;
    sb_sub_leave_all(conn, true);
    ret = sb_sub_ask(sub, &options, bytes, &reply);
    if (ret) {
        sb_sub_destroy(sub);
        return ret;
    }
    ret = sb_sub_adopt(sub, &reply);
    if (ret) {
        sb_sub_give_up(sub);
        sb_sub_leave_all(conn, true);
        return ret;
    }
    sb_sub_enlist(sub);
    *out = sub;
    return 0;
}

int shmbus_subscribe(struct shmbus_conn *conn, struct shmbus_topic pattern,
                     const struct shmbus_subscribe_options *options, struct shmbus_sub **sub)
{
    return shmbus_subscribe_many(conn, &pattern, 1, options, sub);
}
