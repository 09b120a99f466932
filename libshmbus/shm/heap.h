/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The heap of a connection, as its owner sees it: chunks in blocks, without reference counts.
 *
 * Who: the owning connection, serialized by its lock. Receivers map the same memory read-only and
 * check what they read (client/source.c).
 *
 * Chunks of one route are bump-allocated one after the other in the blocks of its lane. Whatever is
 * needed to know when a block may be reused is private to the owner: for each ring that the lane
 * pushes to, between which positions the block's chunks may stand. A block is reused when all its
 * rings have passed them (shm/target.h). Nothing in the heap is ever counted by readers, so that
 * nothing has to be cleaned up after one that dies.
 *
 * A lane's blocks start with room for one chunk and double with its share of the traffic up to
 * SB_BLOCK_MAX: slow topics do not pin blocks full of a fast one's chunks. Larger chunks have
 * blocks of their own.
 *
 * A closed block waits for one ring of its set at a time; once that has passed it, for the next
 * that has not. A ring that is stuck holds up no block that has nothing there, and a pass looks at
 * each block once for each of its rings, not more.
 *
 * Invariants: a block is open in one lane, waits in one lane, is kept free by one lane (spare), or
 * is free in the buddy allocator. A chunk's start bit is set before its push and all bits are
 * cleared when the block is opened again.
 *
 * What never moves on must not fill the heap. At the limit the oldest messages in drop_oldest rings
 * are taken back (shm/heap_take_back.c). A reject_newest ring has a budget: an eighth of the limit
 * (in a small heap two blocks), or less when more than four of them share half of it; while more
 * than that waits for its reader, the ring refuses (sb_target_budget). Blocks are charged when they
 * are closed, so that the quick path has nothing to do with this, and a budget is exceeded by at
 * most the blocks that are open.
 *
 * Progress: taking a chunk from the open block is a few instructions. A new block may take one pass
 * over the lane's rings; only when the heap is short are all lanes looked at, only then does the
 * owner of this heap ask for more memory (sb_heap_grow_fn), and only at the limit does it take
 * back.
 *
 * Death: the owner may die anywhere; nobody else writes here, and what was pushed stays readable.
 */
#ifndef SB_SHM_HEAP_H
#define SB_SHM_HEAP_H

#include "shm/buddy.h"
#include "shm/target.h"

/* The rings that match one topic, and their bells, each once; shared by the lanes and blocks that
 * use it. */
struct sb_target_set {
    uint32_t refs;
    uint32_t count;
    struct sb_bell **bell, **bell_end;
    struct sb_target *target[];
};

struct sb_span {
    uint64_t first; /* the tail when the block was opened */
    uint64_t end;   /* one more than the position of the last push; 0: none */
};

/* A block, in private memory. */
struct sb_block_info {
    struct sb_block_info *next;
    struct sb_target_set *set; /* whose order span[] has; NULL while spare */
    uint64_t offset;
    uint64_t closed_at; /* the heap's clock */
    uint32_t size;
    uint32_t room; /* of span[] */
    struct sb_span span[];
};

/* Blocks, oldest first. Zeroed is empty. */
struct sb_block_list {
    struct sb_block_info *first, *last;
};

#define SB_INFO_CLASSES 8 /* books of blocks with up to 128 rings are kept for reuse */

/* What a route allocates from. */
struct sb_lane {
    struct sb_target_set *set;
    struct sb_target *only; /* of a set of one ring, else NULL */
    uint8_t *block;         /* the open block, NULL if there is none */
    uint64_t desc;          /* of its start */
    uint32_t used;          /* bytes of it, header included */
    uint32_t size;          /* up to where chunks may lie */
    struct sb_block_info *open;
    struct sb_block_list *waiting; /* for each ring of the set: blocks that it has not passed */
    struct sb_block_list held;     /* blocks of the set that a reader holds, but all have passed */
    struct sb_block_list old;      /* blocks of former sets */
    struct sb_block_info *spare;   /* free blocks of size `grown` */
    uint32_t spare_count;
    uint32_t ahead;     /* bytes ahead of a chunk that are fetched for writing; 0: nothing */
    uint32_t grown;     /* size of the next block */
    uint32_t patience;  /* blocks to open without a pass after one that freed nothing */
    uint32_t waited;    /* of these, already opened */
    uint64_t opened_at; /* the heap's clock when the open block was opened */
    struct sb_lane *prev, *next; /* of the heap */
};

/* Asks for the heap to be at least `size` bytes; stores what it is now. Negative: cannot. */
typedef int sb_heap_grow_fn(void *ctx, uint64_t size, uint64_t *now);

/* Brings the seats of a target up to date when the routing epoch has moved on since it was last
 * done. Negative: cannot now, and nothing of that ring may be reused. */
