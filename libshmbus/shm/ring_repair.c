/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/ring_repair.h"

/* Positions and counts beyond it were never reached by pushes; a hold has 56 bits for a position.
 */
#define SB_RING_FAR (UINT64_C(1) << 55)

static bool sb_ring_sound(const struct sb_ring *mem, uint32_t capacity, uint32_t bits)
{
    uint64_t tail = sb_load_acquire(&mem->tail);
    uint64_t index = sb_ring_index(tail, bits), lap = sb_ring_lap(tail, bits);
    if (index >= capacity || tail >= SB_RING_FAR || sb_load_relaxed(&mem->rejected) >= SB_RING_FAR)
        return false;
    for (uint32_t i = 0; i < capacity; i++) {
        uint64_t seq = sb_load_relaxed(&mem->slot[i].seq);
        /* The tail may be one behind. */
        if (seq != lap + (i < index) && !(i == index && seq == lap + 1))
            return false;
    }
    return true;
}

bool sb_ring_repair(struct sb_ring *mem, uint32_t capacity)
{
    uint32_t bits = sb_log2_ceil(capacity);
    if (sb_ring_sound(mem, capacity, bits))
        return false;
    uint64_t most = SB_RING_FAR >> bits, lap = 0;
    for (uint32_t i = 0; i < capacity; i++) {
        uint64_t seq = sb_load_relaxed(&mem->slot[i].seq);
        if (seq < most && seq > lap)
            lap = seq;
    }
    lap = lap + 1 < most ? lap + 1 : 1;
    for (uint32_t i = 0; i < capacity; i++) {
        sb_store_relaxed(&mem->slot[i].desc, SB_DESC_NONE);
        sb_store_relaxed(&mem->slot[i].seq, lap);
    }
    sb_store_relaxed(&mem->rejected, 0);
    sb_store_relaxed(&mem->flags, 0);
    /* Release: who acquires the tail finds the slots as they are now. */
    sb_store_release(&mem->tail, lap << bits);
    return true;
}
