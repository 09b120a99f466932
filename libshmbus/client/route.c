/* SPDX-License-Identifier: Apache-2.0 */
/* Routes: the topics that a connection may publish, found in a private table. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "client/publishing.h"

#define SB_ROUTE_READS 64u /* tries to copy a set that keeps changing */

static uint64_t sb_route_hash(const uint8_t *topic, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ topic[i]) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

static int sb_routes_grow(struct sb_publishing *p)
{
    if (p->route_count < p->route_buckets)
        return 0;
    uint32_t buckets = p->route_buckets ? p->route_buckets * 2 : 64;
    struct sb_route **routes = calloc(buckets, sizeof(*routes));
    if (!routes)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for the table of topics");
    for (uint32_t i = 0; i < p->route_buckets; i++) {
        while (p->routes[i]) {
            struct sb_route *route = p->routes[i];
            p->routes[i] = route->next;
            route->next = routes[route->hash & (buckets - 1)];
            routes[route->hash & (buckets - 1)] = route;
        }
    }
    free(p->routes);
    p->routes = routes;
    p->route_buckets = buckets;
    return 0;
}

/* Asks the coordinator for the route of a topic. */
static int sb_route_ask(struct shmbus_conn *conn, const uint8_t *topic, size_t len,
                        struct sb_route_reply *reply)
{
    struct {
        struct sb_route_request head;
        uint8_t topic[SB_TOPIC_MAX];
    } request;
    memset(&request.head, 0, sizeof(request.head));
    request.head.head.type = SB_CONTROL_ROUTE;
    request.head.topic_len = (uint32_t)len;
    memcpy(request.topic, topic, len);
    return sb_request(conn, &request, sizeof(request.head) + len, reply, sizeof(*reply));
}

static int sb_route_new(struct sb_publishing *p, const uint8_t *topic, size_t len, uint64_t hash,
                        struct sb_route **out)
{
    struct shmbus_conn *conn = p->conn;
    struct sb_route *route = calloc(1, sizeof(*route) + len);
    struct sb_target_set *none = NULL;
    int ret = route ? sb_routes_grow(p) : sb_fail(SHMBUS_E_NOMEM, "no memory for a topic");
    if (ret == 0)
        ret = sb_outlets_set(p, NULL, 0, &none);
    struct sb_route_reply reply;
    if (ret == 0)
        ret = sb_route_ask(conn, topic, len, &reply);
    if (ret == 0) {
        route->rec = sb_table_at(sb_conn_arena(conn), &conn->header->routes, reply.route,
                                 sizeof(*route->rec));
        if (!route->rec || route->rec->conn != conn->index)
            ret = sb_fail(SHMBUS_E_COORD, "the coordinator granted a route that is not there");
    }
    if (ret) {
        if (none)
            sb_outlets_unref(p, none);
        free(route);
        return ret;
    }
    route->quick = SB_EPOCH_NONE;
    route->index = reply.route;
    route->gen = reply.gen;
    route->id = sb_route_id(reply.route, reply.gen);
    route->hash = hash;
    route->topic_len = (uint32_t)len;
    memcpy(route->topic, topic, len);
    sb_lane_init(&p->heap, &route->lane, none);
    route->next = p->routes[hash & (p->route_buckets - 1)];
    p->routes[hash & (p->route_buckets - 1)] = route;
    sb_store_relaxed(&p->route_count, p->route_count + 1);
    *out = route;
    return 0;
}

int sb_route_get(struct sb_publishing *p, const uint8_t *topic, size_t len, struct sb_route **route)
{
    uint64_t hash = sb_route_hash(topic, len);
    if (p->route_buckets) {
        struct sb_route *r = p->routes[hash & (p->route_buckets - 1)];
        while (r && (r->hash != hash || r->topic_len != len || memcmp(r->topic, topic, len) != 0))
            r = r->next;
        if (r) {
            *route = r;
            return 0;
        }
    }
    return sb_route_new(p, topic, len, hash, route);
}

