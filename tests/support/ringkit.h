/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring with all that belongs to it: its record and seats as the arena, a segment and inboxes
 * hold them, in any memory that a test chooses. Whoever uses it plays the coordinator, too.
 */
#ifndef TEST_RINGKIT_H
#define TEST_RINGKIT_H

#include "shm/target.h"

#define KIT_SEATS 4

struct kit {
    struct sb_ring_rec rec;
    struct sb_seat_rec seat_rec[KIT_SEATS];
    struct sb_seat seat[KIT_SEATS];
    struct sb_bell bell;
    struct sb_ring *ring;
    uint32_t seats;
};

/* Everything a kit of this capacity needs, in one piece; 16-byte aligned memory. */
size_t kit_bytes(uint32_t capacity);

/* Makes the kit at zeroed memory, with a ring that begins at position `from`, as one that has been
 * used before: the slots behind and before it are as pushes would have left them. */
struct kit *kit_init(void *mem, uint32_t capacity, uint32_t full, uint32_t seats, uint64_t from);

/* A kit in memory of its own; free() it. */
struct kit *kit_new(uint32_t capacity, uint32_t full, uint32_t seats, uint64_t from);

struct sb_reader kit_reader(struct kit *kit, uint32_t seat);

/* The kit's ring as a publisher sees it; list has room for KIT_SEATS. t->holds is to be freed. */
struct sb_target kit_target(struct kit *kit, struct sb_target_seat *list);

/* Lists the seats that are live now, as a publisher does when the routing epoch has moved on. */
void kit_target_refresh(struct sb_target *t);

/* The coordinator's part: a seat that was taken away, or never there, joins; a seat leaves. */
void kit_seat_join(struct kit *kit, uint32_t seat);
void kit_seat_leave(struct kit *kit, uint32_t seat);

/* The books of one of its seats. */
struct sb_books kit_books(struct kit *kit, uint32_t seat, bool dead);

/* Position number n of a ring: as the design defines it, for comparing. */
uint64_t kit_pos(uint64_t n, uint32_t capacity);

#endif
