/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=120 serial */
/*
 * Every publish that starts after subscribe returned is delivered, while many publishers are
 * already running; and (C3) one that starts after unsubscribe returned is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/atomic.h"
#include "support/testbus.h"

#define PUBS 4
#define QUEUE 65536

struct shared {
    struct test_bus bus;
    uint64_t begun[PUBS]; /* the number of the publish that has begun last */
    uint64_t ended[PUBS];
    uint64_t allowed; /* publishers go no further */
    uint32_t stop;
};

struct role {
    struct shared *shared;
    int index;
};

/* Publishes 1, 2, 3, … and says so before and after each. */
static int publisher_main(int fd, void *arg)
{
    struct role *role = arg;
    struct shared *shared = role->shared;
    struct shmbus_conn *conn = test_connect(&shared->bus);
    struct shmbus_publisher *publisher;
    char topic[32];
    snprintf(topic, sizeof(topic), "race/%d", role->index);
    if (shmbus_prepare(conn, shmbus_text(topic), NULL, &publisher))
        return 1;
    test_tell(fd, 1);
    for (uint64_t n = 1;; n++) {
        while (n > sb_load_acquire(&shared->allowed) && !sb_load_acquire(&shared->stop))
            sched_yield();
        if (sb_load_acquire(&shared->stop))
            break;
        sb_store_release(&shared->begun[role->index], n);
        sb_fence_full();
        uint64_t p[2] = {(uint64_t)role->index, n};
        if (shmbus_publisher_publish(publisher, p, sizeof(p), NULL, NULL)) {
            fprintf(stderr, "publish: %s\n", shmbus_errmsg());
            return 1;
        }
        sb_store_release(&shared->ended[role->index], n);
    }
    shmbus_publisher_free(publisher);
    shmbus_conn_free(conn);
    return 0;
}

/* Receives what is queued and checks that each publisher's numbers go on without a gap; first[] is
 * the first number seen, 0 if none was. */
static void drain(struct shmbus_sub *sub, uint64_t first[PUBS], uint64_t last[PUBS])
{
    struct shmbus_message m;
    int ret;
    while ((ret = shmbus_recv(sub, &m, 0)) == 0) {
        uint64_t p[2];
        assert_int_equal(m.size, sizeof(p));
        memcpy(p, m.payload, sizeof(p));
        assert_true(p[0] < PUBS);
        assert_int_equal(m.lost_before, 0);
        if (first[p[0]] == 0)
            first[p[0]] = p[1];
        else
            assert_int_equal(p[1], last[p[0]] + 1);
        last[p[0]] = p[1];
        shmbus_release(&m);
    }
    assert_true(ret == SHMBUS_EMPTY || ret == SHMBUS_CLOSED);
}

static bool all_went_on(void *arg)
{
    void **args = arg;
    const struct shared *shared = args[0];
    const uint64_t *from = args[1];
    for (int i = 0; i < PUBS; i++) {
        if (sb_load_acquire(&shared->ended[i]) < from[i] + 3)
            return false;
    }
    return true;
}

/* Lets the publishers go on: far enough to run all through what follows, not so far that the queue
 * could fill up. */
static void allow_more(struct shared *shared)
{
    uint64_t most = 0;
    for (int i = 0; i < PUBS; i++) {
        uint64_t begun = sb_load_acquire(&shared->begun[i]);
        most = begun > most ? begun : most;
    }
    sb_store_release(&shared->allowed, most + QUEUE / PUBS / 4);
}

static void one_round(struct shared *shared, struct shmbus_conn *conn)
{
    uint64_t at_return[PUBS], at_end[PUBS], begun[PUBS], first[PUBS] = {0}, last[PUBS] = {0};
    allow_more(shared);
    struct shmbus_sub *sub = test_subscribe(conn, "race/+", QUEUE, SHMBUS_DROP_OLDEST);
    sb_fence_full();
    for (int i = 0; i < PUBS; i++)
        at_return[i] = sb_load_acquire(&shared->begun[i]);
    allow_more(shared);
    void *args[] = {shared, at_return};
    test_until(all_went_on, args, 30000);
    for (int i = 0; i < PUBS; i++)
        at_end[i] = sb_load_acquire(&shared->ended[i]);
    assert_int_equal(shmbus_unsubscribe(conn, sub), 0);
    for (int i = 0; i < PUBS; i++)
        begun[i] = sb_load_acquire(&shared->begun[i]);
    drain(sub, first, last);
    struct shmbus_message m;
    assert_int_equal(shmbus_recv(sub, &m, 0), SHMBUS_CLOSED);
    assert_string_equal(shmbus_sub_why(sub), "unsubscribed");
    struct shmbus_queue_stats books = test_books(sub);
    assert_int_equal(books.dropped, 0);
    for (int i = 0; i < PUBS; i++) {
        /* At most the publish that had begun is missing at the start, and nothing that had ended
         * before unsubscribe at the end. */
        assert_in_range(first[i], 1, at_return[i] + 1);
        assert_in_range(last[i], at_end[i], begun[i]);
    }
    shmbus_sub_free(sub);
}

static void test_P1_C3_subscribe_while_publishers_run(void **state)
{
    (void)state;
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    test_bus_start(&shared->bus, NULL);
    struct role roles[PUBS];
    struct test_proc pubs[PUBS];
    for (int i = 0; i < PUBS; i++) {
        roles[i] = (struct role){shared, i};
        pubs[i] = test_spawn(publisher_main, &roles[i]);
        (void)test_hear(pubs[i].fd);
    }
    struct shmbus_conn *conn = test_connect(&shared->bus);
    for (int i = 0; i < (test_light() ? 50 : 500); i++)
        one_round(shared, conn);
    shmbus_conn_free(conn);
    sb_store_release(&shared->stop, 1);
    for (int i = 0; i < PUBS; i++)
        assert_int_equal(test_join(&pubs[i]), 0);
    test_bus_stop(&shared->bus);
    munmap(shared, sizeof(*shared));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_P1_C3_subscribe_while_publishers_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
