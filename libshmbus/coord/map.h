/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may map what: the security boundary of the bus. A descriptor is given only where a route or a
 * seat of the asking connection leads (proto/control.h, enum sb_map_kind), and only with the access
 * that this side needs.
 */
#ifndef SB_COORD_MAP_H
#define SB_COORD_MAP_H

#include "coord/coord.h"

/* A descriptor for the caller to send. With owned set it is closed after that. */
struct sb_coord_fd {
    int fd;
    bool owned;
};

/*
 * Sets item->found and item->size and, where it is found, *fd. What does not exist and what the
 * connection has no right to look the same. SHMBUS_E_LIMIT, SHMBUS_E_SYSTEM when no descriptor can
 * be made.
 */
SB_MUST_CHECK int sb_coord_map_item(struct sb_coord *c, const struct sb_coord_conn *conn,
                                    struct sb_map_item *item, struct sb_coord_fd *fd);

/* A read-only descriptor of the heap, for those who may have messages of it. */
SB_MUST_CHECK int sb_coord_map_heap(const struct sb_coord_conn *heap, struct sb_map_item *item,
                                    struct sb_coord_fd *fd);

#endif
