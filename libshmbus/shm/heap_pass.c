/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/heap_pass.h"

#include <stdlib.h>

#include "base/err.h"

#define SB_LANE_SPARES 64u /* free blocks that a lane keeps */

/*
 * Private memory of blocks: kept by size, so that a heap in its stride does not allocate.
 */

static unsigned sb_info_class(uint32_t room)
{
    unsigned class = sb_log2_ceil(room);
    return class < SB_INFO_CLASSES ? class : SB_INFO_CLASSES - 1;
}

struct sb_block_info *sb_info_get(struct sb_heap *heap, uint32_t room)
{
    unsigned class = sb_info_class(room);
    struct sb_block_info *info = heap->infos[class];
    if (info && info->room >= room) {
        heap->infos[class] = info->next;
        return info;
    }
    uint32_t rounded = 1u << sb_log2_ceil(room);
    info = malloc(sizeof(*info) + rounded * sizeof(info->span[0]));
    if (!info) {
        sb_fail(SHMBUS_E_NOMEM, "no memory for the books of a heap block");
        return NULL;
    }
    info->room = rounded;
    info->set = NULL;
    return info;
}

void sb_info_put(struct sb_heap *heap, struct sb_block_info *info)
{
    unsigned class = sb_info_class(info->room);
    if (info->room > 1u << (SB_INFO_CLASSES - 1)) { /* the last class is of mixed sizes */
        free(info);
        return;
    }
    info->next = heap->infos[class];
    heap->infos[class] = info;
}

void sb_info_unset(struct sb_heap *heap, struct sb_block_info *info)
{
    if (info->set)
        heap->unref(heap->ctx, info->set);
    info->set = NULL;
}

static void sb_block_give_back(struct sb_heap *heap, struct sb_block_info *info)
{
    sb_info_unset(heap, info);
    sb_buddy_free(&heap->buddy, info->offset, info->size);
    sb_info_put(heap, info);
}

/*
 * Passes.
 */

/* Looks at the rings of one set: epoch, positions, full fence, holds. */
static int sb_set_look(struct sb_heap *heap, const struct sb_target_set *set)
{
    sb_fence_full(); /* the last push before the epoch and the positions */
    for (uint32_t i = 0; i < set->count; i++) {
        int ret = heap->refresh(heap->ctx, set->target[i]);
        if (ret)
            return ret;
    }
    for (uint32_t i = 0; i < set->count; i++)
        sb_target_read_positions(set->target[i]);
    sb_fence_full(); /* pairs with the reader's fence between hold and second look */
    for (uint32_t i = 0; i < set->count; i++) {
        int ret = sb_target_read_holds(set->target[i]);
        if (ret)
            return ret;
    }
    return 0;
}

void sb_list_add(struct sb_block_list *list, struct sb_block_info *info)
{
    info->next = NULL;
    if (list->last)
        list->last->next = info;
    else
        list->first = info;
    list->last = info;
}

struct sb_block_info *sb_list_take(struct sb_block_list *list)
{
    struct sb_block_info *info = list->first;
    if (info) {
        list->first = info->next;
        if (!list->first)
            list->last = NULL;
    }
    return info;
}

void sb_list_move(struct sb_block_list *list, struct sb_block_list *from)
{
    for (struct sb_block_info *info; (info = sb_list_take(from)) != NULL;)
        sb_list_add(list, info);
}

/* The first ring that has not passed a block; the set's count if there is none, and then *held says
 * whether one of them holds it. */
static uint32_t sb_block_stuck_at(const struct sb_block_info *info, bool *held)
{
    *held = false;
    for (uint32_t i = 0; i < info->set->count; i++) {
        enum sb_passed passed =
            sb_target_passed(info->set->target[i], info->span[i].first, info->span[i].end);
        if (passed == SB_PASSED_NOT) {
            *held = false;
            return i;
        }
        if (passed == SB_PASSED_HELD)
            *held = true;
    }
    return info->set->count;
}

