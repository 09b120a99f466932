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

/* Added to the magic of a publisher whose messages carry a time stamp: not for the quick path. */
#define SB_PUBLISHER_STAMPS 1u

struct shmbus_publisher {
    uint32_t magic;
    uint16_t tags; /* of its chunks */
    struct shmbus_conn *conn;
    struct sb_route *route; /* lives as long as the connection */
};

static SB_NOINLINE uint64_t sb_publish_time(uint32_t tags)
{
    struct timespec ts;
    clock_gettime(tags >> 8 == SHMBUS_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SB_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Pushes desc to each ring of the lane's set, which is the open block's; returns how many took it.
 */
static uint32_t sb_publish_push(struct sb_lane *lane, uint64_t desc)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < lane->set->count; i++) {
        uint64_t pos;
        if (sb_target_push(lane->set->target[i], desc, &pos) != SB_PUSH_DONE)
            continue;
        lane->open->span[i].end = pos + 1;
        taken++;
    }
    return taken;
}

/*
 * Somebody may sleep at a bell of the set. How many is read now: a seat that joined a ring has
 * grown the number before its reader could announce itself, and the announcement has been acquired.
 */
static SB_COLD void sb_publish_wake(const struct sb_target_set *set, struct sb_bell *bell)
{
    uint32_t wakes = 1;
    for (uint32_t i = 0; i < set->count; i++) {
        const struct sb_target *t = set->target[i];
        uint32_t of_ring = t->bell == bell ? sb_load_relaxed(&t->rec->wakes) : 0;
        if (of_ring > wakes)
            wakes = of_ring;
    }
    sb_bell_wake(bell, wakes);
}

/* All rings first, then all bells, each once. */
static void sb_publish_ring_bells(const struct sb_target_set *set)
{
    /* A push was done, which ended with a read-modify-write of the tail. Pushed before looking for
     * sleepers; pairs with the waiter's fence between announcement and second look. */
    sb_fence_full_after_rmw();
    for (struct sb_bell *const *bell = set->bell; bell < set->bell_end; bell++) {
        if (sb_bell_may_sleep(*bell))
            sb_publish_wake(set, *bell);
    }
}

static SB_COLD int sb_publish_too_large(const struct sb_publishing *p, size_t size)
{
    return sb_fail(SHMBUS_E_INVALID,
                   "payload of %zu bytes: at most %llu fit in a heap of %llu bytes", size,
                   (unsigned long long)(sb_heap_chunk_max(p->heap.limit) - sizeof(struct sb_chunk)),
                   (unsigned long long)p->heap.limit);
}

/* Bytes of a chunk for a payload; nonsense where that is beyond all bounds. */
SB_INLINE uint64_t sb_chunk_bytes(size_t size)
{
    return sb_align_up(sizeof(struct sb_chunk) + size, SB_CHUNK_UNIT);
}

/* The header of a chunk. */
SB_INLINE void sb_publish_head(struct sb_chunk *chunk, uint32_t route, uint32_t tags, size_t size,
                               uint64_t seq)
{
    /* Words that lie together in one store. */
    uint64_t route_origin = route;
    uint32_t tags_extra = tags;
    memcpy(&chunk->route, &route_origin, sizeof(chunk->route) + sizeof(chunk->origin));
    memcpy(&chunk->tags, &tags_extra, sizeof(chunk->tags) + sizeof(chunk->extra));
    chunk->size = (uint32_t)size;
    chunk->seq = seq;
    chunk->time = 0;
}

/* What became of a publish that somebody asks about or a ring refused. */
static SB_NOINLINE void sb_publish_report(struct sb_publishing *p, uint32_t matched, uint32_t taken,
                                          struct shmbus_delivery *delivery)
{
    sb_bump_relaxed(&p->refused, matched - taken);
    if (delivery)
        *delivery =
            (struct shmbus_delivery){.matched = matched, .refused = matched - taken, .seq = p->seq};
}

