/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of tries in other processes, and for TSan in threads, while the writer changes them.
 *
 * Each key has a word that says whether it is in, out or being changed, and how often that changed.
 * A reader who finds the word unchanged behind its query knows what the query must have said.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/arena.h"
#include "support/topics.h"

#define KEYS 96u
#define CHURN 400u /* more keys, that nobody watches, for tables and pages to come and go */
#define READERS 2u

/* A key's word: 4n out, 4n + 2 in, odd while it changes. */
enum { KEY_OUT = 0, KEY_IN = 2 };

struct shared {
    uint64_t key_state[KEYS];
    uint32_t stop;
    uint64_t verdicts[READERS]; /* queries' keys whose presence was known, and right */
    uint64_t thrown[READERS];   /* queries whose pin was broken */
    uint64_t wrong[READERS];
};

struct fixture {
    struct test_arena arena;
    struct sb_trie trie;
    uint64_t used_empty;
    bool patterns; /* kind of the trie */
    struct shared *shared;
    struct test_topic key[KEYS];
    struct test_topic churn[CHURN];
    bool churn_in[CHURN];
};

static void make_keys(struct fixture *f)
{
    for (unsigned i = 0; i < KEYS + CHURN; i++) {
        struct test_topic *key = i < KEYS ? &f->key[i] : &f->churn[i - KEYS];
        bool known = true;
        while (known) {
            test_topic_random(key, 5, f->patterns);
            known = false;
            for (unsigned j = 0; j < i && !known; j++)
                known = test_topic_equal(key, j < KEYS ? &f->key[j] : &f->churn[j - KEYS]);
        }
    }
}

