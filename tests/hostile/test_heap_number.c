/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: slow */
/*
 * Descriptors have 8 bits of a heap's generation: after 256 reuses its number names another heap,
 * and that one's messages are delivered, to a reader that has met nobody else since as well as to
 * one that holds a message and so can forget nothing. Nearly all of this test's time the
 * coordinator waits before it forgets a connection.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "client/client.h"
#include "support/testbus.h"

#define PATIENCE INT64_C(10000000000) /* for what is there already */

struct life {
    const struct sb_conn_rec *rec; /* as another connection sees it */
    uint32_t gen;
};

static bool forgotten(void *arg)
{
    const struct life *life = arg;
    return sb_load_acquire(&life->rec->gen) != life->gen;
}

static uint32_t index_of_next(const struct test_bus *bus)
{
    struct shmbus_conn *conn = test_connect(bus);
    uint32_t index = conn->index;
    shmbus_conn_free(conn);
    return index;
}

/* A connection that publishes a word, or nothing, and has gone, and its heap with it, once the
 * readers have received. Returns its generation. */
static uint32_t live(const struct test_bus *bus, struct life *life, struct shmbus_sub **readers,
                     struct shmbus_message *held)
{
    struct shmbus_conn *conn = test_connect(bus);
    struct shmbus_message m;
    life->gen = conn->gen;
    if (readers) {
        assert_int_equal(shmbus_publish(conn, shmbus_text("life"), "life", 4, NULL, NULL), 0);
        for (int i = 0; i < 2; i++) {
            int ret = shmbus_recv(readers[i], &m, PATIENCE);
            if (ret)
                fail_msg("reader %d: outcome %d, not the message of generation %u", i, ret,
                         life->gen);
            assert_string_equal(m.origin->conn_id, shmbus_conn_id(conn));
            shmbus_release(&m);
        }
        shmbus_release(held);
    }
    shmbus_conn_free(conn);
    test_until(forgotten, life, 10000);
    return life->gen;
}

static void test_a_number_that_comes_round(void **state)
{
    (void)state;
    struct test_bus bus;
    struct shmbus_message held = {0};
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *readers[] = {test_subscribe(conn, "life", 10, SHMBUS_DROP_OLDEST),
                                    test_subscribe(conn, "#", 10, SHMBUS_DROP_OLDEST)};
    uint32_t index = index_of_next(&bus), gen;
    struct life life = {
        .rec = sb_table_at(sb_conn_arena(conn), &conn->header->conns, index, sizeof(*life.rec))};
    assert_non_null(life.rec);
    life.gen = life.rec->gen;
    if (life.rec->state != SB_CONN_FREE)
        test_until(forgotten, &life, 10000);
    uint32_t first = live(&bus, &life, readers, &held);
    assert_int_equal(shmbus_publish(conn, shmbus_text("held"), NULL, 0, NULL, NULL), 0);
    assert_int_equal(shmbus_recv(readers[1], &held, PATIENCE), 0);
    do
        gen = live(&bus, &life, NULL, NULL);
    while (gen - first < 255);
    assert_int_equal(live(&bus, &life, readers, &held) - first, 256);
    for (int i = 0; i < 2; i++) {
        struct shmbus_queue_stats books = test_books(readers[i]);
        assert_int_equal(books.received, 2 + i);
        assert_int_equal(books.dropped, 0);
        shmbus_sub_free(readers[i]);
    }
    shmbus_conn_free(conn);
    test_bus_stop(&bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_number_that_comes_round)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
