/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epochs: when memory that was unlinked from a shared structure may be used again.
 *
 * Who: one writer (the coordinator) owns the root; readers, threads of any process that maps
 * it read-only, own one pin word each, which the writer only reads. A reader may die or stop
 * anywhere: of a dead one the writer stops looking at the pin; a stopped one's pin can be broken.
 * Pinning is wait-free, so are all the writer's operations (linear in the number of pins).
 *
 *   writer   unlink X; tag(X) = epoch + 1      reader   e = epoch (acquire)
 *            epoch = tag(X)      (release)              pin = e       (release)
 *            full fence                                 full fence
 *            look at all pins   (acquire)               walk, copy    (relaxed or acquire loads)
 *            X is free if each is 0 or >= tag(X)        pin = 0       (release)
 *
 * Why that is right, from C11. The two full fences (memory_order_seq_cst) have an order.
 * (1) The reader's comes first: then the writer's look at the pin sees e, or what that reader
 * stored later. If e < tag(X), X stays. If e >= tag(X), the reader's load of the epoch read the
 * release store behind the unlinking (or a later one), so it happens after it, and the walk
 * cannot reach X: X is linked from nothing but objects that were unlinked before it and that
 * cannot be reached either.
 * (2) The writer's comes first: every load of the walk sees what the writer stored before its
 * fence, or later values, so X cannot be reached by the walk, whatever e is.
 * So safety does not need a second look at the epoch between the reader's fence and its walk; it
 * is only a pin no older than needed, and so a lesser chance of being broken, that a second look
 * gives, and it is not worth an unbounded loop.
 * When the writer reads a 0 or a newer pin, that store was a release behind the reader's last load
 * of X: the writer's next use of the memory happens after it.
 *
 * Breaking: the writer stores `broken` = b, which takes away the protection of all pins <= b, then
 * a release fence, then reuses the memory. The reader copies what it wants, then an acquire fence,
 * then loads `broken`: if any of its loads read a value that was written into reused memory, the
 * two fences synchronise, it sees b or more, and throws its result away. Hence a reader checks all
 * bounds and bounds all loops, reads shared memory with atomic loads only, and gives a result to
 * nobody before sb_epoch_unpin() said that it is good.
 */
#ifndef SB_SHM_EPOCH_H
#define SB_SHM_EPOCH_H

#include <assert.h>
#include <stdbool.h>

#include "base/atomic.h"

/* In the arena. Written by the coordinator, read by every reader. */
struct sb_epoch_root {
    uint64_t epoch;  /* starts at 1; only grows */
    uint64_t broken; /* pins up to here protect nothing any more; below epoch */
};
static_assert(sizeof(struct sb_epoch_root) == 16, "layout");
static_assert(offsetof(struct sb_epoch_root, broken) == 8, "layout");

/* A reader's pin while it lasts: on its stack. */
struct sb_epoch_pin {
    const struct sb_epoch_root *root;
    uint64_t *word;  /* where the writer looks; 0 when not pinned */
    uint64_t pinned; /* the epoch in it */
};

/* Writer: the root of a new arena. */
void sb_epoch_init(struct sb_epoch_root *root);

/* Writer: the tag for what has just been unlinked. */
SB_INLINE uint64_t sb_epoch_tag(const struct sb_epoch_root *root)
{
    return sb_load_relaxed(&root->epoch) + 1;
}

/*
 * Writer: begins a new epoch, after which tags given before can expire. What carried them must
 * have been unlinked before.
 */
void sb_epoch_advance(struct sb_epoch_root *root);

/*
 * Writer: the oldest of n pin words (each in memory of its reader, so anything can be in them), or
 * UINT64_MAX if none is set: what carries a tag up to that is free. Contains the full fence.
 */
uint64_t sb_epoch_oldest(const uint64_t *const *pins, size_t n);

/*
 * Writer: breaks all pins that are older than the present epoch; what carries a tag up to the
 * present epoch may be reused when this returns.
 */
void sb_epoch_break(struct sb_epoch_root *root);

/* Reader: pins the present epoch. *word must be 0 and belong to this thread until unpinned. */
SB_INLINE void sb_epoch_pin(struct sb_epoch_pin *pin, const struct sb_epoch_root *root,
                            uint64_t *word)
{
    pin->root = root;
    pin->word = word;
    pin->pinned = sb_load_acquire(&root->epoch); /* pairs with sb_epoch_advance */
    sb_store_release(word, pin->pinned);         /* release: see "a newer pin" above */
    sb_fence_full();                             /* pairs with the one of sb_epoch_oldest */
}

/* Reader: whether what has been copied so far may be garbage. For long walks, now and then. */
SB_INLINE bool sb_epoch_is_broken(const struct sb_epoch_pin *pin)
{
    sb_fence_acquire(); /* pairs with the release fence of sb_epoch_break */
    return pin->pinned <= sb_load_relaxed(&pin->root->broken);
}

/* Reader: ends the pin. True if all that was copied is good; else throw it away, start again. */
SB_INLINE bool sb_epoch_unpin(struct sb_epoch_pin *pin) SB_MUST_CHECK;
SB_INLINE bool sb_epoch_unpin(struct sb_epoch_pin *pin)
{
    bool good = !sb_epoch_is_broken(pin);
    sb_store_release(pin->word, 0); /* pairs with the acquire load of sb_epoch_oldest */
    return good;
}

#endif
