/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A single-threaded event loop: descriptors, one-shot timers, and a wake-up from elsewhere.
 *
 * Level-triggered: a callback is called again as long as its descriptor is ready, whatever it left
 * unread. It may also find nothing, when somebody was faster. Callbacks run one after the other on
 * the thread that runs the loop; they may add, change and remove anything, themselves included,
 * free what their context points to, close descriptors and stop the loop. After sb_loop_remove() or
 * sb_loop_timer_cancel() has returned, that callback is not called any more, even if its event was
 * already fetched and its descriptor's number is in use again.
 *
 * Rules: remove a descriptor before closing it; a descriptor is in the loop at most once; one
 * thread at a time uses a loop, only sb_loop_wake() and sb_loop_stop() may be called from other
 * threads and from signal handlers. Ids are never 0 and not reused, so one of something gone does
 * no harm.
 *
 * Two backends do the waiting: io_uring, and epoll where io_uring is not allowed or too old (before
 * 5.13). The environment variable SHMBUS_LOOP=io_uring or =epoll forces one.
 */
#ifndef SB_OS_LOOP_H
#define SB_OS_LOOP_H

#include <stdint.h>

#include "base/compiler.h"

enum {
    SB_LOOP_READ = 1,  /* can be read, or accepts, or (pidfd) has ended */
    SB_LOOP_WRITE = 2, /* can be written */
    SB_LOOP_HANGUP = 4 /* the other end is gone, or an error is pending; reported unasked */
};

struct sb_loop;

/* What has happened at a descriptor: some of SB_LOOP_…. */
typedef void sb_loop_fd_fn(void *ctx, unsigned events);
typedef void sb_loop_fn(void *ctx);

/*
 * Makes a loop; *loop goes to sb_loop_free(). Returns 0, SHMBUS_E_INVALID (SHMBUS_LOOP has another
 * value), SHMBUS_E_NOMEM, SHMBUS_E_LIMIT (out of descriptors; it takes two or three) or
 * SHMBUS_E_SYSTEM (io_uring is demanded and not available).
 */
SB_MUST_CHECK int sb_loop_new(struct sb_loop **loop);

/* Frees the loop, not while it runs; no callback is called. NULL is fine. When it returns, the loop
 * holds no reference to any file that was in it. */
void sb_loop_free(struct sb_loop *loop);

/* "io_uring" or "epoll". */
const char *sb_loop_backend(const struct sb_loop *loop);

/*
 * Calls fn(ctx, events) whenever fd is ready for one of events (SB_LOOP_READ | SB_LOOP_WRITE; with
 * 0 for a hang-up only). *id names it for the other functions. The descriptor stays the caller's.
 * Returns 0, SHMBUS_E_NOMEM, SHMBUS_E_LIMIT (2^20 descriptors, or the system's limit of watches) or
 * SHMBUS_E_SYSTEM (no descriptor that can be waited for).
 */
SB_MUST_CHECK int sb_loop_add(struct sb_loop *loop, int fd, unsigned events, sb_loop_fd_fn *fn,
                              void *ctx, uint64_t *id);

/* Changes what a descriptor is waited for; nothing for an id that is gone. Never fails: what the
 * system would refuse here it refused when the descriptor was added. */
void sb_loop_set(struct sb_loop *loop, uint64_t id, unsigned events);

/* Takes a descriptor out; nothing for an id that is gone. The loop keeps no reference to the file:
 * closing the descriptor next has its full effect at once. */
void sb_loop_remove(struct sb_loop *loop, uint64_t id);

/*
 * Calls fn(ctx) once, at or soon after the deadline (CLOCK_MONOTONIC nanoseconds; one that has
 * passed: in the next turn). Equal deadlines run in the order they were added. Returns 0 or
 * SHMBUS_E_NOMEM. O(log n).
 */
SB_MUST_CHECK int sb_loop_timer(struct sb_loop *loop, int64_t deadline, sb_loop_fn *fn, void *ctx,
                                uint64_t *id);

/* Cancels a timer; nothing for an id that is gone, or whose callback has begun. O(log n). */
void sb_loop_timer_cancel(struct sb_loop *loop, uint64_t id);

/* Sets what the loop calls after sb_loop_wake(); several wake-ups may become one call. */
void sb_loop_on_wake(struct sb_loop *loop, sb_loop_fn *fn, void *ctx);

/* Wakes the loop, from any thread or signal handler. Never blocks, keeps errno. */
void sb_loop_wake(struct sb_loop *loop);

/* Makes sb_loop_run() return after the callback that runs now; if it does not run, as soon as it
 * is called. From any thread or signal handler. */
void sb_loop_stop(struct sb_loop *loop);

/* Runs until stopped. Returns 0, or SHMBUS_E_SYSTEM when waiting itself fails. */
SB_MUST_CHECK int sb_loop_run(struct sb_loop *loop);

/*
 * One turn: waits until something is due, at most until the deadline (0: do not wait; SB_NEVER:
 * none), and calls what is due once each; nothing between a stop and the return of sb_loop_run().
 * It may end early without anything due (EINTR). Returns as sb_loop_run().
 */
SB_MUST_CHECK int sb_loop_turn(struct sb_loop *loop, int64_t deadline);

#endif
