/* SPDX-License-Identifier: Apache-2.0 */
/* Tries against a list of keys and the matching of single topics: one thread, no concurrency. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "shm/trie_node.h"
#include "support/arena.h"
#include "support/topics.h"

#define KEYS 300u

struct fixture {
    struct test_arena arena;
    struct sb_trie trie;
    uint64_t used_empty;
    struct test_topic key[KEYS];
    uint64_t value[KEYS]; /* 0: not in the trie */
    uint32_t node[KEYS];
    unsigned found[KEYS];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    test_arena_init(&f->arena, 16 << 20);
    struct test_arena_header *header = f->arena.header;
    assert_int_equal(sb_trie_init(&f->trie, &header->trie, (uint8_t *)header, &f->arena.slab), 0);
    f->used_empty = f->arena.slab.used;
    *state = f;
    return 0;
}

/* Whatever a test leaves in the trie goes, and with it every byte it took. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(sb_trie_remove(&f->trie, f->key[i].bytes, f->key[i].len), f->value[i]);
    assert_int_equal(test_arena_collect(&f->arena), 0);
    assert_int_equal(f->arena.slab.used, f->used_empty);
    assert_int_equal(f->arena.header->trie.nodes, 0);
    test_arena_deinit(&f->arena);
    free(f);
    return 0;
}

static void put(struct fixture *f, unsigned i, uint64_t value)
{
    uint32_t node = 0;
    assert_int_equal(sb_trie_put(&f->trie, f->key[i].bytes, f->key[i].len, value, &node), 0);
    assert_true(f->value[i] == 0 || node == f->node[i]);
    f->value[i] = value;
    f->node[i] = node;
}

static bool note_found(void *ctx, uint64_t value, uint32_t node)
{
    struct fixture *f = ctx;
    unsigned i = (unsigned)(value % KEYS);
    assert_true(f->value[i] == value);
    assert_int_equal(f->node[i], node);
    f->found[i]++;
    return true;
}

/* Each key at most once, and just those that match: by the matching of one pattern to one topic. */
static void check_match(struct fixture *f, const struct test_topic *query, bool patterns_stored)
{
    struct sb_trie_reader r = sb_trie_writer_view(&f->trie);
    memset(f->found, 0, sizeof(f->found));
    int rc = patterns_stored ? sb_trie_match_patterns(&r, query->bytes, query->len, note_found, f)
                             : sb_trie_match_topics(&r, query->bytes, query->len, note_found, f);
    assert_int_equal(rc, 0);
    for (unsigned i = 0; i < KEYS; i++) {
        const struct test_topic *pattern = patterns_stored ? &f->key[i] : query;
        const struct test_topic *topic = patterns_stored ? query : &f->key[i];
        bool match = f->value[i] != 0 &&
                     sb_topic_match(pattern->bytes, pattern->len, topic->bytes, topic->len);
        assert_int_equal(f->found[i], match);
    }
}

static void check_find(const struct fixture *f, unsigned i)
{
    struct sb_trie_reader r = sb_trie_writer_view(&f->trie);
    uint64_t value = 0;
    uint32_t node = 0;
    int rc = sb_trie_find(&r, f->key[i].bytes, f->key[i].len, &value, &node);
    assert_int_equal(rc, f->value[i] != 0 ? 0 : SB_TRIE_ABSENT);
    assert_true(value == f->value[i]);
    if (rc != 0)
        return;
    struct test_topic back;
    assert_int_equal(node, f->node[i]);
    assert_int_equal(sb_trie_key(&r, node, back.bytes, sizeof(back.bytes), &back.len), 0);
    assert_true(test_topic_equal(&back, &f->key[i]));
}

static bool is_known(const struct fixture *f, unsigned before, const struct test_topic *key)
{
    for (unsigned i = 0; i < before; i++)
        if (test_topic_equal(&f->key[i], key))
            return true;
    return false;
}

static void agree_with_oracle(struct fixture *f, bool patterns_stored)
{
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned i = 0; i < KEYS; i++)
        do
            test_topic_random(&f->key[i], 6, patterns_stored);
        while (is_known(f, i, &f->key[i]));
    int rounds = getenv("SHMBUS_TEST_LIGHT") ? 2000 : 20000;
    for (int round = 0; round < rounds; round++) {
        /* Now mostly growing, now mostly shrinking. */
        unsigned i = (unsigned)rand() % KEYS;
        if ((unsigned)rand() % 8 < (round / 1000 % 2 ? 6 : 2))
            put(f, i, (uint64_t)rand() * KEYS + i + KEYS);
        else {
            assert_true(sb_trie_remove(&f->trie, f->key[i].bytes, f->key[i].len) == f->value[i]);
            f->value[i] = 0;
        }
        check_find(f, i);
        check_find(f, (unsigned)rand() % KEYS);
        struct test_topic query;
        test_topic_random(&query, 6, !patterns_stored);
        check_match(f, &query, patterns_stored);
        if (rand() % 16 == 0)
            assert_int_equal(test_arena_collect(&f->arena), 0);
    }
}

