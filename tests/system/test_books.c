/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=120 serial */
/*
 * N1, P1, P2, P4: with several publishers and subscribers, both policies, and processes killed in
 * the middle, every surviving queue is offered exactly what was published, in each publisher's
 * order, nothing twice and nothing torn; and its books balance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "support/testbus.h"

#define PUBS 3
#define SUBS 4
#define TOPICS 2

struct payload {
    uint64_t publisher, topic, n;
    uint64_t filling[5]; /* all n: a torn message shows */
};

/* What the processes of a round share. */
struct round {
    struct test_bus bus;
    uint64_t messages;
    uint64_t begun[PUBS][TOPICS]; /* publishes that have begun */
    uint64_t ended[PUBS][TOPICS]; /* and that have returned */
    uint32_t stop;
    struct {
        const char *pattern;
        int64_t queue_len;
        uint32_t full;
        uint64_t received;
    } sub[SUBS];
};

struct role {
    struct round *round;
    int index;
};

static int publisher_main(int fd, void *arg)
{
    struct role *role = arg;
    struct round *round = role->round;
    struct shmbus_conn *conn = test_connect(&round->bus);
    struct shmbus_publisher *publisher[TOPICS];
    for (int t = 0; t < TOPICS; t++) {
        char topic[32];
        snprintf(topic, sizeof(topic), "t/%d/%d", role->index, t);
        if (shmbus_prepare(conn, shmbus_text(topic), NULL, &publisher[t]))
            return 1;
    }
    test_tell(fd, 1);
    (void)test_hear(fd);
    for (uint64_t n = 1; n <= round->messages; n++) {
        int t = n % TOPICS;
        struct payload p = {.publisher = (uint64_t)role->index, .topic = (uint64_t)t, .n = n};
        for (size_t i = 0; i < sb_array_len(p.filling); i++)
            p.filling[i] = n;
        sb_store_release(&round->begun[role->index][t], round->begun[role->index][t] + 1);
        if (shmbus_publisher_publish(publisher[t], &p, sizeof(p), NULL, NULL)) {
            fprintf(stderr, "publish: %s\n", shmbus_errmsg());
            return 1;
        }
        sb_store_release(&round->ended[role->index][t], round->ended[role->index][t] + 1);
    }
    for (int t = 0; t < TOPICS; t++)
        shmbus_publisher_free(publisher[t]);
    shmbus_conn_free(conn);
    return 0;
}

/* Whether the message is whole, and later than its publisher's last one here. */
static bool message_good(const struct shmbus_message *m, uint64_t last[PUBS])
{
    struct payload p;
    if (m->size != sizeof(p))
        return false;
    memcpy(&p, m->payload, sizeof(p));
    char topic[32];
    snprintf(topic, sizeof(topic), "t/%d/%d", (int)p.publisher, (int)p.topic);
    bool whole = strcmp(topic, m->topic->text) == 0 && p.publisher < PUBS;
    for (size_t i = 0; i < sb_array_len(p.filling); i++)
        whole = whole && p.filling[i] == p.n;
    bool later = whole && p.n > last[p.publisher];
    if (whole)
        last[p.publisher] = p.n;
    return later;
}

static int subscriber_main(int fd, void *arg)
{
    struct role *role = arg;
    struct round *round = role->round;
    struct shmbus_conn *conn = test_connect(&round->bus);
    struct shmbus_sub *sub =
        test_subscribe(conn, round->sub[role->index].pattern, round->sub[role->index].queue_len,
                       round->sub[role->index].full);
    test_tell(fd, 1);
    uint64_t last[PUBS] = {0}, received = 0, lost = 0;
    bool stopping = false;
    for (;;) {
        struct shmbus_message m[8];
        size_t count = 0;
        /* The stop first: what was published before it is found by the receive after it. */
        bool stop = sb_load_acquire(&round->stop);
        int ret = shmbus_recv_many(sub, m, 8, &count, stop ? 0 : 2000000);
        if (ret == SHMBUS_EMPTY && stopping)
            break;
        if (ret < 0) {
            fprintf(stderr, "recv: %s\n", shmbus_errmsg());
            return 1;
        }
        stopping = stop;
        for (size_t i = 0; ret == 0 && i < count; i++) {
            if (!message_good(&m[i], last)) {
                fprintf(stderr, "sub %d: a message is torn, twice, or out of order\n", role->index);
                return 1;
            }
            lost += m[i].lost_before;
            shmbus_release(&m[i]);
        }
        received += ret == 0 ? count : 0;
        sb_store_relaxed(&round->sub[role->index].received, received);
    }
    struct shmbus_queue_stats books = test_books(sub);
    if (books.received != received || books.queued != 0 || lost > books.dropped) {
        fprintf(stderr, "sub %d: received %" PRIu64 " of %" PRIu64 ", queued %" PRIu64 "\n",
                role->index, received, books.received, books.queued);
        return 1;
    }
    test_tell(fd, books.offered);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    return 0;
}

