/* SPDX-License-Identifier: Apache-2.0 */
/* What the event loop asks of io_uring or epoll: loop_uring.c, loop_epoll.c. */
#ifndef SB_OS_LOOP_BACKEND_H
#define SB_OS_LOOP_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "os/loop.h"

/* Events that one wait fetches; what else is ready comes with the next. */
#define SB_LOOP_BATCH 64

/* A descriptor in the loop, as the backend sees it. */
struct sb_loop_watch {
    uint64_t id; /* what the kernel hands back with the event; 0 in a free slot */
    int fd;
    unsigned events;
    bool armed; /* the kernel has been told, and will report */
    /* Backend io_uring: neighbours in the list of what the next wait tells the kernel. */
    struct sb_loop_watch *next;
    struct sb_loop_watch **link; /* what points here; NULL when in no list */
    uint32_t next_free;          /* in a free slot */
    sb_loop_fd_fn *fn;
    void *ctx;
};

struct sb_loop_event {
    uint64_t id;
    unsigned events;
};

struct sb_loop_backend {
    const char *name;
    /* Makes the backend's own state. 0; SHMBUS_EMPTY when this system does not offer it (a sentence
     * says why); or a failure. */
    int (*open)(void **state);
    void (*close)(void *state);
    int (*add)(void *state, struct sb_loop_watch *watch);
    /* Tells the kernel of changed events, if the watch is armed. */
    void (*set)(void *state, struct sb_loop_watch *watch);
    void (*remove)(void *state, struct sb_loop_watch *watch);
    /* Where a reported watch has to be armed again: called after its callback, if it is still
     * there, or when its event is not delivered after all. NULL where it stays armed. */
    void (*rearm)(void *state, struct sb_loop_watch *watch);
    /* Waits at most timeout_ns (SB_NEVER: no limit) for events; *n of them are stored, perhaps 0.
     * One without any event in it only wants to be armed again. */
    int (*wait)(void *state, int64_t timeout_ns, struct sb_loop_event events[SB_LOOP_BATCH],
                unsigned *n);
};

extern const struct sb_loop_backend sb_loop_uring;
extern const struct sb_loop_backend sb_loop_epoll;

#endif
