/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=30 */
/* N1, N2: figures as a client and as the coordinator see them, also of what is closed or dead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/testbus.h"

static struct test_bus bus;

static int with_small_heaps(void **state)
{
    (void)state;
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    options.heap_limit = 64 << 10;
    test_bus_start(&bus, &options);
    return 0;
}

static int without_bus(void **state)
{
    (void)state;
    test_bus_stop(&bus);
    return 0;
}

static void publish(struct shmbus_conn *conn, const char *topic, int times)
{
    for (int i = 0; i < times; i++)
        assert_int_equal(shmbus_publish(conn, shmbus_text(topic), "x", 1, NULL, NULL), 0);
}

/* Publishes whose arguments are good, but whose payload finds no room beside those that the only
 * subscription holds. */
static void fail_to_publish(struct shmbus_conn *conn, struct shmbus_sub *sub, int times)
{
    static const char payload[12 << 10];
    struct shmbus_message held[SHMBUS_HELD_MAX];
    int n = 0;
    while (times > 0) {
        int ret = shmbus_publish(conn, shmbus_text("f"), payload, sizeof(payload), NULL, NULL);
        if (ret) {
            assert_int_equal(ret, SHMBUS_E_LIMIT);
            times--;
        } else {
            assert_in_range(n, 0, SHMBUS_HELD_MAX - 1);
            assert_int_equal(shmbus_recv(sub, &held[n++], 0), 0);
        }
    }
    while (n > 0)
        shmbus_release(&held[--n]);
}

static uint64_t failed_of(struct shmbus_conn *conn)
{
    struct shmbus_conn_stats stats;
    assert_int_equal(shmbus_conn_stats(conn, &stats, sizeof(stats)), 0);
    return stats.publish_failed;
}

static int failing_publisher(int fd, void *arg)
{
    (void)arg;
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "f", 0, 0);
    fail_to_publish(conn, sub, 3);
    test_tell(fd, failed_of(conn));
    (void)test_hear(fd);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    return 0;
}

static bool is_alone(void *arg)
{
    (void)arg;
    return test_bus_figures(&bus).connections == 0;
}

static void test_N2_failed_publishes_stay_counted(void **state)
{
    (void)state;
    struct test_proc proc = test_spawn(failing_publisher, NULL);
    assert_int_equal(test_hear(proc.fd), 3);
    assert_int_equal(test_bus_figures(&bus).publish_failed, 3);
    test_kill(&proc);
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "f", 0, 0);
    publish(conn, "f", 1);
    assert_int_equal(failed_of(conn), 0);
    fail_to_publish(conn, sub, 2);
    assert_int_equal(failed_of(conn), 2);
    assert_int_equal(test_bus_figures(&bus).publish_failed, 5);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    test_until(is_alone, NULL, 10000);
    assert_int_equal(test_bus_figures(&bus).publish_failed, 5);
}

/* The coordinator's view of the only handle. */
static int copy_queue(const struct shmbus_handle_info *handle, void *arg)
{
    *(struct shmbus_queue_stats *)arg = *handle->queue;
    return 0;
}

static void assert_agree(struct shmbus_conn *conn, const struct shmbus_sub *sub)
{
    struct shmbus_queue_stats mine = test_books(sub), theirs = {0};
    assert_int_equal(shmbus_bus_handles(conn, copy_queue, &theirs), 0);
    assert_memory_equal(&mine, &theirs, sizeof(mine));
}

static void receive(struct shmbus_sub *sub, struct shmbus_message *message)
{
    assert_int_equal(shmbus_recv(sub, message, 0), 0);
}

static void agree(uint32_t full)
{
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "a/+", 3, full);
    struct shmbus_message message;
    assert_agree(conn, sub);
    publish(conn, "a/1", 2);
    assert_agree(conn, sub);
    receive(sub, &message);
    publish(conn, "a/2", 9);
    assert_agree(conn, sub);
    shmbus_release(&message);
    receive(sub, &message);
    assert_agree(conn, sub);
    shmbus_release(&message);
    struct shmbus_queue_stats books = test_books(sub);
    assert_int_equal(books.offered, 11);
    assert_int_equal(books.received, 2);
    assert_int_equal(books.queued, 2);
    uint64_t before = test_bus_figures(&bus).dropped;
    shmbus_sub_free(sub);
    assert_int_equal(test_bus_figures(&bus).dropped, before + 2);
    shmbus_conn_free(conn);
}

static void test_N1_both_sides_agree(void **state)
{
    (void)state;
    agree(SHMBUS_DROP_OLDEST);
    agree(SHMBUS_REJECT_NEWEST);
}

/* C3: one of two at a ring leaves; the other's messages overwrite what the first has queued, but
 * are none of its. */
static void test_C3_what_follows_the_end_is_not_counted(void **state)
{
    (void)state;
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *left = test_subscribe(conn, "s", 4, SHMBUS_DROP_OLDEST);
    struct shmbus_sub *stays = test_subscribe(conn, "s", 4, SHMBUS_DROP_OLDEST);
    publish(conn, "s", 3);
    assert_int_equal(shmbus_unsubscribe(conn, left), 0);
    struct shmbus_queue_stats books = test_books(left);
    assert_true(books.offered == 3 && books.queued == 3 && books.dropped == 0);
    publish(conn, "s", 2);
    books = test_books(left);
    assert_true(books.offered == 3 && books.queued == 2 && books.dropped == 1);
    publish(conn, "s", 20);
    books = test_books(left);
    assert_true(books.offered == 3 && books.queued == 0 && books.dropped == 3);
    struct shmbus_message message;
    assert_int_equal(shmbus_recv(left, &message, 0), SHMBUS_CLOSED);
    books = test_books(left);
    assert_true(books.offered == 3 && books.queued == 0 && books.dropped == 3);
    books = test_books(stays);
    assert_true(books.offered == 25 && books.queued == 4 && books.dropped == 21);
    shmbus_sub_free(left);
    shmbus_sub_free(stays);
    shmbus_conn_free(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_N2_failed_publishes_stay_counted),
        cmocka_unit_test(test_N1_both_sides_agree),
        cmocka_unit_test(test_C3_what_follows_the_end_is_not_counted),
    };
    return cmocka_run_group_tests(tests, with_small_heaps, without_bus);
}
