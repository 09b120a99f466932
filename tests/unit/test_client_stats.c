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
        cmocka_unit_test(test_N1_both_sides_agree),
        cmocka_unit_test(test_C3_what_follows_the_end_is_not_counted),
    };
    return cmocka_run_group_tests(tests, with_small_heaps, without_bus);
}