/* Copies a payload; most are small. */
SB_INLINE void sb_publish_copy(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (sb_likely(size - 32 <= 32)) { /* 32 to 64 bytes, in four moves that may overlap */
        memcpy(t, f, 16);
        memcpy(t + 16, f + 16, 16);
        memcpy(t + size - 32, f + size - 32, 16);
        memcpy(t + size - 16, f + size - 16, 16);
    } else if (size) {
        memcpy(t, f, size);
    }
}

/* What a publish has to do before the fast part, when something has changed or the open block is
 * full. */
static SB_NOINLINE int sb_publish_ready(struct sb_publishing *p, struct sb_route *route,
                                        size_t size)
{
    int ret = 0;
    /* Acquire: pairs with the coordinator's release after it has rewritten routes. */
    if (route->epoch != sb_load_acquire(p->epoch))
        ret = sb_route_sync(p, route);
    if (ret)
        return ret;
    struct sb_lane *lane = &route->lane;
    if (lane->set->count == 0)
        return 0;
    uint32_t need = (uint32_t)sb_chunk_bytes(size);
    return need > lane->size - lane->used ? sb_lane_open(&p->heap, lane, need) : 0;
}

/* Publishes, with the lock held and the arguments found good. */
static SB_NOINLINE int sb_publish_locked(struct sb_publishing *p, struct sb_route *route,
                                         uint32_t tags, const void *payload, size_t size,
                                         struct shmbus_delivery *delivery)
{
    struct sb_lane *lane = &route->lane;
    uint64_t need = sb_chunk_bytes(size);
    /* Acquire: pairs with the coordinator's release after it has rewritten routes. */
    if (route->epoch != sb_load_acquire(p->epoch) || need > lane->size - lane->used) {
        int ret = sb_publish_ready(p, route, size);
        if (ret) {
            sb_bump_relaxed(&p->conn->inbox->publish_failed, 1);
            return ret;
        }
    }
    uint32_t matched = lane->set->count, taken = 0;
    if (matched) {
        struct sb_chunk *chunk = sb_lane_next(lane);
        sb_publish_head(chunk, route->id, tags, size, p->seq + 1);
        if (tags > UINT8_MAX)
            chunk->time = sb_publish_time(tags);
        sb_publish_copy(chunk + 1, payload, size);
        sb_block_mark(lane->block, lane->used / SB_CHUNK_UNIT);
        taken = sb_publish_push(lane, sb_lane_next_desc(lane));
        if (taken) {
            sb_lane_take(lane, (uint32_t)need);
            sb_publish_ring_bells(lane->set);
        } else {
            sb_block_unmark(lane->block, lane->used / SB_CHUNK_UNIT);
        }
    }
    sb_bump_relaxed(&p->seq, 1);
    if (delivery || taken != matched)
        sb_publish_report(p, matched, taken, delivery);
    return 0;
}

/*
 * The common case in a straight line, with the lock held: the route is up to date and leads to one
 * ring, which takes the message in the middle of a lap; the open block has room; there is no time
 * stamp. False, having published nothing, for everything else, which sb_publish_locked() does. Same
 * steps, same order.
 */
