/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=30 */
/* Subscriptions from the control side, with a real coordinator in another process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/client.h"
#include "os_fds.h"
#include "support/testbus.h"

#include <shmbus/shmbus.h>

static struct test_bus bus;
static struct shmbus_conn *conn;

static int with_bus(void **state)
{
    (void)state;
    test_bus_start(&bus, NULL);
    conn = test_connect(&bus);
    return 0;
}

static int without_bus(void **state)
{
    (void)state;
    shmbus_conn_free(conn);
    test_bus_stop(&bus);
    return 0;
}

static void assert_says(const char *words)
{
    if (strstr(shmbus_errmsg(), words) == NULL)
        fail_msg("\"%s\" should say \"%s\"", shmbus_errmsg(), words);
}

static void publish(struct shmbus_conn *from, const char *topic, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(shmbus_publish(from, shmbus_text(topic), &i, sizeof(i), NULL, NULL), 0);
}

/* P6 */
static void test_options(void **state)
{
    (void)state;
    static const struct {
        int64_t queue_len;
        uint32_t full, flags;
        const char *says; /* NULL: granted */
    } cases[] = {
        {SHMBUS_QUEUE_DEFAULT, 0, 0, NULL},
        {1, SHMBUS_DROP_OLDEST, 0, NULL},
        {3, SHMBUS_REJECT_NEWEST, 0, NULL},
        {SHMBUS_QUEUE_MAX, SHMBUS_DROP_OLDEST, 0, NULL},
        {-1, 0, 0, "queue_len -1: a queue holds 1 to 1048576"},
        {0, 0, 0, "queue_len 0"},
        {SHMBUS_QUEUE_MAX + 1, 0, 0, "queue_len 1048577"},
        {INT64_MAX, 0, 0, "queue_len"},
        {10, 3, 0, "none blocks, since"},
        {10, UINT32_MAX, 0, "full 4294967295"},
        {10, 0, 1, "flags 0x1"},
    };
    for (size_t i = 0; i < sb_array_len(cases); i++) {
        struct shmbus_subscribe_options o = SHMBUS_SUBSCRIBE_OPTIONS_INIT;
        struct shmbus_sub *sub = NULL;
        o.queue_len = cases[i].queue_len;
        o.full = cases[i].full;
        o.flags = cases[i].flags;
        int ret = shmbus_subscribe(conn, shmbus_text("a"), &o, &sub);
        assert_int_equal(ret, cases[i].says ? SHMBUS_E_INVALID : 0);
        if (cases[i].says) {
            assert_says(cases[i].says);
            assert_null(sub);
            continue;
        }
        struct shmbus_queue_stats books = test_books(sub);
        bool by_default = cases[i].queue_len == SHMBUS_QUEUE_DEFAULT;
        assert_int_equal(books.queue_len, by_default ? 10 : cases[i].queue_len);
        assert_int_equal(books.full, by_default ? SHMBUS_DROP_OLDEST : cases[i].full);
        shmbus_sub_free(sub);
    }
}