static void test_pattern_trie_agrees_with_oracle(void **state)
{
    agree_with_oracle(*state, true);
}

static void test_topic_trie_agrees_with_oracle(void **state)
{
    agree_with_oracle(*state, false);
}

static void test_wildcards_by_hand(void **state)
{
    struct fixture *f = *state;
    static const char *const patterns[] = {"a/#", "#", "a/+", "+/+", "a", "a/\\+", "+/#"};
    for (unsigned i = 0; i < sb_array_len(patterns); i++) {
        f->key[i] = test_pattern(patterns[i]);
        put(f, i, KEYS + i);
    }
    struct test_topic topic = test_topic("a");
    check_match(f, &topic, true);
    assert_int_equal(f->found[0] + f->found[1] + f->found[4] + f->found[6], 4);
    assert_int_equal(f->found[2] + f->found[3] + f->found[5], 0);
    topic = test_topic("a/+");
    check_match(f, &topic, true);
    assert_int_equal(f->found[0] + f->found[1] + f->found[2] + f->found[3] + f->found[5], 5);
    topic = test_topic("a/b");
    check_match(f, &topic, true);
    assert_int_equal(f->found[5], 0);
}

static void test_longest_keys(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 32; i++) {
        f->key[0].bytes[f->key[0].len++] = SB_TOKEN_STRING;
        f->key[0].bytes[f->key[0].len++] = 0;
    }
    put(f, 0, KEYS);
    f->key[1] = f->key[0];
    for (unsigned i = 0; i < 32; i++)
        f->key[1].bytes[i] = SB_TOKEN_SINGLE;
    f->key[1].len = 32;
    check_match(f, &f->key[1], false);
    assert_int_equal(f->found[0], 1);
    struct test_topic all = test_pattern("#");
    check_match(f, &all, false);
    assert_int_equal(f->found[0], 1);
    put(f, 1, KEYS + 1);
    check_match(f, &f->key[0], true);
    assert_int_equal(f->found[1], 1);
    struct test_topic longer = f->key[1];
    longer.bytes[longer.len++] = SB_TOKEN_SINGLE;
    assert_int_equal(sb_trie_put(&f->trie, longer.bytes, longer.len, 1, NULL), SHMBUS_E_INVALID);
    assert_int_equal(sb_trie_put(&f->trie, longer.bytes, 0, 1, NULL), SHMBUS_E_INVALID);
}

static bool stop_at_once(void *ctx, uint64_t value, uint32_t node)
{
    (void)value, (void)node;
    ++*(int *)ctx;
    return false;
}

static void test_visit_can_stop(void **state)
{
    struct fixture *f = *state;
    f->key[0] = test_topic("a/b");
    f->key[1] = test_topic("a/c");
    put(f, 0, KEYS);
    put(f, 1, KEYS + 1);
    struct sb_trie_reader r = sb_trie_writer_view(&f->trie);
    struct test_topic all = test_pattern("#");
    int visits = 0;
    assert_int_equal(sb_trie_match_topics(&r, all.bytes, all.len, stop_at_once, &visits),
                     SB_TRIE_STOPPED);
    assert_int_equal(visits, 1);
}

/* Keys whose chains begin at one slot, chosen with the table's seed in hand. */
static void test_colliding_keys_change_the_seed(void **state)
{
    struct fixture *f = *state;
    struct sb_trie_root *root = &f->arena.header->trie;
    uint32_t seed = sb_trie_table_of(root->table).seed;
    char text[16];
    for (unsigned i = 0, n = 0; i < KEYS; n++) {
        snprintf(text, sizeof(text), "%u", n);
        struct test_topic key = test_topic(text);
        struct sb_trie_token token = {key.bytes, (uint32_t)key.len, SB_TOKEN_STRING};
        if (sb_trie_hash(seed, root->top, &token) % 1024 != 7)
            continue;
        f->key[i] = key;
        put(f, i, KEYS + i);
        i++;
    }
    assert_int_not_equal(sb_trie_table_of(root->table).seed, seed);
    for (unsigned i = 0; i < KEYS; i++)
        check_find(f, i);
}

