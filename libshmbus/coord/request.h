/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: what a client asks for, checked, done, and answered.
 */
#ifndef SB_COORD_REQUEST_H
#define SB_COORD_REQUEST_H

#include "coord/coord.h"

/* The answer to one request: a message with room for SB_CONTROL_MAX bytes, its type and id set, and
 * descriptors, of which the owned ones are closed after it was sent. */
struct sb_coord_reply {
    struct sb_control_head *head;
    unsigned fd_count;
    int fd[SB_CONTROL_FDS];
    bool owned[SB_CONTROL_FDS];
};

/*
 * Carries out a request of len bytes, at least those of a head, which may hold anything. 0 with the
 * reply complete, or a failure with its sentence.
 */
SB_MUST_CHECK int sb_coord_request_run(struct sb_coord *c, struct sb_coord_session *session,
                                       const struct sb_control_head *request, size_t len,
                                       struct sb_coord_reply *reply);

#endif