/* P2 */
static void test_patterns(void **state)
{
    (void)state;
    struct shmbus_topic many[SHMBUS_PATTERNS_MAX + 1];
    char text[SHMBUS_PATTERNS_MAX + 1][16], longest[8192];
    struct shmbus_sub *sub = NULL;
    for (size_t i = 0; i < sb_array_len(many); i++) {
        snprintf(text[i], sizeof(text[i]), "many/%zu/#", i);
        many[i] = shmbus_text(text[i]);
    }
    assert_int_equal(shmbus_subscribe_many(conn, many, 0, NULL, &sub), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_subscribe_many(conn, NULL, 1, NULL, &sub), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_subscribe_many(conn, many, SHMBUS_PATTERNS_MAX + 1, NULL, &sub),
                     SHMBUS_E_INVALID);
    assert_says("65 patterns: a subscription has 1 to 64");
    assert_int_equal(shmbus_subscribe(conn, many[0], NULL, NULL), SHMBUS_E_INVALID);
    many[1] = shmbus_text("many/#/x");
    assert_int_equal(shmbus_subscribe_many(conn, many, 2, NULL, &sub), SHMBUS_E_INVALID);
    assert_says("pattern 2 of 2");
    many[1] = shmbus_text(text[1]);
    assert_null(sub);

    assert_int_equal(shmbus_subscribe_many(conn, many, SHMBUS_PATTERNS_MAX, NULL, &sub), 0);
    assert_int_equal(shmbus_sub_patterns(sub), SHMBUS_PATTERNS_MAX);
    for (size_t i = 0; i < SHMBUS_PATTERNS_MAX; i++)
        assert_string_equal(shmbus_sub_pattern(sub, i), text[i]); /* T3: as given */
    assert_null(shmbus_sub_pattern(sub, SHMBUS_PATTERNS_MAX));
    publish(conn, "many/63/x/y", 1);
    assert_int_equal(test_books(sub).queued, 1);
    shmbus_sub_free(sub);

    /* 32 tokens of 250 bytes each, 64 KiB after the eighth. */
    memset(longest, 'x', sizeof(longest));
    for (size_t i = 1; i < 32; i++)
        longest[i * 251 - 1] = '/';
    longest[32 * 251 - 1] = '\0';
    for (size_t i = 0; i < 9; i++)
        many[i] = shmbus_text(longest);
    assert_int_equal(shmbus_subscribe_many(conn, many, 8, NULL, &sub), 0);
    shmbus_sub_free(sub);
    assert_int_equal(shmbus_subscribe_many(conn, many, 9, NULL, &sub), SHMBUS_E_INVALID);
    assert_says("a subscription may have 65536");
}

static void test_wrong_handles(void **state)
{
    (void)state;
    struct shmbus_conn *other = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "a", 0, 0);
    struct shmbus_queue_stats books;
    assert_int_equal(shmbus_unsubscribe(other, sub), SHMBUS_E_FOREIGN);
    assert_string_equal(shmbus_sub_why(sub), "");
    assert_int_equal(shmbus_unsubscribe(conn, NULL), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_unsubscribe(NULL, sub), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_unsubscribe((struct shmbus_conn *)(void *)sub, sub), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_unsubscribe(conn, (struct shmbus_sub *)(void *)conn), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_sub_stats(NULL, &books, sizeof(books)), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_sub_stats(sub, NULL, sizeof(books)), SHMBUS_E_INVALID);
    shmbus_sub_free(NULL);
    shmbus_sub_free(sub);
    shmbus_conn_free(other);
}

/* C1, C2, C3 */
static void test_what_is_queued_stays_receivable(void **state)
{
    (void)state;
    struct shmbus_sub *sub = test_subscribe(conn, "a", 4, 0);
    struct shmbus_message m;
    publish(conn, "a", 2);
    assert_int_equal(shmbus_unsubscribe(conn, sub), 0);
    assert_int_equal(shmbus_unsubscribe(conn, sub), 0);
    assert_string_equal(shmbus_sub_why(sub), "unsubscribed");
    publish(conn, "a", 5);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(shmbus_recv(sub, &m, 0), 0);
        assert_int_equal(*(const int *)m.payload, i);
        shmbus_release(&m);
    }
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), SHMBUS_CLOSED);
    struct shmbus_queue_stats books = test_books(sub);
    assert_int_equal(books.offered, 2);
    assert_int_equal(books.received, 2);
    shmbus_sub_free(sub);
}

