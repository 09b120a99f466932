/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: serial */
/*
 * What tries cost: bytes a topic, which is held to a bound, and time, which is only printed. With
 * SHMBUS_MEASURE=1 the sizes are the real ones, 1,000,000 topics and 100,000 for the times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/arena.h"
#include "support/topics.h"

struct fixture {
    struct test_arena arena;
    struct sb_trie trie;
};

static void init(struct fixture *f)
{
    test_arena_init(&f->arena, (uint64_t)1 << 30);
    uint8_t *base = (uint8_t *)f->arena.header;
    assert_int_equal(sb_trie_init(&f->trie, &f->arena.header->trie, base, &f->arena.slab), 0);
}

/* Processor time, since this machine may be doing other things. */
static int64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * SB_NS_PER_S + ts.tv_nsec;
}

static unsigned scaled(unsigned n)
{
    return getenv("SHMBUS_MEASURE") ? n : n / 20;
}

/* Four tokens: site, line, machine, signal; the last differs most. */
static struct test_topic nth_topic(unsigned i)
{
    char text[80];
    snprintf(text, sizeof(text), "site%u/line%u/machine%u/signal%u", i % 4, i / 4 % 25,
             i / 100 % 100, i / 10000);
    return test_topic(text);
}

/* The same with one or two wildcards, or the last tokens left open. */
static struct test_topic nth_pattern(unsigned i)
{
    char text[80];
    switch (i % 4) {
    case 0:
        snprintf(text, sizeof(text), "site%u/line%u/machine%u/#", i / 4 % 4, i / 16 % 25, i / 400);
        break;
    case 1:
        snprintf(text, sizeof(text), "site%u/line%u/+/signal%u", i / 4 % 4, i / 16 % 25, i / 400);
        break;
    case 2:
        snprintf(text, sizeof(text), "site%u/+/machine%u/signal%u", i / 4 % 4, i / 16 % 100,
                 i / 1600);
        break;
    default:
        snprintf(text, sizeof(text), "site%u/line%u/machine%u/signal%u", i / 4 % 4, i / 16 % 25,
                 i / 400 % 100, i / 40000);
    }
    return test_pattern(text);
}

/* Small enough that a million of them leave the caches to the trie. */
struct topic {
    uint8_t len;
    uint8_t bytes[63];
};

static struct topic *make_topics(unsigned count, struct test_topic (*nth)(unsigned))
{
    struct topic *topics = calloc(count, sizeof(*topics));
    assert_non_null(topics);
    for (unsigned i = 0; i < count; i++) {
        struct test_topic topic = nth(i);
        assert_true(topic.len <= sizeof(topics->bytes));
        topics[i].len = (uint8_t)topic.len;
        memcpy(topics[i].bytes, topic.bytes, topic.len);
    }
    return topics;
}

static void put_all(struct fixture *f, const struct topic *topics, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(sb_trie_put(&f->trie, topics[i].bytes, topics[i].len, 1 + i, NULL), 0);
        if (i % 1024 == 0)
            test_arena_collect(&f->arena);
    }
}

static void test_bytes_of_many_topics(void **state)
{
    (void)state;
    struct fixture f;
    unsigned count = scaled(1000000);
    init(&f);
    uint64_t used_empty = f.arena.slab.used;
    struct topic *topics = make_topics(count, nth_topic);
    int64_t start = cpu_ns();
    put_all(&f, topics, count);
    int64_t spent = cpu_ns() - start;
    assert_int_equal(test_arena_collect(&f.arena), 0);
    double bytes = (double)(f.arena.slab.used - used_empty) / count;
    print_message("%u topics of 4 tokens: %.1f bytes each, arena %llu MiB, put %.0f ns\n", count,
                  bytes, (unsigned long long)(sb_slab_size(&f.arena.slab) >> 20),
                  (double)spent / count);
    assert_true(bytes < 110); /* the interior nodes of few topics weigh more than those of many */
    start = cpu_ns();
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(sb_trie_remove(&f.trie, topics[i].bytes, topics[i].len), 1 + i);
        if (i % 1024 == 0)
            test_arena_collect(&f.arena);
    }
    print_message("remove %.0f ns\n", (double)(cpu_ns() - start) / count);
    free(topics);
    assert_int_equal(test_arena_collect(&f.arena), 0);
    assert_int_equal(f.arena.slab.used, used_empty);
    test_arena_deinit(&f.arena);
}

static bool count_it(void *ctx, uint64_t value, uint32_t node)
{
    (void)value, (void)node;
    ++*(uint64_t *)ctx;
    return true;
}

/* Queries in an order that no cache foresees. */
static const struct topic *pick(const struct topic *topics, unsigned count, unsigned i)
{
    return &topics[(uint64_t)i * 7919 % count];
}

static void test_time_of_find(void **state)
{
    (void)state;
    struct fixture f;
    unsigned count = scaled(100000);
    struct topic *topics = make_topics(count, nth_topic);
    init(&f);
    put_all(&f, topics, count);
    struct sb_trie_reader r = sb_trie_writer_view(&f.trie);
    int64_t start = cpu_ns();
    for (unsigned i = 0; i < count; i++) {
        const struct topic *topic = pick(topics, count, i);
        uint64_t value;
        assert_int_equal(sb_trie_find(&r, topic->bytes, topic->len, &value, NULL), 0);
    }
    print_message("find among %u topics: %.0f ns\n", count, (double)(cpu_ns() - start) / count);
    struct test_topic all = test_pattern("#");
    uint64_t found = 0;
    start = cpu_ns();
    assert_int_equal(sb_trie_match_topics(&r, all.bytes, all.len, count_it, &found), 0);
    assert_int_equal(found, count);
    print_message("enumeration: %.0f ns a topic\n", (double)(cpu_ns() - start) / count);
    test_arena_deinit(&f.arena);
    free(topics);
}

static void test_time_of_pattern_match(void **state)
{
    (void)state;
    struct fixture f;
    unsigned count = scaled(100000);
    struct topic *topics = make_topics(count, nth_topic);
    struct topic *patterns = make_topics(scaled(10000), nth_pattern);
    init(&f);
    put_all(&f, patterns, scaled(10000));
    struct sb_trie_reader r = sb_trie_writer_view(&f.trie);
    uint64_t found = 0;
    int64_t start = cpu_ns();
    for (unsigned i = 0; i < count; i++) {
        const struct topic *topic = pick(topics, count, i);
        assert_int_equal(sb_trie_match_patterns(&r, topic->bytes, topic->len, count_it, &found), 0);
    }
    print_message("match against %u patterns: %.0f ns, %.2f found\n", scaled(10000),
                  (double)(cpu_ns() - start) / count, (double)found / count);
    assert_true(found > 0);
    test_arena_deinit(&f.arena);
    free(patterns);
    free(topics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_many_topics),
        cmocka_unit_test(test_time_of_find),
        cmocka_unit_test(test_time_of_pattern_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