static void init(struct fixture *f, bool patterns)
{
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    memset(f, 0, sizeof(*f));
    test_arena_init(&f->arena, 16 << 20);
    uint8_t *base = (uint8_t *)f->arena.header;
    assert_int_equal(sb_trie_init(&f->trie, &f->arena.header->trie, base, &f->arena.slab), 0);
    f->used_empty = f->arena.slab.used;
    f->patterns = patterns;
    f->shared =
        mmap(NULL, sizeof(*f->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(f->shared, MAP_FAILED);
    make_keys(f);
}

static void deinit(struct fixture *f)
{
    for (unsigned i = 0; i < KEYS + CHURN; i++) {
        struct test_topic *key = i < KEYS ? &f->key[i] : &f->churn[i - KEYS];
        sb_trie_remove(&f->trie, key->bytes, key->len);
    }
    assert_int_equal(test_arena_collect(&f->arena), 0);
    assert_int_equal(f->arena.slab.used, f->used_empty);
    munmap(f->shared, sizeof(*f->shared));
    test_arena_deinit(&f->arena);
}

/*
 * The reader.
 */
struct answer {
    const struct fixture *f;
    const struct sb_trie_reader *reader;
    unsigned found[KEYS]; /* how often by the match */
    bool find_found;      /* the one key, by find */
    bool unexplained;     /* thrown away, though the pin held and the arena did not grow */
    unsigned wrong;       /* values or keys that belong to another key */
};

static bool note(void *ctx, uint64_t value, uint32_t node)
{
    struct answer *a = ctx;
    if (value > KEYS)
        return true; /* churn, or garbage under a broken pin */
    struct test_topic key;
    const struct test_topic *right = &a->f->key[value - 1];
    a->found[value - 1]++;
    if (sb_trie_key(a->reader, node, key.bytes, sizeof(key.bytes), &key.len) != 0 ||
        !test_topic_equal(&key, right))
        a->wrong++;
    return true;
}

static int ask(const struct fixture *f, struct answer *a, const struct test_topic *query)
{
    if (f->patterns)
        return sb_trie_match_patterns(a->reader, query->bytes, query->len, note, a);
    return sb_trie_match_topics(a->reader, query->bytes, query->len, note, a);
}

static bool key_matches(const struct fixture *f, unsigned i, const struct test_topic *query)
{
    const struct test_topic *pattern = f->patterns ? &f->key[i] : query;
    const struct test_topic *topic = f->patterns ? query : &f->key[i];
    return sb_topic_match(pattern->bytes, pattern->len, topic->bytes, topic->len);
}

/* The match, and a find of one of the keys; false if the result is to be thrown away. */
static bool pinned_query(const struct fixture *f, unsigned who, const struct test_topic *query,
                         unsigned one, struct answer *a)
{
    struct test_arena_header *header = f->arena.header;
    struct sb_epoch_pin pin;
    sb_epoch_pin(&pin, &header->epoch, &header->pin[who]);
    struct sb_trie_reader reader = {test_arena_region(&f->arena), &header->trie, &pin};
    memset(a, 0, sizeof(*a));
    a->f = f;
    a->reader = &reader;
    uint64_t value = 0;
    int match = ask(f, a, query);
    int find = sb_trie_find(&reader, f->key[one].bytes, f->key[one].len, &value, NULL);
    a->find_found = find == 0;
    a->wrong += find == 0 && value != one + 1;
    bool grown = test_arena_region(&f->arena).size != reader.arena.size;
    bool torn = match == SB_TRIE_TORN || find == SB_TRIE_TORN;
    bool good = sb_epoch_unpin(&pin);
    a->unexplained = torn && good && !grown;
    return good && !torn;
}

static void reader_round(const struct fixture *f, unsigned who, const struct test_topic *query,
                         unsigned one)
{
    struct shared *s = f->shared;
    uint64_t before[KEYS];
    struct answer a;
    for (unsigned i = 0; i < KEYS; i++)
        before[i] = sb_load_acquire(&s->key_state[i]);
    if (!pinned_query(f, who, query, one, &a)) {
        sb_bump_relaxed(&s->thrown[who], 1);
        sb_bump_relaxed(&s->wrong[who], a.unexplained);
        return;
    }
    sb_fence_acquire(); /* the query before the second look at the words */
    unsigned wrong = a.wrong;
    unsigned verdicts = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        bool match = key_matches(f, i, query);
        wrong += a.found[i] > match; /* that at most once */
        if (before[i] % 2 != 0 || sb_load_relaxed(&s->key_state[i]) != before[i])
            continue;
        bool in = before[i] % 4 == KEY_IN;
        verdicts++;
        wrong += a.found[i] != (in && match);
        wrong += i == one && a.find_found != in;
    }
    sb_bump_relaxed(&s->wrong[who], wrong);
    sb_bump_relaxed(&s->verdicts[who], verdicts);
}

struct reader {
    const struct fixture *f;
    unsigned who;
};

static void *reader_main(void *arg)
{
    const struct reader *r = arg;
    struct test_topic query[64];
    for (unsigned i = 0; i < sb_array_len(query); i++)
        test_topic_random(&query[i], 5, !r->f->patterns);
    if (!r->f->patterns)
        query[0] = test_pattern("#");
    for (unsigned i = 0; !sb_load_relaxed(&r->f->shared->stop); i++)
        reader_round(r->f, r->who, &query[i % sb_array_len(query)], i % KEYS);
    return NULL;
}

/*
 * The writer.
 */
static void flip_watched(struct fixture *f, unsigned i)
{
    uint64_t *word = &f->shared->key_state[i];
    uint64_t state = sb_load_relaxed(word);
    sb_store_relaxed(word, state + 1);
    sb_fence_release(); /* "changing" before the change; pairs with the reader's acquire fence */
    const struct test_topic *key = &f->key[i];
    if (state % 4 == KEY_OUT)
        assert_int_equal(sb_trie_put(&f->trie, key->bytes, key->len, i + 1, NULL), 0);
    else
        assert_int_equal(sb_trie_remove(&f->trie, key->bytes, key->len), i + 1);
    sb_store_release(word, state + 2);
}

static void flip_churn(struct fixture *f, unsigned i)
{
    const struct test_topic *key = &f->churn[i];
    if (f->churn_in[i])
        assert_int_equal(sb_trie_remove(&f->trie, key->bytes, key->len), KEYS + 1 + i);
    else
        assert_int_equal(sb_trie_put(&f->trie, key->bytes, key->len, KEYS + 1 + i, NULL), 0);
    f->churn_in[i] = !f->churn_in[i];
}

/* Changes the trie until every reader has had its say; pins are collected around, or broken. */
static void write_until_judged(struct fixture *f, uint64_t verdicts, uint64_t thrown, bool breaks)
{
    int64_t end = sb_clock_after(50 * SB_NS_PER_S);
    bool done = false;
    for (unsigned n = 0; !done; n++) {
        flip_watched(f, (unsigned)rand() % KEYS);
        /* All in, then all out, in turns: the table grows and shrinks. */
        flip_churn(f, n / CHURN % 2 ? n % CHURN : (unsigned)rand() % CHURN);
        test_arena_collect(&f->arena);
        if (breaks && n % 8 == 0)
            sb_slab_break(&f->arena.slab);
        if (n % 1024 != 0)
            continue;
        done = true;
        for (unsigned i = 0; i < READERS; i++)
            done = done && sb_load_relaxed(&f->shared->verdicts[i]) >= verdicts &&
                   sb_load_relaxed(&f->shared->thrown[i]) >= thrown;
        assert_true(done || sb_clock_ns() < end);
    }
    sb_store_relaxed(&f->shared->stop, 1);
}

static void check_verdicts(const struct fixture *f)
{
    for (unsigned i = 0; i < READERS; i++) {
        print_message("reader %u: %llu right, %llu wrong, %llu queries thrown away\n", i,
                      (unsigned long long)f->shared->verdicts[i],
                      (unsigned long long)f->shared->wrong[i],
                      (unsigned long long)f->shared->thrown[i]);
        assert_int_equal(f->shared->wrong[i], 0);
    }
}

static uint64_t verdicts_wanted(void)
{
    return getenv("SHMBUS_TEST_LIGHT") ? 20000 : 200000;
}

static void with_processes(bool patterns, bool breaks)
{
    struct fixture f;
    pid_t child[READERS];
    init(&f, patterns);
    for (unsigned i = 0; i < READERS; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0) {
            reader_main(&(struct reader){&f, i});
            _exit(0);
        }
    }
    write_until_judged(&f, verdicts_wanted(), breaks ? 20 : 0, breaks);
    for (unsigned i = 0; i < READERS; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    check_verdicts(&f);
    deinit(&f);
}

static void test_topics_read_by_processes(void **state)
{
    (void)state;
    with_processes(false, false);
}

static void test_patterns_read_by_processes(void **state)
{
    (void)state;
    with_processes(true, false);
}

static void test_broken_pins_give_no_wrong_answer(void **state)
{
    (void)state;
    with_processes(false, true);
    with_processes(true, true);
}

static void with_threads(bool patterns)
{
    struct fixture f;
    pthread_t thread[READERS];
    struct reader reader[READERS];
    init(&f, patterns);
    for (unsigned i = 0; i < READERS; i++) {
        reader[i] = (struct reader){&f, i};
        assert_int_equal(pthread_create(&thread[i], NULL, reader_main, &reader[i]), 0);
    }
    write_until_judged(&f, verdicts_wanted() / 4, 5, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(thread[i], NULL);
    check_verdicts(&f);
    deinit(&f);
}

static void test_read_by_threads(void **state)
{
    (void)state;
    with_threads(false);
    with_threads(true);
}

/*
 * One reader that stops, or dies, with its pin set.
 */
static void read_byte(int fd)
{
    char byte;
    if (read(fd, &byte, 1) != 1)
        _exit(3);
}

/* Pins, tells, waits to be told, and asks; then asks again. Exits with 0 if only the first answer
 * was to be thrown away. */
static void stopped_reader(const struct fixture *f, int tell, int wait_for)
{
    struct test_arena_header *header = f->arena.header;
    struct sb_epoch_pin pin;
    struct answer a = {.f = f};
    struct test_topic all = test_pattern("#");
    sb_epoch_pin(&pin, &header->epoch, &header->pin[0]);
    struct sb_trie_reader reader = {test_arena_region(&f->arena), &header->trie, &pin};
    a.reader = &reader;
    if (write(tell, "p", 1) != 1)
        _exit(4);
    read_byte(wait_for);
    (void)!sb_trie_match_topics(&reader, all.bytes, all.len, note, &a);
    if (sb_epoch_unpin(&pin))
        _exit(1);
    _exit(pinned_query(f, 0, &all, 0, &a) ? 0 : 2);
}

static pid_t start_stopped_reader(const struct fixture *f, int *go)
{
    int told[2], wait_for[2];
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(wait_for), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        stopped_reader(f, told[1], wait_for[0]);
    close(told[1]);
    close(wait_for[0]);
    char byte;
    assert_int_equal(read(told[0], &byte, 1), 1);
    close(told[0]);
    *go = wait_for[1];
    return child;
}

static void test_stopped_reader_notices_its_broken_pin(void **state)
{
    (void)state;
    struct fixture f;
    int go, status;
    init(&f, false);
    for (unsigned i = 0; i < KEYS; i++)
        flip_watched(&f, i);
    pid_t child = start_stopped_reader(&f, &go);
    for (unsigned i = 1; i < KEYS; i++)
        flip_watched(&f, i);
    assert_int_not_equal(test_arena_collect(&f.arena), 0);
    sb_slab_break(&f.arena.slab);
    assert_int_equal(test_arena_collect(&f.arena), 0);
    for (unsigned i = 0; i < CHURN; i++)
        flip_churn(&f, i); /* uses the memory for something else */
    assert_int_equal(write(go, "g", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(go);
    deinit(&f);
}

static void test_killed_reader_keeps_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    int go, status;
    init(&f, false);
    for (unsigned i = 0; i < KEYS; i++)
        flip_watched(&f, i);
    pid_t child = start_stopped_reader(&f, &go);
    for (unsigned i = 0; i < KEYS; i++)
        flip_watched(&f, i);
    assert_int_not_equal(test_arena_collect(&f.arena), 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(go);
    /* What its death means to the writer: its pin is no longer in the list. */
    assert_int_equal(sb_slab_collect(&f.arena.slab, f.arena.pins + 1, TEST_ARENA_PINS - 1), 0);
    assert_int_equal(f.arena.slab.used, f.used_empty);
    f.arena.header->pin[0] = 0;
    deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics_read_by_processes),
        cmocka_unit_test(test_patterns_read_by_processes),
        cmocka_unit_test(test_broken_pins_give_no_wrong_answer),
        cmocka_unit_test(test_read_by_threads),
        cmocka_unit_test(test_stopped_reader_notices_its_broken_pin),
        cmocka_unit_test(test_killed_reader_keeps_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
