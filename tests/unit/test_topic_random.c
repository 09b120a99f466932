/* SPDX-License-Identifier: Apache-2.0 */
/* The rules T1 to T5 of the contract for millions of random topics, against the oracle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include <shmbus/error.h>

#include "unit/topic_property.h"

static const struct sb_wildcards *const W = &sb_wildcards_default;

static uint64_t seed;

/* How many rounds: a twentieth of what it is otherwise where the test runs under sanitizers. */
static int rounds(int n)
{
    return getenv("SHMBUS_TEST_LIGHT") ? n / 20 : n;
}

static size_t encode(const struct oracle_topic *topic, enum sb_topic_as as,
                     uint8_t out[SB_TOPIC_MAX])
{
    size_t len = 0;
    if (sb_topic_encode(oracle_as_topic(topic), as, W, out, SB_TOPIC_MAX, &len))
        fail_msg("%s", shmbus_errmsg());
    return len;
}

static void test_T2_match_agrees_with_the_oracle(void **state)
{
    (void)state;
    uint64_t random = seed;
    uint8_t a[SB_TOPIC_MAX], b[SB_TOPIC_MAX];
    int matched = 0;
    int n = rounds(1000000);
    for (int i = 0; i < n; i++) {
        struct oracle_topic topic, pattern;
        oracle_random_topic(&random, &topic, i % 50 ? 4 : SHMBUS_TOPIC_TOKENS_MAX);
        oracle_random_pattern(&random, &topic, W, &pattern);
        bool expected = oracle_match(pattern.tokens, pattern.count, topic.tokens, topic.count, W);
        size_t a_len = encode(&pattern, SB_TOPIC_PATTERN, a);
        size_t b_len = encode(&topic, SB_TOPIC_CONCRETE, b);
        if (sb_topic_match(a, a_len, b, b_len) != expected)
            fail_msg("round %d", i);
        matched += expected;
    }
    assert_in_range(matched, n / 4, n - n / 4);
}

static void test_T5_order_agrees_with_the_oracle(void **state)
{
    (void)state;
    uint64_t random = seed;
    uint8_t a[SB_TOPIC_MAX], b[SB_TOPIC_MAX];
    int n = rounds(1000000);
    for (int i = 0; i < n; i++) {
        struct oracle_topic left, right;
        oracle_random_topic(&random, &left, 3);
        oracle_random_topic(&random, &right, 3);
        for (size_t j = 0; j < left.count && j < right.count && oracle_below(&random, 2); j++)
            right.tokens[j] = left.tokens[j];
        int expected = oracle_order(left.tokens, left.count, right.tokens, right.count);
        size_t a_len = encode(&left, SB_TOPIC_CONCRETE, a);
        size_t b_len = encode(&right, SB_TOPIC_CONCRETE, b);
        int order = sb_topic_compare(a, a_len, b, b_len);
        if ((order > 0) - (order < 0) != expected)
            fail_msg("round %d: %d, not %d", i, order, expected);
    }
}

static void assert_holds(const char *broken, int round)
{
    if (broken)
        fail_msg("round %d: %s", round, broken);
}

static void test_T1_T4_random_topics_round_trip(void **state)
{
    (void)state;
    uint64_t random = seed;
    uint8_t a[SB_TOPIC_MAX], b[SB_TOPIC_MAX];
    int n = rounds(60000);
    for (int i = 0; i < n; i++) {
        struct oracle_topic topic, pattern;
        oracle_random_topic(&random, &topic, 6);
        oracle_random_pattern(&random, &topic, W, &pattern);
        size_t b_len = encode(&topic, SB_TOPIC_CONCRETE, b);
        size_t a_len = encode(&pattern, SB_TOPIC_PATTERN, a);
        assert_holds(topic_encoded_holds(b, b_len, W), i);
        assert_holds(topic_encoded_holds(a, a_len, W), i);
        assert_holds(topic_pair_holds(a, a_len, b, b_len, W), i);
    }
}

static void test_T1_mutated_bytes_are_refused_or_canonical(void **state)
{
    (void)state;
    uint64_t random = seed;
    uint8_t bytes[SB_TOPIC_MAX];
    int valid = 0;
    int n = rounds(250000);
    for (int i = 0; i < n; i++) {
        struct oracle_topic topic, pattern;
        oracle_random_topic(&random, &topic, 4);
        oracle_random_pattern(&random, &topic, W, &pattern);
        size_t len = encode(&pattern, SB_TOPIC_PATTERN, bytes);
        for (unsigned j = 1 + oracle_below(&random, 3); j > 0; j--) {
            uint8_t *byte = &bytes[oracle_below(&random, (unsigned)len)];
            *byte = oracle_below(&random, 2) ? (uint8_t)oracle_random(&random)
                                             : (uint8_t)(*byte ^ 1u << oracle_below(&random, 8));
        }
        if (oracle_below(&random, 4) == 0)
            len = oracle_below(&random, (unsigned)len);
        valid += sb_topic_check(bytes, len, true) == 0;
        assert_holds(topic_encoded_holds(bytes, len, W), i);
    }
    assert_in_range(valid, n / 20, n - n / 20);
}

static void test_T4_random_text_is_refused_or_holds(void **state)
{
    (void)state;
    static const char alphabet[] = "ab//\\\\x0==1+#.-e \xc3\xa9\xff";
    uint64_t random = seed;
    uint8_t data[2 + 24];
    int n = rounds(250000);
    for (int i = 0; i < n; i++) {
        size_t len = 2 + oracle_below(&random, sizeof(data) - 1);
        data[0] = (uint8_t)oracle_random(&random);
        data[1] = (uint8_t)oracle_random(&random);
        for (size_t j = 2; j < len; j++)
            data[j] = (uint8_t)alphabet[oracle_below(&random, sizeof(alphabet) - 1)];
        assert_holds(topic_property(data, len), i);
    }
}

/* The seed is SHMBUS_TEST_SEED, or the time. */
int main(void)
{
    const char *given = getenv("SHMBUS_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_nsec << 20 | 1;
    printf("SHMBUS_TEST_SEED=%#llx\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_T2_match_agrees_with_the_oracle),
        cmocka_unit_test(test_T5_order_agrees_with_the_oracle),
        cmocka_unit_test(test_T1_T4_random_topics_round_trip),
        cmocka_unit_test(test_T1_mutated_bytes_are_refused_or_canonical),
        cmocka_unit_test(test_T4_random_text_is_refused_or_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
