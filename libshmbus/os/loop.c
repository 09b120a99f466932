/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the event loop that both backends share: who is watched, timers, dispatch.
 *
 * A watch has a slot, and an id made of the slot's number and a serial that is never reused. The
 * kernel carries the id, never a pointer, and an event counts only if its id is the one in the
 * slot: so events of what was removed meanwhile, or whose slot or descriptor is in use again, are
 * nothing.
 * Slots are allocated one by one and kept until the loop is freed: the backends link them.
 *
 * Concurrency: all by the thread that runs the loop, but sb_loop_wake() and sb_loop_stop(), which
 * touch only `stop` (release; pairs with the acquire in sb_loop_run) and the eventfd.
 */
#include "os/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "os/loop_backend.h"
#include "os/timer.h"

#define SB_LOOP_SLOT_BITS 20
#define SB_LOOP_MAX (1u << SB_LOOP_SLOT_BITS)

struct sb_loop {
    const struct sb_loop_backend *backend;
    void *state;
    struct sb_loop_watch **slots;
    uint32_t n_slots;   /* allocated */
    uint32_t cap_slots; /* of the array */
    uint32_t free_slot; /* first of the free ones; n_slots or more when there is none */
    uint64_t last_serial;
    struct sb_timers timers;
    int wake_fd;
    sb_loop_fn *wake_fn;
    void *wake_ctx;
    uint32_t stop; /* written by any thread */
};

#define SB_LOOP_NO_SLOT UINT32_MAX

static int sb_loop_open_backend(struct sb_loop *loop)
{
    const char *want = secure_getenv("SHMBUS_LOOP");
    bool uring = !want || strcmp(want, sb_loop_uring.name) == 0;
    if (!uring && strcmp(want, sb_loop_epoll.name) != 0)
        return sb_fail(SHMBUS_E_INVALID,
                       "the environment says SHMBUS_LOOP=%.40s: io_uring and "
                       "epoll are possible",
                       want);
    int rc = SHMBUS_EMPTY;
    loop->backend = &sb_loop_uring;
    if (uring)
        rc = loop->backend->open(&loop->state);
    if (rc != SHMBUS_EMPTY)
        return rc;
    if (uring && want)
        return sb_fail_prefix(SHMBUS_E_SYSTEM, "SHMBUS_LOOP=io_uring");
    loop->backend = &sb_loop_epoll;
    return loop->backend->open(&loop->state);
}

static void sb_loop_woken(void *ctx, unsigned events)
{
    (void)events;
    struct sb_loop *loop = ctx;
    uint64_t count;
    if (read(loop->wake_fd, &count, sizeof(count)) == (ssize_t)sizeof(count) && loop->wake_fn)
        loop->wake_fn(loop->wake_ctx);
}

static int sb_loop_open_wake(struct sb_loop *loop)
{
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        return errno == EMFILE || errno == ENFILE
                   ? sb_fail(SHMBUS_E_LIMIT, "no free descriptor for an event loop")
                   : sb_fail_errno("making an eventfd failed");
    uint64_t id;
    return sb_loop_add(loop, loop->wake_fd, SB_LOOP_READ, sb_loop_woken, loop, &id);
}

int sb_loop_new(struct sb_loop **loop)
{
    struct sb_loop *made = calloc(1, sizeof(*made));
    if (!made)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for an event loop");
    made->wake_fd = -1;
    made->free_slot = SB_LOOP_NO_SLOT;
    int rc = sb_loop_open_backend(made);
    if (rc != 0) {
        free(made);
        return rc;
    }
    rc = sb_loop_open_wake(made);
    if (rc != 0) {
        sb_loop_free(made);
        return rc;
    }
    *loop = made;
    return 0;
}

void sb_loop_free(struct sb_loop *loop)
{
    if (!loop)
        return;
    /* One by one: a closed ring lets go of its files only later, in the background. */
    for (uint32_t i = 0; i < loop->n_slots; i++) {
        if (loop->slots[i]->id != 0)
            loop->backend->remove(loop->state, loop->slots[i]);
        free(loop->slots[i]);
    }
    loop->backend->close(loop->state);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    sb_timer_deinit(&loop->timers);
    free(loop->slots);
    free(loop);
}

const char *sb_loop_backend(const struct sb_loop *loop)
{
    return loop->backend->name;
}

/* Makes one more slot, a free one. */
static int sb_loop_grow(struct sb_loop *loop)
{
    if (loop->n_slots == SB_LOOP_MAX)
        return sb_fail(SHMBUS_E_LIMIT, "an event loop has at most %u descriptors", SB_LOOP_MAX);
    if (loop->n_slots == loop->cap_slots) {
        uint32_t cap = loop->cap_slots ? loop->cap_slots * 2 : 16;
        struct sb_loop_watch **slots = realloc(loop->slots, cap * sizeof(struct sb_loop_watch *));
        if (!slots)
            return sb_fail(SHMBUS_E_NOMEM, "no memory for %u descriptors in an event loop", cap);
        loop->slots = slots;
        loop->cap_slots = cap;
    }
    struct sb_loop_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a descriptor in an event loop");
    watch->next_free = SB_LOOP_NO_SLOT;
    loop->free_slot = loop->n_slots;
    loop->slots[loop->n_slots++] = watch;
    return 0;
}