/*
 * Copies the route's rings into *rings (malloc'ed) and the word they belong to. The set's memory is
 * reused by the coordinator once the route names another one; the word, which has a version, tells.
 */
static int sb_route_read(const struct shmbus_conn *conn, const struct sb_route *route,
                         uint64_t *word, uint32_t **rings, uint32_t *count)
{
    for (uint32_t tries = 0; tries < SB_ROUTE_READS; tries++) {
        struct sb_region arena = sb_conn_arena(conn);
        /* Acquire: pairs with the coordinator's release of a set that is complete. */
        uint64_t before = sb_load_acquire(&route->rec->set);
        uint64_t offset = sb_set_offset(before);
        uint32_t n = 0;
        const struct sb_ring_set *set = NULL;
        if (offset) {
            set = sb_arena_at(arena, offset, sizeof(*set));
            /* Acquire, as below: whatever is read of a set is read before the word, again. */
            n = set ? sb_load_acquire(&set->count) : 0;
            if (!set || n > sb_load_acquire(&conn->header->rings.count) ||
                !sb_arena_at(arena, offset, sizeof(*set) + (uint64_t)n * sizeof(*set->ring)))
                continue; /* reused meanwhile: the word has changed, too */
        }
        uint32_t *copy = malloc((n ? n : 1) * sizeof(*copy));
        if (!copy)
            return sb_fail(SHMBUS_E_NOMEM, "no memory for the rings of a topic");
        for (uint32_t i = 0; i < n; i++)
            copy[i] = sb_load_acquire(&set->ring[i]); /* before the word is read again */
        if (sb_load_acquire(&route->rec->set) == before) {
            *word = before;
            *rings = copy;
            *count = n;
            return 0;
        }
        free(copy);
    }
    return sb_fail(SHMBUS_E_COORD, "the rings of a topic changed faster than they could be read");
}

/* The route is still this connection's: 0, SHMBUS_E_DISCONNECTED, SHMBUS_E_DENIED. */
static int sb_route_alive(const struct shmbus_conn *conn, const struct sb_route *route)
{
    int ret = sb_conn_check(conn);
    if (ret)
        return ret;
    if (sb_load_acquire(&route->rec->gen) != route->gen ||
        sb_load_acquire(&route->rec->state) != SB_ROUTE_LIVE)
        return sb_fail(SHMBUS_E_DISCONNECTED, "this connection may no longer publish the topic");
    return 0;
}

static void sb_route_current(struct sb_route *route, uint64_t epoch)
{
    route->epoch = epoch;
    route->quick = route->lane.only ? epoch : SB_EPOCH_NONE;
}

int sb_route_sync(struct sb_publishing *p, struct sb_route *route)
{
    struct shmbus_conn *conn = p->conn;
    for (uint32_t tries = 0; tries < SB_ROUTE_READS; tries++) {
        /* Read before the route: a change that comes later has a later epoch. */
        uint64_t epoch = sb_load_acquire(&conn->header->epoch);
        int ret = sb_route_alive(conn, route);
        if (ret)
            return ret;
        uint64_t word = 0;
        uint32_t *rings = NULL, count = 0;
        if (route->epoch && sb_load_acquire(&route->rec->set) == route->set_word) {
            sb_route_current(route, epoch);
            return 0;
        }
        ret = sb_route_read(conn, route, &word, &rings, &count);
        struct sb_target_set *set = NULL;
        if (ret == 0)
            ret = sb_outlets_set(p, rings, count, &set);
        free(rings);
        if (ret < 0)
            return ret;
        if (ret == SB_OUTLETS_GONE)
            continue; /* a ring has gone; the coordinator has rewritten the route before that */
        ret = sb_lane_set(&p->heap, &route->lane, set);
        if (ret) {
            sb_outlets_unref(p, set);
            return ret;
        }
        route->set_word = word;
        sb_route_current(route, epoch);
        return 0;
    }
    return sb_fail(SHMBUS_E_COORD, "a ring of the topic cannot be reached");
}
