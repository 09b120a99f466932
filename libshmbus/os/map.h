/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared mappings. A file is mapped once, at its full, sparse size: growing means committing more
 * of it (os/memfd.h), never moving the mapping, so pointers into it stay valid.
 *
 * Mappings are not inherited over fork(): handles made before are dead in the child, and its exit
 * must not depend on memory that others write. Thread-safe; nothing blocks.
 */
#ifndef SB_OS_MAP_H
#define SB_OS_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/*
 * Maps the first size bytes of fd, shared, readable, and writable if asked for. The descriptor can
 * be closed afterwards; *ptr goes to sb_unmap().
 * Returns 0, SHMBUS_E_INVALID (size 0), SHMBUS_E_NOMEM (no address space), SHMBUS_E_DENIED (the
 * descriptor is read-only or sealed against writers) or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_map(int fd, uint64_t size, bool writable, void **ptr);

/* Ends a mapping of exactly that size; NULL is fine. */
void sb_unmap(void *ptr, uint64_t size);

#endif
