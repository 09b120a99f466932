/* SPDX-License-Identifier: Apache-2.0 */
#include "bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library's default, and what one message takes beside its payload, generously. */
#define HEAP_MIN (UINT64_C(64) << 20)
#define MESSAGE_EXTRA 256

static void say(int level, const char *line, void *arg)
{
    (void)arg;
    if (level <= SHMBUS_LOG_WARNING)
        fprintf(stderr, "shmbus-bench: coordinator: %s\n", line);
}

static int make_dir(struct bus *bus)
{
    const char *parent = getenv("TMPDIR");
    if (!parent || strlen(parent) > sizeof(bus->dir) / 2)
        parent = "/tmp";
    snprintf(bus->dir, sizeof(bus->dir), "%s/shmbus-bench.XXXXXX", parent);
    if (mkdtemp(bus->dir) && setenv("SHMBUS_RUNTIME_DIR", bus->dir, 1) == 0)
        return 0;
    fprintf(stderr, "shmbus-bench: no directory %s: %s\n", bus->dir, strerror(errno));
    bus->dir[0] = '\0';
    return -1;
}

int bus_start(struct bus *bus, struct page_params *params)
{
    *bus = (struct bus){0};
    if (make_dir(bus) != 0)
        return -1;
    snprintf(params->bus, sizeof(params->bus), "bench-%d", (int)getpid());
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    options.runtime_dir = bus->dir;
    options.log = say;
    /* A full queue, and as much again on its way, must fit: it is the queue that is to be full. */
    uint64_t needed = 4 * (uint64_t)params->queue * (params->size + MESSAGE_EXTRA);
    options.heap_limit = needed > HEAP_MIN ? needed : HEAP_MIN;
    if (shmbus_coordinator_start(params->bus, &options, &bus->coordinator) == 0)
        return 0;
    fprintf(stderr, "shmbus-bench: cannot start bus %s: %s\n", params->bus, shmbus_errmsg());
    bus_stop(bus);
    return -1;
}

void bus_stop(struct bus *bus)
{
    shmbus_coordinator_stop(bus->coordinator);
    bus->coordinator = NULL;
    if (bus->dir[0] && rmdir(bus->dir) != 0)
        fprintf(stderr, "shmbus-bench: left: %s: %s\n", bus->dir, strerror(errno));
    bus->dir[0] = '\0';
}

struct shmbus_conn *bus_connect(struct worker *worker)
{
    struct shmbus_conn *conn;
    const char *name = worker->page->params.bus;
    if (shmbus_connect(name, NULL, &conn) != 0)
        worker_fail(worker, "cannot connect to bus %s: %s", name, shmbus_errmsg());
    return conn;
}

/* The parent's pid keeps runs on one bus apart. */
#define TOPIC_TOKENS 3

static void make_topic(const struct worker *worker, const char *name, struct shmbus_token *tokens)
{
    tokens[0] = shmbus_token_str("shmbus-bench");
    tokens[1] = shmbus_token_num(worker->page->parent);
    tokens[2] = shmbus_token_str(name);
}

struct shmbus_publisher *bus_prepare(struct worker *worker, struct shmbus_conn *conn,
                                     const char *name)
{
    struct shmbus_token tokens[TOPIC_TOKENS];
    struct shmbus_publisher *publisher;
    make_topic(worker, name, tokens);
    if (shmbus_prepare(conn, shmbus_tokens(tokens, TOPIC_TOKENS), NULL, &publisher) != 0)
        worker_fail(worker, "cannot prepare to publish: %s", shmbus_errmsg());
    return publisher;
}

struct shmbus_sub *bus_subscribe(struct worker *worker, struct shmbus_conn *conn, const char *name)
{
    const struct page_params *params = &worker->page->params;
    struct shmbus_subscribe_options options = SHMBUS_SUBSCRIBE_OPTIONS_INIT;
    struct shmbus_token tokens[TOPIC_TOKENS];
    struct shmbus_sub *sub;
    options.queue_len = params->queue;
    options.full = params->full;
    make_topic(worker, name, tokens);
    if (shmbus_subscribe(conn, shmbus_tokens(tokens, TOPIC_TOKENS), &options, &sub) != 0)
        worker_fail(worker, "cannot subscribe: %s", shmbus_errmsg());
    return sub;
}
