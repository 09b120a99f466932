/* SPDX-License-Identifier: Apache-2.0 */
/* Encoded topics and patterns for tests, from text or at random. */
#ifndef SB_TEST_TOPICS_H
#define SB_TEST_TOPICS_H

#include "proto/topic.h"

#define TEST_TOPIC_MAX 2048u

struct test_topic {
    size_t len;
    uint8_t bytes[TEST_TOPIC_MAX];
};

/* The topic, or with wildcards the pattern, of a text; fails the test if it is none. */
struct test_topic test_topic(const char *text);
struct test_topic test_pattern(const char *text);

/* Of 1..most tokens out of few, so that many topics meet; uses rand(). */
void test_topic_random(struct test_topic *t, unsigned most, bool wildcards);

SB_INLINE bool test_topic_equal(const struct test_topic *a, const struct test_topic *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

#endif
