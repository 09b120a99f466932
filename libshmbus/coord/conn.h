/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections: what a client gets when it attaches, and the steps in which it ends.
 *
 *   end     (disconnect, hang-up) no routes, no admission; its seats stay
 *   died    (its pidfd) its seats, holds and pins go
 *   gone    (died; or hung up with its last seat left) only its heap and the records that describe
 *           its messages stay, until these have passed (reap.c), then everything is freed
 */
#ifndef SB_COORD_CONN_H
#define SB_COORD_CONN_H

#include "coord/coord.h"

/* Makes a connection for the process at the other end of a session. SHMBUS_E_LIMIT (connections,
 * descriptors, arena), SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM. */
SB_MUST_CHECK int sb_coord_conn_attach(struct sb_coord *c, struct sb_coord_session *session,
                                       int sock, const struct sb_sock_peer *peer,
                                       struct sb_coord_conn **conn);

/* The client has mapped its heap: nobody can make a second writable mapping from now on. */
SB_MUST_CHECK int sb_coord_conn_arm(struct sb_coord_conn *conn);

/* Allocates the heap up to size bytes, rounded up. SHMBUS_E_LIMIT (the heap's), SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_coord_conn_grow(struct sb_coord *c, struct sb_coord_conn *conn, uint64_t size);

/* See above. Idempotent. */
void sb_coord_conn_end(struct sb_coord *c, struct sb_coord_conn *conn);

/* Its socket is closed and its session is about to be. */
void sb_coord_conn_hangup(struct sb_coord *c, struct sb_coord_conn *conn);

/* Frees it: nothing of it is in any ring. */
void sb_coord_conn_free(struct sb_coord *c, struct sb_coord_conn *conn);

/* Frees all of them with their seats and routes, at the end; the arena stays as clients see it. */
void sb_coord_conn_close(struct sb_coord *c);

/* The pin words of all connections, in *pins (room for SB_PINS each); the number of them, or
 * SIZE_MAX without memory. *pins is the caller's to free. */
size_t sb_coord_conn_pins(struct sb_coord *c, const uint64_t ***pins);

#endif
