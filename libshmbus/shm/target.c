/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/target.h"

#include <stdlib.h>

#include "base/err.h"

/*
 * Budgets.
 */

void sb_target_charge(struct sb_target *t, uint32_t bytes, uint64_t end)
{
    struct sb_target_mark *last = t->mark_count ? &t->mark[t->mark_count - 1] : NULL;
    t->queued += bytes;
    if (last && end < last->end)
        end = last->end; /* lanes close in any order */
    if (!last || (last->bytes + bytes > t->budget / (SB_TARGET_MARKS / 2) &&
                  t->mark_count < SB_TARGET_MARKS)) {
        t->mark[t->mark_count++] = (struct sb_target_mark){end, bytes};
        return;
    }
    last->end = end;
    last->bytes += bytes;
}

/* Forgets what a reader at this position has passed. */
static void sb_target_settle(struct sb_target *t, uint64_t at)
{
    uint32_t n = 0;
    while (n < t->mark_count && t->mark[n].end <= at)
        t->queued -= t->mark[n++].bytes;
    t->mark_count -= n;
    for (uint32_t i = 0; i < t->mark_count; i++)
        t->mark[i] = t->mark[i + n];
}

void sb_target_budget(struct sb_target *t, uint64_t budget)
{
    t->budget = budget;
    if (t->queued > budget)
        (void)sb_target_relimit(t);
}

bool sb_target_relimit(struct sb_target *t)
{
    if (!t->limited) {
        t->limit = UINT64_MAX;
        return true;
    }
    uint64_t lap = UINT64_C(1) << t->ring.bits;
    for (uint32_t i = 0; i < t->seat_count; i++) {
        if (!sb_target_seat_live(&t->seats[i]))
            continue;
        uint64_t at = sb_target_seat_at(&t->seats[i]);
        sb_target_settle(t, at);
        uint64_t limit = t->queued > t->budget ? 0 : at + lap;
        bool more = limit > t->limit;
        t->limit = limit;
        return more;
    }
    return false; /* nobody will read it */
}

uint64_t sb_target_lag(const struct sb_target *t)
{
    if (t->seat_count == 0)
        return 0;
    uint64_t tail = sb_load_relaxed(&t->ring.mem->tail), at = sb_target_seat_at(&t->seats[0]);
    uint64_t behind = sb_ring_linear(tail, t->ring.capacity, t->ring.bits) -
                      sb_ring_linear(at, t->ring.capacity, t->ring.bits);
    return behind <= t->ring.capacity ? behind : 0;
}

enum sb_push sb_target_push(struct sb_target *t, uint64_t desc, uint64_t *pos)
{
    enum sb_push ret = sb_ring_push(&t->ring, desc, true, t->limit, pos);
    if (sb_unlikely(ret == SB_PUSH_FULL) && sb_target_relimit(t))
        ret = sb_ring_push(&t->ring, desc, true, t->limit, pos);
    if (sb_unlikely(ret != SB_PUSH_DONE))
        sb_ring_refused(t->ring.mem, ret);
    return ret;
}

/*
 * Taking back and passing.
 */

static uint64_t sb_target_untouched(const struct sb_target *t, uint64_t end)
{
    /* What lay a lap before end was overwritten when the message below end was pushed. */
    uint64_t from = sb_ring_lap_before(end, t->ring.bits);
    if (t->passed > from)
        from = t->passed;
    if (t->taken_back > from)
        from = t->taken_back;
    if (sb_ring_index(from, t->ring.bits) >= t->ring.capacity)
        from = sb_ring_next(from, t->ring.capacity, t->ring.bits);
    return from;
}

