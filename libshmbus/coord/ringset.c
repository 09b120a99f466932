/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/ringset.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static uint32_t sb_coord_set_hash(const uint32_t *ring, uint32_t count)
{
    uint64_t hash = count;
    for (uint32_t i = 0; i < count; i++)
        hash = (hash ^ ring[i]) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash >> 32);
}

static uint64_t sb_coord_set_bytes(uint32_t count)
{
    return sizeof(struct sb_ring_set) + (uint64_t)count * sizeof(uint32_t);
}

/* Keeps the buckets at least as many as the sets. */
static int sb_coord_set_rehash(struct sb_coord *c)
{
    if (c->set_count < c->set_bucket_count)
        return 0;
    uint32_t count = c->set_bucket_count ? 2 * c->set_bucket_count : 64;
    struct sb_coord_set **bucket = calloc(count, sizeof(*bucket));
    if (!bucket)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for %u sets of rings", count);
    for (uint32_t i = 0; i < c->set_bucket_count; i++) {
        for (struct sb_coord_set *set = c->set_buckets[i], *next; set; set = next) {
            next = set->next;
            set->next = bucket[set->hash % count];
            bucket[set->hash % count] = set;
        }
    }
    free(c->set_buckets);
    c->set_buckets = bucket;
    c->set_bucket_count = count;
    return 0;
}

/* The copy that readers see; complete before a route names it with a release store. */
static int sb_coord_set_publish(struct sb_coord *c, struct sb_coord_set *set)
{
    int ret = sb_coord_arena_alloc(&c->arena, sb_coord_set_bytes(set->count), &set->offset);
    if (ret)
        return ret;
    struct sb_ring_set *shared = (void *)(c->arena.base + set->offset);
    sb_store_relaxed(&shared->count, set->count);
    for (uint32_t i = 0; i < set->count; i++)
        sb_store_relaxed(&shared->ring[i], set->ring[i]);
    return 0;
}

static int sb_coord_set_new(struct sb_coord *c, const uint32_t *ring, uint32_t count, uint32_t hash,
                            struct sb_coord_set **made)
{
    int ret = sb_coord_set_rehash(c);
    if (ret)
        return ret;
    struct sb_coord_set *set = calloc(1, sizeof(*set) + count * sizeof(*ring));
    if (!set)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a set of %u rings", count);
    memcpy(set->ring, ring, count * sizeof(*ring));
    set->count = count;
    set->hash = hash;
    set->refs = 1;
    ret = sb_coord_set_publish(c, set);
    if (ret) {
        free(set);
        return ret;
    }
    set->next = c->set_buckets[hash % c->set_bucket_count];
    c->set_buckets[hash % c->set_bucket_count] = set;
    c->set_count++;
    *made = set;
    return 0;
}

int sb_coord_set_intern(struct sb_coord *c, const uint32_t *ring, uint32_t count,
                        struct sb_coord_set **set)
{
    if (count == 0) {
        *set = NULL;
        return 0;
    }
    uint32_t hash = sb_coord_set_hash(ring, count);
    struct sb_coord_set *found =
        c->set_bucket_count ? c->set_buckets[hash % c->set_bucket_count] : NULL;
    while (found && (found->hash != hash || found->count != count ||
                     memcmp(found->ring, ring, count * sizeof(*ring)) != 0))
        found = found->next;
    if (!found)
        return sb_coord_set_new(c, ring, count, hash, set);
    found->refs++;
    *set = found;
    return 0;
}

/* Works the changed set out; *after is a new reference. */
static int sb_coord_set_derive(struct sb_coord *c, const struct sb_coord_set *set, uint32_t ring,
                               bool with, struct sb_coord_set **after)
{
    uint32_t old = set ? set->count : 0;
    uint32_t *list = malloc(((size_t)old + 1) * sizeof(*list));
    if (!list)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a set of %u rings", old + 1);
    uint32_t count = 0;
    uint32_t i = 0;
    for (; i < old && set->ring[i] < ring; i++)
        list[count++] = set->ring[i];
    if (with)
        list[count++] = ring;
    for (; i < old; i++) {
        if (set->ring[i] != ring)
            list[count++] = set->ring[i];
    }
    int ret = sb_coord_set_intern(c, list, count, after);
    free(list);
    return ret;
}

int sb_coord_set_change(struct sb_coord *c, struct sb_coord_set *set, uint32_t ring, bool with,
                        struct sb_coord_set **after)
{
    if (set && set->rewriting == c->rewriting) {
        *after = set->after;
        if (*after)
            (*after)->refs++;
        return 0;
    }
    int ret = sb_coord_set_derive(c, set, ring, with, after);
    if (ret == 0 && set) {
        set->rewriting = c->rewriting;
        set->after = *after;
    }
    return ret;
}

void sb_coord_set_unref(struct sb_coord *c, struct sb_coord_set *set)
{
    if (!set || --set->refs)
        return;
    struct sb_coord_set **link = &c->set_buckets[set->hash % c->set_bucket_count];
    while (*link != set)
        link = &(*link)->next;
    *link = set->next;
    c->set_count--;
    sb_coord_arena_retire(&c->arena, set->offset, sb_coord_set_bytes(set->count));
    free(set);
}
