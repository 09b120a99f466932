/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: wrap=realloc */
/* What a publisher may reuse: each position compared with the rule, in words, of shm/target.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "support/ringkit.h"

static bool no_memory;

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
    return no_memory ? NULL : __real_realloc(p, size);
}

struct fixture {
    struct kit *kit;
    struct sb_target target;
    struct sb_target_seat list[KIT_SEATS];
};

static void setup(struct fixture *f, uint32_t capacity, uint32_t full, uint32_t seats,
                  uint64_t from)
{
    f->kit = kit_new(capacity, full, seats, from);
    f->target = kit_target(f->kit, f->list);
}

static void teardown(struct fixture *f)
{
    free(f->target.holds);
    free(f->kit);
}

static void look(struct fixture *f)
{
    sb_target_read_positions(&f->target);
    assert_int_equal(sb_target_read_holds(&f->target), 0);
}

static enum sb_passed passed(const struct fixture *f, uint64_t first, uint64_t count)
{
    uint32_t capacity = f->kit->rec.capacity;
    uint64_t last = first + count - 1;
    return sb_target_passed(&f->target, kit_pos(first, capacity), kit_pos(last, capacity) + 1);
}

/*
 * A model: seats and holds in linear numbers.
 */
struct model {
    struct fixture f;
    uint64_t tail;
    uint64_t at[KIT_SEATS];
    bool live[KIT_SEATS];
    struct {
        uint64_t first, count;
    } hold[KIT_SEATS][3];
};

static bool model_held(const struct model *m, uint64_t n)
{
    for (uint32_t i = 0; i < m->f.kit->seats; i++) {
        for (int h = 0; h < 3 && m->live[i]; h++) {
            if (n >= m->hold[i][h].first && n - m->hold[i][h].first < m->hold[i][h].count)
                return true;
        }
    }
    return false;
}

static bool model_passed(const struct model *m, uint64_t n)
{
    if (m->f.target.limited || n + m->f.kit->rec.capacity >= m->tail) {
        bool seated = false;
        for (uint32_t i = 0; i < m->f.kit->seats; i++) {
            if (m->live[i] && m->at[i] <= n)
                return false;
            seated = seated || m->live[i];
        }
        if (!seated)
            return n < m->tail;
    }
    return true;
}

static void model_random(struct model *m)
{
    uint32_t capacity = 1 + (uint32_t)rand() % 70;
    uint32_t full = rand() % 2 ? SB_DROP_OLDEST : SB_REJECT_NEWEST;
    memset(m, 0, sizeof(*m));
    m->tail = (uint64_t)rand() % 300;
    setup(&m->f, capacity, full, (uint32_t)rand() % (KIT_SEATS + 1), m->tail);
    for (uint32_t i = 0; i < m->f.kit->seats; i++) {
        struct sb_seat *seat = &m->f.kit->seat[i];
        uint64_t start = (uint64_t)rand() % (m->tail + 1);
        uint64_t cursor = rand() % 3 ? start + (uint64_t)rand() % (m->tail - start + 1) : 0;
        m->at[i] = start > cursor ? start : cursor;
        m->live[i] = rand() % 4 != 0;
        m->f.kit->seat_rec[i].start = kit_pos(start, capacity);
        m->f.kit->seat_rec[i].gen += m->live[i] ? 0 : 2;
        seat->cursor = kit_pos(cursor, capacity);
        for (int h = 0; h < 3; h++) {
            uint32_t most = capacity < SB_HELD_MAX ? capacity : SB_HELD_MAX;
            m->hold[i][h].first = (uint64_t)rand() % (m->tail + 1);
            m->hold[i][h].count = rand() % 2 ? 0 : 1 + (uint64_t)rand() % most;
            if (m->hold[i][h].count)
                seat->hold[h * 31] = sb_hold_word(kit_pos(m->hold[i][h].first, capacity),
                                                  (uint32_t)m->hold[i][h].count);
            seat->holds = 63;
        }
    }
}

static void test_agrees_with_the_rule(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 3000; round++) {
        struct model m;
        model_random(&m);
        look(&m.f);
        for (int i = 0; i < 60; i++) {
            uint64_t first = (uint64_t)rand() % (m.tail + 3), count = 1 + (uint64_t)rand() % 9;
            enum sb_passed want = SB_PASSED;
            for (uint64_t n = first; n < first + count && want != SB_PASSED_NOT; n++) {
                if (!model_passed(&m, n))
                    want = SB_PASSED_NOT;
                else if (model_held(&m, n))
                    want = SB_PASSED_HELD;
            }
            assert_int_equal(passed(&m.f, first, count), want);
        }
        assert_int_equal(sb_target_passed(&m.f.target, 0, 0), SB_PASSED);
        teardown(&m.f);
    }
}

