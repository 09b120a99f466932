/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the heap need of each other: the books of blocks, and passes. Opening blocks is
 * in heap.c, finding out which may be reused in heap_pass.c, taking back what is queued in
 * heap_take_back.c. Nobody else includes this; for who and when see shm/heap.h.
 */
#ifndef SB_SHM_HEAP_PASS_H
#define SB_SHM_HEAP_PASS_H

#include "shm/heap.h"

/* The books of a block with room for so many rings, its set NULL; NULL: no memory, and says so. */
struct sb_block_info *sb_info_get(struct sb_heap *heap, uint32_t room);
void sb_info_put(struct sb_heap *heap, struct sb_block_info *info);

/* Drops the block's reference of its set. */
void sb_info_unset(struct sb_heap *heap, struct sb_block_info *info);

void sb_list_add(struct sb_block_list *list, struct sb_block_info *info);

/* The first of a list, taken out of it; NULL: it is empty. */
struct sb_block_info *sb_list_take(struct sb_block_list *list);

/* Adds all of `from`, which is empty then. */
void sb_list_move(struct sb_block_list *list, struct sb_block_list *from);

/* Nothing more goes into the open block, if there is one: it waits for the first ring that it has
 * something in, and is charged to those with a budget. */
void sb_lane_close(struct sb_heap *heap, struct sb_lane *lane);

void sb_lane_drop_spares(struct sb_heap *heap, struct sb_lane *lane);

/* One pass over the blocks of the lane's set. keep: what is freed may become spare. Returns the
 * bytes freed; a failure to look at a ring frees nothing. */
int64_t sb_lane_pass(struct sb_heap *heap, struct sb_lane *lane, bool keep);

/* The same over the blocks of former sets, all of which are looked at. */
int64_t sb_lane_pass_old(struct sb_heap *heap, struct sb_lane *lane);

/*
 * The last resort of a heap at its limit: takes back what is queued longest in drop_oldest rings
 * until `size` bytes can be allocated, and stores where. SB_BUDDY_FULL: all that is left is held
 * by receivers or queued in other rings. Looks at each position of a ring once a lap.
 */
int sb_heap_take_back(struct sb_heap *heap, uint32_t size, uint64_t *offset) SB_MUST_CHECK;

#endif
