/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/atomic.h"

static void test_cas_pair_changes_both_or_none(void **state)
{
    (void)state;
    struct sb_pair p = {1, 2};
    assert_false(sb_cas_pair(&p, 1, 3, 7, 8));
    assert_false(sb_cas_pair(&p, 0, 2, 7, 8));
    assert_int_equal(p.lo, 1);
    assert_int_equal(p.hi, 2);
    assert_true(sb_cas_pair(&p, 1, 2, 7, UINT64_MAX));
    assert_int_equal(p.lo, 7);
    assert_true(p.hi == UINT64_MAX);
}

#define ROUNDS 200000

/* Keeps hi == ~lo; a torn change would break that. */
static void *count_up(void *arg)
{
    struct sb_pair *p = arg;
    for (int done = 0; done < ROUNDS;) {
        uint64_t lo = sb_load_relaxed(&p->lo);
        done += sb_cas_pair(p, lo, ~lo, lo + 1, ~(lo + 1));
    }
    return NULL;
}

static void test_cas_pair_loses_no_update(void **state)
{
    (void)state;
    struct sb_pair p = {0, ~0ull};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, &p), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(p.lo, 2 * ROUNDS);
    assert_true(p.hi == ~p.lo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cas_pair_changes_both_or_none),
        cmocka_unit_test(test_cas_pair_loses_no_update),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
