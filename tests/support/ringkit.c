/* SPDX-License-Identifier: Apache-2.0 */
#include "support/ringkit.h"

#include <stdlib.h>
#include <string.h>

uint64_t kit_pos(uint64_t n, uint32_t capacity)
{
    uint64_t lap = 1;
    while (lap < capacity)
        lap *= 2;
    return n / capacity * lap + n % capacity;
}

size_t kit_bytes(uint32_t capacity)
{
    return sb_align_up(sizeof(struct kit), SB_CACHE_LINE) + sb_ring_bytes(capacity);
}

struct kit *kit_init(void *mem, uint32_t capacity, uint32_t full, uint32_t seats, uint64_t from)
{
    struct kit *kit = mem;
    memset(kit, 0, kit_bytes(capacity));
    kit->ring = (void *)((char *)mem + sb_align_up(sizeof(*kit), SB_CACHE_LINE));
    kit->seats = seats;
    kit->rec = (struct sb_ring_rec){.gen = 1, .capacity = capacity, .full = full};
    kit->ring->tail = kit_pos(from, capacity);
    for (uint32_t i = 0; i < capacity; i++) {
        kit->ring->slot[i].seq = from / capacity + (i < from % capacity);
        kit->ring->slot[i].desc = UINT64_MAX;
    }
    for (uint32_t i = 0; i < seats; i++) {
        kit->seat_rec[i].gen = 1;
        kit->seat_rec[i].start = kit->ring->tail;
        kit->seat_rec[i].end = SB_OPEN_END;
        kit->seat[i].cursor = kit->ring->tail;
    }
    return kit;
}

struct kit *kit_new(uint32_t capacity, uint32_t full, uint32_t seats, uint64_t from)
{
    void *mem = aligned_alloc(SB_CACHE_LINE, kit_bytes(capacity));
    if (!mem)
        abort();
    return kit_init(mem, capacity, full, seats, from);
}

struct sb_reader kit_reader(struct kit *kit, uint32_t seat)
{
    return sb_seat_reader(kit->ring, &kit->seat[seat], kit->rec.capacity, kit->seat[seat].cursor);
}

void kit_target_refresh(struct sb_target *t)
{
    struct kit *kit = sb_container_of(t->rec, struct kit, rec);
    t->seat_count = 0;
    for (uint32_t i = 0; i < kit->seats; i++) {
        uint32_t gen = sb_load_acquire(&kit->seat_rec[i].gen);
        if (gen % 2)
            t->seats[t->seat_count++] = (struct sb_target_seat){
                .seat = &kit->seat[i], .rec = &kit->seat_rec[i], .gen = gen};
    }
}

struct sb_target kit_target(struct kit *kit, struct sb_target_seat *list)
{
    struct sb_target t = {.ring = sb_ring_view(kit->ring, kit->rec.capacity),
                          .limited = kit->rec.full == SB_REJECT_NEWEST,
                          .seats = list,
                          .bell = &kit->bell,
                          .gen = kit->rec.gen,
                          .rec = &kit->rec};
    kit_target_refresh(&t);
    return t;
}

void kit_seat_join(struct kit *kit, uint32_t seat)
{
    struct sb_seat_rec *rec = &kit->seat_rec[seat];
    memset(&kit->seat[seat], 0, sizeof(kit->seat[seat]));
    sb_store_relaxed(&rec->start, 0);
    sb_store_release(&rec->gen, rec->gen + 1);
    sb_fence_full();
    uint64_t tail = sb_load_acquire(&kit->ring->tail);
    sb_store_release(&rec->start, tail);
    kit->seat[seat].cursor = tail;
}

void kit_seat_leave(struct kit *kit, uint32_t seat)
{
    sb_store_release(&kit->seat_rec[seat].gen, kit->seat_rec[seat].gen + 1);
}

struct sb_books kit_books(struct kit *kit, uint32_t seat, bool dead)
{
    return sb_seat_books(&kit->seat[seat], &kit->seat_rec[seat], kit->ring, kit->rec.capacity,
                         kit->rec.full, dead);
}