SB_INLINE bool sb_publish_quick(struct sb_publishing *p, const struct shmbus_publisher *publisher,
                                const void *payload, size_t size, struct shmbus_delivery *delivery)
{
    struct sb_route *route = publisher->route;
    struct sb_lane *lane = &route->lane;
    /* Acquire: pairs with the coordinator's release after it has rewritten routes. */
    if (sb_unlikely(sb_load_acquire(p->epoch) != route->quick))
        return false;
    struct sb_target *target = lane->only;
    uint32_t used = lane->used;
    if (sb_unlikely(size >= SB_BLOCK_MAX || sb_chunk_bytes(size) > lane->size - used))
        return false;
    struct sb_chunk *chunk = (struct sb_chunk *)(void *)(lane->block + used);
    sb_publish_head(chunk, route->id, publisher->tags, size, p->seq + 1);
    sb_publish_copy(chunk + 1, payload, size);
    /* Last: before its push somebody else may name the chunk, and finds no header but this. */
    uint64_t unit = lane->used / SB_CHUNK_UNIT;
    sb_block_mark(lane->block, unit);
    uint64_t end = sb_ring_push_inside(&target->ring, lane->desc + unit, target->limit);
    if (sb_unlikely(end == 0))
        return false;
    lane->open->span[0].end = end;
    lane->used += (uint32_t)sb_chunk_bytes(size);
    sb_bump_relaxed(&p->seq, 1);
    /* The push ended with a read-modify-write of the tail. Pushed before looking for sleepers;
     * pairs with the waiter's fence between announcement and second look. */
    sb_fence_full_after_rmw();
    if (sb_unlikely(sb_bell_may_sleep(target->bell)))
        sb_publish_wake(lane->set, target->bell);
    if (delivery)
        *delivery = (struct shmbus_delivery){.matched = 1, .seq = p->seq};
    uint32_t ahead = lane->ahead;
    if (ahead) {
        const uint8_t *later = lane->block + lane->used + ahead;
        sb_prefetch_write(later);
        sb_prefetch_write(later + SB_CACHE_LINE);
    }
    return true;
}

/* The tags of chunks that are published with these options (not NULL), or a failure. */
static SB_NOINLINE int sb_publish_tags(const struct shmbus_publish_options *options)
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
    return (int)(options->encoding | options->clock << 8);
}

/* Whether a heap can ever hold the payload. Asked before anything is asked of the coordinator, so
 * that what is refused here has left no route behind. */
SB_INLINE int sb_publish_check_size(const struct sb_publishing *p, size_t size)
{
    return sb_unlikely(size > p->payload_max) ? sb_publish_too_large(p, size) : 0;
}

static SB_COLD int sb_publish_no_payload(size_t size)
{
    return sb_fail(SHMBUS_E_INVALID, "payload NULL: only one of 0 bytes may be, not of %zu", size);
}

/* Publishes by a publisher, whatever the arguments and whatever it takes. */
static SB_NOINLINE int sb_publisher_any(struct shmbus_publisher *publisher, const void *payload,
                                        size_t size, const struct shmbus_publish_options *options,
                                        struct shmbus_delivery *delivery)
{
    if (!publisher || (publisher->magic & ~SB_PUBLISHER_STAMPS) != SB_MAGIC_PUBLISHER)
        return sb_fail(SHMBUS_E_INVALID, "this is no publisher: shmbus_prepare() makes one");
    struct shmbus_conn *conn = publisher->conn;
    int ret = sb_conn_check(conn);
    if (ret)
        return ret;
    int tags = options ? sb_publish_tags(options) : publisher->tags;
    if (tags < 0)
        return tags;
    if (!payload && size)
        return sb_publish_no_payload(size);
    ret = sb_publish_check_size(conn->publishing, size);
    if (ret)
        return ret;
    sb_lock_acquire(&conn->lock);
    ret = sb_publish_locked(conn->publishing, publisher->route, (uint32_t)tags, payload, size,
                            delivery);
    sb_lock_release(&conn->lock);
    return ret;
}

/*
 * Publishes what the quick path has not, with the lock held since, which it gives back. Nobody has
 * written another message meanwhile where the quick path may have left this one, under the same
 * sequence number; its mark goes first, as the message may now go elsewhere or nowhere.
 */
static SB_NOINLINE int sb_publisher_rest(const struct shmbus_publisher *publisher,
                                         const void *payload, size_t size,
                                         struct shmbus_delivery *delivery)
{
    struct shmbus_conn *conn = publisher->conn;
    const struct sb_lane *lane = &publisher->route->lane;
    if (lane->used < lane->size)
        sb_block_unmark(lane->block, lane->used / SB_CHUNK_UNIT);
    int ret = sb_conn_check(conn);
    if (ret == 0)
        ret = sb_publish_check_size(conn->publishing, size);
    if (ret == 0)
        ret = sb_publish_locked(conn->publishing, publisher->route, publisher->tags, payload, size,
                                delivery);
    sb_lock_release(&conn->lock);
    return ret;
}

