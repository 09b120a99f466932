/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/route.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "coord/pattern.h"
#include "coord/ringset.h"
#include "shm/region.h"

int sb_coord_route_open(struct sb_coord *c)
{
    struct sb_arena_header *header = c->arena.header;
    int ret = sb_trie_init(&c->patterns, &header->patterns, c->arena.base, &c->arena.slab);
    if (ret == 0)
        ret = sb_trie_init(&c->topics, &header->topics, c->arena.base, &c->arena.slab);
    return ret;
}

void sb_coord_route_close(struct sb_coord *c)
{
    for (uint32_t i = 0; i < c->topic_ids.count; i++)
        free(c->topic_ids.object[i]);
    for (uint32_t i = 0; i < c->set_bucket_count; i++) {
        for (struct sb_coord_set *set = c->set_buckets[i], *next; set; set = next) {
            next = set->next;
            free(set);
        }
    }
    free(c->set_buckets);
    sb_coord_ids_deinit(&c->topic_ids);
    sb_coord_pattern_close(c);
}

/* Sets the word that names the route's rings: one release store, which publishes the set. */
static void sb_coord_route_store(struct sb_coord *c, struct sb_coord_route *route,
                                 const struct sb_coord_set *set)
{
    struct sb_route_rec *rec = sb_coord_table_record(&c->routes, route->index);
    uint32_t version = (uint32_t)sb_load_relaxed(&rec->set) + 1;
    sb_store_release(&rec->set, sb_set_word(sb_coord_set_offset(set), version));
}

/* Notes that messages of the connection may be in the set's rings from now on. Their sets of
 * publishers have room for it. */
static void sb_coord_route_reach(struct sb_coord *c, const struct sb_coord_conn *conn,
                                 const struct sb_coord_set *set)
{
    for (uint32_t i = 0; set && i < set->count; i++) {
        struct sb_coord_ring *ring = c->rings.object[set->ring[i]];
        sb_bitset_add(&ring->publishers, conn->index);
    }
}

static int sb_coord_route_reserve(struct sb_coord *c, const struct sb_coord_conn *conn,
                                  const struct sb_coord_set *set)
{
    int ret = 0;
    for (uint32_t i = 0; ret == 0 && set && i < set->count; i++) {
        struct sb_coord_ring *ring = c->rings.object[set->ring[i]];
        ret = sb_bitset_reserve(&ring->publishers, conn->index);
    }
    return ret;
}

static int sb_coord_topic_fill(struct sb_coord *c, struct sb_coord_topic *topic,
                               const uint8_t *bytes)
{
    int ret = sb_coord_pattern_rings(c, bytes, topic->len, &topic->set);
    if (ret)
        return ret;
    ret = sb_coord_arena_copy(&c->arena, bytes, topic->len, &topic->at);
    if (ret == 0) {
        ret = sb_trie_put(&c->topics, bytes, topic->len, topic->id, NULL);
        if (ret)
            sb_coord_arena_retire_copy(&c->arena, topic->at, topic->len);
    }
    if (ret)
        sb_coord_set_unref(c, topic->set);
    return ret;
}

static int sb_coord_topic_new(struct sb_coord *c, const uint8_t *bytes, uint32_t len,
                              struct sb_coord_topic **made)
{
    struct sb_coord_topic *topic = calloc(1, sizeof(*topic));
    if (!topic)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a topic");
    topic->len = len;
    int ret = sb_coord_ids_take(&c->topic_ids, topic, &topic->id);
    if (ret == 0) {
        ret = sb_coord_topic_fill(c, topic, bytes);
        if (ret)
            sb_coord_ids_give(&c->topic_ids, topic->id);
    }
    if (ret) {
        free(topic);
        return ret;
    }
    *made = topic;
    return 0;
}

static void sb_coord_topic_free(struct sb_coord *c, struct sb_coord_topic *topic)
{
    uint8_t key[SB_TOPIC_MAX];
    sb_arena_string_load(key, (const uint64_t *)(const void *)(c->arena.base + topic->at),
                         topic->len);
    (void)sb_trie_remove(&c->topics, key, topic->len);
    sb_coord_arena_retire_copy(&c->arena, topic->at, topic->len);
    sb_coord_set_unref(c, topic->set);
    sb_coord_ids_give(&c->topic_ids, topic->id);
    free(topic);
}

