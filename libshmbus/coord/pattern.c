/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "coord/ringset.h"

struct sb_coord_item {
    const uint8_t *bytes;
    size_t len;
};

static int sb_coord_item_order(const void *a, const void *b)
{
    const struct sb_coord_item *x = a, *y = b;
    return sb_topic_compare(x->bytes, x->len, y->bytes, y->len);
}

/* The checked patterns of a list, in order T5. */
static int sb_coord_pattern_items(const uint8_t *patterns, size_t len, uint32_t count,
                                  struct sb_coord_item item[SB_PATTERNS_MAX])
{
    size_t at = 0;
    uint32_t n = 0;
    int ret;
    if (count == 0 || count > SB_PATTERNS_MAX)
        return sb_fail(SHMBUS_E_INVALID, "a subscription has 1 to %u patterns, not %u",
                       SB_PATTERNS_MAX, count);
    if (len > 65536)
        return sb_fail(SHMBUS_E_INVALID,
                       "the patterns of a subscription take 65536 bytes at most, not %zu", len);
    while (n < count &&
           (ret = sb_control_next_pattern(patterns, len, &at, &item[n].bytes, &item[n].len)) != 0) {
        if (ret < 0)
            return ret;
        ret = sb_topic_check(item[n].bytes, item[n].len, true);
        if (ret)
            return sb_fail_prefix(ret, "pattern %u", n + 1);
        n++;
    }
    if (n != count || at != len)
        return sb_fail(SHMBUS_E_INVALID, "a list of %u patterns was announced and another sent",
                       count);
    qsort(item, count, sizeof(item[0]), sb_coord_item_order);
    return 0;
}

int sb_coord_pattern_sort(const uint8_t *patterns, size_t len, uint32_t count, uint8_t **list,
                          uint32_t *list_len, uint32_t *list_count)
{
    struct sb_coord_item item[SB_PATTERNS_MAX];
    int ret = sb_coord_pattern_items(patterns, len, count, item);
    if (ret)
        return ret;
    uint8_t *sorted = malloc(len);
    if (!sorted)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for %zu bytes of patterns", len);
    uint32_t used = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && sb_coord_item_order(&item[i - 1], &item[i]) == 0)
            continue;
        uint16_t n = (uint16_t)item[i].len;
        memcpy(sorted + used, &n, sizeof(n));
        memcpy(sorted + used + sizeof(n), item[i].bytes, n);
        used += (uint32_t)sizeof(n) + n;
        kept++;
    }
    *list = sorted;
    *list_len = used;
    *list_count = kept;
    return 0;
}

static struct sb_coord_pattern *sb_coord_pattern_find(struct sb_coord *c, const uint8_t *bytes,
                                                      size_t len)
{
    struct sb_trie_reader view = sb_trie_writer_view(&c->patterns);
    uint64_t id;
    if (sb_trie_find(&view, bytes, len, &id, NULL) != 0)
        return NULL;
    return sb_coord_ids_at(&c->pattern_ids, id);
}

struct sb_coord_ring *sb_coord_pattern_shared(struct sb_coord *c, const struct sb_coord_user *user,
                                              uint32_t capacity, const uint8_t *list,
                                              uint32_t list_len)
{
    const uint8_t *first;
    size_t at = 0, len;
    if (sb_control_next_pattern(list, list_len, &at, &first, &len) != 1)
        return NULL;
    const struct sb_coord_pattern *pattern = sb_coord_pattern_find(c, first, len);
    for (uint32_t i = 0; pattern && i < pattern->count; i++) {
        struct sb_coord_ring *ring = pattern->ring[i];
        if (ring->full == SB_DROP_OLDEST && ring->segment->user == user &&
            ring->view.capacity == capacity && ring->patterns_len == list_len &&
            memcmp(ring->patterns, list, list_len) == 0)
            return ring;
    }
    return NULL;
}

static int sb_coord_pattern_new(struct sb_coord *c, const uint8_t *bytes, size_t len,
                                struct sb_coord_pattern **made)
{
    struct sb_coord_pattern *pattern = calloc(1, sizeof(*pattern));
    if (!pattern)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a pattern");
    int ret = sb_coord_ids_take(&c->pattern_ids, pattern, &pattern->id);
    if (ret == 0) {
        ret = sb_trie_put(&c->patterns, bytes, len, pattern->id, NULL);
        if (ret)
            sb_coord_ids_give(&c->pattern_ids, pattern->id);
    }
    if (ret) {
        free(pattern);
        return ret;
    }
    *made = pattern;
    return 0;
}

