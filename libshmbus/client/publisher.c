/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishing: write the chunk once, push a word to each ring, ring the bells.
 *
 * A message's life begins here: publisher.c -> shm/heap.c -> shm/ring.c -> shm/bell.c -> recv.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/publishing.h"

struct shmbus_publisher {
    uint32_t magic;
    uint16_t flags; /* SB_CHUNK_… */
    struct shmbus_conn *conn;
    struct sb_route *route; /* lives as long as the connection */
};

static uint64_t sb_publish_time(uint16_t flags)
{
    uint32_t clock = (flags & SB_CHUNK_CLOCK) >> SB_CHUNK_CLOCK_SHIFT;
    struct timespec ts;
    clock_gettime(clock == SHMBUS_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SB_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Pushes desc to each ring of the set, which is the open block's; returns how many took it. */
SB_INLINE uint32_t sb_publish_push(struct sb_lane *lane, uint64_t desc)
{
    const struct sb_target_set *set = lane->set;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        uint64_t pos;
        if (sb_unlikely(sb_target_push(set->target[i], desc, &pos) != SB_PUSH_DONE))
            continue;
        lane->open->span[i].end = pos + 1;
        taken++;
    }
    return taken;
}

/* All rings first, then all bells, each once. */
SB_INLINE void sb_publish_ring_bells(const struct sb_target_set *set)
{
    /* The last push ended with a read-modify-write of a tail. Pushed before looking for sleepers;
     * pairs with the waiter's fence between announcement and second look. */
    sb_fence_full_after_rmw();
    for (uint32_t i = 0; i < set->bell_count; i++)
        sb_bell_ring(set->bell[i].bell, set->bell[i].wakes);
}

static SB_COLD int sb_publish_too_large(struct sb_publishing *p, size_t size)
{
    return sb_fail(SHMBUS_E_INVALID,
                   "payload of %zu bytes: at most %llu fit in a heap of %llu bytes", size,
                   (unsigned long long)(sb_heap_chunk_max(p->heap.limit) - sizeof(struct sb_chunk)),
                   (unsigned long long)p->heap.limit);
}

/* With the lock held and the arguments found good. */
SB_INLINE int sb_publish_locked(struct sb_publishing *p, struct sb_route *route, uint16_t flags,
                                const void *payload, size_t size, struct shmbus_delivery *delivery)
{
    struct sb_lane *lane = &route->lane;
    int ret;
    /* Acquire: pairs with the coordinator's release after it has rewritten routes. */
    if (sb_unlikely(route->epoch != sb_load_acquire(&p->conn->header->epoch))) {
        ret = sb_route_sync(p, route);
        if (ret)
            return ret;
    }
    uint32_t matched = lane->set->count, taken = 0;
    if (matched) {
        if (sb_unlikely(size > p->payload_max))
            return sb_publish_too_large(p, size);
        uint32_t need = (uint32_t)sb_align_up(sizeof(struct sb_chunk) + size, SB_CHUNK_UNIT);
        if (sb_unlikely(need > lane->size - lane->used)) {
            ret = sb_lane_open(&p->heap, lane, need);
            if (ret)
                return ret;
        }
        uint64_t desc;
        struct sb_chunk *chunk = sb_lane_take(&p->heap, lane, need, &desc);
        *chunk = (struct sb_chunk){
            .route = route->id, .flags = flags, .size = (uint32_t)size, .seq = p->seq + 1};
        if (sb_unlikely(flags & SB_CHUNK_CLOCK))
            chunk->time = sb_publish_time(flags);
        if (sb_likely(size))
            memcpy(chunk + 1, payload, size);
        taken = sb_publish_push(lane, desc);
        if (sb_unlikely(taken != matched))
            p->refused += matched - taken;
        if (sb_likely(taken))
            sb_publish_ring_bells(lane->set);
        else
            sb_lane_untake(lane, need);
    }
    p->seq++;
    p->published++;
    if (delivery)
        *delivery =
            (struct shmbus_delivery){.matched = matched, .refused = matched - taken, .seq = p->seq};
    return 0;
}

static int sb_publish_flags(const struct shmbus_publish_options *options, uint16_t *flags)
{
    if (options->size < sizeof(*options))
        return sb_fail(SHMBUS_E_INVALID,
                       "publish options of %zu bytes: start from SHMBUS_PUBLISH_OPTIONS_INIT",
                       options->size);
    if (options->encoding > SHMBUS_PROTOBUF)
        return sb_fail(SHMBUS_E_INVALID, "encoding %u: SHMBUS_BYTES to SHMBUS_PROTOBUF are known",
                       options->encoding);
    if (options->clock > SHMBUS_CLOCK_MONOTONIC)
        return sb_fail(SHMBUS_E_INVALID,
                       "clock %u: SHMBUS_CLOCK_NONE to SHMBUS_CLOCK_MONOTONIC are known",
                       options->clock);
    *flags = (uint16_t)(options->encoding | options->clock << SB_CHUNK_CLOCK_SHIFT);
    return 0;
}

static SB_COLD int sb_publish_no_payload(size_t size)
{
    return sb_fail(SHMBUS_E_INVALID, "payload NULL: only one of 0 bytes may be, not of %zu", size);
}

static SB_COLD int sb_publisher_bad(const struct shmbus_publisher *publisher)
{
    if (!publisher || publisher->magic != SB_MAGIC_PUBLISHER)
        return sb_fail(SHMBUS_E_INVALID, "this is no publisher: shmbus_prepare() makes one");
    return sb_conn_check(publisher->conn);
}

int shmbus_publisher_publish(struct shmbus_publisher *publisher, const void *payload, size_t size,
                             const struct shmbus_publish_options *options,
                             struct shmbus_delivery *delivery)
{
    if (sb_unlikely(!publisher || publisher->magic != SB_MAGIC_PUBLISHER))
        return sb_publisher_bad(publisher);
    struct shmbus_conn *conn = publisher->conn;
    if (sb_unlikely(sb_conn_forked(conn) || sb_load_relaxed(&conn->disconnected)))
        return sb_publisher_bad(publisher);
    uint16_t flags = publisher->flags;
    if (sb_unlikely(options != NULL)) {
        int ret = sb_publish_flags(options, &flags);
        if (ret)
            return ret;
    }
    if (sb_unlikely(!payload && size))
        return sb_publish_no_payload(size);
    struct sb_publishing *p = conn->publishing;
    sb_lock_acquire(&conn->lock);
    int ret = sb_publish_locked(p, publisher->route, flags, payload, size, delivery);
    if (sb_unlikely(ret))
        p->failed++;
    sb_lock_release(&conn->lock);
    return ret;
}

static int sb_publish_check(const struct shmbus_conn *conn,
                            const struct shmbus_publish_options *options, uint16_t *flags)
{
    int ret = sb_conn_check(conn);
    if (ret)
        return ret;
    if (conn->observer)
        return sb_fail(SHMBUS_E_DENIED, "an observer connection cannot publish");
    *flags = 0;
    return options ? sb_publish_flags(options, flags) : 0;
}

int shmbus_publish(struct shmbus_conn *conn, struct shmbus_topic topic, const void *payload,
                   size_t size, const struct shmbus_publish_options *options,
                   struct shmbus_delivery *delivery)
{
    uint16_t flags;
    int ret = sb_publish_check(conn, options, &flags);
    if (ret)
        return ret;
    if (!payload && size)
        return sb_publish_no_payload(size);
    uint8_t encoded[SB_TOPIC_MAX];
    size_t len;
    ret =
        sb_topic_encode(topic, SB_TOPIC_CONCRETE, &conn->wildcards, encoded, sizeof(encoded), &len);
    if (ret)
        return ret;
    struct sb_publishing *p = conn->publishing;
    struct sb_route *route;
    sb_lock_acquire(&conn->lock);
    ret = sb_route_get(p, encoded, len, &route);
    if (ret == 0)
        ret = sb_publish_locked(p, route, flags, payload, size, delivery);
    if (ret)
        p->failed++;
    sb_lock_release(&conn->lock);
    return ret;
}

int shmbus_prepare(struct shmbus_conn *conn, struct shmbus_topic topic,
                   const struct shmbus_publish_options *options,
                   struct shmbus_publisher **publisher)
{
    uint16_t flags;
    int ret = sb_publish_check(conn, options, &flags);
    if (ret)
        return ret;
    uint8_t encoded[SB_TOPIC_MAX];
    size_t len;
    ret =
        sb_topic_encode(topic, SB_TOPIC_CONCRETE, &conn->wildcards, encoded, sizeof(encoded), &len);
    if (ret)
        return ret;
    struct shmbus_publisher *made = malloc(sizeof(*made));
    if (!made)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a publisher");
    *made = (struct shmbus_publisher){.magic = SB_MAGIC_PUBLISHER, .flags = flags, .conn = conn};
    sb_lock_acquire(&conn->lock);
    ret = sb_route_get(conn->publishing, encoded, len, &made->route);
    if (ret == 0)
        ret = sb_route_sync(conn->publishing, made->route);
    sb_lock_release(&conn->lock);
    if (ret) {
        free(made);
        return ret;
    }
    sb_conn_ref(conn);
    *publisher = made;
    return 0;
}

void shmbus_publisher_free(struct shmbus_publisher *publisher)
{
    if (!publisher)
        return;
    struct shmbus_conn *conn = publisher->conn;
    publisher->magic = 0;
    free(publisher);
    sb_conn_unref(conn);
}
