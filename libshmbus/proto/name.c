/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/name.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"

/* Not isalnum(): what a name may be must not depend on the locale. */
static bool sb_name_may_hold(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

int sb_name_check(const char *name)
{
    if (name == NULL)
        return sb_fail(SHMBUS_E_INVALID, "bus name: NULL; a string was expected");
    size_t len = strnlen(name, SB_NAME_MAX + 1);
    if (len == 0)
        return sb_fail(SHMBUS_E_INVALID, "bus name: empty; it has 1 to %d characters", SB_NAME_MAX);
    for (size_t i = 0; i < len; i++)
        if (!sb_name_may_hold(name[i]))
            return sb_fail(SHMBUS_E_INVALID,
                           "bus name: byte 0x%02x at offset %zu; A-Z a-z 0-9 . _ - are allowed",
                           (unsigned char)name[i], i);
    if (len > SB_NAME_MAX)
        return sb_fail(SHMBUS_E_INVALID, "bus name %.16s…: more than %d characters", name,
                       SB_NAME_MAX);
    if (name[0] == '.' || name[0] == '-')
        return sb_fail(SHMBUS_E_INVALID, "bus name %s: must not start with %c", name, name[0]);
    return 0;
}
