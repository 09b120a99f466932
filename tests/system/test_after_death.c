/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P4: what a publisher published before it disconnected, exited or was killed is still delivered,
 * also to a receiver that had not yet mapped its heap; a received message is valid until released,
 * whatever ends meanwhile. C1, C5: what is queued stays receivable, then every receive says closed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/testbus.h"

#define COUNT 100

enum how { EXIT, DISCONNECT, KILL };

struct plan {
    struct test_bus *bus;
    enum how how;
};

static int publisher_main(int fd, void *arg)
{
    struct plan *plan = arg;
    struct shmbus_conn *conn = test_connect(plan->bus);
    for (uint64_t n = 0; n < COUNT; n++) {
        char payload[200] = {0};
        memcpy(payload, &n, sizeof(n));
        if (shmbus_publish(conn, shmbus_text("last/words"), payload, sizeof(payload), NULL, NULL))
            return 1;
    }
    if (plan->how == DISCONNECT)
        shmbus_conn_free(conn);
    test_tell(fd, 1);
    if (plan->how == KILL)
        (void)test_hear_or(fd, 0);
    return 0;
}

static bool publisher_gone(void *arg)
{
    return test_bus_figures(arg).connections == 1;
}

static void test_P4(enum how how)
{
    struct test_bus bus;
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "last/#", 1000, SHMBUS_REJECT_NEWEST);
    for (int round = 0; round < 3; round++) {
        struct plan plan = {&bus, how};
        struct test_proc publisher = test_spawn(publisher_main, &plan);
        (void)test_hear(publisher.fd);
        if (how == KILL)
            test_kill(&publisher);
        else
            assert_int_equal(test_join(&publisher), 0);
        /* The coordinator has seen the end, and keeps the heap for us. */
        test_until(publisher_gone, &bus, 5000);
        struct shmbus_message kept = {0};
        for (uint64_t n = 0; n < COUNT; n++) {
            struct shmbus_message m;
            assert_int_equal(shmbus_recv(sub, &m, 0), 0);
            uint64_t found;
            memcpy(&found, m.payload, sizeof(found));
            assert_int_equal(found, n);
            assert_int_equal(m.size, 200);
            assert_int_equal(m.seq, n + 1);
            assert_int_equal(m.origin->pid, publisher.pid);
            assert_string_equal(m.topic->text, "last/words");
            if (n == COUNT / 2)
                kept = m;
            else
                shmbus_release(&m);
        }
        uint64_t found;
        memcpy(&found, kept.payload, sizeof(found));
        assert_int_equal(found, COUNT / 2);
        shmbus_release(&kept);
    }
    test_books(sub);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    test_bus_stop(&bus);
}

static void test_P4_publisher_exited(void **state)
{
    (void)state;
    test_P4(EXIT);
}

static void test_P4_publisher_disconnected(void **state)
{
    (void)state;
    test_P4(DISCONNECT);
}

static void test_P4_publisher_killed(void **state)
{
    (void)state;
    test_P4(KILL);
}

/* A message outlives its handle and its connection. */
static void test_P4_message_outlives_its_handle(void **state)
{
    (void)state;
    struct test_bus bus;
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus), *other = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "#", 0, 0);
    assert_int_equal(shmbus_publish(other, shmbus_text("a"), "alive", 6, NULL, NULL), 0);
    struct shmbus_message m;
    assert_int_equal(shmbus_recv(sub, &m, 0), 0);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(shmbus_publish(other, shmbus_text("a"), "other", 6, NULL, NULL), 0);
    assert_string_equal(m.payload, "alive");
    assert_string_equal(m.topic->text, "a");
    shmbus_conn_free(other);
    assert_string_equal(m.payload, "alive");
    shmbus_release(&m);
    shmbus_release(&m);
    test_bus_stop(&bus);
}

