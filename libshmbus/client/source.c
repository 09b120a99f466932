/* SPDX-License-Identifier: Apache-2.0 */
#include "client/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define SB_SOURCE_VERDICTS                                                                         \
    1024u /* routes remembered of one heap before the dead are looked for                          \
           */

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

/* Whether some message of the subscription is unreleased beside the one being checked. */
static bool sb_source_pinned(const struct shmbus_sub *sub)
{
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
    sources->recent = NULL;
    for (uint32_t i = 0; i < SB_SOURCE_BUCKETS; i++) {
        struct sb_source **at = &sources->bucket[i];
        while (*at) {
            struct sb_source *source = *at;
            if (sb_load_acquire(&source->rec->gen) == source->gen) {
                at = &source->next;
                continue;
            }
            *at = source->next;
            sources->count--;
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
    if (ret == SHMBUS_E_DISCONNECTED || (ret == 0 && !want.mapping))
        return ret ? SB_SOURCE_GONE : SB_SOURCE_SKIP;
    if (ret)
        return ret;
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
    sub->sources->count++;
    *out = source;
    return 0;
}

static SB_NOINLINE int sb_source_find(struct shmbus_sub *sub, uint32_t name,
                                      struct sb_source **source)
{
    struct sb_source *s = sub->sources->bucket[(name >> 8) % SB_SOURCE_BUCKETS];
    while (s && s->name != name)
        s = s->next;
    /* The 8 bits of generation may have gone round since. */
    if (s && sb_load_acquire(&s->rec->gen) != s->gen) {
        sb_sources_sweep(sub);
        return SB_SOURCE_SKIP;
    }
    int ret = s ? 0 : sb_source_new(sub, name, &s);
    if (ret == 0)
        *source = sub->sources->recent = s;
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
    source->recent = NULL;
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
    if (!delivered)
        return SHMBUS_E_NOMEM;
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
        *verdict = source->recent = v;
    return ret;
}

/*
 * The check.
 */

int sb_source_check(struct shmbus_sub *sub, uint64_t desc, struct sb_found *found)
{
    int ret;
    struct sb_source *source = sub->sources->recent;
    if (sb_unlikely(!source || source->name != sb_desc_source(desc))) {
        ret = sb_source_find(sub, sb_desc_source(desc), &source);
        if (ret)
            return ret;
    }
    uint64_t offset = sb_desc_block(desc);
    uint32_t at = sb_desc_chunk(desc);
    if (sb_unlikely(offset + sizeof(struct sb_block) > source->size) &&
        !sb_source_reaches(source, offset + sizeof(struct sb_block)))
        return SB_SOURCE_SKIP;
    const struct sb_block *block = (const struct sb_block *)(const void *)(source->base + offset);
    uint32_t block_size = sb_load_relaxed(&block->size);
    if (sb_unlikely(offset + block_size > source->size) &&
        !sb_source_reaches(source, offset + block_size))
        return SB_SOURCE_SKIP;
    uint32_t unit = at / SB_CHUNK_UNIT;
    if (sb_unlikely(unit / 64 >= sb_array_len(block->starts) ||
                    (uint64_t)at + sizeof(struct sb_chunk) > block_size ||
                    !(sb_load_relaxed(&block->starts[unit / 64]) >> (unit % 64) & 1)))
        return SB_SOURCE_SKIP;
    const struct sb_chunk *chunk =
        (const struct sb_chunk *)(const void *)((const uint8_t *)block + at);
    uint32_t id = sb_load_relaxed(&chunk->route);
    uint32_t size = sb_load_relaxed(&chunk->size);
    uint32_t extra = sb_load_relaxed(&chunk->extra);
    uint64_t seq = sb_load_relaxed(&chunk->seq);
    if (sb_unlikely((uint64_t)at + sizeof(*chunk) + extra + size > block_size ||
                    seq <= source->last_seq))
        return SB_SOURCE_SKIP;
    struct sb_verdict *verdict = source->recent;
    if (sb_unlikely(!verdict || verdict->id != id)) {
        ret = sb_verdict_find(sub, source, id, &verdict);
        if (ret)
            return ret;
    }
    if (sb_unlikely(!verdict->accepted || sb_load_acquire(&verdict->rec->gen) != verdict->gen ||
                    sb_load_acquire(&verdict->rec->state) > SB_ROUTE_DEAD))
        return SB_SOURCE_SKIP;
    found->delivered = verdict->delivered;
    found->payload = (const uint8_t *)(chunk + 1) + extra;
    found->source = source;
    found->seq = seq;
    found->time = sb_load_relaxed(&chunk->time);
    found->size = size;
    found->flags = sb_load_relaxed(&chunk->flags);
    return 0;
}
