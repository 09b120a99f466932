/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ends a receive: a message, a deadline, a signal handler, and the end of the subscription,
 * its connection or the bus (C1, C5), each at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/testbus.h"

#define MS INT64_C(1000000)
#define AT_ONCE (500 * MS) /* half a nap: a wake that is missed is noticed after a whole one */
#define PATIENCE 10000     /* ms until a test gives up */

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
    if (bus.coordinator.fd >= 0)
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

/*
 * A thread in a receive.
 */

struct receiver {
    struct shmbus_sub *sub;
    pthread_t thread;
    pid_t tid;
    int64_t timeout_ns;
    struct shmbus_message message;
    int result;
    int64_t returned_ns; /* when */
};

static void *receiver_main(void *arg)
{
    struct receiver *r = arg;
    __atomic_store_n(&r->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    r->result = shmbus_recv(r->sub, &r->message, r->timeout_ns);
    r->returned_ns = test_now_ns();
    return NULL;
}

static bool receiver_asleep(void *arg)
{
    struct receiver *r = arg;
    pid_t tid = __atomic_load_n(&r->tid, __ATOMIC_ACQUIRE);
    return tid && test_asleep(&tid);
}

static void receiver_start(struct receiver *r, struct shmbus_sub *of)
{
    *r = (struct receiver){.sub = of, .timeout_ns = SHMBUS_FOREVER, .result = -100};
    assert_int_equal(pthread_create(&r->thread, NULL, receiver_main, r), 0);
    test_until(receiver_asleep, r, PATIENCE);
}

/* Waits for its result; fails if it came later than at once after `since`. */
static void receiver_join(struct receiver *r, int result, int64_t since, const char *what)
{
    pthread_join(r->thread, NULL);
    assert_int_equal(r->result, result);
    int64_t took = r->returned_ns - since;
    printf("%s ends a receive after %.3f ms\n", what, (double)took / (double)MS);
    assert_true(took < AT_ONCE);
}

/*
 * Deadlines.
 */

static void test_timeouts(void **state)
{
    (void)state;
    struct shmbus_message m, untouched;
    memset(&m, 0x5a, sizeof(m));
    untouched = m;
    assert_int_equal(shmbus_recv(sub, &m, 0), SHMBUS_EMPTY);
    static const int64_t timeout[] = {1, 20000, MS, 30 * MS};
    for (size_t i = 0; i < sizeof(timeout) / sizeof(timeout[0]); i++) {
        int64_t start = test_now_ns();
        assert_int_equal(shmbus_recv(sub, &m, timeout[i]), SHMBUS_TIMEOUT);
        int64_t took = test_now_ns() - start;
        assert_in_range(took, timeout[i], timeout[i] + AT_ONCE);
    }
    size_t count = 77, needed = 77;
    char buffer[8];
    assert_int_equal(shmbus_recv_many(sub, &m, 1, &count, MS), SHMBUS_TIMEOUT);
    assert_int_equal(shmbus_recv_copy(sub, &m, buffer, 8, &needed, MS), SHMBUS_TIMEOUT);
    assert_int_equal(count, 77);
    assert_int_equal(needed, 77);
    assert_memory_equal(&m, &untouched, sizeof(m));
    /* The longest possible one is no overflow: what is there is found. */
    publish("x", 1);
    assert_int_equal(shmbus_recv(sub, &m, INT64_MAX), 0);
    shmbus_release(&m);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct shmbus_message m;
    static const int64_t past[] = {0, 1, INT64_MIN, -2};
    for (size_t i = 0; i < sizeof(past) / sizeof(past[0]); i++)
        assert_int_equal(shmbus_recv_until(sub, &m, past[i]), SHMBUS_TIMEOUT);
    assert_int_equal(shmbus_recv_until(sub, &m, test_now_ns()), SHMBUS_TIMEOUT);
    int64_t deadline = test_now_ns() + 20 * MS;
    assert_int_equal(shmbus_recv_until(sub, &m, deadline), SHMBUS_TIMEOUT);
    assert_in_range(test_now_ns(), deadline, deadline + AT_ONCE);
    /* What is there comes also after the deadline. */
    for (size_t i = 0; i < sizeof(past) / sizeof(past[0]); i++) {
        publish(&i, sizeof(i));
        assert_int_equal(shmbus_recv_until(sub, &m, past[i]), 0);
        assert_memory_equal(m.payload, &i, sizeof(i));
        shmbus_release(&m);
    }
    publish("y", 1);
    assert_int_equal(shmbus_recv_until(sub, &m, SHMBUS_FOREVER), 0);
    shmbus_release(&m);
}

/*
 * Waking.
 */

#define WAKES 50

static int sleeper_main(int fd, void *arg)
{
    (void)arg;
    struct shmbus_conn *own = test_connect(&bus);
    struct shmbus_sub *mine = test_subscribe(own, "wait/latency", 100, 0);
    test_tell(fd, 0);
    for (uint64_t n = 0; n < WAKES; n++) {
        struct shmbus_message m;
        test_tell(fd, n);
        int ret = shmbus_recv(mine, &m, SHMBUS_FOREVER);
        int64_t now = test_now_ns();
        if (ret || m.size != sizeof(int64_t))
            return 1;
        int64_t sent;
        memcpy(&sent, m.payload, sizeof(sent));
        shmbus_release(&m);
        test_tell(fd, (uint64_t)(now - sent));
    }
    test_books(mine);
    shmbus_sub_free(mine);
    shmbus_conn_free(own);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A sleeper in another process. Its naps bound how late a lost wake-up could come; half of them
 * being far below that shows that it was woken. */
static void test_a_publish_wakes_a_sleeping_process(void **state)
{
    (void)state;
    int64_t took[WAKES];
    struct test_proc sleeper = test_spawn(sleeper_main, NULL);
    (void)test_hear(sleeper.fd);
    for (uint64_t n = 0; n < WAKES; n++) {
        assert_int_equal(test_hear(sleeper.fd), n);
        test_until(test_asleep, &sleeper.pid, PATIENCE);
        int64_t now = test_now_ns();
        assert_int_equal(
            shmbus_publish(conn, shmbus_text("wait/latency"), &now, sizeof(now), NULL, NULL), 0);
        took[n] = (int64_t)test_hear(sleeper.fd);
    }
    assert_int_equal(test_join(&sleeper), 0);
    qsort(took, WAKES, sizeof(took[0]), by_size);
    printf("publish to a sleeping process: %.1f us at best, median %.1f, worst %.1f\n",
           (double)took[0] / 1e3, (double)took[WAKES / 2] / 1e3, (double)took[WAKES - 1] / 1e3);
    assert_true(took[WAKES / 2] < 100 * MS);
    assert_true(took[WAKES - 1] < AT_ONCE);
}

/* Both sleep at the bell of their connection; each gets its own message and stays asleep at the
 * other's. */
static void test_two_threads_at_one_bell(void **state)
{
    (void)state;
    struct shmbus_sub *other = test_subscribe(conn, "other", 100, SHMBUS_REJECT_NEWEST);
    for (int round = 0; round < 20; round++) {
        struct receiver r, o;
        receiver_start(&r, sub);
        receiver_start(&o, other);
        int64_t start = test_now_ns();
        if (round % 2) {
            publish("r", 1);
            receiver_join(&r, 0, start, "a publish");
            test_until(receiver_asleep, &o, PATIENCE);
            start = test_now_ns();
            assert_int_equal(shmbus_publish(conn, shmbus_text("other"), "o", 1, NULL, NULL), 0);
            receiver_join(&o, 0, start, "a publish");
        } else {
            assert_int_equal(shmbus_publish(conn, shmbus_text("other"), "o", 1, NULL, NULL), 0);
            publish("r", 1);
            receiver_join(&o, 0, start, "a publish");
            receiver_join(&r, 0, start, "a publish");
        }
        assert_memory_equal(r.message.payload, "r", 1);
        assert_memory_equal(o.message.payload, "o", 1);
        shmbus_release(&r.message);
        shmbus_release(&o.message);
    }
    assert_int_equal(test_books(sub).received, 20);
    assert_int_equal(test_books(other).received, 20);
    shmbus_sub_free(other);
}

/*
 * Ends.
 */

static void test_C1_unsubscribe_wakes(void **state)
{
    (void)state;
    struct shmbus_sub *other = test_subscribe(conn, "other", 100, SHMBUS_REJECT_NEWEST);
    struct receiver r, o;
    receiver_start(&r, sub);
    receiver_start(&o, other);
    int64_t start = test_now_ns();
    assert_int_equal(shmbus_unsubscribe(conn, sub), 0);
    receiver_join(&r, SHMBUS_CLOSED, start, "unsubscribe");
    assert_string_equal(shmbus_sub_why(sub), "unsubscribed");
    /* It is no news to the other at the same bell. */
    assert_string_equal(shmbus_sub_why(other), "");
    test_until(receiver_asleep, &o, PATIENCE);
    start = test_now_ns();
    assert_int_equal(shmbus_publish(conn, shmbus_text("other"), "o", 1, NULL, NULL), 0);
    receiver_join(&o, 0, start, "a publish");
    shmbus_release(&o.message);
    shmbus_sub_free(other);
}

/* A shared ring, with a bell of its own. */
static void test_C1_disconnect_wakes(void **state)
{
    (void)state;
    struct shmbus_conn *second = test_connect(&bus);
    struct shmbus_sub *shared[] = {test_subscribe(conn, "shared", 10, SHMBUS_DROP_OLDEST),
                                   test_subscribe(second, "shared", 10, SHMBUS_DROP_OLDEST)};
    struct receiver r, s[2];
    receiver_start(&r, sub);
    receiver_start(&s[0], shared[0]);
    receiver_start(&s[1], shared[1]);
    int64_t start = test_now_ns();
    assert_int_equal(shmbus_disconnect(conn), 0);
    receiver_join(&r, SHMBUS_CLOSED, start, "disconnect");
    receiver_join(&s[0], SHMBUS_CLOSED, start, "disconnect");
    assert_string_equal(shmbus_sub_why(sub), "disconnected");
    assert_string_equal(shmbus_sub_why(shared[0]), "disconnected");
    assert_string_equal(shmbus_sub_why(shared[1]), "");
    test_until(receiver_asleep, &s[1], PATIENCE);
    start = test_now_ns();
    assert_int_equal(shmbus_publish(second, shmbus_text("shared"), "s", 1, NULL, NULL), 0);
    receiver_join(&s[1], 0, start, "a publish");
    shmbus_release(&s[1].message);
    shmbus_sub_free(shared[0]);
    shmbus_sub_free(shared[1]);
    shmbus_conn_free(second);
}

static void test_C5_the_end_of_the_bus_wakes(void **state)
{
    (void)state;
    struct shmbus_sub *shared = test_subscribe(conn, "shared", 10, SHMBUS_DROP_OLDEST);
    struct receiver r, s;
    receiver_start(&r, sub);
    receiver_start(&s, shared);
    int64_t start = test_now_ns();
    test_tell(bus.coordinator.fd, 0);
    receiver_join(&r, SHMBUS_CLOSED, start, "the end of the bus");
    receiver_join(&s, SHMBUS_CLOSED, start, "the end of the bus");
    assert_string_equal(shmbus_sub_why(sub), "bus_stopped");
    assert_string_equal(shmbus_sub_why(shared), "bus_stopped");
    assert_int_equal(shmbus_is_disconnected(conn), 1);
    shmbus_sub_free(shared);
    test_bus_stop(&bus);
}

/*
 * Signals.
 */

static volatile sig_atomic_t handled;

static void count_signal(int signal)
{
    (void)signal;
    handled++;
}

static void handle(int flags)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
}

static void test_a_handler_interrupts(void **state)
{
    (void)state;
    struct receiver r;
    handle(0);
    handled = 0;
    receiver_start(&r, sub);
    int64_t start = test_now_ns();
    assert_int_equal(pthread_kill(r.thread, SIGUSR1), 0);
    receiver_join(&r, SHMBUS_INTERRUPTED, start, "a signal handler");
    assert_int_equal(handled, 1);
    /* It may go on. */
    publish("x", 1);
    assert_int_equal(shmbus_recv(sub, &r.message, SHMBUS_FOREVER), 0);
    shmbus_release(&r.message);
    signal(SIGUSR1, SIG_DFL);
}

/* Stops the sleeper, so that it finds a message and a signal at once when it goes on. */
static int interrupter_main(int fd, void *arg)
{
    pid_t tid = *(pid_t *)arg, pid = getppid();
    struct shmbus_conn *own = test_connect(&bus);
    test_until(test_asleep, &tid, PATIENCE);
    if (kill(pid, SIGSTOP) || shmbus_publish(own, shmbus_text("wait/here"), "x", 1, NULL, NULL) ||
        syscall(SYS_tgkill, pid, tid, SIGUSR1) || kill(pid, SIGCONT))
        return 1;
    (void)fd;
    shmbus_conn_free(own);
    return 0;
}

static void test_a_message_comes_before_an_interruption(void **state)
{
    (void)state;
    handle(0);
    handled = 0;
    pid_t tid = (pid_t)syscall(SYS_gettid);
    for (int i = 1; i <= 10; i++) {
        struct test_proc proc = test_spawn(interrupter_main, &tid);
        struct shmbus_message m;
        assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), 0);
        shmbus_release(&m);
        assert_int_equal(test_join(&proc), 0);
        assert_int_equal(handled, i);
    }
    signal(SIGUSR1, SIG_DFL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_timeouts),
        TEST(test_deadlines),
        TEST(test_a_publish_wakes_a_sleeping_process),
        TEST(test_two_threads_at_one_bell),
        TEST(test_C1_unsubscribe_wakes),
        TEST(test_C1_disconnect_wakes),
        TEST(test_C5_the_end_of_the_bus_wakes),
        TEST(test_a_handler_interrupts),
        TEST(test_a_message_comes_before_an_interruption),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
