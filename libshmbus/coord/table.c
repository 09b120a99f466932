/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of coord/arena.h. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "coord/arena.h"

void sb_coord_table_init(struct sb_coord_table *table, struct sb_coord_arena *arena,
                         struct sb_table *shared, uint32_t record_size, uint32_t limit,
                         const char *what)
{
    memset(table, 0, sizeof(*table));
    shared->record_size = record_size;
    table->arena = arena;
    table->shared = shared;
    table->what = what;
    table->limit = limit;
    table->first_free = table->last_free = SB_NONE;
}

void sb_coord_table_deinit(struct sb_coord_table *table)
{
    free(table->object);
    free(table->next_free);
}

/* Private room for one more record. */
static int sb_coord_table_reserve(struct sb_coord_table *table, uint32_t count)
{
    if (count < table->room)
        return 0;
    uint32_t room = table->room ? 2 * table->room : SB_TABLE_FIRST;
    void **object = realloc(table->object, room * sizeof(*object));
    if (object)
        table->object = object;
    uint32_t *next = realloc(table->next_free, room * sizeof(*next));
    if (next)
        table->next_free = next;
    if (!object || !next)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for %u %s", room, table->what);
    table->room = room;
    return 0;
}

/* Shared room for one more record: a zeroed chunk. Chunks are never given back. */
static int sb_coord_table_extend(struct sb_coord_table *table, uint32_t count)
{
    uint32_t in_chunk;
    unsigned chunk = sb_table_place(count, &in_chunk);
    if (table->shared->chunk[chunk])
        return 0;
    uint64_t bytes = ((uint64_t)SB_TABLE_FIRST << chunk) * table->shared->record_size;
    uint64_t offset;
    int ret = sb_coord_arena_alloc(table->arena, bytes, &offset);
    if (ret)
        return ret;
    memset(table->arena->base + offset, 0, bytes);
    table->shared->chunk[chunk] = offset;
    return 0;
}

int sb_coord_table_take(struct sb_coord_table *table, void *object, uint32_t *index)
{
    uint32_t taken = table->first_free;
    if (taken == SB_NONE) {
        taken = table->shared->count;
        if (taken >= table->limit)
            return sb_fail(SHMBUS_E_LIMIT, "the bus has %u %s, and at most %u are possible",
                           table->used, table->what, table->limit);
        int ret = sb_coord_table_reserve(table, taken);
        if (ret == 0)
            ret = sb_coord_table_extend(table, taken);
        if (ret)
            return ret;
        sb_store_release(&table->shared->count, taken + 1);
    } else {
        table->first_free = table->next_free[taken];
        if (table->first_free == SB_NONE)
            table->last_free = SB_NONE;
    }
    table->object[taken] = object;
    table->used++;
    *index = taken;
    return 0;
}

void sb_coord_table_give(struct sb_coord_table *table, uint32_t index)
{
    table->object[index] = NULL;
    table->next_free[index] = SB_NONE;
    if (table->last_free == SB_NONE)
        table->first_free = index;
    else
        table->next_free[table->last_free] = index;
    table->last_free = index;
    table->used--;
}

void *sb_coord_table_record(const struct sb_coord_table *table, uint32_t index)
{
    uint32_t in_chunk;
    unsigned chunk = sb_table_place(index, &in_chunk);
    return table->arena->base + table->shared->chunk[chunk] +
           (uint64_t)in_chunk * table->shared->record_size;
}

uint32_t sb_coord_table_next(const struct sb_coord_table *table, uint32_t from)
{
    for (uint32_t i = from; i < table->shared->count; i++) {
        if (table->object[i])
            return i;
    }
    return SB_NONE;
}
