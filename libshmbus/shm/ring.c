/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/ring.h"

enum sb_push sb_ring_push_again(const struct sb_ring_view *ring, uint64_t desc, uint64_t limit,
                                uint64_t *pos)
{
    for (uint32_t tries = 1; tries < SB_PUSH_TRIES; tries++) {
        enum sb_push ret = sb_ring_push_once(ring, desc, limit, pos);
        if (ret != SB_PUSH_AGAIN)
            return ret;
    }
    return SB_PUSH_SPOILED;
}

uint64_t sb_ring_tail_seen(const struct sb_ring *mem, uint32_t capacity, uint32_t bits)
{
    for (uint32_t tries = 0;; tries++) {
        uint64_t tail = sb_load_acquire(&mem->tail);
        uint64_t index = sb_ring_index(tail, bits);
        if (index >= capacity)
            return sb_ring_next(tail, capacity, bits);
        /* The slot is of this lap: its push has taken effect and only the tail is behind. When it
         * is of a later lap the tail was stale: look again, though not for ever, since a spoiled
         * ring may show anything. */
        uint64_t seq = sb_load_acquire(&mem->slot[index].seq);
        uint64_t lap = sb_ring_lap(tail, bits);
        if (seq <= lap || tries == 64)
            return tail;
        if (seq == lap + 1 && sb_load_acquire(&mem->tail) == tail)
            return sb_ring_next(tail, capacity, bits);
    }
}

uint64_t sb_ring_tail_exact(struct sb_ring *mem, uint32_t capacity, uint32_t bits)
{
    for (uint32_t tries = 0;; tries++) {
        uint64_t tail = sb_load_acquire(&mem->tail);
        uint64_t index = sb_ring_index(tail, bits);
        if (index >= capacity)
            return sb_ring_next(tail, capacity, bits);
        if (tries == SB_PUSH_TRIES)
            return tail;
        if (sb_load_acquire(&mem->slot[index].seq) <= sb_ring_lap(tail, bits))
            return tail;
        uint64_t next = sb_ring_next(tail, capacity, bits);
        sb_cas_acq_rel(&mem->tail, &tail, next);
    }
}

void sb_ring_refused(struct sb_ring *mem, enum sb_push why)
{
    if (why == SB_PUSH_SPOILED)
        sb_or_relaxed(&mem->flags, SB_RING_SPOILED);
    sb_add_relaxed(&mem->rejected, 1);
}
