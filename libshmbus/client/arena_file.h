/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory object of a bus, looked at as a file: to find the bus's socket, and to see what the
 * bus was when no coordinator serves it.
 *
 * It is read with pread() and never mapped, since whoever owns it may truncate it at any time, and
 * everything in it is checked. Thread-safe; nothing blocks.
 */
#ifndef SB_CLIENT_ARENA_FILE_H
#define SB_CLIENT_ARENA_FILE_H

#include <sys/types.h>

#include "base/compiler.h"
#include "shm/layout.h"

struct sb_arena_file {
    int fd;
    uid_t owner;
    uint64_t allocated; /* bytes of memory that it has, which may be fewer than its size */
    struct sb_arena_header header; /* a copy; checked by sb_arena_header_check() */
};

/*
 * Opens the memory object of the bus called name (a checked name) and reads its header. 0,
 * SHMBUS_E_NO_BUS (there is none, or it is unfinished), SHMBUS_E_DENIED, SHMBUS_E_VERSION,
 * SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_arena_file_open(const char *name, struct sb_arena_file *file);

void sb_arena_file_close(struct sb_arena_file *file);

/* Reads size bytes at offset. False if they are not all there. */
bool sb_arena_file_read(const struct sb_arena_file *file, uint64_t offset, void *buf, size_t size);

/*
 * Whether this is the finished header of the bus called name, laid out as this library expects it:
 * 0, SHMBUS_E_NO_BUS (not finished, or another's), SHMBUS_E_VERSION.
 */
SB_MUST_CHECK int sb_arena_header_check(const struct sb_arena_header *header, const char *name);

#endif
