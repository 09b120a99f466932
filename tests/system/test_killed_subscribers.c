/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=300 serial slow */
/*
 * A killed subscriber that held and had queued messages costs a publisher that runs at full rate
 * nothing: after many of them (SHMBUS_KILLS, default 200) its memory and the arena's are where they
 * were after the first few. And its death is seen within 50 ms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/atomic.h"
#include "support/testbus.h"

struct shared {
    struct test_bus bus;
    uint64_t published;
    uint32_t stop;
};

static int publisher_main(int fd, void *arg)
{
    struct shared *shared = arg;
    struct shmbus_conn *conn = test_connect(&shared->bus);
    struct shmbus_publisher *publisher;
    if (shmbus_prepare(conn, shmbus_text("kill/me"), NULL, &publisher))
        return 1;
    test_tell(fd, 1);
    char payload[64] = "payload";
    while (!sb_load_acquire(&shared->stop)) {
        if (shmbus_publisher_publish(publisher, payload, sizeof(payload), NULL, NULL)) {
            fprintf(stderr, "publish: %s\n", shmbus_errmsg());
            return 1;
        }
        sb_store_release(&shared->published, shared->published + 1);
    }
    shmbus_publisher_free(publisher);
    shmbus_conn_free(conn);
    return 0;
}

/* Holds a few messages, leaves many queued, and waits to be killed. */
static int subscriber_main(int fd, void *arg)
{
    struct shared *shared = arg;
    struct shmbus_conn *conn = test_connect(&shared->bus);
    struct shmbus_sub *first = test_subscribe(conn, "kill/+", 256, SHMBUS_DROP_OLDEST);
    struct shmbus_sub *second = test_subscribe(conn, "#", 1024, SHMBUS_REJECT_NEWEST);
    struct shmbus_message held[8];
    for (int i = 0; i < 8; i++) {
        if (shmbus_recv(i % 2 ? first : second, &held[i], 10000000000))
            return 1;
    }
    test_tell(fd, 1);
    (void)test_hear_or(fd, 0);
    return 0;
}

static bool none_left(void *arg)
{
    const struct shared *shared = arg;
    return test_bus_figures(&shared->bus).subscriptions == 0;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void test_killed_subscribers_cost_nothing(void **state)
{
    (void)state;
    const char *given = getenv("SHMBUS_KILLS");
    int kills = given ? atoi(given) : 200;
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    test_bus_start(&shared->bus, NULL);
    struct test_proc publisher = test_spawn(publisher_main, shared);
    (void)test_hear(publisher.fd);
    long pss = 0;
    uint64_t used = 0;
    int64_t *noticed = calloc((size_t)kills, sizeof(*noticed));
    assert_non_null(noticed);
    for (int i = 0; i < kills; i++) {
        struct test_proc subscriber = test_spawn(subscriber_main, shared);
        (void)test_hear(subscriber.fd);
        test_kill(&subscriber);
        noticed[i] = test_until(none_left, shared, 5000);
        uint64_t before = sb_load_acquire(&shared->published);
        while (sb_load_acquire(&shared->published) < before + 1000)
            ;
        if (i == (kills >= 100 ? kills / 100 : 1)) {
            pss = test_pss_kib(publisher.pid);
            used = test_bus_figures(&shared->bus).arena_used;
        }
    }
    long pss_end = test_pss_kib(publisher.pid);
    uint64_t used_end = test_bus_figures(&shared->bus).arena_used;
    qsort(noticed, (size_t)kills, sizeof(*noticed), compare);
    print_message("%d kills: PSS %ld -> %ld KiB, arena used %llu -> %llu, death seen after %lld ms "
                  "(median), %lld ms (most)\n",
                  kills, pss, pss_end, (unsigned long long)used, (unsigned long long)used_end,
                  (long long)noticed[kills / 2], (long long)noticed[kills - 1]);
    assert_in_range(pss_end, 0, pss * 105 / 100 + 1024);
    assert_in_range(used_end, 0, used * 105 / 100 + (1 << 20));
    assert_in_range(noticed[kills / 2], 0, 50);
    free(noticed);
    sb_store_release(&shared->stop, 1);
    assert_int_equal(test_join(&publisher), 0);
    test_bus_stop(&shared->bus);
    munmap(shared, sizeof(*shared));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_subscribers_cost_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
