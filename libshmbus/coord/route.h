/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics, routes, and which rings they lead to.
 *
 * A topic is here as long as it has a route. All live routes of a topic name the same interned set:
 * the listed rings of all patterns that match. Listing a ring is prepared completely (every new set
 * made, every list grown) before the first word changes, so that it happens wholly or not at all.
 */
#ifndef SB_COORD_ROUTE_H
#define SB_COORD_ROUTE_H

#include "coord/coord.h"

/* Both tries, empty. */
SB_MUST_CHECK int sb_coord_route_open(struct sb_coord *c);
/* Frees private memory, for the end. */
void sb_coord_route_close(struct sb_coord *c);

/* The connection's route for a checked concrete topic, made if need be. SHMBUS_E_LIMIT (routes of
 * the connection, of the bus, arena), SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_coord_route_grant(struct sb_coord *c, struct sb_coord_conn *conn,
                                       const uint8_t *topic, uint32_t len,
                                       struct sb_coord_route **route);

/* Frees a route; what is still queued under it is ignored from now on. */
void sb_coord_route_free(struct sb_coord *c, struct sb_coord_route *route);

/* The connection has ended: its routes lead nowhere, what is queued is delivered. */
void sb_coord_route_end(struct sb_coord *c, struct sb_coord_conn *conn);

/*
 * Puts the ring, whose patterns are set, into the pattern trie and into the sets of all topics that
 * they match. The caller advances the epoch. Failures as above, with nothing changed.
 */
SB_MUST_CHECK int sb_coord_route_list(struct sb_coord *c, struct sb_coord_ring *ring);

/* The opposite. Where memory for the smaller sets is missing the ring stays listed: 0 or the
 * failure, after which it is to be called again. */
SB_MUST_CHECK int sb_coord_route_unlist(struct sb_coord *c, struct sb_coord_ring *ring);

#endif