static bool matches(const char *pattern, int publisher, int topic)
{
    char text[32];
    snprintf(text, sizeof(text), "t/%d/%d", publisher, topic);
    int match = 0;
    assert_int_equal(shmbus_topic_match(shmbus_text(pattern), shmbus_text(text), NULL, &match), 0);
    return match;
}

/* How much the pattern's queue must have been offered: at least, at most. */
static void expected(const struct round *round, const char *pattern, uint64_t *least,
                     uint64_t *most)
{
    *least = *most = 0;
    for (int p = 0; p < PUBS; p++) {
        for (int t = 0; t < TOPICS; t++) {
            if (!matches(pattern, p, t))
                continue;
            *least += sb_load_acquire(&round->ended[p][t]);
            *most += sb_load_acquire(&round->begun[p][t]);
        }
    }
}

static bool progressed(void *arg)
{
    struct round *round = arg;
    uint64_t sum = 0;
    for (int p = 0; p < PUBS; p++)
        sum += sb_load_acquire(&round->ended[p][0]);
    return sum > round->messages / 4;
}

static void run_round(uint64_t *seed, bool kill_publisher, bool kill_subscriber)
{
    static const char *const patterns[] = {"#", "t/#", "t/+/0", "t/1/+", "t/0/1"};
    static const int64_t lengths[] = {1, 3, 10, 64, 4096};
    struct round *round =
        mmap(NULL, sizeof(*round), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(round != MAP_FAILED);
    round->messages = test_light() ? 3000 : 60000;
    test_bus_start(&round->bus, NULL);
    struct test_proc subs[SUBS], pubs[PUBS];
    struct role roles[SUBS];
    for (int i = 0; i < SUBS; i++) {
        round->sub[i].pattern = patterns[test_random(seed) % sb_array_len(patterns)];
        round->sub[i].queue_len = lengths[test_random(seed) % sb_array_len(lengths)];
        round->sub[i].full = 1 + test_random(seed) % 2;
        roles[i] = (struct role){round, i};
        subs[i] = test_spawn(subscriber_main, &roles[i]);
        (void)test_hear(subs[i].fd);
    }
    for (int i = 0; i < PUBS; i++) {
        roles[i] = (struct role){round, i};
        pubs[i] = test_spawn(publisher_main, &roles[i]);
        (void)test_hear(pubs[i].fd);
    }
    for (int i = 0; i < PUBS; i++)
        test_tell(pubs[i].fd, 1);
    test_until(progressed, round, 60000);
    if (kill_publisher)
        test_kill(&pubs[0]);
    if (kill_subscriber)
        test_kill(&subs[0]);
    for (int i = kill_publisher; i < PUBS; i++)
        assert_int_equal(test_join(&pubs[i]), 0);
    sb_store_release(&round->stop, 1);
    for (int i = kill_subscriber; i < SUBS; i++) {
        uint64_t offered = test_hear_or(subs[i].fd, UINT64_MAX), least, most;
        expected(round, round->sub[i].pattern, &least, &most);
        assert_int_equal(test_join(&subs[i]), 0);
        assert_in_range(offered, least, most);
    }
    test_bus_stop(&round->bus);
    munmap(round, sizeof(*round));
}

static void test_N1_books_balance(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int i = 0; i < (test_light() ? 1 : 4); i++)
        run_round(&seed, false, false);
}

static void test_N1_books_balance_after_a_publisher_is_killed(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int i = 0; i < (test_light() ? 1 : 4); i++)
        run_round(&seed, true, false);
}

static void test_N1_books_balance_after_a_subscriber_is_killed(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int i = 0; i < (test_light() ? 1 : 4); i++)
        run_round(&seed, false, true);
}

static void test_N1_books_balance_after_both_are_killed(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int i = 0; i < (test_light() ? 1 : 4); i++)
        run_round(&seed, true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_N1_books_balance),
        cmocka_unit_test(test_N1_books_balance_after_a_publisher_is_killed),
        cmocka_unit_test(test_N1_books_balance_after_a_subscriber_is_killed),
        cmocka_unit_test(test_N1_books_balance_after_both_are_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
