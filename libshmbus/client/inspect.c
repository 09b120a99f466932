/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left in the memory object of a bus while no coordinator serves it.
 *
 * The file is read, not mapped, and nothing in it is believed: tables are walked by the kernel's
 * word on how much there is, at most as many records as a bus can have and its memory can hold.
 */
#include <unistd.h>

#include "base/err.h"
#include "client/arena_file.h"
#include "client/figures.h"
#include "client/options.h"

#define SB_INSPECT_BATCH 64u   /* records read at once */
#define SB_INSPECT_RECORD 128u /* bytes of the largest */

/* Counts the records of a table that `open` counts. A record that cannot be read ends it. */
static uint32_t sb_inspect_count(const struct sb_arena_file *file, const struct sb_table *table,
                                 uint32_t size, bool (*open)(const void *record))
{
    _Alignas(8) uint8_t batch[SB_INSPECT_BATCH * SB_INSPECT_RECORD];
    uint32_t found = 0, count = table->count < SB_ROUTES_MAX ? table->count : SB_ROUTES_MAX;
    if (count > file->allocated / size)
        count = (uint32_t)(file->allocated / size);
    for (uint32_t i = 0; i < count;) {
        uint32_t in_chunk;
        unsigned k = sb_table_place(i, &in_chunk);
        uint32_t n = (SB_TABLE_FIRST << k) - in_chunk; /* to the end of the chunk */
        if (n > count - i)
            n = count - i;
        if (n > SB_INSPECT_BATCH)
            n = SB_INSPECT_BATCH;
        if (table->record_size != size || k >= SB_TABLE_CHUNKS ||
            !sb_arena_file_read(file, table->chunk[k] + (uint64_t)in_chunk * size, batch,
                                (size_t)n * size))
            break;
        for (uint32_t j = 0; j < n; j++)
            found += open(batch + (size_t)j * size);
        i += n;
    }
    return found;
}

/* The bus itself is no connection: it has no process. */
static bool sb_inspect_is_conn(const void *record)
{
    const struct sb_conn_rec *rec = record;
    return rec->state == SB_CONN_ATTACHED;
}

static bool sb_inspect_is_seat(const void *record)
{
    const struct sb_seat_rec *rec = record;
    return rec->gen % 2 == 1 && rec->reason == SB_REASON_NONE;
}

static bool sb_inspect_is_route(const void *record)
{
    const struct sb_route_rec *rec = record;
    return rec->state == SB_ROUTE_LIVE;
}

int shmbus_inspect(const char *name, struct shmbus_bus_stats *stats, size_t size)
{
    struct sb_arena_file file;
    int ret = sb_name_check(name);
    if (ret == 0)
        ret = sb_arena_file_open(name, &file);
    if (ret)
        return ret;
    const struct sb_arena_header *header = &file.header;
    if (file.owner != header->coordinator_uid && file.owner != 0 && file.owner != geteuid()) {
        ret = sb_fail(SHMBUS_E_DENIED,
                      "/dev/shm/shmbus.%s belongs to uid %u and claims to be made by uid %u", name,
                      file.owner, header->coordinator_uid);
        sb_arena_file_close(&file);
        return ret;
    }
    struct shmbus_bus_stats all;
    sb_figures_of_arena(&all, header);
    all.connections =
        sb_inspect_count(&file, &header->conns, sizeof(struct sb_conn_rec), sb_inspect_is_conn);
    all.subscriptions =
        sb_inspect_count(&file, &header->seats, sizeof(struct sb_seat_rec), sb_inspect_is_seat);
    all.routes =
        sb_inspect_count(&file, &header->routes, sizeof(struct sb_route_rec), sb_inspect_is_route);
    sb_arena_file_close(&file);
    return sb_options_write(stats, size, &all, sizeof(all), "figures of a bus");
}