/* A passed block becomes spare if the lane wants it, else free. */
static void sb_lane_recycle(struct sb_heap *heap, struct sb_lane *lane, struct sb_block_info *info,
                            bool keep)
{
    if (!keep || info->size != lane->grown || lane->spare_count == SB_LANE_SPARES) {
        sb_block_give_back(heap, info);
        return;
    }
    sb_info_unset(heap, info);
    info->next = lane->spare;
    lane->spare = info;
    lane->spare_count++;
}

/* Puts a block of the lane's set where it waits; returns the bytes that this has freed. */
static int64_t sb_lane_place(struct sb_heap *heap, struct sb_lane *lane, struct sb_block_info *info,
                             bool keep)
{
    bool held;
    uint32_t at = sb_block_stuck_at(info, &held);
    if (at < info->set->count) {
        sb_list_add(&lane->waiting[at], info);
        return 0;
    }
    if (held) {
        sb_list_add(&lane->held, info);
        return 0;
    }
    int64_t freed = info->size;
    sb_lane_recycle(heap, lane, info, keep);
    return freed;
}

int64_t sb_lane_pass(struct sb_heap *heap, struct sb_lane *lane, bool keep)
{
    if (sb_set_look(heap, lane->set))
        return 0;
    int64_t freed = 0;
    struct sb_block_list held = lane->held;
    lane->held = (struct sb_block_list){0};
    for (struct sb_block_info *info; (info = sb_list_take(&held)) != NULL;)
        freed += sb_lane_place(heap, lane, info, keep);
    for (uint32_t i = 0; i < lane->set->count; i++) {
        struct sb_block_list *list = &lane->waiting[i];
        const struct sb_target *target = lane->set->target[i];
        while (list->first && sb_target_passed(target, list->first->span[i].first,
                                               list->first->span[i].end) != SB_PASSED_NOT)
            freed += sb_lane_place(heap, lane, sb_list_take(list), keep);
    }
    return freed;
}

int64_t sb_lane_pass_old(struct sb_heap *heap, struct sb_lane *lane)
{
    int64_t freed = 0;
    struct sb_block_list old = lane->old;
    lane->old = (struct sb_block_list){0};
    struct sb_target_set *looked = NULL; /* referenced while it is compared with */
    bool failed = false;
    for (struct sb_block_info *info; (info = sb_list_take(&old)) != NULL;) {
        if (info->set != looked) {
            if (looked)
                heap->unref(heap->ctx, looked);
            looked = info->set;
            looked->refs++;
            failed = sb_set_look(heap, looked) != 0;
        }
        bool held;
        if (failed || sb_block_stuck_at(info, &held) < info->set->count || held) {
            sb_list_add(&lane->old, info);
            continue;
        }
        freed += info->size;
        sb_block_give_back(heap, info);
    }
    if (looked)
        heap->unref(heap->ctx, looked);
    return freed;
}

void sb_lane_close(struct sb_heap *heap, struct sb_lane *lane)
{
    struct sb_block_info *info = lane->open;
    if (!info)
        return;
    info->closed_at = *heap->clock;
    for (uint32_t i = 0; i < info->set->count; i++) {
        struct sb_target *target = info->set->target[i];
        if (target->limited && info->span[i].end)
            sb_target_charge(target, info->size, info->span[i].end);
    }
    uint32_t ring = 0;
    while (ring + 1 < info->set->count && info->span[ring].end == 0)
        ring++;
    sb_list_add(&lane->waiting[ring], info);
    lane->open = NULL;
    lane->block = NULL;
    lane->used = lane->size = 0;
}

void sb_lane_drop_spares(struct sb_heap *heap, struct sb_lane *lane)
{
    while (lane->spare) {
        struct sb_block_info *info = lane->spare;
        lane->spare = info->next;
        sb_block_give_back(heap, info);
    }
    lane->spare_count = 0;
}

int64_t sb_heap_reclaim(struct sb_heap *heap)
{
    int64_t freed = 0;
    for (struct sb_lane *lane = heap->lanes; lane; lane = lane->next) {
        freed += (int64_t)lane->spare_count * lane->grown;
        sb_lane_drop_spares(heap, lane);
        freed += sb_lane_pass(heap, lane, false) + sb_lane_pass_old(heap, lane);
    }
    return freed;
}
