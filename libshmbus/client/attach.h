/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake: from a connected socket to a connection that can be used, and back. */
#ifndef SB_CLIENT_ATTACH_H
#define SB_CLIENT_ATTACH_H

#include "client/client.h"

/*
 * Says HELLO on the socket of a new connection, checks and maps what comes, arms the heap.
 * On failure what was mapped belongs to the connection all the same: sb_attach_undo().
 * 0 or as shmbus_connect(); SHMBUS_E_COORD also where the coordinator hung up.
 */
SB_MUST_CHECK int sb_attach(struct shmbus_conn *conn, const struct sb_sock_peer *peer);

/* Undoes it, also where it got half-way; the socket stays. */
void sb_attach_undo(struct shmbus_conn *conn);

#endif
