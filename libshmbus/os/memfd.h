/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory files: made sparse at their full size, allocated piece by piece, sealed, and handed out
 * read-only or writable.
 *
 * Life of a heap: the coordinator creates it and commits the first bytes; the owner maps it
 * writable and says so; the coordinator calls sb_memfd_seal_heap() and only then gives read-only
 * descriptors (sb_memfd_readonly) to others. From there on no second writable mapping and no
 * write() can be made by anybody, the owner included. Everything else that is written by several
 * processes is only kept from changing its size (sb_memfd_seal).
 *
 * All functions are thread-safe, none but sb_memfd_commit() takes long, and none keeps state.
 */
#ifndef SB_OS_MEMFD_H
#define SB_OS_MEMFD_H

#include <fcntl.h>
#include <stdint.h>

#include "base/compiler.h"

/* What sb_memfd_seal() and sb_memfd_seal_heap() add, for sb_memfd_check(). */
#define SB_MEMFD_SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SB_MEMFD_SEALS_HEAP (SB_MEMFD_SEALS_SIZE | F_SEAL_FUTURE_WRITE)

/* Which file a descriptor names, whatever number it has. Inode numbers are reused after the last
 * descriptor and mapping are gone. */
struct sb_file_id {
    uint64_t dev;
    uint64_t ino;
};

/*
 * Makes an anonymous memory file of size bytes (a multiple of the page size, not 0), mode 0600,
 * close-on-exec, sealable, not executable where the kernel can say so. Nothing is allocated yet:
 * touching a page that was not committed may kill the process with SIGBUS when memory is full.
 * name is shown in /proc only (at most 249 bytes). *fd is the caller's to close.
 * Returns 0, SHMBUS_E_INVALID, SHMBUS_E_NOMEM or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_memfd_create(const char *name, uint64_t size, int *fd);

/*
 * Allocates the bytes from..to of a writable descriptor, so that touching them can no longer fail.
 * What is allocated already stays as it is. Works on any tmpfs file and under the seals of a heap
 * as long as the range lies inside the file; a range beyond the end lets an unsealed file grow.
 * Long ranges go in pieces, so that signals cannot starve it; after a failure some pieces may have
 * been allocated, which does no harm. Blocks for about 0.3 ms a MiB.
 * Returns 0, SHMBUS_E_INVALID, SHMBUS_E_NOMEM (memory or the file system is full) or
 * SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_memfd_commit(int fd, uint64_t from, uint64_t to);

/* Fixes the size and the set of seals of a writable descriptor for ever. 0 or SHMBUS_E_SYSTEM;
 * doing it again is an error. */
SB_MUST_CHECK int sb_memfd_seal(int fd);

/*
 * Like sb_memfd_seal(), and nobody can write any more but through the mappings that are there
 * already: no new writable mapping, no mprotect to writable, no write(), no hole.
 */
SB_MUST_CHECK int sb_memfd_seal_heap(int fd);

/*
 * Opens the same file once more, read-only and close-on-exec: what goes to processes that must not
 * write. (A descriptor cannot be made read-only later, and dup() would keep the write access.)
 * Needs /proc, and to own the file. 0, or SHMBUS_E_SYSTEM with a sentence that names /proc when
 * that is what is missing.
 */
SB_MUST_CHECK int sb_memfd_readonly(int fd, int *readonly_fd);

/*
 * What a receiver checks before it maps a descriptor that somebody else made: a memory file in
 * ordinary pages, of exactly size bytes, that carries at least these seals. With
 * SB_MEMFD_SEALS_SIZE among them, the answer stays true. 0, SHMBUS_E_INVALID (a sentence names what
 * is wrong) or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_memfd_check(int fd, uint64_t size, unsigned seals);

/* Stores which file fd names. 0 or SHMBUS_E_SYSTEM. */
SB_MUST_CHECK int sb_memfd_identity(int fd, struct sb_file_id *id);

#endif
