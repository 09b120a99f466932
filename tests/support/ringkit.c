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

struct sb_target kit_target(struct kit *kit, struct sb_target_seat *list)
{
    for (uint32_t i = 0; i < kit->seats; i++)
        list[i] = (struct sb_target_seat){
            .seat = &kit->seat[i], .rec = &kit->seat_rec[i], .gen = kit->seat_rec[i].gen};
    return (struct sb_target){.ring = sb_ring_view(kit->ring, kit->rec.capacity),
                              .limited = kit->rec.full == SB_REJECT_NEWEST,
                              .seat_count = kit->seats,
                              .seats = list,
                              .bell = &kit->bell,
                              .gen = kit->rec.gen,
                              .rec = &kit->rec};
}

struct sb_books kit_books(struct kit *kit, uint32_t seat, bool dead)
{
    return sb_seat_books(&kit->seat[seat], &kit->seat_rec[seat], kit->ring, kit->rec.capacity,
                         kit->rec.full, dead);
}