/* A shared ring goes on over what a closed seat has not read. */
static void test_a_closed_seat_of_a_shared_ring(void **state)
{
    (void)state;
    struct shmbus_sub *closed = test_subscribe(conn, "a", 4, SHMBUS_DROP_OLDEST);
    struct shmbus_sub *open = test_subscribe(conn, "a", 4, SHMBUS_DROP_OLDEST);
    struct shmbus_message m;
    assert_ptr_equal(closed->reader.ring, open->reader.ring);
    publish(conn, "a", 3);
    assert_int_equal(shmbus_unsubscribe(conn, closed), 0);
    publish(conn, "a", 3);
    struct shmbus_queue_stats books = test_books(closed);
    assert_int_equal(books.offered, 3);
    assert_int_equal(books.queued, 1);
    assert_int_equal(books.dropped, 2);
    assert_int_equal(shmbus_recv(closed, &m, 0), 0);
    assert_int_equal(*(const int *)m.payload, 2);
    shmbus_release(&m);
    assert_int_equal(shmbus_recv(closed, &m, 0), SHMBUS_CLOSED);
    publish(conn, "a", 100);
    books = test_books(closed);
    assert_int_equal(books.received, 1);
    assert_int_equal(books.dropped, 2);
    books = test_books(open);
    assert_int_equal(books.offered, 106);
    assert_int_equal(books.dropped, 102);
    shmbus_sub_free(closed);
    shmbus_sub_free(open);
}

/* N1, N2 */
static void test_totals_include_closed_handles(void **state)
{
    (void)state;
    struct shmbus_conn *own = test_connect(&bus);
    struct shmbus_sub *drop = test_subscribe(own, "a", 2, SHMBUS_DROP_OLDEST);
    struct shmbus_sub *reject = test_subscribe(own, "a", 2, SHMBUS_REJECT_NEWEST);
    struct shmbus_conn_stats s;
    struct shmbus_message m;
    publish(own, "a", 5);
    assert_int_equal(test_books(drop).dropped, 3);
    assert_int_equal(test_books(reject).dropped, 3);
    assert_int_equal(shmbus_sub_dropped(reject), 3);
    assert_int_equal(shmbus_recv(drop, &m, 0), 0);
    shmbus_release(&m);
    assert_int_equal(shmbus_conn_stats(own, &s, sizeof(s)), 0);
    assert_int_equal(s.published, 5);
    assert_int_equal(s.refused, 3);
    assert_int_equal(s.received, 1);
    assert_int_equal(s.dropped, 6);
    assert_int_equal(s.subscriptions, 2);
    assert_int_equal(s.routes, 1);
    assert_true(s.heap_used <= s.heap_size && s.heap_size <= s.heap_limit);
    shmbus_sub_free(drop); /* one message was not received, and now never will be */
    shmbus_sub_free(reject);
    assert_int_equal(shmbus_conn_stats(own, &s, sizeof(s)), 0);
    assert_int_equal(s.received, 1);
    assert_int_equal(s.dropped, 9);
    assert_int_equal(s.subscriptions, 0);
    shmbus_conn_free(own);
}

/* Places in the inbox are used again, and nothing of the last user shows. */
static void test_places_are_used_again(void **state)
{
    (void)state;
    int fds = count_fds();
    uint64_t place = 0;
    for (int i = 0; i < 200; i++) {
        struct shmbus_sub *sub =
            test_subscribe(conn, "again", 3, i % 2 ? SHMBUS_REJECT_NEWEST : SHMBUS_DROP_OLDEST);
        struct shmbus_message m;
        if (i == 0)
            place = sub->rec->offset;
        assert_int_equal(sub->rec->offset, place);
        publish(conn, "again", 1 + i % 5);
        assert_int_equal(shmbus_recv(sub, &m, 0), 0);
        struct shmbus_queue_stats books = test_books(sub);
        assert_int_equal(books.offered, 1 + i % 5);
        assert_int_equal(books.received, 1);
        shmbus_release(&m);
        shmbus_sub_free(sub);
    }
    assert_int_equal(count_fds(), fds);
    assert_int_equal(test_bus_figures(&bus).subscriptions, 0);
}

/* The message of a freed subscription stays valid; its release costs nothing more,
 * and the coordinator hears of it with the next call that may wait. */
