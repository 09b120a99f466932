/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=240 no-asan no-tsan */
/*
 * Clients of a real bus, killed at every instruction of a publish and of a receive with its
 * release, and at every 7th of a connection's first publish to a topic. (Not with sanitizers: they
 * would try the instructions of the sanitizer.)
 *
 * What the dead one had published is delivered, in order and intact, and of the last message all or
 * nothing; others go on at once; its connection, subscription and memory are given back; the books
 * balance.
 *
 * $SHMBUS_CRASH_EVERY: at every n-th instruction of each of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/stepper.h"
#include "support/testbus.h"

#define WARM 3u /* messages before the one that is stepped through */

enum op { FIRST_PUBLISH, PUBLISH, RECEIVE };

/* A client, in the child that is killed. */
struct client {
    enum op op;
    const struct test_bus *bus;
    struct shmbus_conn *conn;
    struct shmbus_publisher *publisher;
    struct shmbus_sub *sub;
    uint64_t payload[4];
};

static void client_fill(struct client *c, uint64_t n)
{
    for (uint64_t i = 0; i < 4; i++)
        c->payload[i] = n * 1000 + i;
}

static void client_publish(struct client *c, uint64_t n)
{
    client_fill(c, n);
    if (shmbus_publisher_publish(c->publisher, c->payload, sizeof(c->payload), NULL, NULL))
        abort();
}

static void client_receive(struct client *c)
{
    struct shmbus_message message;
    if (shmbus_recv(c->sub, &message, 0) != 0)
        abort();
    shmbus_release(&message);
}

static void client_prepare(void *arg)
{
    struct client *c = arg;
    c->conn = test_connect(c->bus);
    if (c->op == RECEIVE)
        c->sub = test_subscribe(c->conn, "crash/+", 8, SHMBUS_DROP_OLDEST);
    if (shmbus_prepare(c->conn, shmbus_text("crash/me"), NULL, &c->publisher))
        abort();
    for (uint64_t n = 0; c->op != FIRST_PUBLISH && n < WARM; n++)
        client_publish(c, n);
    if (c->op == RECEIVE)
        client_receive(c);
}

static void client_run(void *arg)
{
    struct client *c = arg;
    if (c->op == RECEIVE)
        client_receive(c);
    else
        client_publish(c, WARM);
}

/* The survivors, in this process. */
struct world {
    struct test_bus bus;
    struct shmbus_conn *conn;
    struct shmbus_sub *sub;
    struct client own;
    uint64_t arena_used;
};

/* Receives a message that must be there, and returns its number. */
static uint64_t world_receive(struct world *w)
{
    struct shmbus_message m;
    assert_int_equal(shmbus_recv(w->sub, &m, 0), 0);
    assert_int_equal(m.size, sizeof(w->own.payload));
    uint64_t words[4];
    memcpy(words, m.payload, sizeof(words));
    for (uint64_t i = 1; i < 4; i++)
        assert_int_equal(words[i], words[0] + i);
    assert_int_equal(m.lost_before, 0);
    shmbus_release(&m);
    return words[0] / 1000;
}

static bool world_empty(struct world *w)
{
    return test_books(w->sub).queued == 0;
}

static bool client_gone(void *arg)
{
    struct world *w = arg;
    struct shmbus_bus_stats figures = test_bus_figures(&w->bus);
    return figures.connections == 1 && figures.subscriptions == 1;
}

/* Lets a client die behind `steps` instructions; whether it was still on its way. */
static bool die_at(struct world *w, enum op op, uint32_t steps)
{
    struct client client = {.op = op, .bus = &w->bus};
    struct stepper s;
    stepper_start(&s, client_prepare, client_run, &client, NULL, 0);
    bool more = true;
    for (uint32_t i = 0; i < steps && more; i++)
        more = stepper_step(&s);
    stepper_end(&s);
    return more;
}

static void survive(struct world *w, enum op op, bool ended)
{
    uint64_t next = op == FIRST_PUBLISH ? 0 : WARM;
    for (uint64_t n = 0; n < next; n++)
        assert_int_equal(world_receive(w), n);
    if (op != RECEIVE && !world_empty(w))
        assert_int_equal(world_receive(w), WARM);
    else
        assert_true(op == RECEIVE || !ended);
    for (uint64_t n = 0; n < 20; n++) {
        client_publish(&w->own, 200 + n);
        assert_int_equal(world_receive(w), 200 + n);
    }
    test_until(client_gone, w, 5000);
    struct shmbus_queue_stats books = test_books(w->sub);
    assert_int_equal(books.dropped, 0);
    assert_int_equal(books.queued, 0);
}

static void kill_everywhere(void **state, enum op op, uint32_t every)
{
    struct world *w = *state;
    const char *text = getenv("SHMBUS_CRASH_EVERY");
    if (text && atoi(text) > 0)
        every = (uint32_t)atoi(text);
    uint32_t steps = 0, points = 0;
    uint64_t used = 0;
    for (bool more = true; more; steps += every, points++) {
        more = die_at(w, op, steps);
        survive(w, op, !more);
        if (points == 3)
            used = test_bus_figures(&w->bus).arena_used;
    }
    print_message("%u kill points, arena used %llu -> %llu\n", points, (unsigned long long)used,
                  (unsigned long long)test_bus_figures(&w->bus).arena_used);
    assert_in_range(test_bus_figures(&w->bus).arena_used, 0, used + used / 20);
}

static void test_publish(void **state)
{
    kill_everywhere(state, PUBLISH, 1);
}

static void test_receive(void **state)
{
    kill_everywhere(state, RECEIVE, 1);
}

static void test_first_publish(void **state)
{
    kill_everywhere(state, FIRST_PUBLISH, 7);
}

static int setup(void **state)
{
    static struct world w;
    test_bus_start(&w.bus, NULL);
    w.conn = w.own.conn = test_connect(&w.bus);
    w.sub = test_subscribe(w.conn, "crash/+", 64, SHMBUS_DROP_OLDEST);
    *state = &w;
    return shmbus_prepare(w.conn, shmbus_text("crash/own"), NULL, &w.own.publisher);
}

/* Ends with a look at what is left in /dev/shm: nothing. */
static int teardown(void **state)
{
    struct world *w = *state;
    shmbus_publisher_free(w->own.publisher);
    shmbus_sub_free(w->sub);
    shmbus_conn_free(w->conn);
    test_bus_stop(&w->bus);
    return 0;
}

int main(void)
{
    const char *missing = stepper_missing();
    if (missing) {
        printf("skipped: %s\n", missing);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_receive),
        cmocka_unit_test(test_first_publish),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
