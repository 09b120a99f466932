/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=120 serial */
/*
 * Subscribers that are stopped, with queues far longer than the publisher's heap is large: no
 * publish fails, the heap stays within its limit, and once they go on their books balance to the
 * message. What one keeps unreleased all the while stays as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "support/testbus.h"

#define LIMIT (UINT64_C(8) << 20)
#define SIZE 64
#define FIRST 1000 /* messages before anybody is stopped */

struct role {
    const struct test_bus *bus;
    uint32_t full;
    uint64_t messages;
};

struct payload {
    uint64_t n, filling[SIZE / 8 - 1]; /* all n: a torn message shows */
};

static bool whole(const struct shmbus_message *m)
{
    struct payload p;
    bool same = m->size == sizeof(p);
    memcpy(&p, m->payload, same ? sizeof(p) : 0);
    for (size_t i = 0; same && i < sizeof(p.filling) / sizeof(p.filling[0]); i++)
        same = p.filling[i] == p.n;
    return same && m->seq == p.n;
}

/* Takes one message and keeps it; when it is told to, reads the rest. Tells what it has got and
 * what it has lost. */
static int subscriber_main(int fd, void *arg)
{
    const struct role *role = arg;
    struct shmbus_conn *conn = test_connect(role->bus);
    struct shmbus_sub *sub = test_subscribe(conn, "#", SHMBUS_QUEUE_MAX, role->full);
    test_tell(fd, 1);
    struct shmbus_message kept, m;
    if (shmbus_recv(sub, &kept, SHMBUS_FOREVER) || !whole(&kept))
        return 1;
    test_tell(fd, 1);
    (void)test_hear(fd);
    struct shmbus_queue_stats before = test_books(sub);
    uint64_t received = 1, lost = 0, last = kept.seq;
    for (int ret; (ret = shmbus_recv(sub, &m, 0)) != SHMBUS_EMPTY; received++) {
        if (ret || !whole(&m) || m.seq <= last ||
            (role->full == SHMBUS_DROP_OLDEST && m.lost_before != m.seq - last - 1)) {
            fprintf(stderr, "message %" PRIu64 " after %" PRIu64 ": %d %s\n", m.seq, last, ret,
                    ret ? shmbus_errmsg() : "torn, twice, out of order, or the loss is not told");
            return 1;
        }
        lost += m.lost_before;
        last = m.seq;
        shmbus_release(&m);
    }
    struct shmbus_queue_stats books = test_books(sub);
    bool good = whole(&kept) && books.offered == role->messages && books.received == received &&
                books.queued == 0 && lost <= books.dropped && before.offered == books.offered &&
                before.dropped == books.dropped && before.queued == received - 1;
    if (role->full == SHMBUS_DROP_OLDEST)
        good = good && last == role->messages && lost == books.dropped;
    if (!good)
        fprintf(stderr,
                "offered %" PRIu64 ", received %" PRIu64 " (%" PRIu64 "), queued %" PRIu64
                " before, dropped %" PRIu64 " (%" PRIu64 " before, lost %" PRIu64 "), last %" PRIu64
                "\n",
                books.offered, books.received, received, before.queued, books.dropped,
                before.dropped, lost, last);
    shmbus_release(&kept);
    test_tell(fd, books.dropped);
    test_tell(fd, received);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    return good ? 0 : 1;
}

static void publish(struct shmbus_publisher *publisher, uint64_t from, uint64_t to,
                    uint64_t *refused)
{
    for (uint64_t n = from; n <= to; n++) {
        struct payload p = {.n = n};
        for (size_t i = 0; i < sizeof(p.filling) / sizeof(p.filling[0]); i++)
            p.filling[i] = n;
        struct shmbus_delivery delivery;
        if (shmbus_publisher_publish(publisher, &p, sizeof(p), NULL, &delivery))
            fail_msg("publish %" PRIu64 ": %s", n, shmbus_errmsg());
        *refused += delivery.refused;
    }
}

static void stop(const struct test_proc *proc)
{
    int status;
    assert_int_equal(kill(proc->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(proc->pid, &status, WUNTRACED), proc->pid);
    assert_true(WIFSTOPPED(status));
}

/* Publishes past stopped subscribers with these policies. */
static void run(const uint32_t *full, size_t count)
{
    struct test_bus bus;
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    options.heap_limit = LIMIT;
    test_bus_start(&bus, &options);
    struct test_proc procs[2];
    struct role roles[2];
    uint64_t messages = test_light() ? 300000 : 3000000, refused = 0;
    for (size_t i = 0; i < count; i++) {
        roles[i] = (struct role){.bus = &bus, .full = full[i], .messages = messages};
        procs[i] = test_spawn(subscriber_main, &roles[i]);
        (void)test_hear(procs[i].fd);
    }
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_publisher *publisher;
    assert_int_equal(shmbus_prepare(conn, shmbus_text("slow/consumer"), NULL, &publisher), 0);
    publish(publisher, 1, FIRST, &refused);
    for (size_t i = 0; i < count; i++) {
        (void)test_hear(procs[i].fd);
        stop(&procs[i]);
    }
    publish(publisher, FIRST + 1, messages, &refused);
    struct shmbus_conn_stats stats;
    assert_int_equal(shmbus_conn_stats(conn, &stats, sizeof(stats)), 0);
    assert_int_equal(stats.published, messages);
    assert_int_equal(stats.publish_failed, 0);
    assert_int_equal(stats.refused, refused);
    assert_int_equal(stats.heap_limit, LIMIT);
    assert_in_range(stats.heap_size, 1, LIMIT);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(kill(procs[i].pid, SIGCONT), 0);
        test_tell(procs[i].fd, 1);
        uint64_t dropped = test_hear_or(procs[i].fd, UINT64_MAX);
        uint64_t received = test_hear_or(procs[i].fd, 0);
        assert_int_equal(test_join(&procs[i]), 0);
        print_message("policy %u: %" PRIu64 " received, %" PRIu64 " dropped\n", full[i], received,
                      dropped);
        assert_int_equal(received + dropped, messages);
        if (full[i] == SHMBUS_REJECT_NEWEST)
            assert_int_equal(dropped, refused);
        /* It could keep much of what the heap has room for; of two, each less. */
        assert_true(received > LIMIT / (SIZE + 32) / 16);
    }
    shmbus_publisher_free(publisher);
    shmbus_conn_free(conn);
    test_bus_stop(&bus);
}

static void test_a_stopped_drop_oldest_subscriber(void **state)
{
    (void)state;
    run((const uint32_t[]){SHMBUS_DROP_OLDEST}, 1);
}

static void test_a_stopped_reject_newest_subscriber(void **state)
{
    (void)state;
    run((const uint32_t[]){SHMBUS_REJECT_NEWEST}, 1);
}

static void test_both(void **state)
{
    (void)state;
    run((const uint32_t[]){SHMBUS_DROP_OLDEST, SHMBUS_REJECT_NEWEST}, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stopped_drop_oldest_subscriber),
        cmocka_unit_test(test_a_stopped_reject_newest_subscriber),
        cmocka_unit_test(test_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
