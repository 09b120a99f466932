/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator tells its owner's log function. */
#ifndef SB_COORD_LOG_H
#define SB_COORD_LOG_H

#include "coord/coord.h"

/* One line of at most 511 bytes; nothing where nobody listens. In the coordinator's thread. */
void sb_coord_log(const struct sb_coord *c, int level, const char *fmt, ...) SB_PRINTF(3, 4);

#endif