static void test_an_announced_seat_pins_everything(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 8, SB_REJECT_NEWEST, 1, 20);
    f.kit->seat_rec[0].start = 0;
    f.kit->seat[0].cursor = 0;
    look(&f);
    assert_int_equal(passed(&f, 0, 1), SB_PASSED_NOT);
    f.kit->seat_rec[0].start = kit_pos(20, 8);
    look(&f);
    assert_int_equal(passed(&f, 19, 1), SB_PASSED);
    teardown(&f);
}

static void test_a_ring_that_has_gone_pins_nothing(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 8, SB_REJECT_NEWEST, 1, 20);
    f.kit->seat[0].hold[0] = sb_hold_word(kit_pos(20, 8), 1);
    f.kit->seat[0].holds = 1;
    f.kit->rec.gen++;
    look(&f);
    assert_int_equal(passed(&f, 20, 1), SB_PASSED);
    teardown(&f);
}

/* The limit of a reject_newest ring follows the cursor, and only live seats count. */
static void test_a_limit_follows_the_reader(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 3, SB_REJECT_NEWEST, 1, 7);
    uint64_t pos;
    for (uint64_t n = 0; n < 3; n++)
        assert_int_equal(sb_target_push(&f.target, n, &pos), SB_PUSH_DONE);
    assert_int_equal(sb_target_push(&f.target, 3, &pos), SB_PUSH_FULL);
    assert_int_equal(f.kit->ring->rejected, 1);
    assert_false(sb_target_relimit(&f.target));
    struct sb_reader r = kit_reader(f.kit, 0);
    sb_seat_pass(&r, sb_ring_next(r.cursor, 3, r.bits), 1, 0);
    assert_int_equal(sb_target_push(&f.target, 3, &pos), SB_PUSH_DONE);
    assert_int_equal(pos, kit_pos(10, 3));
    assert_int_equal(sb_target_push(&f.target, 4, &pos), SB_PUSH_FULL);
    f.kit->seat_rec[0].gen++;
    sb_seat_pass(&r, kit_pos(10, 3), 2, 0);
    assert_int_equal(sb_target_push(&f.target, 4, &pos), SB_PUSH_FULL); /* nobody will read it */
    assert_int_equal(f.kit->ring->rejected, 3);
    teardown(&f);
}

/* Cursors and holds are words of another user: any is survived. */
static void test_random_seats_do_no_harm(void **state)
{
    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct fixture f;
        setup(&f, 1 + (uint32_t)rand() % 9, rand() % 2 ? SB_DROP_OLDEST : SB_REJECT_NEWEST, 2,
              (uint64_t)rand() % 50);
        uint8_t *byte = (uint8_t *)f.kit->seat;
        for (size_t i = 0; i < 2 * sizeof(f.kit->seat[0]); i++)
            byte[i] = rand() % 3 ? (uint8_t)(rand() >> 8) : 0;
        for (int i = 0; i < 20; i++) {
            uint64_t pos = 0;
            if (sb_target_push(&f.target, 1, &pos) == SB_PUSH_DONE)
                assert_true(sb_ring_index(pos, f.target.ring.bits) < f.kit->rec.capacity);
        }
        look(&f);
        assert_true(f.target.hold_count <= 2 * SB_HELD_MAX);
        passed(&f, 0, 1 + (uint64_t)rand() % 90);
        teardown(&f);
    }
}

static void test_holds_that_cannot_be_noted_are_an_error(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 64, SB_DROP_OLDEST, 1, 0);
    f.kit->seat[0].holds = SB_HELD_MAX;
    for (uint32_t h = 0; h < SB_HELD_MAX; h++)
        f.kit->seat[0].hold[h] = sb_hold_word(h, 1);
    sb_target_read_positions(&f.target);
    no_memory = true;
    assert_int_equal(sb_target_read_holds(&f.target), SHMBUS_E_NOMEM);
    no_memory = false;
    assert_int_equal(sb_target_read_holds(&f.target), 0);
    assert_int_equal(f.target.hold_count, SB_HELD_MAX);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_the_rule),
        cmocka_unit_test(test_an_announced_seat_pins_everything),
        cmocka_unit_test(test_a_ring_that_has_gone_pins_nothing),
        cmocka_unit_test(test_a_limit_follows_the_reader),
        cmocka_unit_test(test_random_seats_do_no_harm),
        cmocka_unit_test(test_holds_that_cannot_be_noted_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
