/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dead. What a dead publisher has queued is still delivered: its heap, its routes and its
 * record stay until every ring that its routes ever led to has passed the tail noted after the end:
 * each seat is beyond it, or the ring has been overwritten by more than a lap, and no hold lies
 * below.
 *
 * A timer looks, at first after 10 ms, then less and less often, up to a second, as long as there
 * is anything to look for; it also frees arena memory that readers had pinned.
 */
#ifndef SB_COORD_REAP_H
#define SB_COORD_REAP_H

#include "coord/coord.h"

/* There is something to look for. Where there is no memory for the timer the next call tries. */
void sb_coord_reap_soon(struct sb_coord *c);

/* Frees the connection, of which only messages are left, when these have passed. */
void sb_coord_reap_conn(struct sb_coord *c, struct sb_coord_conn *conn);

/* Frees retired arena memory that no reader has pinned, if that is worth a look at all pins; else
 * the timer does. */
void sb_coord_reap_arena(struct sb_coord *c);

#endif
