/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of buses: 1..64 of A-Z a-z 0-9 . _ -, not starting with . or -. A name that passes is safe
 * as a file name, as a part of one, and in a sentence.
 */
#ifndef SB_PROTO_NAME_H
#define SB_PROTO_NAME_H

#include "base/compiler.h"

#define SB_NAME_MAX 64 /* characters, without a NUL */

/*
 * Whether name (NUL-terminated, or NULL) can be the name of a bus: 0, or SHMBUS_E_INVALID with a
 * sentence that names the rule it breaks. Pure; any bytes may come.
 */
SB_MUST_CHECK int sb_name_check(const char *name);

#endif
