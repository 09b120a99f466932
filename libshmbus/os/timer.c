/* SPDX-License-Identifier: Apache-2.0 */
#include "os/timer.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"

/* An id is the serial number above the slot's number. */
#define SB_TIMER_SLOT_BITS 20
#define SB_TIMER_MAX (1u << SB_TIMER_SLOT_BITS)

void sb_timer_deinit(struct sb_timers *timers)
{
    free(timers->slots);
    free(timers->heap);
    *timers = (struct sb_timers){0};
}

static bool sb_timer_before(const struct sb_timers *t, uint32_t a, uint32_t b)
{
    const struct sb_timer *x = &t->slots[a], *y = &t->slots[b];
    return x->deadline != y->deadline ? x->deadline < y->deadline : x->id < y->id;
}

static void sb_timer_place(struct sb_timers *t, uint32_t at, uint32_t slot)
{
    t->heap[at] = slot;
    t->slots[slot].at = at;
}

static void sb_timer_sift_up(struct sb_timers *t, uint32_t at, uint32_t slot)
{
    while (at > 0 && sb_timer_before(t, slot, t->heap[(at - 1) / 2])) {
        sb_timer_place(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    sb_timer_place(t, at, slot);
}

static void sb_timer_sift_down(struct sb_timers *t, uint32_t at, uint32_t slot)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= t->n)
            break;
        if (child + 1 < t->n && sb_timer_before(t, t->heap[child + 1], t->heap[child]))
            child++;
        if (!sb_timer_before(t, t->heap[child], slot))
            break;
        sb_timer_place(t, at, t->heap[child]);
        at = child;
    }
    sb_timer_place(t, at, slot);
}

static int sb_timer_grow(struct sb_timers *t)
{
    if (t->cap == SB_TIMER_MAX)
        return sb_fail(SHMBUS_E_LIMIT, "an event loop has at most %u timers", SB_TIMER_MAX);
    uint32_t cap = t->cap ? t->cap * 2 : 16;
    struct sb_timer *slots = realloc(t->slots, cap * sizeof(*slots));
    if (slots)
        t->slots = slots;
    uint32_t *heap = slots ? realloc(t->heap, cap * sizeof(*heap)) : NULL;
    if (!heap)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for %u timers", cap);
    t->heap = heap;
    for (uint32_t i = t->cap; i < cap; i++)
        t->slots[i] = (struct sb_timer){.at = i + 1};
    t->free_slot = t->cap;
    t->cap = cap;
    return 0;
}

int sb_timer_add(struct sb_timers *timers, int64_t deadline, sb_timer_fn *fn, void *ctx,
                 uint64_t *id)
{
    if (timers->free_slot == timers->cap) {
        int rc = sb_timer_grow(timers);
        if (rc != 0)
            return rc;
    }
    uint32_t slot = timers->free_slot;
    timers->free_slot = timers->slots[slot].at;
    uint64_t made = ++timers->last_serial << SB_TIMER_SLOT_BITS | slot;
    timers->slots[slot] = (struct sb_timer){.id = made, .deadline = deadline, .fn = fn, .ctx = ctx};
    sb_timer_sift_up(timers, timers->n++, slot);
    *id = made;
    return 0;
}

static void sb_timer_take(struct sb_timers *t, uint32_t slot)
{
    uint32_t at = t->slots[slot].at;
    uint32_t last = t->heap[--t->n];
    if (at < t->n) { /* the last one fills the gap, and may belong above or below it */
        sb_timer_sift_up(t, at, last);
        sb_timer_sift_down(t, t->slots[last].at, last);
    }
    t->slots[slot] = (struct sb_timer){.at = t->free_slot};
    t->free_slot = slot;
}

void sb_timer_cancel(struct sb_timers *timers, uint64_t id)
{
    uint32_t slot = (uint32_t)(id & (SB_TIMER_MAX - 1));
    if (id != 0 && slot < timers->cap && timers->slots[slot].id == id)
        sb_timer_take(timers, slot);
}

int64_t sb_timer_next(const struct sb_timers *timers)
{
    return timers->n ? timers->slots[timers->heap[0]].deadline : SB_NEVER;
}

uint64_t sb_timer_horizon(const struct sb_timers *timers)
{
    return (timers->last_serial + 1) << SB_TIMER_SLOT_BITS;
}

bool sb_timer_pop(struct sb_timers *timers, int64_t now, uint64_t horizon, struct sb_timer *timer)
{
    if (timers->n == 0)
        return false;
    uint32_t slot = timers->heap[0];
    if (timers->slots[slot].deadline > now || timers->slots[slot].id >= horizon)
        return false;
    *timer = timers->slots[slot];
    sb_timer_take(timers, slot);
    return true;
}
