/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file worker.h
 * One process of a run, started by crew.h as this program with a hidden option, so that nothing of
 * the library crosses a fork.
 */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

#include "page.h"

/** Descriptors that a worker inherits: the page, and the eventfd it reports to. */
#define WORKER_PAGE_FD 3
#define WORKER_REPORT_FD 4

/** A worker, as its own process sees it. */
struct worker {
    struct page *page;
    struct page_slot *self;
};

/** A role's work: gets ready, worker_ready(), measures, and returns when the phase says so. */
typedef void role_fn(struct worker *worker);

role_fn floor_atomic_ping, floor_atomic_echo, floor_futex_ping, floor_futex_echo;
role_fn floor_memcpy, floor_spsc_send, floor_spsc_take;
role_fn throughput_publish, throughput_subscribe;
role_fn latency_ping, latency_echo;

/** The program as worker number index. Returns its exit status. */
int worker_main(const char *index);

/** Tells the parent that this worker has come to the end of what it is at. */
void worker_report(struct worker *worker);

/** Reports that it is ready, and sleeps until the phase is PHASE_GO or later. */
void worker_ready(struct worker *worker);

/** Sleeps until the phase is at least this one. */
void worker_wait(struct worker *worker, enum phase phase);

/** Whether the phase is at least this one. */
static inline int worker_reached(const struct worker *worker, enum phase phase)
{
    return load32(&worker->page->phase) >= (uint32_t)phase;
}

/** The other worker of a pair. */
static inline const struct page_slot *worker_peer(const struct worker *worker)
{
    return &worker->page->slot[worker->self == &worker->page->slot[0]];
}

/** Ends this process, leaving a sentence for the parent to print. */
_Noreturn void worker_fail(struct worker *worker, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