int shmbus_publisher_publish(struct shmbus_publisher *publisher, const void *payload, size_t size,
                             const struct shmbus_publish_options *options,
                             struct shmbus_delivery *delivery)
{
    if (sb_unlikely(options || !publisher || publisher->magic != SB_MAGIC_PUBLISHER))
        return sb_publisher_any(publisher, payload, size, options, delivery);
    struct shmbus_conn *conn = publisher->conn;
    if (sb_unlikely(sb_conn_forked(conn)) || sb_unlikely(!payload))
        return sb_publisher_any(publisher, payload, size, options, delivery);
    sb_lock_acquire(&conn->lock);
    if (sb_unlikely(!sb_publish_quick(conn->publishing, publisher, payload, size, delivery)))
        return sb_publisher_rest(publisher, payload, size, delivery);
    sb_lock_release(&conn->lock);
    return 0;
}

/* Checks the connection, then what it is asked to publish to, whose SB_TOPIC_MAX bytes at most go
 * to encoded. The tags for the options, or a failure. */
static int sb_publish_check(const struct shmbus_conn *conn, struct shmbus_topic topic,
                            const struct shmbus_publish_options *options, uint8_t *encoded,
                            size_t *len)
{
    int ret = sb_conn_check(conn);
    if (ret)
        return ret;
    int tags = options ? sb_publish_tags(options) : 0;
    if (tags < 0)
        return tags;
    ret = sb_topic_encode(topic, SB_TOPIC_CONCRETE, &conn->wildcards, encoded, SB_TOPIC_MAX, len);
    return ret ? ret : tags;
}

/* Asked once the arguments have been found good. */
static int sb_publish_may(const struct shmbus_conn *conn)
{
    return conn->observer ? sb_fail(SHMBUS_E_DENIED, "an observer connection cannot publish") : 0;
}

int shmbus_publish(struct shmbus_conn *conn, struct shmbus_topic topic, const void *payload,
                   size_t size, const struct shmbus_publish_options *options,
                   struct shmbus_delivery *delivery)
{
    uint8_t encoded[SB_TOPIC_MAX];
    size_t len;
    int tags = sb_publish_check(conn, topic, options, encoded, &len);
    if (tags < 0)
        return tags;
    if (!payload && size)
        return sb_publish_no_payload(size);
    struct sb_publishing *p = conn->publishing;
    int ret = sb_publish_may(conn);
    if (ret == 0)
        ret = sb_publish_check_size(p, size);
    if (ret)
        return ret;
    struct sb_route *route;
    sb_lock_acquire(&conn->lock);
    ret = sb_route_get(p, encoded, len, &route);
    if (ret == 0)
        ret = sb_publish_locked(p, route, (uint32_t)tags, payload, size, delivery);
    else
        sb_bump_relaxed(&p->conn->inbox->publish_failed, 1);
    sb_lock_release(&conn->lock);
    return ret;
}

int shmbus_prepare(struct shmbus_conn *conn, struct shmbus_topic topic,
                   const struct shmbus_publish_options *options,
                   struct shmbus_publisher **publisher)
{
    uint8_t encoded[SB_TOPIC_MAX];
    size_t len;
    int tags = sb_publish_check(conn, topic, options, encoded, &len);
    if (tags < 0)
        return tags;
    if (!publisher)
        return sb_fail(SHMBUS_E_INVALID, "there is no place to put the publisher: it is NULL");
    int ret = sb_publish_may(conn);
    if (ret)
        return ret;
    struct shmbus_publisher *made = malloc(sizeof(*made));
    if (!made)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a publisher");
    *made = (struct shmbus_publisher){.magic = SB_MAGIC_PUBLISHER |
                                               (tags > UINT8_MAX ? SB_PUBLISHER_STAMPS : 0),
                                      .tags = (uint16_t)tags,
                                      .conn = conn};
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
