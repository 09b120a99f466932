/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/ids.h"

#include <stdlib.h>

#include "base/err.h"

void sb_coord_ids_deinit(struct sb_coord_ids *ids)
{
    free(ids->object);
    free(ids->free);
}

int sb_coord_ids_take(struct sb_coord_ids *ids, void *object, uint32_t *id)
{
    if (ids->free_count == 0 && ids->count == ids->room) {
        uint32_t room = ids->room ? 2 * ids->room : 64;
        void **objects = realloc(ids->object, room * sizeof(*objects));
        if (objects)
            ids->object = objects;
        uint32_t *free_ids = realloc(ids->free, room * sizeof(*free_ids));
        if (free_ids)
            ids->free = free_ids;
        if (!objects || !free_ids)
            return sb_fail(SHMBUS_E_NOMEM, "no memory for %u topics or patterns", room);
        ids->room = room;
    }
    uint32_t at = ids->free_count ? ids->free[--ids->free_count] : ids->count++;
    ids->object[at] = object;
    *id = at + 1;
    return 0;
}

void sb_coord_ids_give(struct sb_coord_ids *ids, uint32_t id)
{
    ids->object[id - 1] = NULL;
    ids->free[ids->free_count++] = id - 1;
}
