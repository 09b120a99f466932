/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking back what readers have not read, so that none of them can make a publish fail.
 *
 * A drop_oldest queue may lose its oldest messages at any time. When they pin memory that is needed
 * now, their owner replaces their descriptors by tombstones (sb_target_take_back): the ring has
 * then passed them, and the next pass finds the block free unless a reader holds some of it. The
 * block that was closed first goes first; with it goes whatever this heap has in the same rings
 * before it, so that what a queue keeps is the newest of it.
 *
 * Order: tombstones, then the pass with its full fence, then holds (tests/model/tombstone.py).
 *
 * Progress: each round takes one block out of the reach of all its drop_oldest rings for good, so
 * there are at most as many rounds as blocks.
 *
 * Death: an owner that dies between tombstones has dropped these messages; the mark that makes the
 * books look for them comes before the first.
 */
#include "shm/heap_pass.h"

#define SB_TAKE_BACK_SHARE 64u /* of the limit, at a time: what is found in one go is cheaper */

/* Whether the block has something queued in a drop_oldest ring. */
static bool sb_block_can_go(const struct sb_block_info *info)
{
    for (uint32_t i = 0; i < info->set->count; i++) {
        const struct sb_target *t = info->set->target[i];
        if (!t->limited && info->span[i].end > t->taken_back &&
            sb_target_passed(t, info->span[i].first, info->span[i].end) == SB_PASSED_NOT)
            return true;
    }
    return false;
}

/* A block, and the lane that it waits in. */
struct sb_take_back {
    struct sb_lane *lane;
    struct sb_block_info *info;
};

/* Makes the first of the list that can go the victim, if it was closed before the present one. */
static void sb_take_back_consider(struct sb_take_back *victim, struct sb_lane *lane,
                                  const struct sb_block_list *list)
{
    struct sb_block_info *info = list->first;
    while (info && !sb_block_can_go(info))
        info = info->next;
    if (info && (!victim->info || info->closed_at < victim->info->closed_at))
        *victim = (struct sb_take_back){lane, info};
}

static struct sb_take_back sb_take_back_oldest(struct sb_heap *heap)
{
    struct sb_take_back victim = {NULL, NULL};
    for (struct sb_lane *lane = heap->lanes; lane; lane = lane->next) {
        sb_take_back_consider(&victim, lane, &lane->old);
        for (uint32_t i = 0; i < lane->set->count; i++) {
            if (!lane->set->target[i]->limited)
                sb_take_back_consider(&victim, lane, &lane->waiting[i]);
        }
    }
    return victim;
}

/* Takes back the oldest block; returns the bytes that this has freed, or -1: there is none. */
static int64_t sb_heap_take_back_one(struct sb_heap *heap)
{
    struct sb_take_back victim = sb_take_back_oldest(heap);
    if (!victim.info)
        return -1;
    uint32_t source = sb_desc_source(sb_desc(heap->index, heap->gen, 0, 0));
    const struct sb_target_set *set = victim.info->set;
    for (uint32_t i = 0; i < set->count; i++) {
        if (!set->target[i]->limited && victim.info->span[i].end)
            sb_target_take_back(set->target[i], source, victim.info->span[i].end);
    }
    int64_t freed = sb_lane_pass(heap, victim.lane, false);
    return victim.lane->old.first ? freed + sb_lane_pass_old(heap, victim.lane) : freed;
}

int sb_heap_take_back(struct sb_heap *heap, uint32_t size, uint64_t *offset)
{
    uint64_t share = heap->limit / SB_TAKE_BACK_SHARE, freed = 0;
    for (bool all_closed = false;;) {
        int64_t more = sb_heap_take_back_one(heap);
        if (more < 0)
            (void)sb_heap_reclaim(heap); /* other lanes' blocks in the rings that went on */
        else
            freed += (uint64_t)more;
        if ((more < 0 || freed >= share) && sb_buddy_alloc(&heap->buddy, size, offset) == 0)
            return 0;
        if (more >= 0)
            continue;
        if (all_closed)
            return SB_BUDDY_FULL;
        /* Open blocks come last: they are in use. */
        for (struct sb_lane *lane = heap->lanes; lane; lane = lane->next)
            sb_lane_close(heap, lane);
        all_closed = true;
    }
}
