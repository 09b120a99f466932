/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a receive does with messages that it cannot return, because the buffer is too small for the
 * next or too many are held, with many at once, and with those that the queue has lost (P9).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "support/testbus.h"

static struct test_bus bus;
static struct shmbus_conn *conn;
static struct shmbus_sub *sub;

static int setup(void **state)
{
    (void)state;
    test_bus_start(&bus, NULL);
    conn = test_connect(&bus);
    sub = test_subscribe(conn, "wait/#", 100, SHMBUS_REJECT_NEWEST);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    test_bus_stop(&bus);
    return 0;
}

static void publish(const void *payload, size_t size)
{
    struct shmbus_delivery delivery;
    assert_int_equal(shmbus_publish(conn, shmbus_text("wait/here"), payload, size, NULL, &delivery),
                     0);
    assert_true(delivery.matched >= 1);
}

static void test_too_small_a_buffer_keeps_the_message(void **state)
{
    (void)state;
    char buffer[16];
    struct shmbus_message m;
    size_t needed = 77;
    publish("0123456789", 10);
    publish("", 0);
    for (size_t room = 0; room < 10; room += 3) {
        memset(buffer, '-', sizeof(buffer));
        memset(&m, 0x5a, sizeof(m));
        struct shmbus_message untouched = m;
        assert_int_equal(
            shmbus_recv_copy(sub, &m, room ? buffer : NULL, room, &needed, SHMBUS_FOREVER),
            SHMBUS_TOO_SMALL);
        assert_int_equal(needed, 10);
        assert_memory_equal(&m, &untouched, sizeof(m));
        assert_memory_equal(buffer, "----------------", sizeof(buffer));
        assert_int_equal(shmbus_recv_copy(sub, &m, buffer, room, NULL, 0), SHMBUS_TOO_SMALL);
        struct shmbus_queue_stats books = test_books(sub);
        assert_int_equal(books.queued, 2);
        assert_int_equal(books.received, 0);
    }
    assert_int_equal(shmbus_recv_copy(sub, &m, buffer, 10, &needed, 0), 0);
    assert_int_equal(needed, 10);
    assert_int_equal(m.size, 10);
    assert_ptr_equal(m.payload, buffer);
    assert_memory_equal(buffer, "0123456789------", sizeof(buffer));
    assert_string_equal(m.topic->text, "wait/here");
    assert_int_equal(shmbus_recv_copy(sub, &m, NULL, 0, &needed, 0), 0);
    assert_int_equal(needed, 0);
    assert_int_equal(shmbus_recv_copy(sub, &m, buffer, 16, NULL, 0), SHMBUS_EMPTY);
    assert_int_equal(test_books(sub).received, 2);
}

/* recv_many returns what is there, at most what was asked for, in order. */
static void test_many(void **state)
{
    (void)state;
    struct shmbus_message m[SHMBUS_HELD_MAX];
    size_t count = 0;
    for (uint32_t n = 0; n < 90; n++)
        publish(&n, sizeof(n));
    uint32_t next = 0;
    static const size_t most[] = {1, 7, 64, 64};
    static const size_t got[] = {1, 7, 64, 18};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(shmbus_recv_many(sub, m, most[i], &count, SHMBUS_FOREVER), 0);
        assert_int_equal(count, got[i]);
        for (size_t j = 0; j < count; j++, next++)
            assert_memory_equal(m[j].payload, &next, sizeof(next));
        for (size_t j = count; j-- > 0;)
            shmbus_release(&m[j]);
    }
    assert_int_equal(shmbus_recv_many(sub, m, 64, &count, 0), SHMBUS_EMPTY);
    assert_int_equal(test_books(sub).received, 90);
}

static void test_too_many_held(void **state)
{
    (void)state;
    struct shmbus_message held[SHMBUS_HELD_MAX], m;
    for (uint32_t n = 0; n < 100; n++)
        publish(&n, sizeof(n));
    for (uint32_t n = 0; n < SHMBUS_HELD_MAX; n++)
        assert_int_equal(shmbus_recv(sub, &held[n], 0), 0);
    for (uint32_t n = SHMBUS_HELD_MAX; n < 100; n++) {
        char buffer[8];
        size_t count = 77;
        memset(&m, 0x5a, sizeof(m));
        struct shmbus_message untouched = m;
        assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), SHMBUS_E_LIMIT);
        assert_non_null(strstr(shmbus_errmsg(), "64"));
        assert_int_equal(shmbus_recv_many(sub, &m, 1, &count, 0), SHMBUS_E_LIMIT);
        assert_int_equal(shmbus_recv_copy(sub, &m, buffer, 8, NULL, 0), SHMBUS_E_LIMIT);
        assert_int_equal(count, 77);
        assert_memory_equal(&m, &untouched, sizeof(m));
        assert_int_equal(test_books(sub).received, n);
        /* Any of them makes room, in any order. */
        struct shmbus_message *next = &held[(n * 29) % SHMBUS_HELD_MAX];
        shmbus_release(next);
        assert_int_equal(shmbus_recv(sub, next, SHMBUS_FOREVER), 0);
        assert_memory_equal(next->payload, &n, sizeof(n));
    }
    for (uint32_t n = 0; n < SHMBUS_HELD_MAX; n++)
        shmbus_release(&held[n]);
    assert_int_equal(shmbus_recv(sub, &m, 0), SHMBUS_EMPTY);
}

/* What a drop_oldest queue lost is told message by message, and adds up. */
static void test_lost_before_adds_up(void **state)
{
    (void)state;
    uint64_t seed = test_seed(), lost = 0, received = 0, last = 0;
    struct shmbus_sub *short_one = test_subscribe(conn, "wait/+", 7, SHMBUS_DROP_OLDEST);
    struct shmbus_message m;
    for (int round = 0; round < 300; round++) {
        for (uint64_t n = test_random(&seed) % 25; n > 0; n--)
            publish("x", 1);
        for (uint64_t n = test_random(&seed) % 10; n > 0; n--) {
            if (shmbus_recv(short_one, &m, 0) == SHMBUS_EMPTY)
                break;
            assert_int_equal(m.seq, last + 1 + m.lost_before);
            last = m.seq;
            lost += m.lost_before;
            received++;
            shmbus_release(&m);
        }
    }
    while (shmbus_recv(short_one, &m, 0) == 0) {
        lost += m.lost_before;
        received++;
        shmbus_release(&m);
    }
    struct shmbus_queue_stats books = test_books(short_one);
    assert_int_equal(books.received, received);
    assert_int_equal(books.dropped, lost);
    assert_int_equal(shmbus_sub_dropped(short_one), lost);
    assert_true(lost > 0);
    shmbus_sub_free(short_one);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_too_small_a_buffer_keeps_the_message),
        TEST(test_many),
        TEST(test_too_many_held),
        TEST(test_lost_before_adds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
