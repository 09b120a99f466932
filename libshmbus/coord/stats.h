/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures: of one seat, of the bus, and the listings of handles and connections.
 */
#ifndef SB_COORD_STATS_H
#define SB_COORD_STATS_H

#include "coord/coord.h"

/* The books of a seat, never below what was reported before. With dead true, what it has not
 * received counts as dropped. */
struct sb_books sb_coord_stats_seat(struct sb_coord *c, struct sb_coord_seat *seat, bool dead);

/* Publishes of the connection that have failed, as far as it can be believed: never less than was
 * reported before. 0 for one that never had an inbox. */
uint64_t sb_coord_stats_failed(struct sb_coord_conn *conn);

/* Adds to a total of the bus. What one client makes up takes totals to their largest value, never
 * past it and back to small ones. */
void sb_coord_stats_add(uint64_t *total, uint64_t figure);

/* Fill a reply's body. Pages end where the message is full. */
void sb_coord_stats_bus(struct sb_coord *c, struct sb_bus_stats_reply *reply);
void sb_coord_stats_handles(struct sb_coord *c, uint32_t from, struct sb_page_reply *reply);
void sb_coord_stats_conns(struct sb_coord *c, uint32_t from, struct sb_page_reply *reply);

#endif