static void sb_coord_route_link(struct sb_coord_route *route)
{
    struct sb_coord_topic *topic = route->topic;
    struct sb_coord_conn *conn = route->conn;
    route->next_of_topic = topic->routes;
    if (topic->routes)
        topic->routes->prev_of_topic = route;
    topic->routes = route;
    route->next_of_conn = conn->routes;
    if (conn->routes)
        conn->routes->prev_of_conn = route;
    conn->routes = route;
    conn->route_count++;
}

static void sb_coord_route_unlink(struct sb_coord_route *route)
{
    if (route->next_of_topic)
        route->next_of_topic->prev_of_topic = route->prev_of_topic;
    if (route->prev_of_topic)
        route->prev_of_topic->next_of_topic = route->next_of_topic;
    else
        route->topic->routes = route->next_of_topic;
    if (route->next_of_conn)
        route->next_of_conn->prev_of_conn = route->prev_of_conn;
    if (route->prev_of_conn)
        route->prev_of_conn->next_of_conn = route->next_of_conn;
    else
        route->conn->routes = route->next_of_conn;
    route->conn->route_count--;
}

static void sb_coord_route_publish(struct sb_coord *c, struct sb_coord_route *route)
{
    struct sb_route_rec *rec = sb_coord_table_record(&c->routes, route->index);
    route->gen = rec->gen;
    sb_store_relaxed(&rec->conn, route->conn->index);
    sb_store_relaxed(&rec->topic_len, route->topic->len);
    sb_store_relaxed(&rec->topic, route->topic->at);
    sb_coord_route_reach(c, route->conn, route->topic->set);
    sb_coord_route_store(c, route, route->topic->set);
    sb_store_release(&rec->state, SB_ROUTE_LIVE); /* the fields above are complete */
    route->live = true;
}

static int sb_coord_route_new(struct sb_coord *c, struct sb_coord_conn *conn,
                              struct sb_coord_topic *topic, struct sb_coord_route **made)
{
    int ret = sb_coord_route_reserve(c, conn, topic->set);
    if (ret)
        return ret;
    struct sb_coord_route *route = calloc(1, sizeof(*route));
    if (!route)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a route");
    ret = sb_coord_table_take(&c->routes, route, &route->index);
    if (ret) {
        free(route);
        return ret;
    }
    route->conn = conn;
    route->topic = topic;
    sb_coord_route_link(route);
    sb_coord_route_publish(c, route);
    *made = route;
    return 0;
}

int sb_coord_route_grant(struct sb_coord *c, struct sb_coord_conn *conn, const uint8_t *bytes,
                         uint32_t len, struct sb_coord_route **route)
{
    struct sb_trie_reader view = sb_trie_writer_view(&c->topics);
    struct sb_coord_topic *topic = NULL;
    uint64_t id;
    if (sb_trie_find(&view, bytes, len, &id, NULL) == 0)
        topic = sb_coord_ids_at(&c->topic_ids, id);
    for (struct sb_coord_route *r = topic ? topic->routes : NULL; r; r = r->next_of_topic) {
        if (r->conn == conn) {
            *route = r;
            return 0;
        }
    }
    if (conn->route_count >= SB_COORD_ROUTES_MAX)
        return sb_fail(SHMBUS_E_LIMIT,
                       "the connection publishes %u topics, and at most %u are possible; give "
                       "some back",
                       conn->route_count, SB_COORD_ROUTES_MAX);
    int ret = topic ? 0 : sb_coord_topic_new(c, bytes, len, &topic);
    if (ret)
        return ret;
    ret = sb_coord_route_new(c, conn, topic, route);
    if (ret && !topic->routes)
        sb_coord_topic_free(c, topic);
    return ret;
}

/* Stops pushes over the route. */
static void sb_coord_route_stop(struct sb_coord *c, struct sb_coord_route *route, uint32_t state)
{
    struct sb_route_rec *rec = sb_coord_table_record(&c->routes, route->index);
    route->live = false;
    sb_store_release(&rec->state, state);
    sb_coord_route_store(c, route, NULL);
}

void sb_coord_route_free(struct sb_coord *c, struct sb_coord_route *route)
{
    struct sb_route_rec *rec = sb_coord_table_record(&c->routes, route->index);
    struct sb_coord_topic *topic = route->topic;
    sb_coord_route_stop(c, route, SB_ROUTE_FREE);
    sb_store_release(&rec->gen, route->gen + 1);
    /* A reader that sees a field of the next use sees this generation, too. */
    sb_fence_release();
    sb_coord_route_unlink(route);
    sb_coord_table_give(&c->routes, route->index);
    free(route);
    if (!topic->routes)
        sb_coord_topic_free(c, topic);
}

