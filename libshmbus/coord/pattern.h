/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The patterns of open subscriptions: the pattern trie and the rings that each pattern has.
 */
#ifndef SB_COORD_PATTERN_H
#define SB_COORD_PATTERN_H

#include "coord/coord.h"

/*
 * Copies a list of {u16 length, bytes} into new private memory, sorted and each pattern once:
 * equal sets of patterns become equal bytes. SHMBUS_E_INVALID (a list or a pattern is malformed, or
 * there are other than count of them), SHMBUS_E_NOMEM. *list is the caller's to free.
 */
SB_MUST_CHECK int sb_coord_pattern_sort(const uint8_t *patterns, size_t len, uint32_t count,
                                        uint8_t **list, uint32_t *list_len, uint32_t *list_count);

/* A listed drop_oldest ring of that user with exactly these patterns and capacity, or NULL. */
struct sb_coord_ring *sb_coord_pattern_shared(struct sb_coord *c, const struct sb_coord_user *user,
                                              uint32_t capacity, const uint8_t *list,
                                              uint32_t list_len);

/* Enters the ring under each of its patterns. SHMBUS_E_LIMIT, SHMBUS_E_NOMEM; nothing changed. */
SB_MUST_CHECK int sb_coord_pattern_add(struct sb_coord *c, struct sb_coord_ring *ring);
/* Takes it out wherever it is. */
void sb_coord_pattern_drop(struct sb_coord *c, struct sb_coord_ring *ring);

/* The set of the rings whose patterns match a topic, with a reference. SHMBUS_E_LIMIT,
 * SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_coord_pattern_rings(struct sb_coord *c, const uint8_t *topic, size_t len,
                                         struct sb_coord_set **set);

/* Frees private memory, for the end. */
void sb_coord_pattern_close(struct sb_coord *c);

#endif
