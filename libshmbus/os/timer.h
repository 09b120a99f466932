/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of one-shot deadlines, ordered: a binary heap. No clock and no callbacks in here, the event
 * loop has those. Not thread-safe.
 */
#ifndef SB_OS_TIMER_H
#define SB_OS_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

typedef void sb_timer_fn(void *ctx);

struct sb_timer {
    uint64_t id; /* 0 in a free slot */
    int64_t deadline;
    sb_timer_fn *fn;
    void *ctx;
    uint32_t at; /* place in the heap; in a free slot, the next free one */
};

/* Zeroed is empty. */
struct sb_timers {
    struct sb_timer *slots;
    uint32_t *heap; /* slot numbers; the earliest deadline first */
    uint32_t n;
    uint32_t cap;
    uint32_t free_slot; /* first of the free ones, cap when there is none */
    uint64_t last_serial;
};

/* Frees what the set holds; *timers is empty afterwards. */
void sb_timer_deinit(struct sb_timers *timers);

/* Adds one; ids are never 0, rise, and are not reused. 0, SHMBUS_E_NOMEM or SHMBUS_E_LIMIT (2^20
 * timers). O(log n). */
SB_MUST_CHECK int sb_timer_add(struct sb_timers *timers, int64_t deadline, sb_timer_fn *fn,
                               void *ctx, uint64_t *id);

/* Takes one out; nothing for an id that is gone. O(log n). */
void sb_timer_cancel(struct sb_timers *timers, uint64_t id);

/* The earliest deadline, SB_NEVER when there is none. */
int64_t sb_timer_next(const struct sb_timers *timers);

/* The id that the next added timer's will not be below. */
uint64_t sb_timer_horizon(const struct sb_timers *timers);

/*
 * Takes the earliest out and copies it, if its deadline is not after now and its id is below
 * horizon: so that timers that callbacks add wait for the next round. Equal deadlines come in the
 * order they were added.
 */
bool sb_timer_pop(struct sb_timers *timers, int64_t now, uint64_t horizon, struct sb_timer *timer);

#endif
