/* SPDX-License-Identifier: Apache-2.0 */
/* The ring: positions against plain numbers, pushes against an array, and what spoils it. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "shm/ring.h"
#include "support/ringkit.h"

static const uint32_t capacities[] = {1, 2, 3, 7, 10, 64, 100, 4096};

static void test_positions_are_numbers(void **state)
{
    (void)state;
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        uint32_t capacity = capacities[c], bits = sb_log2_ceil(capacity);
        for (int far = 0; far < 2; far++) {
            uint64_t from = far ? (UINT64_C(1) << 40) * capacity - 2 : 0;
            for (uint64_t n = from; n < from + 3 * (uint64_t)capacity; n++) {
                uint64_t pos = kit_pos(n, capacity);
                uint32_t step = (uint32_t)rand() % (capacity + 1);
                assert_int_equal(sb_ring_index(pos, bits), n % capacity);
                assert_int_equal(sb_ring_lap(pos, bits), n / capacity);
                assert_int_equal(sb_ring_linear(pos, capacity, bits), n);
                assert_int_equal(sb_ring_next(pos, capacity, bits), kit_pos(n + 1, capacity));
                assert_int_equal(sb_ring_advance(pos, step, capacity, bits),
                                 kit_pos(n + step, capacity));
                assert_int_equal(sb_ring_advance(pos, capacity, capacity, bits),
                                 kit_pos(n + capacity, capacity));
                assert_int_equal(sb_ring_lap_before(pos, bits),
                                 n < capacity ? 0 : kit_pos(n - capacity, capacity));
            }
        }
    }
}

/* Pushes 0, 1, 2, … and looks at every slot after each. */
static void push_and_compare(uint32_t capacity, uint64_t from)
{
    struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 0, from);
    struct sb_ring_view view = sb_ring_view(kit->ring, capacity);
    for (uint64_t n = 0; n < 2 * (uint64_t)capacity + 3; n++) {
        uint64_t pos = 0;
        assert_int_equal(sb_ring_push(&view, n, false, 0, &pos), SB_PUSH_DONE);
        assert_int_equal(pos, kit_pos(from + n, capacity));
        assert_int_equal(kit->ring->tail, kit_pos(from + n + 1, capacity));
        assert_int_equal(sb_ring_tail_seen(kit->ring, capacity, view.bits), kit->ring->tail);
        uint64_t first = n < capacity ? 0 : n + 1 - capacity;
        for (uint64_t k = n < 64 ? first : n - (first < n ? 1 : 0); k <= n; k++) {
            const struct sb_slot *slot = &kit->ring->slot[(from + k) % capacity];
            assert_int_equal(slot->desc, k);
            assert_int_equal(slot->seq, (from + k) / capacity + 1);
        }
    }
    free(kit);
}

static void test_pushes_fill_slots_in_order(void **state)
{
    (void)state;
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        push_and_compare(capacities[c], 0);
        push_and_compare(capacities[c], 5 * (uint64_t)capacities[c] + 1);
        push_and_compare(capacities[c], (UINT64_C(1) << 40) * capacities[c] - 1);
    }
}

static void test_a_limit_refuses(void **state)
{
    (void)state;
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        uint32_t capacity = capacities[c];
        struct kit *kit = kit_new(capacity, SB_REJECT_NEWEST, 0, capacity - 1);
        struct sb_ring_view view = sb_ring_view(kit->ring, capacity);
        uint64_t limit = kit_pos(2 * (uint64_t)capacity - 1, capacity), pos = 7;
        for (uint32_t n = 0; n < capacity; n++)
            assert_int_equal(sb_ring_push(&view, n, true, limit, &pos), SB_PUSH_DONE);
        struct sb_slot before = kit->ring->slot[capacity - 1];
        uint64_t last = pos;
        assert_int_equal(sb_ring_push(&view, 99, true, limit, &pos), SB_PUSH_FULL);
        assert_int_equal(pos, last);
        assert_int_equal(kit->ring->tail, limit);
        assert_memory_equal(&before, &kit->ring->slot[capacity - 1], sizeof(before));
        sb_ring_refused(kit->ring, SB_PUSH_FULL);
        assert_int_equal(kit->ring->rejected, 1);
        assert_int_equal(kit->ring->flags, 0);
        free(kit);
    }
}

/* A producer that died between its two CASes leaves the tail one behind. */
static void test_a_tail_left_behind_is_helped(void **state)
{
    (void)state;
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        uint32_t capacity = capacities[c];
        for (uint64_t n = 1; n < 3 * (uint64_t)capacity && n < 200; n++) {
            struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 0, n);
            struct sb_ring_view view = sb_ring_view(kit->ring, capacity);
            uint64_t tail = kit->ring->tail, pos = 0;
            kit->ring->tail = kit_pos(n - 1, capacity);
            assert_int_equal(sb_ring_tail_seen(kit->ring, capacity, view.bits), tail);
            assert_int_equal(kit->ring->tail, kit_pos(n - 1, capacity));
            if (n % 2) {
                assert_int_equal(sb_ring_tail_exact(kit->ring, capacity, view.bits), tail);
                assert_int_equal(kit->ring->tail, tail);
            }
            assert_int_equal(sb_ring_push(&view, 1, false, 0, &pos), SB_PUSH_DONE);
            assert_int_equal(pos, tail);
            free(kit);
        }
    }
}

