/* SPDX-License-Identifier: Apache-2.0 */
/* An arena for tests of what lives in one: shared anonymous memory, a header, a slab allocator. */
#ifndef SB_TEST_ARENA_H
#define SB_TEST_ARENA_H

#include "shm/slab.h"
#include "shm/trie.h"

#define TEST_ARENA_PINS 8u

struct test_arena_header {
    struct sb_epoch_root epoch;
    struct sb_trie_root trie;
    uint64_t size;                 /* atomic */
    uint64_t pin[TEST_ARENA_PINS]; /* in real life in the readers' inboxes */
};

struct test_arena {
    struct test_arena_header *header; /* the base of limit bytes */
    struct sb_slab slab;
    uint64_t limit;
    const uint64_t *pins[TEST_ARENA_PINS];
};

/* Maps limit bytes, of which the first 64 KiB (or limit) are the arena, or fails the test.
 * Children that are forked later share the memory. */
void test_arena_init(struct test_arena *a, uint64_t limit);
void test_arena_deinit(struct test_arena *a);

/* The arena as a reader sees it that has just pinned. */
struct sb_region test_arena_region(const struct test_arena *a);

/* Frees what no pin holds; the bytes that are still retired. */
uint64_t test_arena_collect(struct test_arena *a);

#endif
