/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary tree over the units, one byte a node, one array a level; level k has a node for each
 * aligned block of 2^k units. A node's value is one more than the order of the largest free block
 * at or below it, 0 when there is none: a block is free as a whole exactly if its value is k + 1.
 * Where the space ends inside a block, the missing child counts as 0.
 *
 * A request of n units is the pieces of n's binary digits, largest first, at the start of a free
 * block. Each piece's node becomes 0 while the nodes below it keep saying "all free", as nobody
 * looks below a 0: freeing is writing the piece's k + 1 again. All pieces' ancestors are those of
 * the last one, so one walk upwards brings the tree up to date, and merging needs no more code.
 */
#include "shm/buddy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Nodes of level k in a space of so many units. */
static uint64_t level_count(uint64_t units, unsigned k)
{
    return (units + ((uint64_t)1 << k) - 1) >> k;
}

static uint64_t units_of(uint64_t bytes)
{
    return bytes == 0 ? 1 : (bytes - 1) / SB_BUDDY_UNIT + 1;
}

static uint8_t node(const struct sb_buddy *b, unsigned k, uint64_t i)
{
    return i < level_count(b->units, k) ? b->level[k][i] : 0;
}

/* What node i of level k > 0 must say, given its children. */
static uint8_t joined(const struct sb_buddy *b, unsigned k, uint64_t i)
{
    uint8_t left = node(b, k - 1, 2 * i);
    uint8_t right = node(b, k - 1, 2 * i + 1);
    if (left == k && right == k)
        return (uint8_t)(k + 1);
    return left > right ? left : right;
}

void sb_buddy_init(struct sb_buddy *b)
{
    memset(b, 0, sizeof(*b));
}

void sb_buddy_deinit(struct sb_buddy *b)
{
    for (unsigned k = 0; k < SB_BUDDY_LEVELS; k++)
        free(b->level[k]);
    sb_buddy_init(b);
}

int sb_buddy_grow(struct sb_buddy *b, uint64_t bytes)
{
    uint64_t units = bytes / SB_BUDDY_UNIT;
    uint64_t old = b->units;
    if (units <= old)
        return 0;
    if (units > SB_BUDDY_MAX_UNITS)
        return sb_fail(SHMBUS_E_LIMIT, "a memory region of %llu bytes; at most %llu are possible",
                       (unsigned long long)bytes,
                       (unsigned long long)(SB_BUDDY_MAX_UNITS * SB_BUDDY_UNIT));
    unsigned levels = sb_log2_ceil(units) + 1;
    for (unsigned k = 0; k < levels; k++) {
        uint8_t *grown = realloc(b->level[k], level_count(units, k));
        if (grown == NULL)
            return sb_fail(SHMBUS_E_NOMEM, "no memory to manage a region of %llu bytes",
                           (unsigned long long)bytes);
        b->level[k] = grown;
    }
    b->units = units;
    b->levels = levels;
    /* What lay wholly in the old space stays: below it may be a piece whose node hides others. */
    memset(b->level[0] + old, 1, units - old);
    for (unsigned k = 1; k < levels; k++)
        for (uint64_t i = old >> k; i < level_count(units, k); i++)
            b->level[k][i] = joined(b, k, i);
    return 0;
}

/* Marks [start, start + n) taken or free; start is aligned to the power of two that holds n. */
static void mark(struct sb_buddy *b, uint64_t start, uint64_t n, bool free_it)
{
    unsigned order = sb_log2_ceil(n);
    unsigned k = 0;
    uint64_t at = start;
    for (uint64_t rest = n; rest != 0; rest -= (uint64_t)1 << k) {
        at = start + (n - rest);
        k = sb_log2_floor(rest);
        assert(b->level[k][at >> k] == (free_it ? 0 : k + 1));
        b->level[k][at >> k] = free_it ? (uint8_t)(k + 1) : 0;
    }
    for (k++; k < b->levels; k++) {
        uint8_t value = joined(b, k, at >> k);
        if (value == b->level[k][at >> k] && k > order)
            break;
        b->level[k][at >> k] = value;
    }
    /* Read by others, for figures. */
    sb_store_relaxed(&b->used, free_it ? b->used - n : b->used + n);
}

int sb_buddy_alloc(struct sb_buddy *b, uint64_t bytes, uint64_t *offset)
{
    uint64_t n = units_of(bytes);
    if (n > b->units)
        return SB_BUDDY_FULL;
    unsigned order = sb_log2_ceil(n);
    unsigned k = b->levels - 1;
    if (b->level[k][0] <= order)
        return SB_BUDDY_FULL;
    uint64_t i = 0;
    /* Of two halves with such a block, the one with the smaller reserve, or the left. */
    while (k > order) {
        k--;
        i *= 2;
        uint8_t left = node(b, k, i);
        uint8_t right = node(b, k, i + 1);
        if (left <= order || (right > order && right < left))
            i++;
    }
    uint64_t start = i << order;
    mark(b, start, n, false);
    *offset = start * SB_BUDDY_UNIT;
    return 0;
}

void sb_buddy_reserve(struct sb_buddy *b, uint64_t bytes)
{
    assert(b->used == 0 && units_of(bytes) <= b->units);
    mark(b, 0, units_of(bytes), false);
}

void sb_buddy_free(struct sb_buddy *b, uint64_t offset, uint64_t bytes)
{
    assert(offset % SB_BUDDY_UNIT == 0 && bytes <= sb_buddy_size(b) - offset);
    mark(b, offset / SB_BUDDY_UNIT, units_of(bytes), true);
}
