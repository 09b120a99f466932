/* SPDX-License-Identifier: Apache-2.0 */
#include "client/options.h"

#include <string.h>

#include "base/err.h"

#define SB_OPTIONS_MAX 4096 /* no struct will ever be as large: an uninitialised size is */

int sb_options_read(void *to, size_t known, const void *from, const char *what)
{
    size_t size;
    memcpy(&size, from, sizeof(size));
    if (size <= sizeof(size) || size > SB_OPTIONS_MAX)
        return sb_fail(SHMBUS_E_INVALID, "%s options of size %zu: start from their initialiser",
                       what, size);
    const uint8_t *bytes = from;
    for (size_t i = known; i < size; i++) {
        if (bytes[i] != 0)
            return sb_fail(SHMBUS_E_INVALID,
                           "%s options of size %zu set what this library, which knows %zu bytes of "
                           "them, cannot do: leave it 0, or use a newer library",
                           what, size, known);
    }
    memcpy(to, from, size < known ? size : known);
    memcpy(to, &known, sizeof(known));
    return 0;
}

int sb_options_write(void *to, size_t size, const void *from, size_t known, const char *what)
{
    if (to == NULL || size == 0 || size > SB_OPTIONS_MAX)
        return sb_fail(SHMBUS_E_INVALID,
                       "%s: there is no place to put them: pass a struct and its "
                       "sizeof",
                       what);
    memcpy(to, from, size < known ? size : known);
    if (size > known)
        memset((uint8_t *)to + known, 0, size - known);
    return 0;
}
