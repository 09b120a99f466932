/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions: a coordinator in a thread of its own.
 *
 * Everything the thread uses is made and freed in it; the starter waits until it is ready or has
 * failed, and takes over its failure. Stopping is the loop's sb_loop_stop(), then a join.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "coord/bus.h"
#include "proto/name.h"

#define SB_COORD_BYTES_MAX (UINT64_C(64) << 30) /* what descriptors and set words can name */

struct shmbus_coordinator {
    struct sb_coord bus;
    pthread_t thread;
    sem_t ready;
    int status; /* of the start */
    int error;  /* shmbus_errsys() of a failed one */
    pid_t pid;  /* whose thread it is */
    char sentence[512];
};

/* The caller's options over the defaults, as far as both know them. */
static int sb_coordinator_merge(const struct shmbus_coordinator_options *given,
                                struct shmbus_coordinator_options *options)
{
    *options = (struct shmbus_coordinator_options)SHMBUS_COORDINATOR_OPTIONS_INIT;
    if (!given)
        return 0;
    if (given->size < offsetof(struct shmbus_coordinator_options, log_arg) + sizeof(void *))
        return sb_fail(SHMBUS_E_INVALID,
                       "coordinator options of %zu bytes: start from "
                       "SHMBUS_COORDINATOR_OPTIONS_INIT",
                       given->size);
    memcpy(options, given, sizeof(*options));
    if (options->flags != 0)
        return sb_fail(SHMBUS_E_INVALID, "coordinator flags 0x%x: none are known in this version",
                       options->flags);
    return 0;
}

static int sb_coordinator_check_queue(const struct shmbus_coordinator_options *options)
{
    if (options->queue_len < 0 || options->queue_len > SB_QUEUE_MAX)
        return sb_fail(SHMBUS_E_INVALID, "queue_len %" PRId64 ": 0 to %u are possible",
                       options->queue_len, SB_QUEUE_MAX);
    if (options->full != SB_DROP_OLDEST && options->full != SB_REJECT_NEWEST)
        return sb_fail(
            SHMBUS_E_INVALID,
            "full %u: a full queue can drop_oldest (%u) or reject_newest (%u); it cannot "
            "block, since no consumer may stall a publisher",
            options->full, SB_DROP_OLDEST, SB_REJECT_NEWEST);
    return 0;
}

static int sb_coordinator_check_bytes(const char *what, uint64_t bytes, uint64_t least)
{
    if (bytes < least || bytes > SB_COORD_BYTES_MAX)
        return sb_fail(SHMBUS_E_INVALID,
                       "%s of %" PRIu64 " bytes: %" PRIu64 " to %" PRIu64 " are possible", what,
                       bytes, least, SB_COORD_BYTES_MAX);
    return 0;
}

static int sb_coordinator_check_wildcards(const struct shmbus_coordinator_options *options,
                                          struct sb_wildcards *wildcards)
{
    if (!options->s_wild || !options->m_wild)
        return sb_fail(SHMBUS_E_INVALID, "a bus needs both wildcards, s_wild and m_wild");
    return sb_wildcards_init(wildcards, options->s_wild, strlen(options->s_wild), options->m_wild,
                             strlen(options->m_wild));
}

static int sb_coordinator_check(const char *name, const struct shmbus_coordinator_options *options,
                                struct sb_wildcards *wildcards)
{
    int ret = sb_name_check(name);
    if (ret == 0)
        ret = sb_coordinator_check_queue(options);
    if (ret == 0)
        ret = sb_coordinator_check_wildcards(options, wildcards);
    if (ret == 0)
        ret = sb_coordinator_check_bytes("an arena", options->arena_limit, SB_COORD_ARENA_SIZE);
    if (ret == 0)
        ret = sb_coordinator_check_bytes("a heap", options->heap_limit, SB_COORD_HEAP_SIZE);
    if (ret == 0 && (options->mode & ~0777u || (options->mode & 0600) != 0600))
        ret = sb_fail(SHMBUS_E_INVALID,
                      "mode 0%o: permission bits are 0600, for the owner, to 0777", options->mode);
    return ret;
}

