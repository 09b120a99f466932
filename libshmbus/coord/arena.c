/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "os/map.h"
#include "os/memfd.h"
#include "shm/region.h"

/* sb_slab's grow function: size is published before anything in the new part is. */
static int sb_coord_arena_grow(void *ctx, uint64_t size)
{
    struct sb_coord_arena *arena = ctx;
    uint64_t old = sb_load_relaxed(&arena->header->size);
    int ret = sb_memfd_commit(arena->fd, old, size);
    if (ret)
        return sb_fail_prefix(ret, "the bus's memory %s cannot grow", arena->path);
    sb_store_release(&arena->header->size, size);
    return 0;
}

static int sb_coord_arena_create(struct sb_coord_arena *arena, const char *path, uint32_t mode)
{
    snprintf(arena->path, sizeof(arena->path), "%s", path);
    arena->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (arena->fd < 0)
        return sb_fail_errno("creating the bus's memory %s failed", path);
    /* Writable for its owner only: whoever may connect may read. */
    if (fchmod(arena->fd, 0600 | (mode & 0044)) < 0)
        return sb_fail_errno("giving the bus's memory %s its mode failed", path);
    int ret = sb_memfd_commit(arena->fd, 0, SB_COORD_ARENA_SIZE);
    if (ret)
        return sb_fail_prefix(ret, "the bus's memory %s", path);
    return 0;
}

static int sb_coord_arena_map(struct sb_coord_arena *arena)
{
    void *base;
    int ret = sb_map(arena->fd, arena->limit, true, &base);
    if (ret)
        return ret;
    arena->base = base;
    arena->header = base;
    arena->header->size = SB_COORD_ARENA_SIZE;
    arena->header->limit = arena->limit;
    sb_epoch_init(&arena->header->reclaim);
    struct sb_slab_config config = {
        .size = SB_COORD_ARENA_SIZE,
        .limit = arena->limit,
        .reserved = SB_ARENA_FIRST,
        .root = &arena->header->reclaim,
        .grow = sb_coord_arena_grow,
        .ctx = arena,
    };
    ret = sb_slab_init(&arena->slab, &config);
    if (ret) {
        sb_unmap(arena->base, arena->limit);
        arena->base = NULL;
    }
    return ret;
}

int sb_coord_arena_open(struct sb_coord_arena *arena, const char *path, uint32_t mode,
                        uint64_t limit)
{
    memset(arena, 0, sizeof(*arena));
    arena->limit = sb_align_up(limit, (uint64_t)sysconf(_SC_PAGESIZE));
    int ret = sb_coord_arena_create(arena, path, mode);
    if (ret == 0)
        ret = sb_coord_arena_map(arena);
    if (ret && arena->fd >= 0) {
        unlink(path);
        close(arena->fd);
        arena->fd = -1;
    }
    return ret;
}

void sb_coord_arena_publish(struct sb_coord_arena *arena)
{
    sb_store_relaxed(&arena->header->used, arena->slab.used);
    sb_store_release(&arena->header->magic, SB_LAYOUT_MAGIC);
}

void sb_coord_arena_close(struct sb_coord_arena *arena)
{
    unlink(arena->path);
    sb_slab_deinit(&arena->slab);
    sb_unmap(arena->base, arena->limit);
    close(arena->fd);
}

int sb_coord_arena_alloc(struct sb_coord_arena *arena, uint64_t bytes, uint64_t *offset)
{
    int ret = sb_slab_alloc(&arena->slab, bytes, offset);
    if (ret == SHMBUS_E_LIMIT && arena->slab.retired_count != 0) {
        /* Readers that make the bus fail have been reading for too long: they start again. */
        sb_slab_break(&arena->slab);
        ret = sb_slab_alloc(&arena->slab, bytes, offset);
    }
    sb_store_relaxed(&arena->header->used, arena->slab.used);
    return ret;
}

int sb_coord_arena_copy(struct sb_coord_arena *arena, const void *bytes, size_t len,
                        uint64_t *offset)
{
    if (len == 0) {
        *offset = 0;
        return 0;
    }
    uint64_t made;
    int ret = sb_coord_arena_alloc(arena, sb_arena_string_size(len), &made);
    if (ret)
        return ret;
    sb_arena_string_store((uint64_t *)(void *)(arena->base + made), bytes, len);
    *offset = made;
    return 0;
}

void sb_coord_arena_retire(struct sb_coord_arena *arena, uint64_t offset, uint64_t bytes)
{
    if (offset == 0)
        return;
    sb_slab_retire(&arena->slab, offset, bytes);
    sb_store_relaxed(&arena->header->used, arena->slab.used);
}

void sb_coord_arena_retire_copy(struct sb_coord_arena *arena, uint64_t offset, size_t len)
{
    sb_coord_arena_retire(arena, offset, sb_arena_string_size(len));
}
