/* SPDX-License-Identifier: Apache-2.0 */
/* A ring that is used again works, whatever was written there; a sound one is left as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "shm/ring_repair.h"
#include "support/ringkit.h"
#include "support/testbus.h"

static const uint32_t capacities[] = {1, 2, 3, 7, 8, 100};

/* Three laps of pushes, each taken at once. */
static void assert_works(struct kit *kit)
{
    /* As the coordinator lets a seat start. */
    kit->seat[0].cursor =
        sb_ring_tail_exact(kit->ring, kit->rec.capacity, sb_log2_ceil(kit->rec.capacity));
    struct sb_reader r = kit_reader(kit, 0);
    struct sb_ring_view view = sb_ring_view(kit->ring, kit->rec.capacity);
    for (uint64_t n = 0; n < 3 * kit->rec.capacity; n++) {
        uint64_t pos, desc;
        assert_int_equal(sb_seat_look(&r, r.cursor), SB_LOOK_EMPTY);
        assert_int_equal(sb_ring_push(&view, n + 2, false, 0, &pos), SB_PUSH_DONE);
        assert_int_equal(pos, r.cursor);
        assert_int_equal(sb_seat_read(&r, r.cursor, &desc), SB_LOOK_READY);
        assert_int_equal(desc, n + 2);
        sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), 1, 0);
    }
    assert_int_equal(kit->ring->rejected, 0);
}

static void test_a_sound_ring_is_left_alone(void **state)
{
    (void)state;
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        uint32_t capacity = capacities[c];
        for (uint64_t from = 0; from < 3 * capacity; from++) {
            struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 1, from);
            struct sb_ring_view view = sb_ring_view(kit->ring, capacity);
            uint64_t before = kit->ring->tail, pos;
            assert_false(sb_ring_repair(kit->ring, capacity));
            assert_int_equal(kit->ring->tail, before);
            assert_int_equal(sb_ring_push(&view, 2, false, 0, &pos), SB_PUSH_DONE);
            kit->ring->tail = before; /* as its producer leaves it when it dies */
            assert_false(sb_ring_repair(kit->ring, capacity));
            free(kit);
        }
    }
}

static void test_any_bytes_are_repaired(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (int round = 0; round < (test_light() ? 2000 : 20000); round++) {
        uint32_t capacity = capacities[test_random(&random) % sb_array_len(capacities)];
        struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 1, test_random(&random) % 300);
        uint64_t *words = (uint64_t *)(void *)kit->ring;
        size_t count = sb_ring_bytes(capacity) / 8;
        for (uint64_t n = 1 + test_random(&random) % 20; n > 0; n--)
            words[test_random(&random) % count] =
                test_random(&random) % 4 ? test_random(&random) >> test_random(&random) % 64
                                         : UINT64_MAX - test_random(&random) % 3;
        bool repaired = sb_ring_repair(kit->ring, capacity);
        assert_false(sb_ring_repair(kit->ring, capacity));
        if (!repaired) /* counts that may be true */
            kit->ring->rejected = 0;
        assert_works(kit);
        free(kit);
    }
}

/* A producer that was stopped before its CAS, for the ring as it was, fails. */
static void test_a_late_push_fails(void **state)
{
    (void)state;
    struct kit *kit = kit_new(4, SB_DROP_OLDEST, 1, 0);
    kit->ring->tail = UINT64_MAX;
    assert_true(sb_ring_repair(kit->ring, 4));
    for (int i = 0; i < 4; i++)
        assert_false(
            sb_cas_pair((struct sb_pair *)(void *)&kit->ring->slot[i], 0, UINT64_MAX, 1, 2));
    assert_works(kit);
    free(kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sound_ring_is_left_alone),
        cmocka_unit_test(test_any_bytes_are_repaired),
        cmocka_unit_test(test_a_late_push_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