static void sb_loop_free_slot(struct sb_loop *loop, uint32_t slot)
{
    *loop->slots[slot] = (struct sb_loop_watch){.next_free = loop->free_slot};
    loop->free_slot = slot;
}

static uint32_t sb_loop_slot(uint64_t id)
{
    return (uint32_t)(id & (SB_LOOP_MAX - 1));
}

/* NULL when the id is gone. */
static struct sb_loop_watch *sb_loop_find(struct sb_loop *loop, uint64_t id)
{
    uint32_t slot = sb_loop_slot(id);
    if (id == 0 || slot >= loop->n_slots || loop->slots[slot]->id != id)
        return NULL;
    return loop->slots[slot];
}

int sb_loop_add(struct sb_loop *loop, int fd, unsigned events, sb_loop_fd_fn *fn, void *ctx,
                uint64_t *id)
{
    if (loop->free_slot == SB_LOOP_NO_SLOT) {
        int rc = sb_loop_grow(loop);
        if (rc != 0)
            return rc;
    }
    uint32_t slot = loop->free_slot;
    struct sb_loop_watch *watch = loop->slots[slot];
    loop->free_slot = watch->next_free;
    uint64_t made = ++loop->last_serial << SB_LOOP_SLOT_BITS | slot;
    *watch = (struct sb_loop_watch){.id = made, .fd = fd, .events = events, .fn = fn, .ctx = ctx};
    int rc = loop->backend->add(loop->state, watch);
    if (rc != 0) {
        sb_loop_free_slot(loop, slot);
        return rc;
    }
    *id = made;
    return 0;
}

void sb_loop_set(struct sb_loop *loop, uint64_t id, unsigned events)
{
    struct sb_loop_watch *watch = sb_loop_find(loop, id);
    if (!watch || watch->events == events)
        return;
    watch->events = events;
    loop->backend->set(loop->state, watch);
}

void sb_loop_remove(struct sb_loop *loop, uint64_t id)
{
    struct sb_loop_watch *watch = sb_loop_find(loop, id);
    if (!watch)
        return;
    loop->backend->remove(loop->state, watch);
    sb_loop_free_slot(loop, sb_loop_slot(id));
}

int sb_loop_timer(struct sb_loop *loop, int64_t deadline, sb_loop_fn *fn, void *ctx, uint64_t *id)
{
    return sb_timer_add(&loop->timers, deadline, fn, ctx, id);
}

void sb_loop_timer_cancel(struct sb_loop *loop, uint64_t id)
{
    sb_timer_cancel(&loop->timers, id);
}

void sb_loop_on_wake(struct sb_loop *loop, sb_loop_fn *fn, void *ctx)
{
    loop->wake_fn = fn;
    loop->wake_ctx = ctx;
}

void sb_loop_wake(struct sb_loop *loop)
{
    int saved = errno;
    uint64_t one = 1;
    /* Fails only when the counter is at its limit, and then the loop is woken anyway. */
    ssize_t n = write(loop->wake_fd, &one, sizeof(one));
    (void)n;
    errno = saved;
}

void sb_loop_stop(struct sb_loop *loop)
{
    sb_store_release(&loop->stop, 1u);
    sb_loop_wake(loop);
}

static void sb_loop_deliver(struct sb_loop *loop, const struct sb_loop_event *event, bool stopped)
{
    struct sb_loop_watch *watch = sb_loop_find(loop, event->id);
    if (!watch)
        return;
    if (loop->backend->rearm)
        watch->armed = false;
    unsigned events = event->events & (watch->events | SB_LOOP_HANGUP);
    if (events != 0 && !stopped)
        watch->fn(watch->ctx, events);
    watch = sb_loop_find(loop, event->id);
    if (watch && loop->backend->rearm)
        loop->backend->rearm(loop->state, watch);
}

static int64_t sb_loop_timeout(const struct sb_loop *loop, int64_t deadline)
{
    int64_t due = sb_timer_next(&loop->timers);
    if (deadline < due)
        due = deadline;
    if (due == SB_NEVER || due <= 0)
        return due == SB_NEVER ? SB_NEVER : 0;
    int64_t now = sb_clock_ns();
    return due > now ? due - now : 0;
}

int sb_loop_turn(struct sb_loop *loop, int64_t deadline)
{
    struct sb_loop_event events[SB_LOOP_BATCH];
    unsigned n = 0;
    int rc = loop->backend->wait(loop->state, sb_loop_timeout(loop, deadline), events, &n);
    if (rc != 0)
        return rc;
    /* What comes after a stop is not lost: it is ready still when the loop runs again. */
    for (unsigned i = 0; i < n; i++)
        sb_loop_deliver(loop, &events[i], sb_load_acquire(&loop->stop) != 0);
    int64_t now = sb_clock_ns();
    uint64_t horizon = sb_timer_horizon(&loop->timers);
    struct sb_timer timer;
    while (sb_load_acquire(&loop->stop) == 0 && sb_timer_pop(&loop->timers, now, horizon, &timer))
        timer.fn(timer.ctx);
    return 0;
}

int sb_loop_run(struct sb_loop *loop)
{
    int rc = 0;
    while (rc == 0 && sb_load_acquire(&loop->stop) == 0)
        rc = sb_loop_turn(loop, SB_NEVER);
    sb_store_relaxed(&loop->stop, 0u);
    return rc;
}
