/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a bus in the coordinator's thread: made, run, ended.
 */
#ifndef SB_COORD_BUS_H
#define SB_COORD_BUS_H

#include "coord/coord.h"

/* Takes the name c->options.name, makes the arena, and listens. Failures of
 * shmbus_coordinator_start(); nothing is left then. */
SB_MUST_CHECK int sb_coord_bus_open(struct sb_coord *c);

/* Serves until sb_loop_stop(c->loop). */
void sb_coord_bus_run(struct sb_coord *c);

/* Ends the bus: says so, hands out heaps, wakes everybody, removes all files and frees all but
 * c->loop, which another thread may be stopping. Blocks for a second at most. */
void sb_coord_bus_close(struct sb_coord *c);

#endif
