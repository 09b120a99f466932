/* SPDX-License-Identifier: Apache-2.0 */
#include "client/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Routes remembered of one heap before the dead are looked for. */
#define SB_SOURCE_VERDICTS 1024u

struct sb_source_table *sb_sources_new(void)
{
    struct sb_source_table *sources = calloc(1, sizeof(*sources));
    if (!sources)
        sb_fail(SHMBUS_E_NOMEM, "no memory for the sources of a subscription");
    return sources;
}

static void sb_verdict_free(struct sb_verdict *verdict)
{
    sb_delivered_free(verdict->delivered);
    free(verdict);
}

static void sb_source_free(struct shmbus_conn *conn, struct sb_source *source)
{
    for (uint32_t i = 0; i < SB_VERDICT_BUCKETS; i++) {
        while (source->verdicts[i]) {
            struct sb_verdict *verdict = source->verdicts[i];
            source->verdicts[i] = verdict->next;
            sb_verdict_free(verdict);
        }
    }
    sb_mapping_put(conn, source->mapping);
    free(source);
}

void sb_sources_free(struct shmbus_conn *conn, struct sb_source_table *sources)
{
    if (!sources)
        return;
    for (uint32_t i = 0; i < SB_SOURCE_BUCKETS; i++) {
        while (sources->bucket[i]) {
            struct sb_source *source = sources->bucket[i];
            sources->bucket[i] = source->next;
            sb_source_free(conn, source);
        }
    }
    free(sources);
}

/* Whether some message of the subscription is unreleased beside the one being checked: under
 * another hold, or under the same one, earlier in its batch. */
static bool sb_source_pinned(const struct shmbus_sub *sub)
{
    if (sub->in_hand)
        return true;
    const struct sb_seat *seat = sub->reader.seat;
    uint32_t held = 0;
    for (uint32_t h = 0; h < SB_HELD_MAX; h++)
        held += sb_load_acquire(&seat->hold[h]) != 0;
    return held > 1;
}

/* Forgets sources whose connection has ended and been forgotten by the bus. */
static void sb_sources_sweep(struct shmbus_sub *sub)
{
    struct sb_source_table *sources = sub->sources;
    if (sb_source_pinned(sub))
        return;
    sub->near = &sources->none;
    for (uint32_t i = 0; i < SB_SOURCE_BUCKETS; i++) {
        struct sb_source **at = &sources->bucket[i];
        while (*at) {
            struct sb_source *source = *at;
            if (sb_load_acquire(&source->rec->gen) == source->gen) {
                at = &source->next;
                continue;
            }
            *at = source->next;
            sb_source_free(sub->conn, source);
        }
    }
}

static int sb_source_new(struct shmbus_sub *sub, uint32_t name, struct sb_source **out)
{
    struct shmbus_conn *conn = sub->conn;
    uint32_t index = name >> 8;
    const struct sb_conn_rec *rec =
        sb_table_at(sb_conn_arena(conn), &conn->header->conns, index, sizeof(*rec));
    if (!rec)
        return SB_SOURCE_SKIP;
    uint32_t gen = sb_load_acquire(&rec->gen);
    if ((gen & 0xff) != (name & 0xff) || sb_load_acquire(&rec->state) == SB_CONN_FREE)
        return SB_SOURCE_SKIP;
    sb_sources_sweep(sub);
    struct sb_mapping_want want = {.kind = SB_MAP_HEAP, .index = index, .gen = gen};
    int ret = sb_mapping_get(conn, &want, 1);
    if (ret)
        return ret;
    if (!want.mapping) {
        /* Not to be had: when the bus has ended it is lost, else it was not for this reader. */
        if (sb_load_acquire(&conn->header->state) == SB_BUS_STOPPED)
            return SB_SOURCE_GONE;
        sub->sources->refused++;
        return SB_SOURCE_SKIP;
    }
    struct sb_source *source = calloc(1, sizeof(*source));
    if (!source) {
        sb_mapping_put(conn, want.mapping);
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a source of messages");
    }
    source->name = name;
    source->gen = gen;
    source->rec = rec;
    source->mapping = want.mapping;
    source->base = want.mapping->base;
    source->next = sub->sources->bucket[index % SB_SOURCE_BUCKETS];
    sub->sources->bucket[index % SB_SOURCE_BUCKETS] = source;
    *out = source;
    return 0;
}

/* Whether descriptors that name it mean this source: of a generation they have 8 bits only, which
 * may have gone round since. */
static bool sb_source_is(const struct sb_source *source, uint32_t name)
{
    return source->name == name && source->rec && sb_load_acquire(&source->rec->gen) == source->gen;
}

static SB_NOINLINE int sb_source_find(struct shmbus_sub *sub, uint32_t name,
                                      struct sb_source **source)
{
    struct sb_source *s = sub->sources->bucket[(name >> 8) % SB_SOURCE_BUCKETS];
    while (s && !sb_source_is(s, name))
        s = s->next;
    int ret = s ? 0 : sb_source_new(sub, name, &s);
    if (ret == 0)
        *source = s;
    return ret;
}

/* Looks again how much of the heap is allocated: it grows. */
static SB_NOINLINE bool sb_source_reaches(struct sb_source *source, uint64_t end)
{
    uint64_t size = sb_load_acquire(&source->rec->heap_size);
    if (size > source->mapping->size)
        size = source->mapping->size;
    source->size = size;
    return end <= size;
}

/*
 * Verdicts.
 */

static bool sb_sub_matches(const struct shmbus_sub *sub, const struct shmbus_topic_view *topic)
{
    for (size_t i = 0; i < sub->pattern_count; i++) {
        const struct shmbus_topic_view *pattern = sub->patterns[i];
        if (sb_topic_match(pattern->encoded, pattern->encoded_len, topic->encoded,
                           topic->encoded_len))
            return true;
    }
    return false;
}

