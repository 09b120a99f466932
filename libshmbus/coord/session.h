/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: the sockets of clients. Each message is one request and gets one reply; a client that
 * does not take its replies is hung up on, so that nobody can block the coordinator.
 */
#ifndef SB_COORD_SESSION_H
#define SB_COORD_SESSION_H

#include "coord/coord.h"

struct sb_coord_session {
    struct sb_coord_session *next, *prev;
    struct sb_coord *coord;
    struct sb_coord_conn *conn; /* NULL: an observer, or nothing yet */
    struct sb_sock_peer peer;
    uint64_t watch; /* in the loop */
    int fd;
    bool greeted; /* HELLO was answered */
};

/* Starts to accept clients at the listener of c->names. */
SB_MUST_CHECK int sb_coord_session_listen(struct sb_coord *c);

/* Hangs up and frees the session; its connection ends. */
void sb_coord_session_close(struct sb_coord *c, struct sb_coord_session *session);

/* The bus ends: hands every client the heaps that its queues may need, until the deadline. */
void sb_coord_session_farewell(struct sb_coord *c, int64_t deadline);

/* Hangs up on all, with no further change to what clients see. */
void sb_coord_session_end(struct sb_coord *c);

#endif
