/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prepared publisher for each thing that is read, as long as it is there.
 */
#ifndef EXAMPLES_TELEMETRY_FEEDS_H
#define EXAMPLES_TELEMETRY_FEEDS_H

#include <stddef.h>
#include <stdint.h>

#include <shmbus/publish.h>

#include "readings.h"

/* One topic. */
struct feed {
    enum reading_kind kind;
    int64_t number;
    char name[64];
    uint64_t round; /* it was published in last */
    struct shmbus_publisher *publisher;
};

/* All topics, in the order of kind, number and name. Start from {.conn = …, .host = …}. */
struct feeds {
    struct shmbus_conn *conn;
    const char *host;
    struct feed *items;
    size_t count;
    size_t capacity;
    uint64_t added;
    uint64_t freed;
};

/*
 * The publisher of a reading, prepared when it is first seen: host/HOST/cpu/N, host/HOST/mem,
 * host/HOST/net/NAME or host/HOST/proc/PID. Returns 0 or a SHMBUS_E_ code.
 */
int feeds_find(struct feeds *feeds, const struct reading *reading, uint64_t round,
               struct shmbus_publisher **publisher);

/* Frees the publishers of what was not read in this round. */
void feeds_sweep(struct feeds *feeds, uint64_t round);

/* Frees all. */
void feeds_deinit(struct feeds *feeds);

#endif
