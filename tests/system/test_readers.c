/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=60 */
/*
 * Readers of one process: all sleepers of a shared ring wake for one message, and messages may be
 * released by one thread while another frees their subscription.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/testbus.h"

static struct test_bus bus;

static int start(void **state)
{
    (void)state;
    test_bus_start(&bus, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    test_bus_stop(&bus);
    return 0;
}

static void publish(struct shmbus_conn *conn)
{
    assert_int_equal(shmbus_publish(conn, shmbus_text("t"), "x", 1, NULL, NULL), 0);
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

#define READERS 3

struct reader {
    struct shmbus_sub *sub;
    pthread_t thread;
    int tid; /* atomic */
    int64_t woken;
};

static void *receive(void *arg)
{
    struct reader *r = arg;
    struct shmbus_message message;
    __atomic_store_n(&r->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    if (shmbus_recv(r->sub, &message, INT64_C(10000000000)) != 0)
        return NULL;
    r->woken = now_ns();
    shmbus_release(&message);
    return r;
}

/* The thread sleeps in a futex wait on a word that processes share, as a receive's last step. */
static bool sleeps(void *arg)
{
    const struct reader *r = arg;
    char path[64], line[64] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall",
             __atomic_load_n(&r->tid, __ATOMIC_ACQUIRE));
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool got = fgets(line, sizeof(line), file) != NULL;
    fclose(file);
    char number[16];
    int len = snprintf(number, sizeof(number), "%d ", (int)SYS_futex);
    return got && strncmp(line, number, (size_t)len) == 0;
}

/* The publisher knows the ring from when it had one reader. */
static void test_one_message_wakes_all_readers_of_a_ring(void **state)
{
    (void)state;
    struct shmbus_conn *publisher = test_connect(&bus), *conn = test_connect(&bus);
    struct reader reader[READERS] = {0};
    reader[0].sub = test_subscribe(conn, "t", 8, SHMBUS_DROP_OLDEST);
    publish(publisher);
    struct shmbus_message message;
    assert_int_equal(shmbus_recv(reader[0].sub, &message, 0), 0);
    shmbus_release(&message);
    for (int i = 1; i < READERS; i++)
        reader[i].sub = test_subscribe(conn, "t", 8, SHMBUS_DROP_OLDEST);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&reader[i].thread, NULL, receive, &reader[i]), 0);
    for (int i = 0; i < READERS; i++)
        test_until(sleeps, &reader[i], 5000);
    int64_t published = now_ns();
    publish(publisher);
    for (int i = 0; i < READERS; i++) {
        void *received;
        pthread_join(reader[i].thread, &received);
        assert_non_null(received);
        /* Who is not woken looks again after a second. */
        assert_true(reader[i].woken - published < 700000000);
        shmbus_sub_free(reader[i].sub);
    }
    shmbus_conn_free(conn);
    shmbus_conn_free(publisher);
}

#define HELD 8

struct releaser {
    struct shmbus_message message[HELD];
    pthread_barrier_t *together;
};

static void *release(void *arg)
{
    struct releaser *r = arg;
    pthread_barrier_wait(r->together);
    for (int i = 0; i < HELD; i++)
        shmbus_release(&r->message[i]);
    return NULL;
}

/* Under AddressSanitizer: the subscription is neither used behind its end nor left. */
static void test_release_races_with_free(void **state)
{
    (void)state;
    struct shmbus_conn *conn = test_connect(&bus);
    pthread_barrier_t together;
    pthread_barrier_init(&together, NULL, 2);
    for (int round = 0; round < (test_light() ? 1000 : 2000); round++) {
        struct shmbus_sub *sub = test_subscribe(conn, "t", 8, SHMBUS_DROP_OLDEST);
        struct releaser r = {.together = &together};
        for (int i = 0; i < HELD; i++) {
            publish(conn);
            assert_int_equal(shmbus_recv(sub, &r.message[i], 0), 0);
        }
        assert_int_equal(shmbus_unsubscribe(conn, sub), 0); /* nothing to wait for in the free */
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, release, &r), 0);
        pthread_barrier_wait(&together);
        shmbus_sub_free(sub);
        pthread_join(thread, NULL);
    }
    pthread_barrier_destroy(&together);
    shmbus_conn_free(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_message_wakes_all_readers_of_a_ring),
        cmocka_unit_test(test_release_races_with_free),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