static void sb_coord_pattern_free(struct sb_coord *c, struct sb_coord_pattern *pattern,
                                  const uint8_t *bytes, size_t len)
{
    (void)sb_trie_remove(&c->patterns, bytes, len);
    sb_coord_ids_give(&c->pattern_ids, pattern->id);
    free(pattern->ring);
    free(pattern);
}

static int sb_coord_pattern_push(struct sb_coord_pattern *pattern, struct sb_coord_ring *ring)
{
    if (pattern->count == pattern->room) {
        uint32_t room = pattern->room ? 2 * pattern->room : 2;
        struct sb_coord_ring **grown =
            realloc(pattern->ring, room * sizeof(struct sb_coord_ring *));
        if (!grown)
            return sb_fail(SHMBUS_E_NOMEM, "no memory for %u queues of a pattern", room);
        pattern->ring = grown;
        pattern->room = room;
    }
    pattern->ring[pattern->count++] = ring;
    return 0;
}

int sb_coord_pattern_add(struct sb_coord *c, struct sb_coord_ring *ring)
{
    const uint8_t *bytes;
    size_t at = 0, len;
    while (sb_control_next_pattern(ring->patterns, ring->patterns_len, &at, &bytes, &len) == 1) {
        struct sb_coord_pattern *pattern = sb_coord_pattern_find(c, bytes, len);
        int ret = pattern ? 0 : sb_coord_pattern_new(c, bytes, len, &pattern);
        if (ret == 0) {
            ret = sb_coord_pattern_push(pattern, ring);
            if (ret && pattern->count == 0)
                sb_coord_pattern_free(c, pattern, bytes, len);
        }
        if (ret) {
            sb_coord_pattern_drop(c, ring);
            return ret;
        }
    }
    return 0;
}

void sb_coord_pattern_drop(struct sb_coord *c, struct sb_coord_ring *ring)
{
    const uint8_t *bytes;
    size_t at = 0, len;
    while (sb_control_next_pattern(ring->patterns, ring->patterns_len, &at, &bytes, &len) == 1) {
        struct sb_coord_pattern *pattern = sb_coord_pattern_find(c, bytes, len);
        uint32_t i = 0;
        while (pattern && i < pattern->count && pattern->ring[i] != ring)
            i++;
        if (!pattern || i == pattern->count)
            continue;
        pattern->ring[i] = pattern->ring[--pattern->count];
        if (pattern->count == 0)
            sb_coord_pattern_free(c, pattern, bytes, len);
    }
}

/* The rings that one topic leads to, while they are collected. */
struct sb_coord_found {
    struct sb_coord *c;
    uint32_t *ring;
    size_t count, room;
};

static bool sb_coord_pattern_collect(void *ctx, uint64_t id, uint32_t node)
{
    (void)node;
    struct sb_coord_found *f = ctx;
    const struct sb_coord_pattern *pattern = sb_coord_ids_at(&f->c->pattern_ids, id);
    if (f->room - f->count < pattern->count) {
        size_t room = 2 * (f->room + pattern->count);
        uint32_t *grown = realloc(f->ring, room * sizeof(*grown));
        if (!grown)
            return false;
        f->ring = grown;
        f->room = room;
    }
    for (uint32_t i = 0; i < pattern->count; i++)
        f->ring[f->count++] = pattern->ring[i]->index;
    return true;
}

static int sb_coord_index_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int sb_coord_pattern_rings(struct sb_coord *c, const uint8_t *topic, size_t len,
                           struct sb_coord_set **set)
{
    struct sb_trie_reader view = sb_trie_writer_view(&c->patterns);
    struct sb_coord_found f = {.c = c};
    int ret = sb_trie_match_patterns(&view, topic, len, sb_coord_pattern_collect, &f);
    if (ret)
        ret = sb_fail(SHMBUS_E_NOMEM, "no memory for the queues of a topic");
    if (f.count)
        qsort(f.ring, f.count, sizeof(*f.ring), sb_coord_index_order);
    uint32_t kept = 0;
    for (size_t i = 0; i < f.count; i++) {
        if (kept == 0 || f.ring[i] != f.ring[kept - 1])
            f.ring[kept++] = f.ring[i];
    }
    if (ret == 0)
        ret = sb_coord_set_intern(c, f.ring, kept, set);
    free(f.ring);
    return ret;
}

void sb_coord_pattern_close(struct sb_coord *c)
{
    for (uint32_t i = 0; i < c->pattern_ids.count; i++) {
        struct sb_coord_pattern *pattern = c->pattern_ids.object[i];
        if (pattern)
            free(pattern->ring);
        free(pattern);
    }
    sb_coord_ids_deinit(&c->pattern_ids);
}
