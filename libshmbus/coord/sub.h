/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subscriptions: a seat at a ring.
 *
 * Joining (DESIGN 5; tests/model/join.py): the seat is listed with a start of 0, which pins
 * everything; routes are rewritten; the epoch is advanced; full fence; the tail is read and becomes
 * the start. A publisher that does not see the seat has pushed below that start.
 *
 * Closing: routes are rewritten, the epoch is advanced, then `end` is the tail and the reason is
 * stored. The seat stays, pinning what is queued, until its reader leaves or its process ends.
 */
#ifndef SB_COORD_SUB_H
#define SB_COORD_SUB_H

#include "coord/coord.h"

/* Adds a subscription. SHMBUS_E_INVALID, SHMBUS_E_LIMIT, SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM, with
 * nothing changed. */
SB_MUST_CHECK int sb_coord_sub_add(struct sb_coord *c, struct sb_coord_conn *conn,
                                   const struct sb_subscribe_request *request,
                                   struct sb_coord_seat **seat);

/* Ends admission; the first reason stays. Wakes its reader. */
void sb_coord_sub_close(struct sb_coord *c, struct sb_coord_seat *seat, uint32_t reason);

/* The reader is gone: closes, counts what it never received as dropped, frees the seat and, with
 * its last seat, the ring. */
void sb_coord_sub_leave(struct sb_coord *c, struct sb_coord_seat *seat);

/* Tries again to take closed rings out of the sets; true when none is left. */
bool sb_coord_sub_retry(struct sb_coord *c);

/* Advances the routing epoch: what was changed before is seen by whoever sees it. */
void sb_coord_sub_advance(struct sb_coord *c);

SB_INLINE struct sb_seat *sb_coord_seat_at(const struct sb_coord_conn *conn, uint32_t slot)
{
    return (struct sb_seat *)(void *)(conn->inbox + 1) + slot;
}

SB_INLINE uint64_t sb_coord_ring_tail(const struct sb_coord_ring *ring)
{
    return sb_ring_tail_exact(ring->view.mem, ring->view.capacity, ring->view.bits);
}

#endif
