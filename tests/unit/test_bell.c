/* SPDX-License-Identifier: Apache-2.0 */
/* The bell: its word step by step, what a killed party leaves, and that no sleeper is missed. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "os/futex.h"
#include "shm/bell.h"

static void test_nobody_sleeps_nothing_changes(void **state)
{
    (void)state;
    struct sb_bell bell = {0};
    for (int i = 0; i < 3; i++)
        sb_bell_ring(&bell, 1);
    assert_int_equal(bell.word, 0);
}

static void test_an_untouched_announcement_is_joined(void **state)
{
    (void)state;
    struct sb_bell bell = {0};
    uint32_t word = sb_bell_announce(&bell);
    assert_int_equal(word, SB_BELL_STEP | SB_BELL_S | SB_BELL_A);
    assert_int_equal(sb_bell_announce(&bell), word);
    assert_int_equal(bell.word, word);
}

/* A ringer between its change and its wake: whoever comes now must not join what it will clear. */
static void test_a_touched_announcement_is_not_joined(void **state)
{
    (void)state;
    struct sb_bell bell = {.word = 5 * SB_BELL_STEP | SB_BELL_S};
    uint32_t word = sb_bell_announce(&bell);
    assert_int_equal(word, 6 * SB_BELL_STEP | SB_BELL_S | SB_BELL_A);
}

/* A killed sleeper leaves S set: one ringing clears it, and later ones find nothing to do. */
static void test_a_killed_sleeper_costs_one_wake(void **state)
{
    (void)state;
    struct sb_bell bell = {0};
    uint32_t word = sb_bell_announce(&bell);
    sb_bell_ring(&bell, 1);
    assert_int_equal(bell.word, (word & ~3u) + SB_BELL_STEP);
    word = bell.word;
    sb_bell_ring(&bell, 1);
    assert_int_equal(bell.word, word);
}

/* A ringer killed after its change leaves S without A; the next one takes over from there. */
static void test_a_killed_ringer_is_succeeded(void **state)
{
    (void)state;
    struct sb_bell bell = {.word = 7 * SB_BELL_STEP | SB_BELL_S};
    sb_bell_ring(&bell, 1);
    assert_int_equal(bell.word, 8 * SB_BELL_STEP);
}

static void test_the_number_wraps(void **state)
{
    (void)state;
    struct sb_bell bell = {.word = UINT32_MAX & ~3u};
    assert_int_equal(sb_bell_announce(&bell), SB_BELL_S | SB_BELL_A);
    bell.word = UINT32_MAX;
    sb_bell_ring(&bell, 1);
    assert_int_equal(bell.word, 0);
}

/*
 * Sleepers wait until a counter has reached its end; ringers advance it and ring. A ringing that
 * misses a sleeper leaves it asleep for the whole nap, which is counted.
 */
#define RINGERS 2
#define SLEEPERS 3
#define RINGS 30000u

struct belfry {
    struct sb_bell bell;
    uint32_t count;
    uint32_t naps; /* sleeps that nobody ended */
};

static void *ring_often(void *arg)
{
    struct belfry *b = arg;
    for (uint32_t i = 0; i < RINGS; i++) {
        sb_add_relaxed(&b->count, 1);
        sb_fence_full();
        sb_bell_ring(&b->bell, SLEEPERS);
        for (uint32_t wait = 0; wait < i % 256; wait++)
            sb_cpu_relax();
    }
    return NULL;
}

static void *sleep_often(void *arg)
{
    struct belfry *b = arg;
    uint32_t seen = 0;
    while (seen < RINGERS * RINGS) {
        uint32_t word = sb_bell_announce(&b->bell);
        uint32_t now = sb_load_acquire(&b->count);
        if (now != seen) {
            seen = now;
            continue;
        }
        int64_t deadline = sb_clock_ns() + 20 * SB_BELL_NAP_NS;
        if (sb_futex_wait(&b->bell.word, word, deadline) == SB_FUTEX_TIMEOUT)
            sb_add_relaxed(&b->naps, 1);
    }
    return NULL;
}

static void test_no_sleeper_is_missed(void **state)
{
    (void)state;
    struct belfry b = {0};
    pthread_t thread[RINGERS + SLEEPERS];
    for (int i = 0; i < RINGERS + SLEEPERS; i++)
        assert_int_equal(
            pthread_create(&thread[i], NULL, i < RINGERS ? ring_often : sleep_often, &b), 0);
    for (int i = 0; i < RINGERS + SLEEPERS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(b.count, RINGERS * RINGS);
    assert_int_equal(b.naps, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_sleeps_nothing_changes),
        cmocka_unit_test(test_an_untouched_announcement_is_joined),
        cmocka_unit_test(test_a_touched_announcement_is_not_joined),
        cmocka_unit_test(test_a_killed_sleeper_costs_one_wake),
        cmocka_unit_test(test_a_killed_ringer_is_succeeded),
        cmocka_unit_test(test_the_number_wraps),
        cmocka_unit_test(test_no_sleeper_is_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