static void expect_spoiled(struct kit *kit)
{
    uint32_t capacity = kit->rec.capacity;
    struct sb_ring_view view = sb_ring_view(kit->ring, capacity);
    uint8_t *before = malloc(sb_ring_bytes(capacity));
    assert_non_null(before);
    memcpy(before, kit->ring, sb_ring_bytes(capacity));
    uint64_t pos = 7;
    assert_int_equal(sb_ring_push(&view, 1, false, 0, &pos), SB_PUSH_SPOILED);
    assert_int_equal(pos, 7);
    assert_memory_equal(before, kit->ring, sb_ring_bytes(capacity));
    sb_ring_refused(kit->ring, SB_PUSH_SPOILED);
    assert_int_equal(kit->ring->flags, SB_RING_SPOILED);
    assert_int_equal(kit->ring->rejected, 1);
    free(before);
    free(kit);
}

static void test_what_no_push_has_written_is_spoiled(void **state)
{
    (void)state;
    struct kit *kit = kit_new(10, SB_DROP_OLDEST, 0, 53);
    kit->ring->slot[3].seq = 7; /* of a lap that the tail has not reached */
    expect_spoiled(kit);
    kit = kit_new(10, SB_DROP_OLDEST, 0, 53);
    kit->ring->slot[3].seq = UINT64_MAX;
    expect_spoiled(kit);
    kit = kit_new(10, SB_DROP_OLDEST, 0, 53);
    kit->ring->slot[3].seq = 4; /* a lap was left out */
    expect_spoiled(kit);
    kit = kit_new(10, SB_DROP_OLDEST, 0, 53);
    kit->ring->tail = kit_pos(50, 10) + 10; /* no such slot */
    expect_spoiled(kit);
}

static uint64_t random64(void)
{
    return (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand();
}

/* Random words, most of them near what could be. */
static uint64_t hostile_word(uint64_t near)
{
    switch (rand() % 6) {
    case 0:
        return random64();
    case 1:
        return UINT64_MAX - (uint64_t)rand() % 4;
    default:
        return near + (uint64_t)rand() % 5 - 2;
    }
}

static void test_random_memory_does_no_harm(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 20000; round++) {
        uint32_t capacity = 1 + (uint32_t)rand() % 12, bits = sb_log2_ceil(capacity);
        struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 0, 0);
        kit->ring->tail = hostile_word((uint64_t)rand() % 40);
        for (uint32_t i = 0; i < capacity; i++) {
            kit->ring->slot[i].seq = hostile_word(sb_ring_lap(kit->ring->tail, bits));
            kit->ring->slot[i].desc = random64();
        }
        struct sb_ring_view view = sb_ring_view(kit->ring, capacity);
        for (int i = 0; i < 3; i++) {
            uint64_t pos = UINT64_MAX;
            sb_ring_tail_seen(kit->ring, capacity, bits);
            if (sb_ring_push(&view, 1, false, 0, &pos) == SB_PUSH_DONE)
                assert_true(sb_ring_index(pos, bits) < capacity);
        }
        sb_ring_tail_exact(kit->ring, capacity, bits);
        free(kit);
    }
}

/*
 * Threads that push all at once: together they get every position once, each in its own order.
 */
#define PUSHERS 4
#define PUSHES 20000u

struct pusher {
    struct kit *kit;
    uint64_t id;
    uint64_t *pos;
};

static void *push_many(void *arg)
{
    struct pusher *p = arg;
    struct sb_ring_view view = sb_ring_view(p->kit->ring, p->kit->rec.capacity);
    for (uint64_t n = 0; n < PUSHES; n++) {
        if (sb_ring_push(&view, p->id << 32 | n, false, 0, &p->pos[n]) != SB_PUSH_DONE)
            return p;
    }
    return NULL;
}

static void push_together(uint32_t capacity)
{
    struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 0, 0);
    struct pusher pusher[PUSHERS];
    pthread_t thread[PUSHERS];
    for (unsigned i = 0; i < PUSHERS; i++) {
        pusher[i] = (struct pusher){kit, i, malloc(PUSHES * sizeof(uint64_t))};
        assert_non_null(pusher[i].pos);
        assert_int_equal(pthread_create(&thread[i], NULL, push_many, &pusher[i]), 0);
    }
    uint8_t *seen = calloc(1, PUSHERS * PUSHES);
    assert_non_null(seen);
    uint32_t bits = sb_log2_ceil(capacity);
    for (unsigned i = 0; i < PUSHERS; i++) {
        void *failed;
        assert_int_equal(pthread_join(thread[i], &failed), 0);
        assert_null(failed);
        for (uint64_t n = 0; n < PUSHES; n++) {
            uint64_t at = sb_ring_linear(pusher[i].pos[n], capacity, bits);
            assert_true(at < PUSHERS * PUSHES);
            assert_true(n == 0 || pusher[i].pos[n] > pusher[i].pos[n - 1]);
            assert_int_equal(seen[at], 0);
            seen[at] = 1;
            if (at + capacity >= PUSHERS * PUSHES) /* nobody has overwritten it */
                assert_int_equal(kit->ring->slot[at % capacity].desc, (uint64_t)i << 32 | n);
        }
        free(pusher[i].pos);
    }
    assert_int_equal(kit->ring->tail, kit_pos(PUSHERS * PUSHES, capacity));
    free(seen);
    free(kit);
}

static void test_threads_push_at_once(void **state)
{
    (void)state;
    push_together(1);
    push_together(3);
    push_together(100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions_are_numbers),
        cmocka_unit_test(test_pushes_fill_slots_in_order),
        cmocka_unit_test(test_a_limit_refuses),
        cmocka_unit_test(test_a_tail_left_behind_is_helped),
        cmocka_unit_test(test_what_no_push_has_written_is_spoiled),
        cmocka_unit_test(test_random_memory_does_no_harm),
        cmocka_unit_test(test_threads_push_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
