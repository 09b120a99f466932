/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapped segments of others, each mapped once per connection and counted.
 *
 * A mapping is named by kind, index and generation, as the arena's records name it. All calls need
 * the connection's `control` lock only inside; they may be made with `lock` held.
 */
#ifndef SB_CLIENT_MAPPING_H
#define SB_CLIENT_MAPPING_H

#include <stddef.h>
#include <stdint.h>

#include "os/sock.h"
#include "proto/control.h"

struct shmbus_conn;

struct sb_mapping {
    struct sb_mapping *next;
    uint32_t kind; /* enum sb_map_kind */
    uint32_t index;
    uint32_t gen;
    uint32_t refs;
    uint8_t *base;
    uint64_t size;
};

struct sb_mappings {
    struct sb_mapping *bucket[64];
};

/* What is wanted, and what came of it: NULL where it is gone or not for this connection. */
struct sb_mapping_want {
    uint32_t kind, index, gen;
    struct sb_mapping *mapping;
};

/*
 * Finds or maps each of count wants, with as few requests as possible (SB_CONTROL_FDS in each), and
 * takes a reference on each mapping. 0 (some may be NULL: gone), or SHMBUS_E_COORD, SHMBUS_E_LIMIT
 * (descriptors, mappings), SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM, and then no reference is kept.
 * Received descriptors are checked (size, seals) before they are mapped, and closed after. When the
 * coordinator has stopped the bus, heaps that it pushed before its end are found here, too.
 */
int sb_mapping_get(struct shmbus_conn *conn, struct sb_mapping_want *wants, size_t count);

/* Drops a reference; the last one unmaps. NULL is nothing to do. */
void sb_mapping_put(struct shmbus_conn *conn, struct sb_mapping *mapping);

/* request.c, with `control` held: heaps that a stopping coordinator has pushed. They stay mapped as
 * long as the connection, which is all that can be done about what cannot be asked for again. Takes
 * the descriptors it uses from fds. What cannot be mapped is not kept. */
void sb_mappings_keep(struct shmbus_conn *conn, const struct sb_map_message *pushed,
                      struct sb_sock_fds *fds);

/* Unmaps everything: nobody uses the connection any more. */
void sb_mappings_free(struct shmbus_conn *conn);

#endif
