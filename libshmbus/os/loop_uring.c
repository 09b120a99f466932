/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop over io_uring.
 *
 * One-shot polls, armed again after their callback. Multishot polls would report edges only: what a
 * callback leaves unread would never be reported again. Arming looks at the file first, so it is
 * level-triggered, and it costs no system call: the new polls go down with the next wait. They are
 * submitted in the wait and nowhere else because a poll ends with the thread that submitted it: it
 * must be the one that runs the loop (a poll that was cancelled that way is armed again).
 *
 * A poll holds its file. So removing one submits the cancellation at once, and what was removed in
 * its own callback, the usual case, has no poll to cancel.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/loop_backend.h"

#define SB_URING_SQ 256
#define SB_URING_CQ 4096

/* Linux 5.13: updates of polls, which have no flag of their own, and waits with a time limit. */
#define SB_URING_FEATURES (IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_RSRC_TAGS)

/* What completions carry that nobody waits for; no watch has it. */
#define SB_URING_IGNORE 0

struct sb_loop_uring {
    struct io_uring ring;
    struct sb_loop_watch *to_arm; /* first of the list */
};

/* A sandbox may allow making a ring and forbid using it. */
static int sb_loop_uring_try(struct io_uring *ring)
{
    io_uring_prep_nop(io_uring_get_sqe(ring));
    int rc = io_uring_submit_and_wait(ring, 1);
    struct io_uring_cqe *cqe;
    if (rc < 0 || io_uring_peek_cqe(ring, &cqe) < 0)
        return rc < 0 ? rc : -EIO;
    io_uring_cqe_seen(ring, cqe);
    return 0;
}

static int sb_loop_uring_init(struct io_uring *ring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE, .cq_entries = SB_URING_CQ};
    int rc = io_uring_queue_init_params(SB_URING_SQ, ring, &params);
    if (rc == -EMFILE || rc == -ENFILE)
        return sb_fail(SHMBUS_E_LIMIT, "no free descriptor for an event loop");
    if (rc < 0) {
        errno = -rc;
        (void)sb_fail_errno("io_uring is not available");
        return SHMBUS_EMPTY;
    }
    rc = (params.features & SB_URING_FEATURES) == SB_URING_FEATURES ? 0 : -ENOSYS;
    if (rc == 0)
        rc = io_uring_ring_dontfork(ring);
    if (rc == 0)
        rc = sb_loop_uring_try(ring);
    if (rc < 0) {
        io_uring_queue_exit(ring);
        errno = -rc;
        (void)sb_fail_errno("io_uring cannot be used here (it has to be that of Linux 5.13)");
        return SHMBUS_EMPTY;
    }
    return 0;
}

static int sb_loop_uring_open(void **state)
{
    struct sb_loop_uring *u = calloc(1, sizeof(*u));
    if (!u)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for an event loop");
    int rc = sb_loop_uring_init(&u->ring);
    if (rc != 0) {
        free(u);
        return rc;
    }
    *state = u;
    return 0;
}

static void sb_loop_uring_close(void *state)
{
    struct sb_loop_uring *u = state;
    io_uring_queue_exit(&u->ring);
    free(u);
}

static uint32_t sb_loop_uring_mask(const struct sb_loop_watch *watch)
{
    return (watch->events & SB_LOOP_READ ? POLLIN : 0u) |
           (watch->events & SB_LOOP_WRITE ? POLLOUT : 0u);
}

static void sb_loop_uring_rearm(void *state, struct sb_loop_watch *watch)
{
    struct sb_loop_uring *u = state;
    watch->armed = false;
    watch->next = u->to_arm;
    watch->link = &u->to_arm;
    if (watch->next)
        watch->next->link = &watch->next;
    u->to_arm = watch;
}

static void sb_loop_uring_unlink(struct sb_loop_watch *watch)
{
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
    watch->link = NULL;
}

static int sb_loop_uring_add(void *state, struct sb_loop_watch *watch)
{
    if (fcntl(watch->fd, F_GETFD) < 0)
        return sb_fail_errno("watching descriptor %d failed", watch->fd);
    sb_loop_uring_rearm(state, watch);
    return 0;
}