void sb_coord_route_end(struct sb_coord *c, struct sb_coord_conn *conn)
{
    for (struct sb_coord_route *r = conn->routes; r; r = r->next_of_conn) {
        if (r->live)
            sb_coord_route_stop(c, r, SB_ROUTE_DEAD);
    }
}

/* The topics that one rewriting touches, each once. */
struct sb_coord_touched {
    struct sb_coord *c;
    struct sb_coord_topic **topic;
    size_t count, room;
};

static bool sb_coord_route_touch(void *ctx, uint64_t id, uint32_t node)
{
    (void)node;
    struct sb_coord_touched *t = ctx;
    struct sb_coord_topic *topic = sb_coord_ids_at(&t->c->topic_ids, id);
    if (topic->rewriting == t->c->rewriting)
        return true;
    if (t->count == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        struct sb_coord_topic **grown = realloc(t->topic, room * sizeof(*grown));
        if (!grown)
            return false;
        t->topic = grown;
        t->room = room;
    }
    topic->rewriting = t->c->rewriting;
    t->topic[t->count++] = topic;
    return true;
}

/* Room for every live publisher of the topic among the ring's publishers. */
static int sb_coord_route_admit(const struct sb_coord_topic *topic, struct sb_coord_ring *ring)
{
    int ret = 0;
    for (struct sb_coord_route *r = topic->routes; ret == 0 && r; r = r->next_of_topic)
        ret = sb_bitset_reserve(&ring->publishers, r->conn->index);
    return ret;
}

/* Finds the topics that the ring's patterns match and works out their new sets. */
static int sb_coord_route_prepare(struct sb_coord *c, struct sb_coord_ring *ring, bool with,
                                  struct sb_coord_touched *t)
{
    struct sb_trie_reader view = sb_trie_writer_view(&c->topics);
    const uint8_t *pattern;
    size_t at = 0, len;
    c->rewriting++;
    while (sb_control_next_pattern(ring->patterns, ring->patterns_len, &at, &pattern, &len) == 1) {
        if (sb_trie_match_topics(&view, pattern, len, sb_coord_route_touch, t) != 0)
            return sb_fail(SHMBUS_E_NOMEM, "no memory to visit %zu topics", t->room);
    }
    for (size_t i = 0; i < t->count; i++) {
        struct sb_coord_topic *topic = t->topic[i];
        int ret = with ? sb_coord_route_admit(topic, ring) : 0;
        if (ret == 0)
            ret = sb_coord_set_change(c, topic->set, ring->index, with, &topic->after);
        if (ret) {
            while (i--)
                sb_coord_set_unref(c, t->topic[i]->after);
            return ret;
        }
    }
    return 0;
}

static void sb_coord_route_commit(struct sb_coord *c, struct sb_coord_ring *ring, bool with,
                                  const struct sb_coord_touched *t)
{
    for (size_t i = 0; i < t->count; i++) {
        struct sb_coord_topic *topic = t->topic[i];
        struct sb_coord_set *before = topic->set;
        topic->set = topic->after;
        topic->after = NULL;
        for (struct sb_coord_route *r = topic->routes; r; r = r->next_of_topic) {
            if (!r->live)
                continue;
            if (with)
                sb_bitset_add(&ring->publishers, r->conn->index);
            sb_coord_route_store(c, r, topic->set);
        }
        sb_coord_set_unref(c, before);
    }
    ring->listed = with;
}

int sb_coord_route_list(struct sb_coord *c, struct sb_coord_ring *ring)
{
    struct sb_coord_touched t = {.c = c};
    int ret = sb_coord_pattern_add(c, ring);
    if (ret == 0) {
        ret = sb_coord_route_prepare(c, ring, true, &t);
        if (ret)
            sb_coord_pattern_drop(c, ring);
    }
    if (ret == 0)
        sb_coord_route_commit(c, ring, true, &t);
    free(t.topic);
    return ret;
}

int sb_coord_route_unlist(struct sb_coord *c, struct sb_coord_ring *ring)
{
    struct sb_coord_touched t = {.c = c};
    sb_coord_pattern_drop(c, ring);
    int ret = sb_coord_route_prepare(c, ring, false, &t);
    if (ret == 0)
        sb_coord_route_commit(c, ring, false, &t);
    free(t.topic);
    return ret;
}
