/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket of a connection, for the files that ask for descriptors or must not wait.
 * Whoever calls these holds the connection's `control` lock; others use sb_request() (client.h).
 */
#ifndef SB_CLIENT_REQUEST_H
#define SB_CLIENT_REQUEST_H

#include "base/compiler.h"
#include "os/sock.h"

struct shmbus_conn;

/* As sb_request(); the descriptors that come with a reply that grants are put in fds, and the
 * caller's; with NULL they are closed. On failure fds owns nothing. */
SB_MUST_CHECK int sb_request_held(struct shmbus_conn *conn, void *request, size_t size, void *reply,
                                  size_t reply_cap, struct sb_sock_fds *fds);

/* Sends a request whose reply nobody waits for, if that is possible without waiting. */
void sb_request_post(struct shmbus_conn *conn, void *request, size_t size);

#endif
