/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for private objects, so that a trie in shared memory can name them without showing
 * anybody an address. One thread.
 */
#ifndef SB_COORD_IDS_H
#define SB_COORD_IDS_H

#include <stdint.h>

#include "base/compiler.h"

struct sb_coord_ids {
    void **object;  /* by id; NULL: free */
    uint32_t *free; /* a stack of free ids below count */
    uint32_t count, free_count, room;
};

void sb_coord_ids_deinit(struct sb_coord_ids *ids);

/* A free id, from 1 on, for object. 0 or SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_coord_ids_take(struct sb_coord_ids *ids, void *object, uint32_t *id);
void sb_coord_ids_give(struct sb_coord_ids *ids, uint32_t id);

SB_INLINE void *sb_coord_ids_at(const struct sb_coord_ids *ids, uint64_t id)
{
    return ids->object[id - 1];
}

#endif
