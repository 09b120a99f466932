/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena as its writer has it: the shared memory object, its allocator and its tables of
 * records.
 *
 * The coordinator's thread alone calls this. Readers in other processes see a field only after the
 * release store that publishes it; what they may still look at is retired, never freed.
 */
#ifndef SB_COORD_ARENA_H
#define SB_COORD_ARENA_H

#include "shm/layout.h"
#include "shm/slab.h"

#define SB_COORD_ARENA_SIZE (UINT64_C(1) << 20) /* at first; doubles */

struct sb_coord_arena {
    int fd;
    uint8_t *base; /* mapped at its limit; never moves */
    struct sb_arena_header *header;
    struct sb_slab slab;
    uint64_t limit;
    char path[sizeof("/dev/shm/shmbus.") + SB_NAME_MAX];
};

/*
 * Creates the object at path (it must not exist) with these permissions, limit bytes at most
 * (rounded to pages), and a zeroed header. It becomes a bus when sb_coord_arena_publish() is
 * called. SHMBUS_E_INVALID (limit), SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM; nothing is left then.
 */
SB_MUST_CHECK int sb_coord_arena_open(struct sb_coord_arena *arena, const char *path, uint32_t mode,
                                      uint64_t limit);

/* Stores the magic: the header is complete. */
void sb_coord_arena_publish(struct sb_coord_arena *arena);

/* Removes the object and all that was kept about it. */
void sb_coord_arena_close(struct sb_coord_arena *arena);

/* An object of bytes, not zeroed. SHMBUS_E_LIMIT (the sentence names the limit), SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_coord_arena_alloc(struct sb_coord_arena *arena, uint64_t bytes,
                                       uint64_t *offset);
/* The same, holding a copy of these bytes as an arena string (shm/region.h). */
SB_MUST_CHECK int sb_coord_arena_copy(struct sb_coord_arena *arena, const void *bytes, size_t len,
                                      uint64_t *offset);
/* Gives such an object back when no reader can look at it any more. 0 is nothing to do. */
void sb_coord_arena_retire(struct sb_coord_arena *arena, uint64_t offset, uint64_t bytes);
void sb_coord_arena_retire_copy(struct sb_coord_arena *arena, uint64_t offset, size_t len);

/*
 * The records of one table, and which of them are in use. `object` is what the coordinator keeps
 * for each record in private memory, NULL where the record is free.
 */
struct sb_coord_table {
    struct sb_coord_arena *arena;
    struct sb_table *shared;
    const char *what; /* for sentences: "connections" */
    uint32_t limit;   /* records there may be */
    uint32_t used;
    uint32_t room;       /* elements of the two arrays */
    void **object;       /* by index */
    uint32_t *next_free; /* by index: a queue, so that records rest before they are reused */
    uint32_t first_free, last_free;
};

void sb_coord_table_init(struct sb_coord_table *table, struct sb_coord_arena *arena,
                         struct sb_table *shared, uint32_t record_size, uint32_t limit,
                         const char *what);
void sb_coord_table_deinit(struct sb_coord_table *table);

/* A free record becomes object's. SHMBUS_E_LIMIT, SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_coord_table_take(struct sb_coord_table *table, void *object, uint32_t *index);
void sb_coord_table_give(struct sb_coord_table *table, uint32_t index);

/* The record of an index that was taken. */
void *sb_coord_table_record(const struct sb_coord_table *table, uint32_t index);

/* What was taken with this index, which may be anything; NULL if it is free. */
SB_INLINE void *sb_coord_table_object(const struct sb_coord_table *table, uint32_t index)
{
    return index < table->shared->count ? table->object[index] : NULL;
}

/* The smallest index from `from` on that is in use; SB_NONE if there is none. */
uint32_t sb_coord_table_next(const struct sb_coord_table *table, uint32_t from);

#endif