static void test_full_arena_leaves_everything_as_it_was(void **state)
{
    (void)state;
    struct test_arena small;
    struct sb_trie trie;
    test_arena_init(&small, 40000);
    uint8_t *base = (uint8_t *)small.header;
    assert_int_equal(sb_trie_init(&trie, &small.header->trie, base, &small.slab), 0);
    uint64_t used_empty = small.slab.used;
    char text[64];
    unsigned count = 0;
    uint32_t nodes;
    int rc;
    do {
        snprintf(text, sizeof(text), "some/longer/topic/%u/with/tokens", count);
        struct test_topic key = test_topic(text);
        nodes = small.header->trie.nodes;
        test_arena_collect(&small);
        rc = sb_trie_put(&trie, key.bytes, key.len, 1 + count++, NULL);
    } while (rc == 0);
    assert_int_equal(rc, SHMBUS_E_LIMIT);
    assert_int_equal(small.header->trie.nodes, nodes);
    for (unsigned i = 0; i < count; i++) {
        snprintf(text, sizeof(text), "some/longer/topic/%u/with/tokens", i);
        struct test_topic key = test_topic(text);
        assert_int_equal(sb_trie_remove(&trie, key.bytes, key.len), i == count - 1 ? 0 : 1 + i);
        test_arena_collect(&small);
    }
    assert_int_equal(small.slab.used, used_empty);
    test_arena_deinit(&small);
}

/* Who began with the old table goes on in it. */
static void test_replaced_table_waits_for_pins(void **state)
{
    struct fixture *f = *state;
    struct test_arena_header *header = f->arena.header;
    struct sb_epoch_pin pin;
    struct sb_trie_query old;
    for (unsigned i = 0; i < 20; i++) {
        while (f->key[i].len == 0 || is_known(f, i, &f->key[i]))
            test_topic_random(&f->key[i], 5, false);
        put(f, i, KEYS + i);
    }
    sb_epoch_pin(&pin, &header->epoch, &header->pin[0]);
    struct sb_trie_reader r = {test_arena_region(&f->arena), &header->trie, &pin};
    assert_int_equal(sb_trie_query_init(&old, &r), 0);
    uint64_t word = header->trie.table;
    for (unsigned i = 20; i < KEYS; i++) {
        while (f->key[i].len == 0 || is_known(f, i, &f->key[i]))
            test_topic_random(&f->key[i], 5, false);
        put(f, i, KEYS + i);
    }
    assert_true(header->trie.table != word);
    assert_true(test_arena_collect(&f->arena) >= ((uint64_t)old.mask + 1) * 4);
    for (unsigned i = 0; i < 20; i++) {
        struct sb_trie_path path;
        uint32_t ref = header->trie.top;
        assert_true(sb_trie_split(&path, f->key[i].bytes, f->key[i].len));
        for (unsigned depth = 0; depth < path.count; depth++)
            assert_int_equal(sb_trie_child(&old, ref, &path.token[depth], &ref), 0);
        assert_int_equal(ref, f->node[i]);
    }
    assert_true(sb_epoch_unpin(&pin));
}

static bool visit_anything(void *ctx, uint64_t value, uint32_t node)
{
    const struct sb_trie_reader *r = ctx;
    struct test_topic key;
    (void)value;
    (void)!sb_trie_key(r, node, key.bytes, sizeof(key.bytes), &key.len);
    return true;
}

/* A reader of an arena in which words are wrong stays inside and ends. */
static void read_spoiled(const struct fixture *f, uint64_t size, unsigned changes)
{
    uint32_t *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, f->arena.header, size);
    for (unsigned i = 0; i < changes; i++) {
        uint32_t *word = &copy[(unsigned)rand() % (size / 4)];
        *word = rand() % 2 ? copy[(unsigned)rand() % (size / 4)] : *word ^ 1u << rand() % 32;
    }
    const struct test_arena_header *header = (const void *)copy;
    struct sb_trie_reader r = {{(const uint8_t *)copy, size}, &header->trie, NULL};
    for (int i = 0; i < 20; i++) {
        struct test_topic q;
        uint64_t value;
        uint32_t node;
        test_topic_random(&q, 6, i % 2);
        (void)!sb_trie_find(&r, q.bytes, q.len, &value, &node);
        (void)!sb_trie_match_topics(&r, q.bytes, q.len, visit_anything, &r);
        (void)!sb_trie_match_patterns(&r, q.bytes, q.len, visit_anything, &r);
    }
    free(copy);
}

static void test_spoiled_arena_harms_no_reader(void **state)
{
    struct fixture *f = *state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned i = 0; i < KEYS; i++) {
        do
            test_topic_random(&f->key[i], 6, true);
        while (is_known(f, i, &f->key[i]));
        put(f, i, KEYS + i);
    }
    uint64_t size = f->arena.header->size;
    for (int round = 0; round < 300; round++)
        read_spoiled(f, round % 10 ? size : (unsigned)rand() % size / 4 * 4 + 256,
                     1u << rand() % 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wildcards_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longest_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_visit_can_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pattern_trie_agrees_with_oracle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_topic_trie_agrees_with_oracle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_colliding_keys_change_the_seed, setup, teardown),
        cmocka_unit_test(test_full_arena_leaves_everything_as_it_was),
        cmocka_unit_test_setup_teardown(test_replaced_table_waits_for_pins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spoiled_arena_harms_no_reader, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
