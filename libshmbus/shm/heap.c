/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/heap_pass.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define SB_HEAP_SHARES 8u    /* of the limit: what one limited ring may pin is a share */
#define SB_LANE_STREAMS 64u  /* messages that a reader is behind in a stream */
#define SB_LANE_AHEAD 1152u  /* bytes ahead of a chunk that are fetched then */
#define SB_LANE_PATIENCE 16u /* blocks opened without a pass, at most */

int sb_heap_init(struct sb_heap *heap, uint8_t *base, uint64_t size, uint64_t limit, uint32_t index,
                 uint32_t gen)
{
    memset(heap, 0, sizeof(*heap));
    heap->base = base;
    heap->limit = limit;
    heap->index = index;
    heap->gen = gen;
    sb_buddy_init(&heap->buddy);
    int ret = sb_buddy_grow(&heap->buddy, size);
    if (ret)
        sb_buddy_deinit(&heap->buddy);
    return ret;
}

void sb_heap_deinit(struct sb_heap *heap)
{
    for (size_t i = 0; i < sb_array_len(heap->infos); i++) {
        while (heap->infos[i]) {
            struct sb_block_info *info = heap->infos[i];
            heap->infos[i] = info->next;
            free(info);
        }
    }
    sb_buddy_deinit(&heap->buddy);
}

/*
 * Lanes.
 */

void sb_lane_init(struct sb_heap *heap, struct sb_lane *lane, struct sb_target_set *set)
{
    memset(lane, 0, sizeof(*lane));
    lane->set = set;
    lane->grown = SB_BLOCK_UNIT;
    lane->next = heap->lanes;
    if (lane->next)
        lane->next->prev = lane;
    heap->lanes = lane;
}

/* What waits in the lane for rings of its set becomes old. */
static void sb_lane_retire(struct sb_heap *heap, struct sb_lane *lane)
{
    sb_lane_close(heap, lane);
    for (uint32_t i = 0; i < lane->set->count; i++)
        sb_list_move(&lane->old, &lane->waiting[i]);
    sb_list_move(&lane->old, &lane->held);
}

int sb_lane_set(struct sb_heap *heap, struct sb_lane *lane, struct sb_target_set *set)
{
    struct sb_block_list *waiting = calloc(set->count ? set->count : 1, sizeof(*waiting));
    if (!waiting)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for the rings of a topic");
    sb_lane_retire(heap, lane);
    free(lane->waiting);
    heap->unref(heap->ctx, lane->set);
    lane->waiting = waiting;
    lane->set = set;
    lane->only = set->count == 1 ? set->target[0] : NULL;
    lane->patience = lane->waited = 0;
    /* Rings that have gone are let go of as soon as nothing is queued there. */
    sb_lane_pass_old(heap, lane);
    return 0;
}

bool sb_lane_idle(struct sb_heap *heap, struct sb_lane *lane)
{
    sb_lane_retire(heap, lane);
    sb_lane_pass_old(heap, lane);
    return lane->old.first == NULL;
}

void sb_lane_leave(struct sb_heap *heap, struct sb_lane *lane)
{
    sb_lane_retire(heap, lane);
    sb_lane_drop_spares(heap, lane);
    for (struct sb_block_info *info; (info = sb_list_take(&lane->old)) != NULL;) {
        sb_info_unset(heap, info);
        sb_info_put(heap, info);
    }
    free(lane->waiting);
    heap->unref(heap->ctx, lane->set);
    if (lane->prev)
        lane->prev->next = lane->next;
    else
        heap->lanes = lane->next;
    if (lane->next)
        lane->next->prev = lane->prev;
}

/*
 * Opening a block.
 */

static SB_COLD int sb_heap_full(const struct sb_heap *heap, uint32_t size)
{
    return sb_fail(SHMBUS_E_LIMIT,
                   "heap full: %" PRIu32 " bytes do not fit, %" PRIu64 " of the limit of %" PRIu64
                   " are held by receivers or queued for them",
                   size, sb_buddy_used(&heap->buddy), heap->limit);
}

static bool sb_heap_can_grow(const struct sb_heap *heap)
{
    return heap->limit - sb_buddy_size(&heap->buddy) >= SB_BLOCK_UNIT;
}

/* Grows the heap once, to twice its size or as far as `size` bytes and the limit want. */
static int sb_heap_grow(struct sb_heap *heap, uint32_t size)
{
    uint64_t now = sb_buddy_size(&heap->buddy);
    uint64_t want = now + (now > size ? now : size);
    int ret = heap->grow(heap->ctx, want < heap->limit ? want : heap->limit, &want);
    return ret ? ret : sb_buddy_grow(&heap->buddy, want);
}

/* Makes room for `size` bytes: by looking at all lanes, then by growing, at the limit by taking
 * back. A look at all lanes that frees little would soon be repeated, so the heap grows then, too,
 * if it can. */
