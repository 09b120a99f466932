/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interned sets of rings: equal sets are one object, here and in the arena. The empty set is NULL.
 *
 * A set never changes; topics hold references. During one rewriting (subscribe, unsubscribe) what a
 * set becomes is worked out once, however many topics have it.
 */
#ifndef SB_COORD_RINGSET_H
#define SB_COORD_RINGSET_H

#include "coord/coord.h"

/* The set of these ascending indices, with a reference. SHMBUS_E_LIMIT, SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_coord_set_intern(struct sb_coord *c, const uint32_t *ring, uint32_t count,
                                      struct sb_coord_set **set);

/* What set becomes with, or without, a ring, with a reference. c->rewriting numbers the rewriting,
 * in which all calls say the same ring and with. Failures as above. */
SB_MUST_CHECK int sb_coord_set_change(struct sb_coord *c, struct sb_coord_set *set, uint32_t ring,
                                      bool with, struct sb_coord_set **after);

void sb_coord_set_unref(struct sb_coord *c, struct sb_coord_set *set);

SB_INLINE uint64_t sb_coord_set_offset(const struct sb_coord_set *set)
{
    return set ? set->offset : 0;
}

#endif
