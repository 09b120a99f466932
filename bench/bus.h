/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bus.h
 * The bus that is measured, and how a worker gets at it.
 */
#ifndef BENCH_BUS_H
#define BENCH_BUS_H

#include <shmbus/shmbus.h>

#include "worker.h"

/** The bench's own bus. Zeroed memory is one that was not started. */
struct bus {
    struct shmbus_coordinator *coordinator;
    char dir[108];
};

/**
 * Starts a bus of its own in this process, with a name and a runtime directory that nobody else
 * has, which workers inherit; its name goes to params. Returns 0, or -1 having said why.
 */
int bus_start(struct bus *bus, struct page_params *params);

/** Ends it; nothing is left. */
void bus_stop(struct bus *bus);

/* What a worker does first; each ends it when it fails. */

/** Connects to the bus. */
struct shmbus_conn *bus_connect(struct worker *worker);

/** Prepares this run's topic of that name. */
struct shmbus_publisher *bus_prepare(struct worker *worker, struct shmbus_conn *conn,
                                     const char *name);

/** Subscribes to this run's topic of that name, with the run's queue. */
struct shmbus_sub *bus_subscribe(struct worker *worker, struct shmbus_conn *conn, const char *name);

#endif