static void test_a_message_outlives_its_subscription(void **state)
{
    (void)state;
    struct shmbus_sub *sub = test_subscribe(conn, "a", 0, 0);
    struct shmbus_message m;
    publish(conn, "a", 1);
    assert_int_equal(shmbus_recv(sub, &m, 0), 0);
    shmbus_sub_free(sub);
    assert_int_equal(*(const int *)m.payload, 0);
    assert_string_equal(m.topic->text, "a");
    assert_null(conn->subs);
    struct shmbus_sub *leaving = conn->leaving;
    assert_non_null(leaving);
    sub = test_subscribe(conn, "b", 0, 0); /* does not free what is still in use */
    assert_ptr_equal(conn->leaving, leaving);
    shmbus_sub_free(sub);
    assert_string_equal(m.topic->text, "a");
    shmbus_release(&m);
    shmbus_release(&m);
    assert_non_null(conn->leaving);
    sub = test_subscribe(conn, "b", 0, 0);
    assert_null(conn->leaving);
    shmbus_sub_free(sub);
}

struct seen {
    int handles;
    int conns;
    const char *pattern;
    uint64_t dropped;
    uint32_t pid;
};

static int see_handle(const struct shmbus_handle_info *h, void *arg)
{
    struct seen *seen = arg;
    seen->handles++;
    if (strcmp(h->patterns[0], seen->pattern) == 0) {
        assert_string_equal(h->kind, "subscription");
        assert_int_equal(h->pattern_count, 1);
        assert_string_equal(h->conn_id, shmbus_conn_id(conn));
        seen->pid = h->pid;
        seen->dropped = h->queue->dropped;
    }
    return 0;
}

static int see_conn(const struct shmbus_conn_info *c, void *arg)
{
    struct seen *seen = arg;
    seen->conns++;
    assert_string_equal(c->conn_id, shmbus_conn_id(conn));
    assert_string_equal(c->principal, shmbus_principal(conn, NULL));
    assert_int_equal(c->pid, getpid());
    return 0;
}

static int stop(const struct shmbus_handle_info *h, void *arg)
{
    (void)h;
    ++*(int *)arg;
    return 42;
}

static void test_listings(void **state)
{
    (void)state;
    enum { MANY = 300 }; /* more than a page holds */
    struct shmbus_sub *subs[MANY];
    char text[255];
    memset(text, 'x', sizeof(text));
    for (int i = 0; i < MANY; i++) {
        snprintf(text + 240, 15, "/%d/+", i);
        subs[i] = test_subscribe(conn, text, 2, 0);
    }
    struct seen seen = {.pattern = text};
    char topic[sizeof(text)];
    memcpy(topic, text, sizeof(text));
    topic[strlen(topic) - 1] = 'y';
    publish(conn, topic, 5);
    assert_int_equal(shmbus_bus_handles(conn, see_handle, &seen), 0);
    assert_int_equal(seen.handles, MANY);
    assert_int_equal(seen.pid, getpid());
    assert_int_equal(seen.dropped, 3);
    assert_int_equal(shmbus_bus_connections(conn, see_conn, &seen), 0);
    assert_int_equal(seen.conns, 1);
    int stopped = 0;
    assert_int_equal(shmbus_bus_handles(conn, stop, &stopped), 42);
    assert_int_equal(stopped, 1);
    struct shmbus_bus_stats figures = test_bus_figures(&bus);
    assert_int_equal(figures.subscriptions, MANY);
    assert_int_equal(figures.connections, 1);
    for (int i = 0; i < MANY; i++)
        shmbus_sub_free(subs[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_wrong_handles),
        cmocka_unit_test(test_what_is_queued_stays_receivable),
        cmocka_unit_test(test_a_closed_seat_of_a_shared_ring),
        cmocka_unit_test(test_totals_include_closed_handles),
        cmocka_unit_test(test_places_are_used_again),
        cmocka_unit_test(test_a_message_outlives_its_subscription),
        cmocka_unit_test(test_listings),
    };
    return cmocka_run_group_tests(tests, with_bus, without_bus);
}
