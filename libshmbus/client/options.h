/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structs of the public headers that may grow: options begin with their size, and what is filled
 * in comes with the size that its caller knows.
 */
#ifndef SB_CLIENT_OPTIONS_H
#define SB_CLIENT_OPTIONS_H

#include "base/compiler.h"

/*
 * Copies what the caller gave over the defaults in `to` (known bytes): from an older header only
 * the fields that it had; from a newer one, that what this library does not know is 0. Afterwards
 * to's size is known. `from` begins with its size. SHMBUS_E_INVALID, naming `what`, else 0.
 */
SB_MUST_CHECK int sb_options_read(void *to, size_t known, const void *from, const char *what);

/* Gives known bytes of `from` to a caller who knows size: what he does not know is left out, what
 * this library does not know becomes 0. SHMBUS_E_INVALID, naming `what`, if size is 0; else 0. */
SB_MUST_CHECK int sb_options_write(void *to, size_t size, const void *from, size_t known,
                                   const char *what);

#endif