/* A place in the queue; NULL when it is full and the kernel takes nothing (out of memory). */
static struct io_uring_sqe *sb_loop_uring_sqe(struct sb_loop_uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (!sqe) {
        io_uring_submit(&u->ring);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

/* What the kernel does not take now stays queued and goes with the next wait. */
static void sb_loop_uring_set(void *state, struct sb_loop_watch *watch)
{
    struct sb_loop_uring *u = state;
    struct io_uring_sqe *sqe = watch->armed ? sb_loop_uring_sqe(u) : NULL;
    if (!sqe)
        return; /* arming takes the new events */
    io_uring_prep_poll_update(sqe, watch->id, 0, sb_loop_uring_mask(watch),
                              IORING_POLL_UPDATE_EVENTS);
    io_uring_sqe_set_data64(sqe, SB_URING_IGNORE);
}

static void sb_loop_uring_remove(void *state, struct sb_loop_watch *watch)
{
    struct sb_loop_uring *u = state;
    if (watch->link)
        sb_loop_uring_unlink(watch);
    struct io_uring_sqe *sqe = watch->armed ? sb_loop_uring_sqe(u) : NULL;
    if (!sqe)
        return;
    io_uring_prep_poll_remove(sqe, watch->id);
    io_uring_sqe_set_data64(sqe, SB_URING_IGNORE);
    io_uring_submit(&u->ring);
}

static void sb_loop_uring_arm_all(struct sb_loop_uring *u)
{
    while (u->to_arm) {
        struct sb_loop_watch *watch = u->to_arm;
        struct io_uring_sqe *sqe = sb_loop_uring_sqe(u);
        if (!sqe)
            return;
        sb_loop_uring_unlink(watch);
        io_uring_prep_poll_add(sqe, watch->fd, sb_loop_uring_mask(watch));
        io_uring_sqe_set_data64(sqe, watch->id);
        watch->armed = true;
    }
}

static int sb_loop_uring_enter(struct sb_loop_uring *u, int64_t timeout_ns)
{
    if (timeout_ns == SB_NEVER && !u->to_arm)
        return io_uring_submit_and_wait(&u->ring, 1);
    if (timeout_ns == 0 || u->to_arm)
        return io_uring_submit_and_get_events(&u->ring);
    struct __kernel_timespec ts = {.tv_sec = timeout_ns / SB_NS_PER_S,
                                   .tv_nsec = timeout_ns % SB_NS_PER_S};
    struct io_uring_cqe *cqe;
    return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
}

static unsigned sb_loop_uring_events(int res)
{
    if (res == -ECANCELED)
        return 0; /* removed (then the id is gone), or submitted by a thread that has ended */
    if (res < 0)
        return SB_LOOP_HANGUP;
    unsigned mask = (unsigned)res;
    return (mask & POLLIN ? SB_LOOP_READ : 0u) | (mask & POLLOUT ? SB_LOOP_WRITE : 0u) |
           (mask & (POLLHUP | POLLERR | POLLNVAL) ? SB_LOOP_HANGUP : 0u);
}

static int sb_loop_uring_wait(void *state, int64_t timeout_ns, struct sb_loop_event *events,
                              unsigned *n)
{
    struct sb_loop_uring *u = state;
    sb_loop_uring_arm_all(u);
    int rc = sb_loop_uring_enter(u, timeout_ns);
    /* EBUSY, EAGAIN: completions have to be taken first, or memory is short. */
    if (rc < 0 && rc != -ETIME && rc != -EINTR && rc != -EBUSY && rc != -EAGAIN) {
        errno = -rc;
        return sb_fail_errno("waiting with io_uring failed");
    }
    struct io_uring_cqe *cqes[SB_LOOP_BATCH];
    unsigned got = io_uring_peek_batch_cqe(&u->ring, cqes, SB_LOOP_BATCH);
    *n = 0;
    for (unsigned i = 0; i < got; i++) {
        uint64_t id = io_uring_cqe_get_data64(cqes[i]);
        if (id == SB_URING_IGNORE)
            continue;
        events[*n].id = id;
        events[*n].events = sb_loop_uring_events(cqes[i]->res);
        (*n)++;
    }
    io_uring_cq_advance(&u->ring, got);
    return 0;
}

const struct sb_loop_backend sb_loop_uring = {
    .name = "io_uring",
    .open = sb_loop_uring_open,
    .close = sb_loop_uring_close,
    .add = sb_loop_uring_add,
    .set = sb_loop_uring_set,
    .remove = sb_loop_uring_remove,
    .rearm = sb_loop_uring_rearm,
    .wait = sb_loop_uring_wait,
};
