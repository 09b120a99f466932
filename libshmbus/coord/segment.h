/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of rings and bells. A segment belongs to one subscribing user and is dropped with the
 * last ring or bell in it.
 *
 * Ring memory is type-stable: it is used again only for the same user, capacity and mode, and its
 * seq and tail go on. A publisher that is late by any time pushes into a ring whose generation has
 * changed, or into a segment that nobody reads: readers drop what comes over no route of theirs.
 */
#ifndef SB_COORD_SEGMENT_H
#define SB_COORD_SEGMENT_H

#include "coord/coord.h"

/* The user's account; made on first use. NULL without memory (and the sentence). */
struct sb_coord_user *sb_coord_user_find(struct sb_coord *c, uid_t uid);

/* A ring that nobody uses, its record still saying so (gen even). SHMBUS_E_LIMIT (ring memory of
 * the user, rings, segments, arena), SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM. */
SB_MUST_CHECK int sb_coord_ring_take(struct sb_coord *c, struct sb_coord_user *user,
                                     uint32_t capacity, uint32_t full, struct sb_coord_ring **ring);
/* Gives it back; the caller has taken it off every list. */
void sb_coord_ring_give(struct sb_coord *c, struct sb_coord_ring *ring);

/* A bell of the user's; the owner is a ring or, where that is NULL, a connection. */
SB_MUST_CHECK int sb_coord_bell_take(struct sb_coord *c, struct sb_coord_user *user,
                                     struct sb_coord_ring *ring, struct sb_coord_conn *conn,
                                     struct sb_coord_bell *bell);
void sb_coord_bell_give(struct sb_coord *c, struct sb_coord_bell *bell);

SB_INLINE struct sb_bell *sb_coord_bell_at(const struct sb_coord_bell *bell)
{
    return (struct sb_bell *)(void *)bell->segment->base + bell->index;
}

/* Wakes everybody who may sleep at any bell: the bus ends. */
void sb_coord_bell_ring_all(struct sb_coord *c);

/* Frees all users and what is left of their segments, for the end. */
void sb_coord_segment_close(struct sb_coord *c);

#endif
