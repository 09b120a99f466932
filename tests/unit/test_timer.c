/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/timer.h"

static void nothing(void *ctx)
{
    (void)ctx;
}

static void test_order_and_horizon(void **state)
{
    (void)state;
    struct sb_timers t = {0};
    struct sb_timer got;
    uint64_t a, b, c, late;
    assert_true(sb_timer_next(&t) == SB_NEVER);
    assert_false(sb_timer_pop(&t, SB_NEVER, UINT64_MAX, &got));
    assert_int_equal(sb_timer_add(&t, 20, nothing, &a, &a), 0);
    assert_int_equal(sb_timer_add(&t, 10, nothing, &b, &b), 0);
    assert_int_equal(sb_timer_add(&t, 10, nothing, &c, &c), 0);
    assert_true(sb_timer_next(&t) == 10);
    assert_false(sb_timer_pop(&t, 9, UINT64_MAX, &got));
    uint64_t horizon = sb_timer_horizon(&t);
    assert_true(sb_timer_pop(&t, 10, horizon, &got) && got.id == b && got.ctx == &b);
    assert_true(sb_timer_pop(&t, 10, horizon, &got) && got.id == c);
    assert_int_equal(sb_timer_add(&t, 5, nothing, NULL, &late), 0);
    assert_false(sb_timer_pop(&t, 30, horizon, &got));
    assert_true(sb_timer_pop(&t, 30, sb_timer_horizon(&t), &got) && got.id == late);
    sb_timer_cancel(&t, late);
    sb_timer_cancel(&t, 0);
    sb_timer_cancel(&t, UINT64_MAX);
    assert_true(sb_timer_next(&t) == 20);
    sb_timer_cancel(&t, a);
    assert_true(sb_timer_next(&t) == SB_NEVER);
    sb_timer_deinit(&t);
}

#define LIVE_MAX 500

/* Against a plain list: whatever is added and cancelled, timers come out in order. */
static void test_random_adds_and_cancels(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    struct sb_timers t = {0};
    struct {
        uint64_t id;
        int64_t deadline;
    } live[LIVE_MAX];
    int n = 0;
    for (int step = 0; step < 50000; step++) {
        int op = rand_r(&seed) % 3;
        if (op == 0 && n < LIVE_MAX) {
            live[n].deadline = rand_r(&seed) % 1000;
            assert_int_equal(sb_timer_add(&t, live[n].deadline, nothing, NULL, &live[n].id), 0);
            n++;
        } else if (op == 1 && n > 0 && rand_r(&seed) % 4) {
            int i = rand_r(&seed) % n;
            sb_timer_cancel(&t, live[i].id);
            live[i] = live[--n];
        } else if (n > 0 && rand_r(&seed) % 8 == 0) {
            int first = 0;
            for (int i = 1; i < n; i++) {
                if (live[i].deadline < live[first].deadline ||
                    (live[i].deadline == live[first].deadline && live[i].id < live[first].id))
                    first = i;
            }
            struct sb_timer got;
            assert_true(sb_timer_pop(&t, SB_NEVER, UINT64_MAX, &got));
            assert_true(got.id == live[first].id && got.deadline == live[first].deadline);
            live[first] = live[--n];
        }
        assert_int_equal(t.n, n);
    }
    sb_timer_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_horizon),
        cmocka_unit_test(test_random_adds_and_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
