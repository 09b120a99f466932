/* SPDX-License-Identifier: Apache-2.0 */
/* What readers and the coordinator take from words that others write; docs/MEMORY-MODEL.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/ringkit.h"

/* A seat's start is made of a tail that publishers write: it must be a place in the ring. */
static void test_a_tail_is_a_position_whatever_was_written(void **state)
{
    (void)state;
    static const uint32_t capacities[] = {1, 3, 5, 1025};
    for (size_t i = 0; i < sb_array_len(capacities); i++) {
        uint32_t capacity = capacities[i], bits = sb_log2_ceil(capacity);
        struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 1, 0);
        for (uint64_t bad = 0; bad < 2u << bits; bad++) {
            kit->ring->tail = (UINT64_C(7) << bits) + bad;
            uint64_t seen = sb_ring_tail_seen(kit->ring, capacity, bits);
            assert_true(sb_ring_index(seen, bits) < capacity);
            assert_true(seen >= kit->ring->tail);
            uint64_t exact = sb_ring_tail_exact(kit->ring, capacity, bits);
            assert_true(sb_ring_index(exact, bits) < capacity);
        }
        free(kit);
    }
}

/* What follows the end is another seat's loss. */
static void test_a_lapped_reader_jumps_no_further_than_its_end(void **state)
{
    (void)state;
    struct sb_target_seat list[KIT_SEATS];
    struct kit *kit = kit_new(3, SB_DROP_OLDEST, 1, 0);
    struct sb_target target = kit_target(kit, list);
    struct sb_reader reader = kit_reader(kit, 0);
    reader.end = &kit->seat_rec[0].end;
    uint64_t pos;
    for (int i = 0; i < 20; i++) {
        if (i == 4)
            kit->seat_rec[0].end = kit->ring->tail;
        assert_int_equal(sb_target_push(&target, 2, &pos), SB_PUSH_DONE);
    }
    assert_int_equal(sb_seat_look(&reader, reader.cursor), SB_LOOK_LAPPED);
    assert_int_equal(sb_seat_jump(&reader), 4);
    assert_int_equal(reader.cursor, kit_pos(4, 3));
    assert_int_equal(sb_seat_jump(&reader), 0);
    assert_int_equal(kit_books(kit, 0, false).offered, 4);
    free(target.holds);
    free(kit);
}

/* A look that says "lapped" has somewhere to jump to, or a reader would look for ever. */
static void test_what_no_push_wrote_is_not_jumped_after(void **state)
{
    (void)state;
    static const uint32_t capacities[] = {1, 3, 4};
    for (size_t i = 0; i < sb_array_len(capacities); i++) {
        struct kit *kit = kit_new(capacities[i], SB_DROP_OLDEST, 1, 0);
        struct sb_reader reader = kit_reader(kit, 0);
        for (unsigned bit = 0; bit < 64; bit++) {
            for (uint32_t s = 0; s < capacities[i]; s++)
                kit->ring->slot[s].seq = UINT64_MAX >> bit;
            for (int looks = 0; sb_seat_look(&reader, reader.cursor) == SB_LOOK_LAPPED; looks++) {
                assert_true(looks < 100);
                assert_true(sb_seat_jump(&reader) > 0);
            }
        }
        free(kit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tail_is_a_position_whatever_was_written),
        cmocka_unit_test(test_a_lapped_reader_jumps_no_further_than_its_end),
        cmocka_unit_test(test_what_no_push_wrote_is_not_jumped_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
