/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: wrap=malloc,calloc,mmap */
/*
 * Connecting and subscribing when memory runs out: the n-th allocation or mapping fails, for each n
 * until none does. Every failure is reported as one, and nothing is left of what it interrupted.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "os_fds.h"
#include "support/testbus.h"

#include <shmbus/shmbus.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);

static int countdown; /* to the allocation that fails; 0: none does */

static bool fails(void)
{
    return countdown > 0 && --countdown == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    if (!fails())
        return __real_mmap(at, size, prot, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

/* What an application does first; 0 if all of it was possible. */
static int first_steps(const struct test_bus *bus)
{
    struct shmbus_conn *conn = NULL;
    struct shmbus_sub *sub = NULL;
    int ret = shmbus_connect(bus->name, NULL, &conn);
    if (ret) {
        assert_null(conn);
        return ret;
    }
    struct shmbus_topic patterns[] = {shmbus_text("a"), shmbus_text("b/+")};
    ret = shmbus_subscribe_many(conn, patterns, 2, NULL, &sub);
    assert_true(ret == 0 || sub == NULL);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    return ret;
}

static void test_every_allocation_can_fail(void **state)
{
    (void)state;
    struct test_bus bus;
    test_bus_start(&bus, NULL);
    assert_int_equal(first_steps(&bus), 0); /* what is made once in a process */
    int fds = count_fds(), maps = count_maps(), failures = 0;
    for (int n = 1;; n++) {
        countdown = n;
        int ret = first_steps(&bus);
        bool reached = countdown == 0;
        countdown = 0;
        assert_int_equal(count_fds(), fds);
        assert_int_equal(count_maps(), maps);
        if (!reached)
            break;
        assert_int_equal(ret, SHMBUS_E_NOMEM);
        assert_true(strlen(shmbus_errmsg()) > 0);
        failures++;
    }
    assert_true(failures > 10);
    assert_int_equal(first_steps(&bus), 0);
    struct shmbus_bus_stats figures = test_bus_figures(&bus);
    assert_int_equal(figures.connections, 0);
    assert_int_equal(figures.subscriptions, 0);
    test_bus_stop(&bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