static int sb_coordinator_options(struct sb_coord *c, const char *name,
                                  const struct shmbus_coordinator_options *given)
{
    struct shmbus_coordinator_options options;
    int ret = sb_coordinator_merge(given, &options);
    if (ret == 0)
        ret = sb_coordinator_check(name, &options, &c->options.wildcards);
    if (ret)
        return ret;
    if (options.runtime_dir) {
        c->options.runtime_dir = strdup(options.runtime_dir);
        if (!c->options.runtime_dir)
            return sb_fail(SHMBUS_E_NOMEM, "no memory for a path");
    }
    strcpy(c->options.name, name);
    c->options.queue_len = (uint32_t)options.queue_len;
    c->options.full = options.full;
    c->options.mode = options.mode;
    c->options.gid = options.gid == UINT32_MAX ? SB_SOCK_GROUP_KEEP : options.gid;
    c->options.arena_limit = options.arena_limit;
    c->options.heap_limit = sb_align_up(options.heap_limit, (uint64_t)sysconf(_SC_PAGESIZE));
    c->options.log = options.log;
    c->options.log_arg = options.log_arg;
    return 0;
}

static void *sb_coordinator_main(void *arg)
{
    struct shmbus_coordinator *coordinator = arg;
    struct sb_coord *c = &coordinator->bus;
    int ret = sb_coord_bus_open(c);
    coordinator->status = ret;
    if (ret) {
        coordinator->error = shmbus_errsys();
        strncpy(coordinator->sentence, shmbus_errmsg(), sizeof(coordinator->sentence) - 1);
    }
    sem_post(&coordinator->ready);
    if (ret == 0) {
        sb_coord_bus_run(c);
        sb_coord_bus_close(c);
    }
    return NULL;
}

/* Starts the thread with every signal blocked, and waits until it is ready or has failed. */
static int sb_coordinator_launch(struct shmbus_coordinator *coordinator)
{
    sigset_t all, before;
    sigfillset(&all);
    sem_init(&coordinator->ready, 0, 0);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&coordinator->thread, NULL, sb_coordinator_main, coordinator);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        errno = failed;
        sem_destroy(&coordinator->ready);
        return sb_fail_errno("starting the coordinator's thread failed");
    }
    while (sem_wait(&coordinator->ready) < 0 && errno == EINTR)
        continue;
    sem_destroy(&coordinator->ready);
    if (coordinator->status == 0)
        return 0;
    pthread_join(coordinator->thread, NULL);
    return sb_fail_of(coordinator->status, coordinator->error, coordinator->sentence);
}

static void sb_coordinator_free(struct shmbus_coordinator *coordinator)
{
    free(coordinator->bus.options.runtime_dir);
    free(coordinator);
}

int shmbus_coordinator_start(const char *name, const struct shmbus_coordinator_options *options,
                             struct shmbus_coordinator **coordinator)
{
    if (!coordinator)
        return sb_fail(SHMBUS_E_INVALID, "no place for the coordinator's handle was given");
    struct shmbus_coordinator *made = calloc(1, sizeof(*made));
    if (!made)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a coordinator");
    made->pid = getpid();
    int ret = sb_coordinator_options(&made->bus, name, options);
    if (ret == 0)
        ret = sb_coordinator_launch(made);
    if (ret) {
        sb_coordinator_free(made);
        return ret;
    }
    *coordinator = made;
    return 0;
}

void shmbus_coordinator_stop(struct shmbus_coordinator *coordinator)
{
    if (!coordinator)
        return;
    /* A forked child has the handle but neither the thread nor the bus. */
    if (coordinator->pid == getpid()) {
        sb_loop_stop(coordinator->bus.loop);
        pthread_join(coordinator->thread, NULL);
        sb_loop_free(coordinator->bus.loop);
    }
    sb_coordinator_free(coordinator);
}
