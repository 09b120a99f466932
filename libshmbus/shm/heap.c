/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/heap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define SB_LANE_SPARES 64u   /* free blocks that a lane keeps */
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
 * Private memory of blocks: kept by size, so that a heap in its stride does not allocate.
 */

static unsigned sb_info_class(uint32_t room)
{
    unsigned class = sb_log2_ceil(room);
    return class < sb_array_len(((struct sb_heap *)0)->infos) ? class : 7;
}

static struct sb_block_info *sb_info_get(struct sb_heap *heap, uint32_t room)
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

static void sb_info_put(struct sb_heap *heap, struct sb_block_info *info)
{
    unsigned class = sb_info_class(info->room);
    if (info->room > 1u << 7) { /* the last class is of mixed sizes */
        free(info);
        return;
    }
    info->next = heap->infos[class];
    heap->infos[class] = info;
}

static void sb_info_unset(struct sb_heap *heap, struct sb_block_info *info)
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

static void sb_list_add(struct sb_block_list *list, struct sb_block_info *info)
{
    info->next = NULL;
    if (list->last)
        list->last->next = info;
    else
        list->first = info;
    list->last = info;
}

static struct sb_block_info *sb_list_take(struct sb_block_list *list)
{
    struct sb_block_info *info = list->first;
    if (info) {
        list->first = info->next;
        if (!list->first)
            list->last = NULL;
    }
    return info;
}

/* Adds all of `from`, which is empty then. */
static void sb_list_move(struct sb_block_list *list, struct sb_block_list *from)
{
    for (struct sb_block_info *info; (info = sb_list_take(from)) != NULL;)
        sb_list_add(list, info);
}

/* The first ring from `ring` on that has not passed a block, or has but holds it (*held); the set's
 * count if there is none. */
static uint32_t sb_block_stuck_at(const struct sb_block_info *info, uint32_t ring, bool *held)
{
    *held = false;
    for (uint32_t i = ring; i < info->set->count; i++) {
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

/* Puts a block of the lane's set where it waits, looking at its rings from `ring` on; returns the
 * bytes that this has freed. */
static int64_t sb_lane_place(struct sb_heap *heap, struct sb_lane *lane, struct sb_block_info *info,
                             uint32_t ring, bool keep)
{
    bool held;
    uint32_t at = sb_block_stuck_at(info, ring, &held);
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

/* One pass over the blocks of the lane's set. keep: what is freed may become spare. Returns the
 * bytes freed; a failure to look at a ring frees nothing. */
static int64_t sb_lane_pass(struct sb_heap *heap, struct sb_lane *lane, bool keep)
{
    if (sb_set_look(heap, lane->set))
        return 0;
    int64_t freed = 0;
    struct sb_block_list held = lane->held;
    lane->held = (struct sb_block_list){0};
    for (struct sb_block_info *info; (info = sb_list_take(&held)) != NULL;)
        freed += sb_lane_place(heap, lane, info, 0, keep);
    for (uint32_t i = 0; i < lane->set->count; i++) {
        struct sb_block_list *list = &lane->waiting[i];
        const struct sb_target *target = lane->set->target[i];
        while (list->first && sb_target_passed(target, list->first->span[i].first,
                                               list->first->span[i].end) != SB_PASSED_NOT)
            freed += sb_lane_place(heap, lane, sb_list_take(list), 0, keep);
    }
    return freed;
}

/* The same over the blocks of former sets, all of which are looked at. */
static int64_t sb_lane_pass_old(struct sb_heap *heap, struct sb_lane *lane)
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
        if (failed || sb_block_stuck_at(info, 0, &held) < info->set->count || held) {
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

/* Nothing more goes into the open block: it waits for the first ring that it has something in. */
static void sb_lane_close(struct sb_lane *lane)
{
    struct sb_block_info *info = lane->open;
    if (!info)
        return;
    uint32_t ring = 0;
    while (ring + 1 < info->set->count && info->span[ring].end == 0)
        ring++;
    sb_list_add(&lane->waiting[ring], info);
    lane->open = NULL;
    lane->block = NULL;
    lane->used = lane->size = 0;
}

static void sb_lane_drop_spares(struct sb_heap *heap, struct sb_lane *lane)
{
    while (lane->spare) {
        struct sb_block_info *info = lane->spare;
        lane->spare = info->next;
        sb_block_give_back(heap, info);
    }
    lane->spare_count = 0;
}

/* What waits in the lane for rings of its set becomes old. */
static void sb_lane_retire(struct sb_lane *lane)
{
    sb_lane_close(lane);
    for (uint32_t i = 0; i < lane->set->count; i++)
        sb_list_move(&lane->old, &lane->waiting[i]);
    sb_list_move(&lane->old, &lane->held);
}

int sb_lane_set(struct sb_heap *heap, struct sb_lane *lane, struct sb_target_set *set)
{
    struct sb_block_list *waiting = calloc(set->count ? set->count : 1, sizeof(*waiting));
    if (!waiting)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for the rings of a topic");
    sb_lane_retire(lane);
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
    sb_lane_retire(lane);
    sb_lane_pass_old(heap, lane);
    return lane->old.first == NULL;
}

void sb_lane_leave(struct sb_heap *heap, struct sb_lane *lane)
{
    sb_lane_retire(lane);
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

/* Grows the heap once, to twice its size or as far as `size` bytes and the limit want. */
static int sb_heap_grow(struct sb_heap *heap, uint32_t size)
{
    uint64_t now = sb_buddy_size(&heap->buddy);
    if (now >= heap->limit)
        return sb_fail(SHMBUS_E_LIMIT,
                       "heap full: %" PRIu32 " bytes do not fit, %" PRIu64
                       " of the limit of %" PRIu64 " are queued or held by receivers",
                       size, sb_buddy_used(&heap->buddy), heap->limit);
    uint64_t want = now + (now > size ? now : size);
    int ret = heap->grow(heap->ctx, want < heap->limit ? want : heap->limit, &want);
    return ret ? ret : sb_buddy_grow(&heap->buddy, want);
}

/* Makes room for `size` bytes: by looking at all lanes, then by growing. A look at all lanes that
 * frees little would soon be repeated, so the heap grows then, too, if it can. */
static int sb_heap_make_room(struct sb_heap *heap, uint32_t size, uint64_t *offset)
{
    int64_t freed = sb_heap_reclaim(heap);
    if (sb_buddy_alloc(&heap->buddy, size, offset) == 0) {
        if ((uint64_t)freed < sb_buddy_size(&heap->buddy) / 8)
            (void)sb_heap_grow(heap, size);
        return 0;
    }
    do {
        int ret = sb_heap_grow(heap, size);
        if (ret)
            return ret;
    } while (sb_buddy_alloc(&heap->buddy, size, offset) != 0);
    return 0;
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

int sb_lane_open(struct sb_heap *heap, struct sb_lane *lane, uint32_t need)
{
    sb_lane_close(lane);
    int ret = SHMBUS_E_NOMEM;
    struct sb_block_info *info =
        sb_lane_find(heap, lane, sb_lane_next_size(heap, lane, need), &ret);
    if (!info)
        return ret;
    info->set = lane->set;
    info->set->refs++;
    for (uint32_t i = 0; i < info->set->count; i++) {
        info->span[i].first = sb_load_relaxed(&info->set->target[i]->ring.mem->tail);
        info->span[i].end = 0;
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
