/* SPDX-License-Identifier: Apache-2.0 */
/* What the header of an arena says of its bus. */
#ifndef SB_CLIENT_FIGURES_H
#define SB_CLIENT_FIGURES_H

#include <shmbus/stats.h>

#include "shm/layout.h"

/* Settings and sizes; everything else becomes 0. The header was checked. */
void sb_figures_of_arena(struct shmbus_bus_stats *stats, const struct sb_arena_header *header);

#endif