static void sb_verdicts_sweep(struct shmbus_sub *sub, struct sb_source *source)
{
    if (sb_source_pinned(sub))
        return;
    source->near.units = 0;
    for (uint32_t i = 0; i < SB_VERDICT_BUCKETS; i++) {
        struct sb_verdict **at = &source->verdicts[i];
        while (*at) {
            struct sb_verdict *verdict = *at;
            if (sb_load_acquire(&verdict->rec->gen) == verdict->gen) {
                at = &verdict->next;
                continue;
            }
            *at = verdict->next;
            source->verdict_count--;
            sb_verdict_free(verdict);
        }
    }
}

static int sb_verdict_new(struct shmbus_sub *sub, struct sb_source *source, uint32_t id,
                          struct sb_verdict **out)
{
    struct shmbus_conn *conn = sub->conn;
    const struct sb_route_rec *rec =
        sb_table_at(sb_conn_arena(conn), &conn->header->routes, id >> 8, sizeof(*rec));
    uint32_t gen = rec ? sb_load_acquire(&rec->gen) : 0;
    uint32_t state = rec ? sb_load_acquire(&rec->state) : SB_ROUTE_FREE;
    if (!rec || (gen & 0xff) != (id & 0xff) || rec->conn != source->name >> 8 ||
        (state != SB_ROUTE_LIVE && state != SB_ROUTE_DEAD))
        return SB_SOURCE_SKIP;
    if (source->verdict_count >= SB_SOURCE_VERDICTS)
        sb_verdicts_sweep(sub, source);
    struct sb_delivered *delivered = sb_delivered_new(conn, rec, source->rec);
    if (!delivered) /* the record may have been of something else before it was copied whole */
        return sb_load_acquire(&rec->gen) != gen ? SB_SOURCE_SKIP : SHMBUS_E_NOMEM;
    /* What was copied is that route's and that connection's only if both are still the same. */
    if (sb_load_relaxed(&rec->gen) != gen || sb_load_relaxed(&source->rec->gen) != source->gen) {
        sb_delivered_free(delivered);
        return SB_SOURCE_SKIP;
    }
    struct sb_verdict *verdict = calloc(1, sizeof(*verdict));
    if (!verdict) {
        sb_delivered_free(delivered);
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a route");
    }
    verdict->rec = rec;
    verdict->id = id;
    verdict->gen = gen;
    verdict->accepted = sb_sub_matches(sub, &delivered->topic);
    if (verdict->accepted)
        verdict->delivered = delivered;
    else
        sb_delivered_free(delivered);
    verdict->next = source->verdicts[(id >> 8) % SB_VERDICT_BUCKETS];
    source->verdicts[(id >> 8) % SB_VERDICT_BUCKETS] = verdict;
    source->verdict_count++;
    *out = verdict;
    return 0;
}

static SB_NOINLINE int sb_verdict_find(struct shmbus_sub *sub, struct sb_source *source,
                                       uint32_t id, struct sb_verdict **verdict)
{
    struct sb_verdict *v = source->verdicts[(id >> 8) % SB_VERDICT_BUCKETS];
    while (v && v->id != id)
        v = v->next;
    int ret = v ? 0 : sb_verdict_new(sub, source, id, &v);
    if (ret == 0)
        *verdict = v;
    return ret;
}

/*
 * The check.
 */

/* Finds the block that desc names, if it lies whole inside what is allocated of its heap. */
static bool sb_source_block(struct sb_source *source, uint64_t desc, struct sb_extent *extent)
{
    uint64_t offset = sb_desc_block(desc);
    if (offset + sizeof(struct sb_block) > source->size &&
        !sb_source_reaches(source, offset + sizeof(struct sb_block)))
        return false;
    const struct sb_block *block = (const struct sb_block *)(const void *)(source->base + offset);
    uint64_t size = sb_load_relaxed(&block->size);
    if (size < sizeof(struct sb_block) + sizeof(struct sb_chunk) ||
        (offset + size > source->size && !sb_source_reaches(source, offset + size)))
        return false;
    extent->starts = block->starts;
    extent->room = size - sizeof(struct sb_chunk);
    uint64_t units = extent->room / SB_CHUNK_UNIT + 1;
    uint64_t marked = sizeof(block->starts) * 8;
    extent->units = units < marked ? units : marked;
    return true;
}

int sb_source_check(struct shmbus_sub *sub, uint64_t desc, struct sb_found *found)
{
    struct sb_source *source = sub->near;
    if (sb_source_check_near(source, desc, found))
        return 0;
    if (!sb_source_is(source, sb_desc_source(desc))) {
        int ret = sb_source_find(sub, sb_desc_source(desc), &source);
        if (ret)
            return ret;
    }
    struct sb_extent extent;
    if (!sb_source_block(source, desc, &extent) || !sb_source_chunk(&extent, desc & 0xfff, found) ||
        found->seq <= source->last_seq)
        return SB_SOURCE_SKIP;
    struct sb_verdict *verdict;
    int ret = sb_verdict_find(sub, source, sb_load_relaxed(&found->chunk->route), &verdict);
    if (ret)
        return ret;
    if (!verdict->accepted || sb_load_acquire(&verdict->rec->gen) != verdict->gen)
        return SB_SOURCE_SKIP;
    found->source = source;
    found->delivered = verdict->delivered;
    source->near_desc = desc & ~UINT64_C(0xfff);
    source->near = extent;
    source->near_delivered = verdict->delivered;
    source->near_gen = &verdict->rec->gen;
    source->near_route = verdict->id;
    source->near_route_gen = verdict->gen;
    sub->near = source;
    return 0;
}
