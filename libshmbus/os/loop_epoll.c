/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop over epoll, level-triggered. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/loop_backend.h"

struct sb_loop_epoll {
    int fd;
};

static int sb_loop_epoll_open(void **state)
{
    struct sb_loop_epoll *e = malloc(sizeof(*e));
    if (!e)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for an event loop");
    e->fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->fd < 0) {
        int rc = errno == EMFILE || errno == ENFILE
                     ? sb_fail(SHMBUS_E_LIMIT, "no free descriptor for an event loop")
                     : sb_fail_errno("making an epoll descriptor failed");
        free(e);
        return rc;
    }
    *state = e;
    return 0;
}

static void sb_loop_epoll_close(void *state)
{
    struct sb_loop_epoll *e = state;
    close(e->fd);
    free(e);
}

static struct epoll_event sb_loop_epoll_event(const struct sb_loop_watch *watch)
{
    uint32_t events = 0;
    if (watch->events & SB_LOOP_READ)
        events |= EPOLLIN;
    if (watch->events & SB_LOOP_WRITE)
        events |= EPOLLOUT;
    return (struct epoll_event){.events = events, .data.u64 = watch->id};
}

static int sb_loop_epoll_add(void *state, struct sb_loop_watch *watch)
{
    struct sb_loop_epoll *e = state;
    struct epoll_event event = sb_loop_epoll_event(watch);
    if (epoll_ctl(e->fd, EPOLL_CTL_ADD, watch->fd, &event) == 0) {
        watch->armed = true;
        return 0;
    }
    if (errno == ENOSPC)
        return sb_fail(SHMBUS_E_LIMIT, "this user watches too many descriptors "
                                       "(fs.epoll.max_user_watches)");
    return sb_fail_errno("watching descriptor %d with epoll failed", watch->fd);
}

static void sb_loop_epoll_set(void *state, struct sb_loop_watch *watch)
{
    struct sb_loop_epoll *e = state;
    struct epoll_event event = sb_loop_epoll_event(watch);
    epoll_ctl(e->fd, EPOLL_CTL_MOD, watch->fd, &event);
}

static void sb_loop_epoll_remove(void *state, struct sb_loop_watch *watch)
{
    struct sb_loop_epoll *e = state;
    epoll_ctl(e->fd, EPOLL_CTL_DEL, watch->fd, NULL);
}

/* epoll counts in milliseconds: up, so that a timer is due when the wait ends. */
static int sb_loop_epoll_timeout(int64_t ns)
{
    if (ns == SB_NEVER)
        return -1;
    int64_t ms = ns / SB_NS_PER_MS + (ns % SB_NS_PER_MS != 0);
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

static int sb_loop_epoll_wait(void *state, int64_t timeout_ns, struct sb_loop_event *events,
                              unsigned *n)
{
    struct sb_loop_epoll *e = state;
    struct epoll_event got[SB_LOOP_BATCH];
    int rc = epoll_wait(e->fd, got, SB_LOOP_BATCH, sb_loop_epoll_timeout(timeout_ns));
    if (rc < 0 && errno != EINTR)
        return sb_fail_errno("waiting with epoll failed");
    *n = rc > 0 ? (unsigned)rc : 0;
    for (unsigned i = 0; i < *n; i++) {
        uint32_t e_events = got[i].events;
        events[i].id = got[i].data.u64;
        events[i].events = (e_events & EPOLLIN ? SB_LOOP_READ : 0u) |
                           (e_events & EPOLLOUT ? SB_LOOP_WRITE : 0u) |
                           (e_events & (EPOLLHUP | EPOLLERR) ? SB_LOOP_HANGUP : 0u);
    }
    return 0;
}

const struct sb_loop_backend sb_loop_epoll = {
    .name = "epoll",
    .open = sb_loop_epoll_open,
    .close = sb_loop_epoll_close,
    .add = sb_loop_epoll_add,
    .set = sb_loop_epoll_set,
    .remove = sb_loop_epoll_remove,
    .wait = sb_loop_epoll_wait,
};