static int sb_heap_make_room(struct sb_heap *heap, uint32_t size, uint64_t *offset)
{
    int64_t freed = sb_heap_reclaim(heap);
    if (sb_buddy_alloc(&heap->buddy, size, offset) == 0) {
        if ((uint64_t)freed < sb_buddy_size(&heap->buddy) / 8 && sb_heap_can_grow(heap))
            (void)sb_heap_grow(heap, size);
        return 0;
    }
    while (sb_heap_can_grow(heap)) {
        int ret = sb_heap_grow(heap, size);
        if (ret)
            return ret;
        if (sb_buddy_alloc(&heap->buddy, size, offset) == 0)
            return 0;
    }
    return sb_heap_take_back(heap, size, offset) ? sb_heap_full(heap, size) : 0;
}

/* The size of the next block: with the lane's share of the traffic. */
static uint32_t sb_lane_next_size(struct sb_heap *heap, struct sb_lane *lane, uint32_t need)
{
    uint32_t total = sizeof(struct sb_block) + need;
    if (total > SB_BLOCK_MAX)
        return (uint32_t)sb_align_up(total, SB_BLOCK_UNIT);
    uint32_t grown = lane->grown;
    uint64_t elapsed = *heap->clock - lane->opened_at;
    uint64_t own = grown / need;
    if (elapsed < own * 8)
        grown = grown * 2 < SB_BLOCK_MAX ? grown * 2 : SB_BLOCK_MAX;
    else if (elapsed > own * 128 && grown > SB_BLOCK_UNIT)
        grown /= 2;
    while (grown < total)
        grown *= 2;
    if (grown != lane->grown)
        sb_lane_drop_spares(heap, lane);
    lane->grown = grown;
    return grown;
}

/* A free block of `size` bytes and its books. */
static struct sb_block_info *sb_lane_find(struct sb_heap *heap, struct sb_lane *lane, uint32_t size,
                                          int *ret)
{
    bool spares = size == lane->grown;
    if (!(spares && lane->spare) && lane->waited++ >= lane->patience) {
        lane->waited = 0;
        if (sb_lane_pass(heap, lane, spares) > 0)
            lane->patience = 0;
        else if (lane->patience < SB_LANE_PATIENCE)
            lane->patience = lane->patience * 2 + 1;
    }
    if (spares && lane->spare && lane->spare->room >= lane->set->count) {
        struct sb_block_info *info = lane->spare;
        lane->spare = info->next;
        lane->spare_count--;
        return info;
    }
    struct sb_block_info *info = sb_info_get(heap, lane->set->count);
    if (!info) {
        *ret = SHMBUS_E_NOMEM;
        return NULL;
    }
    *ret = 0;
    if (sb_buddy_alloc(&heap->buddy, size, &info->offset) != 0)
        *ret = sb_heap_make_room(heap, size, &info->offset);
    if (*ret) {
        sb_info_put(heap, info);
        return NULL;
    }
    info->size = size;
    return info;
}

/* Whether a reader of the lane's rings is well behind, so that what it has read lies in its cache.
 * One that waits for each message is not, and would be held up by what is fetched ahead. */
static bool sb_lane_streams(const struct sb_lane *lane)
{
    for (uint32_t i = 0; i < lane->set->count; i++) {
        if (sb_target_lag(lane->set->target[i]) >= SB_LANE_STREAMS)
            return true;
    }
    return false;
}

/* What may be queued in one ring that does not let go of it: an eighth of the limit, in a small
 * heap two blocks, since that is how exactly it is known; half of the limit for all of them. */
static uint64_t sb_heap_budget(const struct sb_heap *heap)
{
    uint64_t share = heap->limit / SB_HEAP_SHARES;
    uint64_t most = heap->limit / 2 / (heap->limited ? heap->limited : 1);
    if (share < (uint64_t)2 * SB_BLOCK_MAX)
        share = (uint64_t)2 * SB_BLOCK_MAX;
    return share < most ? share : most;
}

int sb_lane_open(struct sb_heap *heap, struct sb_lane *lane, uint32_t need)
{
    sb_lane_close(heap, lane);
    int ret = SHMBUS_E_NOMEM;
    struct sb_block_info *info =
        sb_lane_find(heap, lane, sb_lane_next_size(heap, lane, need), &ret);
    if (!info)
        return ret;
    info->set = lane->set;
    info->set->refs++;
    for (uint32_t i = 0; i < info->set->count; i++) {
        struct sb_target *target = info->set->target[i];
        info->span[i].first = sb_load_relaxed(&target->ring.mem->tail);
        info->span[i].end = 0;
        if (target->limited)
            sb_target_budget(target, sb_heap_budget(heap));
    }
    struct sb_block *block = (struct sb_block *)(void *)(heap->base + info->offset);
    block->size = info->size;
    for (size_t i = 0; i < sb_array_len(block->starts); i++)
        sb_store_relaxed(&block->starts[i], 0);
    /* The marks are gone before what they marked is written over; pairs with the acquire fence of a
     * reader that looks at a mark again behind its copy. */
    sb_fence_release();
    lane->open = info;
    lane->block = (uint8_t *)block;
    lane->desc = sb_desc(heap->index, heap->gen, info->offset, 0);
    lane->ahead = sb_lane_streams(lane) ? SB_LANE_AHEAD : 0;
    lane->used = sizeof(*block);
    /* Starts beyond what the bitmap covers cannot be marked: a larger block has room for nothing
     * but the chunk that it is opened for. */
    lane->size = info->size > SB_BLOCK_MAX ? lane->used : info->size;
    lane->opened_at = *heap->clock;
    return 0;
}
