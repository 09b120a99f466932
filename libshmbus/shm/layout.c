/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/layout.h"

/* FNV-1a over the figures that make up the layout: sizes, and offsets where sizes do not tell. */
uint32_t sb_layout_fingerprint(void)
{
    static const uint32_t figures[] = {
        SB_LAYOUT_VERSION,
        sizeof(struct sb_arena_header),
        offsetof(struct sb_arena_header, name),
        offsetof(struct sb_arena_header, size),
        offsetof(struct sb_arena_header, epoch),
        offsetof(struct sb_arena_header, reclaim),
        offsetof(struct sb_arena_header, conns),
        offsetof(struct sb_arena_header, segments),
        offsetof(struct sb_arena_header, patterns),
        sizeof(struct sb_table),
        SB_TABLE_FIRST,
        sizeof(struct sb_conn_rec),
        offsetof(struct sb_conn_rec, heap_size),
        sizeof(struct sb_route_rec),
        offsetof(struct sb_route_rec, set),
        sizeof(struct sb_ring_rec),
        offsetof(struct sb_ring_rec, seats),
        sizeof(struct sb_seat_rec),
        offsetof(struct sb_seat_rec, start),
        offsetof(struct sb_seat_rec, closing),
        offsetof(struct sb_seat_rec, rejected_end),
        sizeof(struct sb_segment_rec),
        sizeof(struct sb_ring),
        sizeof(struct sb_slot),
        sizeof(struct sb_bell),
        sizeof(struct sb_inbox),
        SB_PINS,
        sizeof(struct sb_seat),
        offsetof(struct sb_seat, hold),
        SB_HELD_MAX,
        sizeof(struct sb_block),
        sizeof(struct sb_chunk),
        SB_BLOCK_UNIT,
        SB_CHUNK_UNIT,
        SB_BLOCK_MAX,
    };
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sb_array_len(figures); i++) {
        for (unsigned shift = 0; shift < 32; shift += 8)
            hash = (hash ^ (figures[i] >> shift & 0xff)) * 16777619u;
    }
    return hash;
}
