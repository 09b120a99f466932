/* SPDX-License-Identifier: Apache-2.0 */
#include "client/spin.h"

#include <unistd.h>

#include "base/clock.h"
#include "client/source.h"

#define SB_SPIN_MAX_NS 50000u /* about what waking a sleeper costs */
#define SB_SPIN_MIN_NS 2000u
#define SB_SPIN_LOOKS 200     /* before the clock is read */
#define SB_PAUSE_MAX_NS 8000u /* how long a reader of a busy ring waits for more */
#define SB_PAUSE_MIN_NS 500u

void sb_spin_init(struct shmbus_sub *sub)
{
    /* On one core the publisher could not run meanwhile. */
    sub->spin_ns = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? SB_SPIN_MAX_NS : 0;
}

void sb_spin_busy(struct shmbus_sub *sub)
{
    sub->pause_ns = SB_PAUSE_MIN_NS * 2;
}

/*
 * Where the next message's chunk will probably be: behind that of the last one. NULL if that is not
 * near. What is read here is only a hint.
 */
static const uint8_t *sb_spin_next_chunk(const struct shmbus_sub *sub)
{
    const struct sb_reader *r = &sub->reader;
    const struct sb_source *near = sub->near;
    const struct sb_slot *last = sub->slot == r->ring->slot ? sub->slot + r->capacity : sub->slot;
    uint64_t unit = sb_load_relaxed(&last[-1].desc) - near->near_desc;
    if (unit >= near->near.units)
        return NULL;
    const struct sb_chunk *chunk = sb_source_chunk_at(near->near.starts, unit * SB_CHUNK_UNIT);
    uint64_t size = sizeof(*chunk) + (uint64_t)sb_load_relaxed(&chunk->size);
    return unit * SB_CHUNK_UNIT + size > near->near.room ? NULL : (const uint8_t *)chunk + size;
}

/* One look, with the lines of the next chunk on their way when its slot is seen. */
SB_INLINE bool sb_spin_glance(const struct shmbus_sub *sub, const uint8_t *next)
{
    if (sb_spin_news(sub))
        return true;
    if (next) {
        sb_prefetch_read(next);
        sb_prefetch_read(next + SB_CACHE_LINE);
    }
    sb_cpu_relax();
    return false;
}

/* Looks for about `ns`; true when there is news. The clock is read late, since news often comes
 * within less time than that takes. */
static bool sb_spin_look_for(const struct shmbus_sub *sub, int64_t ns)
{
    const uint8_t *next = sb_spin_next_chunk(sub);
    for (int i = 0; i < SB_SPIN_LOOKS; i++) {
        if (sb_spin_glance(sub, next))
            return true;
    }
    int64_t start = sb_clock_ns();
    do {
        for (int i = 0; i < 8; i++) {
            if (sb_spin_glance(sub, next))
                return true;
        }
    } while (sb_clock_ns() - start < ns);
    return false;
}

void sb_spin_keep_away(struct shmbus_sub *sub)
{
    const struct sb_reader *r = &sub->reader;
    uint32_t ahead = r->capacity / 4 < SB_SPIN_AHEAD ? r->capacity / 4 : SB_SPIN_AHEAD;
    uint64_t pos = sb_ring_advance(r->cursor, ahead, r->capacity, r->bits);
    if (sb_seat_look(r, pos) != SB_LOOK_EMPTY)
        return;
    int64_t start = sb_clock_ns();
    do {
        for (int i = 0; i < 8; i++)
            sb_cpu_relax();
    } while (sb_seat_look(r, pos) == SB_LOOK_EMPTY && sb_clock_ns() - start < sub->pause_ns);
    /* Worth it if at least a batch has come. */
    pos = sb_ring_advance(r->cursor, ahead / 16, r->capacity, r->bits);
    uint32_t pause = sb_seat_look(r, pos) != SB_LOOK_EMPTY ? sub->pause_ns * 2 : sub->pause_ns / 2;
    if (pause > SB_PAUSE_MAX_NS)
        pause = SB_PAUSE_MAX_NS;
    sub->pause_ns = pause >= SB_PAUSE_MIN_NS ? pause : 0;
}

bool sb_spin_for_news(struct shmbus_sub *sub)
{
    if (sub->spin_ns == 0)
        return false;
    if (!sb_spin_look_for(sub, sub->spin_ns)) {
        sub->spin_ns = sub->spin_ns / 2 > SB_SPIN_MIN_NS ? sub->spin_ns / 2 : SB_SPIN_MIN_NS;
        return false;
    }
    sub->spin_ns = sub->spin_ns * 2 < SB_SPIN_MAX_NS ? sub->spin_ns * 2 : SB_SPIN_MAX_NS;
    return true;
}