static void test_C1_queued_stays_receivable_after_disconnect(void **state)
{
    (void)state;
    struct test_bus bus;
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus), *other = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "#", 0, 0);
    assert_string_equal(shmbus_sub_why(sub), "");
    assert_int_equal(shmbus_publish(other, shmbus_text("a"), "1", 1, NULL, NULL), 0);
    assert_int_equal(shmbus_disconnect(conn), 0);
    assert_int_equal(shmbus_disconnect(conn), 0);
    struct shmbus_delivery delivery;
    assert_int_equal(shmbus_publish(other, shmbus_text("a"), "2", 1, NULL, &delivery), 0);
    assert_int_equal(delivery.matched, 0);
    assert_int_equal(shmbus_publish(conn, shmbus_text("a"), "3", 1, NULL, NULL),
                     SHMBUS_E_DISCONNECTED);
    struct shmbus_message m;
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), 0);
    assert_memory_equal(m.payload, "1", 1);
    shmbus_release(&m);
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), SHMBUS_CLOSED);
    assert_string_equal(shmbus_sub_why(sub), "disconnected");
    assert_int_equal(shmbus_unsubscribe(conn, sub), 0);
    assert_string_equal(shmbus_sub_why(sub), "disconnected");
    struct shmbus_queue_stats books = test_books(sub);
    assert_int_equal(books.received, 1);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    shmbus_conn_free(other);
    test_bus_stop(&bus);
}

/* C4, O5: a prepared publisher of a disconnected connection fails, whatever it leads to; a payload
 * that can never fit is invalid, whether somebody listens or not. */
static void test_C4_O5_prepared_publishers(void **state)
{
    (void)state;
    struct test_bus bus;
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus), *other = test_connect(&bus);
    struct shmbus_sub *one = test_subscribe(other, "one", 0, 0);
    struct shmbus_sub *two = test_subscribe(other, "two", 0, 0);
    struct shmbus_sub *more = test_subscribe(other, "+", 0, SHMBUS_REJECT_NEWEST);
    static const char *const topics[] = {"nobody/here", "one", "two", "three"};
    struct shmbus_publisher *publisher[4];
    struct shmbus_delivery delivery;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(shmbus_prepare(conn, shmbus_text(topics[i]), NULL, &publisher[i]), 0);
        assert_int_equal(shmbus_publisher_publish(publisher[i], "x", 1, NULL, &delivery), 0);
        assert_int_equal(delivery.matched, i == 0 ? 0 : i == 3 ? 1 : 2);
        assert_int_equal(delivery.seq, i + 1);
        assert_int_equal(shmbus_publisher_publish(publisher[i], "x", (size_t)128 << 20, NULL, NULL),
                         SHMBUS_E_INVALID);
        assert_int_equal(shmbus_publisher_publish(publisher[i], "x", SIZE_MAX, NULL, NULL),
                         SHMBUS_E_INVALID);
    }
    assert_int_equal(shmbus_disconnect(conn), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(shmbus_publisher_publish(publisher[i], "x", 1, NULL, NULL),
                         SHMBUS_E_DISCONNECTED);
        shmbus_publisher_free(publisher[i]);
    }
    assert_int_equal(test_books(more).offered, 3);
    assert_int_equal(test_books(one).offered + test_books(two).offered, 2);
    shmbus_sub_free(one);
    shmbus_sub_free(two);
    shmbus_sub_free(more);
    shmbus_conn_free(conn);
    shmbus_conn_free(other);
    test_bus_stop(&bus);
}

/* The bus ends while messages of a publisher whose heap was never mapped are queued. */
static void test_C5_queued_stays_receivable_after_the_bus_ended(void **state)
{
    (void)state;
    struct test_bus bus;
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "last/#", 1000, 0);
    struct plan plan = {&bus, KILL};
    struct test_proc publisher = test_spawn(publisher_main, &plan);
    (void)test_hear(publisher.fd);
    test_bus_stop(&bus);
    test_kill(&publisher);
    assert_int_equal(shmbus_is_disconnected(conn), 1);
    struct shmbus_message m;
    for (uint64_t n = 0; n < COUNT; n++) {
        assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), 0);
        assert_memory_equal(m.payload, &n, sizeof(n));
        shmbus_release(&m);
    }
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), SHMBUS_CLOSED);
    assert_string_equal(shmbus_sub_why(sub), "bus_stopped");
    test_books(sub);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_P4_publisher_exited),
        cmocka_unit_test(test_P4_publisher_disconnected),
        cmocka_unit_test(test_P4_publisher_killed),
        cmocka_unit_test(test_P4_message_outlives_its_handle),
        cmocka_unit_test(test_C1_queued_stays_receivable_after_disconnect),
        cmocka_unit_test(test_C4_O5_prepared_publishers),
        cmocka_unit_test(test_C5_queued_stays_receivable_after_the_bus_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
