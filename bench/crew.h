/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file crew.h
 * The workers of one run, as their parent sees them: started, led through the phases, and ended,
 * whatever happens. All of it fails with a line on standard error; every wait ends when a worker
 * dies, and when the user interrupts (crew_interrupted()).
 */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <sys/types.h>

#include "page.h"

/** The processors that workers are pinned to, one after the other; none: they are not pinned. */
struct cpus {
    int count;
    int cpu[PAGE_WORKERS_MAX];
};

/** The workers of one run. */
struct crew {
    struct page *page;
    const struct cpus *cpus;
    int page_fd;
    int report_fd;
    unsigned count;
    struct crew_worker {
        pid_t pid;
        int pidfd;
    } worker[PAGE_WORKERS_MAX];
};

/**
 * From now on SIGINT, SIGTERM and SIGHUP end waits in place of the process, so that everything is
 * cleaned up first. Returns 0 or -1.
 */
int crew_watch_signals(void);

/** The signal that ended a wait, or has come since; 0: none. */
int crew_interrupted(void);

/** Makes the page of a run, with ring_bytes behind it. Returns 0 or -1. */
int crew_open(struct crew *crew, const struct page_params *params, size_t ring_bytes,
              const struct cpus *cpus);

/** Starts count workers of a role and waits until they are ready. Returns 0 or -1. */
int crew_start(struct crew *crew, enum role role, unsigned count);

/** Lets them go for so many seconds, and then stop. Returns 0 or -1. */
int crew_run(struct crew *crew, double seconds);

/** Waits for so many reports, then goes on to the phase. Returns 0 or -1. */
int crew_advance(struct crew *crew, unsigned reports, enum phase phase);

/** Waits until all have ended well. Returns 0 or -1. */
int crew_finish(struct crew *crew);

/** Ends what is left of them, and the page. */
void crew_close(struct crew *crew);

#endif