typedef int sb_heap_refresh_fn(void *ctx, struct sb_target *target);

/* Drops one reference of a set. */
typedef void sb_heap_unref_fn(void *ctx, struct sb_target_set *set);

struct sb_heap {
    uint8_t *base;
    uint64_t limit;
    uint32_t index, gen; /* in descriptors */
    uint32_t limited;    /* reject_newest rings that its owner pushes to: they share half of it */
    struct sb_buddy buddy;
    struct sb_lane *lanes;
    struct sb_block_info *infos[SB_INFO_CLASSES]; /* free ones, by log2 of their room */
    const uint64_t *clock; /* how much was published, ever: what a lane's share is taken of */
    sb_heap_grow_fn *grow;
    sb_heap_refresh_fn *refresh;
    sb_heap_unref_fn *unref;
    void *ctx;
};

/* size bytes of base are allocated now, limit at most. 0 or SHMBUS_E_NOMEM. */
int sb_heap_init(struct sb_heap *heap, uint8_t *base, uint64_t size, uint64_t limit, uint32_t index,
                 uint32_t gen) SB_MUST_CHECK;

/* Forgets all private memory; all lanes must have been left. */
void sb_heap_deinit(struct sb_heap *heap);

/* A lane that pushes to set (a reference is taken over). */
void sb_lane_init(struct sb_heap *heap, struct sb_lane *lane, struct sb_target_set *set);

/* From now on the lane pushes to another set (a reference is taken over); what is open is closed,
 * since a block's spans are of one set. SHMBUS_E_NOMEM: nothing has changed. */
SB_MUST_CHECK int sb_lane_set(struct sb_heap *heap, struct sb_lane *lane,
                              struct sb_target_set *set);

/* True once nothing of the lane is waiting any more; it may then be left. */
bool sb_lane_idle(struct sb_heap *heap, struct sb_lane *lane);

/* Takes the lane out of the heap. What is waiting is forgotten: its memory is never reused, so this
 * is for idle lanes and for a heap that ends. */
void sb_lane_leave(struct sb_heap *heap, struct sb_lane *lane);

/*
 * Opens a block with room for a chunk of `need` bytes (header included, a multiple of 16). The next
 * chunk goes there, whatever lane->size says: one of a size that fits in no shared block is alone.
 * 0, SHMBUS_E_LIMIT (receivers hold too much; the sentence names limit and use), SHMBUS_E_NOMEM, or
 * what grow says.
 */
int sb_lane_open(struct sb_heap *heap, struct sb_lane *lane, uint32_t need) SB_MUST_CHECK;

/* The largest chunk, header included, that a heap of this limit can ever hold. */
SB_INLINE uint64_t sb_heap_chunk_max(uint64_t limit)
{
    return (limit & ~(uint64_t)(SB_BLOCK_UNIT - 1)) - sizeof(struct sb_block);
}

/*
 * The next chunk of the open block, which has room for it, and its descriptor. It may be written
 * and pushed; sb_lane_take() then keeps it. Until it is kept the next chunk is this one again.
 */
SB_INLINE struct sb_chunk *sb_lane_next(const struct sb_lane *lane)
{
    return (struct sb_chunk *)(void *)(lane->block + lane->used);
}

SB_INLINE uint64_t sb_lane_next_desc(const struct sb_lane *lane)
{
    return lane->desc + lane->used / SB_CHUNK_UNIT;
}

/* Marks that a chunk starts at a unit of a block, before its push. Release: who finds the mark
 * finds what was written of the chunk before it, also when somebody else has named the chunk. */
SB_INLINE void sb_block_mark(uint8_t *block, uint64_t unit)
{
    uint64_t *word = &((struct sb_block *)(void *)block)->starts[unit / 64];
    sb_store_release(word, sb_load_relaxed(word) | UINT64_C(1) << (unit % 64));
}

/* Takes the mark of a chunk back that no ring has taken. */
SB_INLINE void sb_block_unmark(uint8_t *block, uint64_t unit)
{
    uint64_t *word = &((struct sb_block *)(void *)block)->starts[unit / 64];
    sb_store_relaxed(word, sb_load_relaxed(word) & ~(UINT64_C(1) << (unit % 64)));
    /* Gone before the next chunk there is written; pairs as in sb_lane_open. */
    sb_fence_release();
}

/* Keeps the next chunk, of `need` bytes, which a ring has taken. */
SB_INLINE void sb_lane_take(struct sb_lane *lane, uint32_t need)
{
    /* One that is alone in its block leaves no room, either. */
    lane->used = need < lane->size - lane->used ? lane->used + need : lane->size;
}

/* Reuses what can be reused in all lanes. Returns the bytes given back. */
int64_t sb_heap_reclaim(struct sb_heap *heap);

#endif