void sb_target_take_back(struct sb_target *t, uint32_t source, uint64_t end)
{
    const struct sb_ring_view *ring = &t->ring;
    uint64_t pos = sb_target_untouched(t, end);
    /* Before the first tombstone: who finds one, also after a death here, has to count them. */
    if (pos < end && !(sb_load_relaxed(&ring->mem->flags) & SB_RING_TOMBSTONED))
        sb_or_relaxed(&ring->mem->flags, SB_RING_TOMBSTONED);
    /* A lap at most, also where others have made the last position of all of it. */
    for (uint32_t n = 0; n < ring->capacity && pos < end; n++) {
        uint64_t desc = sb_load_relaxed(&ring->mem->slot[pos & ring->mask].desc);
        if (sb_desc_source(desc) == source)
            sb_ring_tombstone(ring, pos, desc);
        pos = sb_ring_next(pos, ring->capacity, ring->bits);
    }
    if (end > t->taken_back)
        t->taken_back = end;
}

void sb_target_read_positions(struct sb_target *t)
{
    if (sb_load_acquire(&t->rec->gen) != t->gen) {
        t->passed = SB_POS_ALL; /* the ring has gone, and its readers before it */
        return;
    }
    uint64_t tail = sb_load_acquire(&t->ring.mem->tail);
    uint64_t passed = SB_POS_ALL;
    bool seated = false;
    for (uint32_t i = 0; i < t->seat_count; i++) {
        const struct sb_target_seat *s = &t->seats[i];
        if (!sb_target_seat_live(s))
            continue;
        seated = true;
        uint64_t at = sb_target_seat_at(s);
        if (at < passed)
            passed = at;
    }
    if (!seated)
        passed = tail;
    if (!t->limited) {
        uint64_t overwritten = sb_ring_lap_before(tail, t->ring.bits);
        if (overwritten > passed)
            passed = overwritten;
        /* Beyond the tail it comes from a tail that others have forged. */
        if (t->taken_back > passed && t->taken_back <= tail)
            passed = t->taken_back;
    }
    t->passed = passed;
}

static int sb_target_note_hold(struct sb_target *t, uint64_t word)
{
    if (t->hold_count == t->hold_room) {
        uint32_t room = t->hold_room ? t->hold_room * 2 : 8;
        struct sb_target_hold *more = realloc(t->holds, room * sizeof(*more));
        if (!more)
            return sb_fail(SHMBUS_E_NOMEM, "no memory to note what readers hold");
        t->holds = more;
        t->hold_room = room;
    }
    uint32_t count = word & 0xff;
    uint32_t most = t->ring.capacity < SB_HELD_MAX ? t->ring.capacity : SB_HELD_MAX;
    if (count > most)
        count = most;
    uint64_t first = word >> 8;
    t->holds[t->hold_count].first = first;
    t->holds[t->hold_count].end = sb_ring_advance(first, count, t->ring.capacity, t->ring.bits);
    t->hold_count++;
    return 0;
}

int sb_target_read_holds(struct sb_target *t)
{
    t->hold_count = 0;
    if (t->passed == SB_POS_ALL && sb_load_acquire(&t->rec->gen) != t->gen)
        return 0;
    for (uint32_t i = 0; i < t->seat_count; i++) {
        const struct sb_target_seat *s = &t->seats[i];
        if (!sb_target_seat_live(s))
            continue;
        uint64_t used = sb_load_acquire(&s->seat->holds);
        if (used > SB_HELD_MAX)
            used = SB_HELD_MAX;
        for (uint64_t h = 0; h < used; h++) {
            /* Acquire: a hold that is given back shows its reads done. */
            uint64_t word = sb_load_acquire(&s->seat->hold[h]);
            int ret = word ? sb_target_note_hold(t, word) : 0;
            if (ret)
                return ret;
        }
    }
    return 0;
}

enum sb_passed sb_target_passed(const struct sb_target *t, uint64_t first, uint64_t end)
{
    if (end == 0)
        return SB_PASSED;
    if (end > t->passed)
        return SB_PASSED_NOT;
    for (uint32_t i = 0; i < t->hold_count; i++) {
        if (t->holds[i].first < end && t->holds[i].end > first)
            return SB_PASSED_HELD;
    }
    return SB_PASSED;
}
