/* SPDX-License-Identifier: Apache-2.0 */
#include "support/heapkit.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static int heapkit_grow(void *ctx, uint64_t size, uint64_t *now)
{
    struct heapkit *h = ctx;
    if (h->grow_fails)
        return h->grow_fails;
    *now = size;
    return 0;
}

static int heapkit_refresh(void *ctx, struct sb_target *target)
{
    (void)ctx;
    kit_target_refresh(target);
    return 0;
}

static void heapkit_unref(void *ctx, struct sb_target_set *set)
{
    struct heapkit *h = ctx;
    if (--set->refs > 0)
        return;
    h->sets--;
    free(set);
}

int heapkit_init(struct heapkit *h, uint8_t *base, uint64_t size, uint64_t limit, uint32_t index)
{
    memset(h, 0, sizeof(*h));
    int ret = sb_heap_init(&h->heap, base, size, limit, index, 1);
    h->heap.grow = heapkit_grow;
    h->heap.refresh = heapkit_refresh;
    h->heap.unref = heapkit_unref;
    h->heap.ctx = h;
    h->heap.clock = &h->seq;
    return ret;
}

static struct sb_target_set *heapkit_set(struct heapkit *h, struct sb_target **targets,
                                         uint32_t count)
{
    struct sb_target_set *set = calloc(1, sizeof(*set) + count * sizeof(set->target[0]));
    if (!set)
        return NULL;
    set->refs = 1;
    set->count = count;
    for (uint32_t i = 0; i < count; i++)
        set->target[i] = targets[i];
    h->sets++;
    return set;
}

int heapkit_lane_set(struct heapkit *h, struct sb_lane *lane, struct sb_target **targets,
                     uint32_t count)
{
    struct sb_target_set *set = heapkit_set(h, targets, count);
    int ret = set ? sb_lane_set(&h->heap, lane, set) : SHMBUS_E_NOMEM;
    if (ret && set)
        heapkit_unref(h, set);
    return ret;
}

int heapkit_lane(struct heapkit *h, struct sb_lane *lane, struct sb_target **targets,
                 uint32_t count)
{
    struct sb_target_set *none = heapkit_set(h, NULL, 0);
    if (!none)
        return SHMBUS_E_NOMEM;
    sb_lane_init(&h->heap, lane, none);
    return heapkit_lane_set(h, lane, targets, count);
}

/* Byte i of message seq's payload; no two messages near each other agree in many. */
static uint8_t heapkit_byte(uint64_t seq, uint32_t i)
{
    return (uint8_t)(seq * 167 + (seq >> 8) * 59 + i * 31);
}

static void heapkit_fill(struct sb_chunk *chunk, uint64_t seq, uint32_t index, uint32_t size)
{
    *chunk = (struct sb_chunk){.route = index, .size = size, .seq = seq, .time = ~seq};
    uint8_t *payload = (uint8_t *)(chunk + 1);
    for (uint32_t i = 0; i < size; i++)
        payload[i] = heapkit_byte(seq, i);
}

int heapkit_publish(struct heapkit *h, struct sb_lane *lane, uint32_t size,
                    struct heapkit_result *result)
{
    uint32_t need = (uint32_t)sb_align_up(sizeof(struct sb_chunk) + size, SB_CHUNK_UNIT);
    if (lane->set->count == 0) {
        *result = (struct heapkit_result){.seq = ++h->seq};
        return 0;
    }
    if (need > lane->size - lane->used) {
        int ret = sb_lane_open(&h->heap, lane, need);
        if (ret)
            return ret;
    }
    sb_block_mark(lane->block, lane->used / SB_CHUNK_UNIT);
    result->desc = sb_lane_next_desc(lane);
    result->seq = ++h->seq;
    result->taken = 0;
    heapkit_fill(sb_lane_next(lane), h->seq, h->heap.index, size);
    for (uint32_t i = 0; i < lane->set->count; i++) {
        uint64_t pos;
        result->pos[i] = UINT64_MAX;
        if (sb_target_push(lane->set->target[i], result->desc, &pos) != SB_PUSH_DONE)
            continue;
        result->pos[i] = pos;
        lane->open->span[i].end = pos + 1;
        result->taken++;
    }
    if (result->taken)
        sb_lane_take(lane, need);
    return 0;
}

bool heapkit_intact(const uint8_t *base, uint64_t limit, uint64_t desc, uint64_t *seq)
{
    uint64_t at = sb_desc_block(desc);
    uint32_t in_block = sb_desc_chunk(desc);
    if (at + sizeof(struct sb_block) > limit)
        return false;
    const struct sb_block *block = (const void *)(base + at);
    if (block->size > limit - at || in_block < sizeof(*block) ||
        in_block + sizeof(struct sb_chunk) > block->size)
        return false;
    uint32_t bit = in_block / SB_CHUNK_UNIT;
    if (bit / 64 >= sb_array_len(block->starts) ||
        !(sb_load_relaxed(&block->starts[bit / 64]) >> bit % 64 & 1))
        return false;
    const struct sb_chunk *chunk = (const void *)(base + at + in_block);
    const uint8_t *payload = (const uint8_t *)(chunk + 1);
    if (chunk->size > block->size - in_block - sizeof(*chunk) || chunk->time != ~chunk->seq ||
        chunk->route != sb_desc_heap(desc))
        return false;
    for (uint32_t i = 0; i < chunk->size; i++) {
        if (payload[i] != heapkit_byte(chunk->seq, i))
            return false;
    }
    *seq = chunk->seq;
    return true;
}
