/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena's objects: allocation for its only writer, the coordinator.
 *
 * Objects up to 2048 bytes come from pages of 4 KiB with one size class each (steps of 16 bytes,
 * then four classes a doubling), larger ones are ranges of the buddy allocator. Offsets are
 * multiples of 16. Everything the allocator knows is private: 1.2 % of the arena for pages, 0.8 %
 * for the buddy. `used` counts the objects' rounded sizes exactly: when all that was allocated
 * since is freed, it has its former value.
 *
 * What readers in other processes may still look at is not freed but retired: it is freed when no
 * pin (shm/epoch.h) is older. Retiring cannot fail: where private memory for the queue runs out,
 * pins are broken and the object is freed at once.
 *
 * One thread at a time; nothing blocks, except in the owner's grow function.
 */
#ifndef SB_SHM_SLAB_H
#define SB_SHM_SLAB_H

#include "shm/buddy.h"
#include "shm/epoch.h"

#define SB_SLAB_PAGE 4096u
#define SB_SLAB_STEP 16u
#define SB_SLAB_LARGEST 2048u
#define SB_SLAB_CLASSES 24u

struct sb_slab_page;
struct sb_slab_retired;

/* What the owner gives. */
struct sb_slab_config {
    uint64_t size;     /* of the arena now; at least `reserved` */
    uint64_t limit;    /* the arena never gets larger */
    uint64_t reserved; /* its first bytes, at least 1, hold the owner's header */
    struct sb_epoch_root *root;
    /*
     * Makes the arena new_size bytes long, usable from then on, with the base where it is. 0 or a
     * failure with its sentence. Is asked the same again if memory ran out after it succeeded.
     */
    int (*grow)(void *ctx, uint64_t new_size);
    void *ctx;
};

struct sb_slab {
    struct sb_slab_config config;
    struct sb_buddy buddy;
    struct sb_slab_page *pages; /* one for each whole page of the arena */
    uint64_t page_count;
    uint32_t partial[SB_SLAB_CLASSES]; /* pages with room: first of a list; 0 none */
    uint64_t used;                     /* bytes of live and of retired objects */
    uint64_t retired_bytes;            /* those of retired ones */
    struct sb_slab_retired *retired;   /* a ring, oldest first */
    size_t retired_mask;
    size_t retired_head;
    size_t retired_count;
};

/* SHMBUS_E_NOMEM, SHMBUS_E_LIMIT; s needs no deinit then. */
int sb_slab_init(struct sb_slab *s, const struct sb_slab_config *config) SB_MUST_CHECK;
void sb_slab_deinit(struct sb_slab *s);

/* Size of the arena as far as it is managed. */
SB_INLINE uint64_t sb_slab_size(const struct sb_slab *s)
{
    return sb_buddy_size(&s->buddy);
}

/*
 * An object of `bytes` (at least 1), its content undefined; grows the arena by doubling if needed.
 * SHMBUS_E_LIMIT, SHMBUS_E_NOMEM, or what the grow function returned.
 */
int sb_slab_alloc(struct sb_slab *s, uint64_t bytes, uint64_t *offset) SB_MUST_CHECK;

/* Frees an object that no reader can have seen. `bytes` as in alloc. */
void sb_slab_free(struct sb_slab *s, uint64_t offset, uint64_t bytes);

/* Frees an object, already unlinked, when no reader can look at it any more. Never fails. */
void sb_slab_retire(struct sb_slab *s, uint64_t offset, uint64_t bytes);

/*
 * Frees what was retired before the oldest of n pins; the bytes still waiting. Advances the epoch
 * if something was retired since it last did.
 */
uint64_t sb_slab_collect(struct sb_slab *s, const uint64_t *const *pins, size_t n);

/* Breaks all pins and frees everything retired: for a reader that has been pinned for too long. */
void sb_slab_break(struct sb_slab *s);

#endif
