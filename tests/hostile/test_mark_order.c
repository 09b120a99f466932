/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: no-asan no-tsan */
/*
 * Whoever may push to a ring can name a chunk of another's heap before its owner does. What lies
 * under a mark must then be what its owner wrote as a header, and not what was in that memory
 * before: a payload that somebody else has chosen. A publisher is stepped through its publishes,
 * and after each instruction every chunk that is marked has the header it keeps. (Not with
 * sanitizers, whose code is stepped through as well.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/client.h"
#include "client/mapping.h"
#include "support/testbus.h"

#define PUBLISHES 4 /* in one block, all but the first on the quick path */

static int publisher_main(int fd, void *arg)
{
    struct shmbus_conn *conn = test_connect(arg);
    struct shmbus_publisher *publisher;
    uint8_t payload[48];
    memset(payload, 0xee, sizeof(payload));
    if (shmbus_prepare(conn, shmbus_text("mark"), NULL, &publisher))
        return 1;
    for (int i = 0; i < 64; i++) /* blocks have grown */
        if (shmbus_publisher_publish(publisher, payload, sizeof(payload), NULL, NULL))
            return 1;
    test_tell(fd, conn->index);
    test_tell(fd, conn->gen);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    for (int i = 0; i < PUBLISHES; i++)
        if (shmbus_publisher_publish(publisher, payload, sizeof(payload), NULL, NULL))
            return 1;
    raise(SIGSTOP);
    return 0;
}

/* Every mark of the heap's blocks, and the header that was seen under it first. */
struct marks {
    const uint8_t *heap;
    uint64_t size;
    struct sb_chunk header[4096];
    const struct sb_chunk *chunk[4096];
    size_t count;
};

static bool mark_known(const struct marks *marks, const struct sb_chunk *chunk)
{
    for (size_t i = 0; i < marks->count; i++)
        if (marks->chunk[i] == chunk)
            return true;
    return false;
}

/* Looks at the block of the last message only: it is where the publishes go. */
static void marks_look(struct marks *marks, const struct sb_block *block)
{
    for (uint64_t unit = 0; unit < sizeof(block->starts) * 8; unit++) {
        const struct sb_chunk *chunk =
            (const void *)((const uint8_t *)block + unit * SB_CHUNK_UNIT);
        if (!(sb_load_acquire(&block->starts[unit / 64]) >> unit % 64 & 1) ||
            mark_known(marks, chunk))
            continue;
        assert_true(marks->count < sb_array_len(marks->chunk));
        marks->chunk[marks->count] = chunk;
        memcpy(&marks->header[marks->count++], chunk, sizeof(*chunk));
    }
}

static void test_a_mark_shows_a_header(void **state)
{
    (void)state;
    static struct marks marks;
    struct test_bus bus;
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "mark", 1000, SHMBUS_REJECT_NEWEST);
    struct test_proc publisher = test_spawn(publisher_main, &bus);
    uint32_t index = (uint32_t)test_hear(publisher.fd), gen = (uint32_t)test_hear(publisher.fd);
    struct sb_mapping_want want = {.kind = SB_MAP_HEAP, .index = index, .gen = gen};
    assert_int_equal(sb_mapping_get(conn, &want, 1), 0);
    assert_non_null(want.mapping);
    int status;
    assert_int_equal(waitpid(publisher.pid, &status, WUNTRACED), publisher.pid);
    const struct sb_reader *r = &sub->reader;
    uint64_t last = r->ring->slot[(sb_load_acquire(&r->ring->tail) - 1) & r->mask].desc;
    const struct sb_block *block = (const void *)(want.mapping->base + sb_desc_block(last));
    marks_look(&marks, block);
    size_t before = marks.count;
    long steps = 0;
    for (;; steps++) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, publisher.pid, NULL, NULL), 0);
        assert_int_equal(waitpid(publisher.pid, &status, 0), publisher.pid);
        if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP)
            break;
        assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
        marks_look(&marks, block);
    }
    ptrace(PTRACE_DETACH, publisher.pid, NULL, 0);
    assert_int_equal(test_join(&publisher), 0);
    printf("%ld steps, %zu chunks\n", steps, marks.count - before);
    assert_true(marks.count > before);
    for (size_t i = before; i < marks.count; i++)
        assert_memory_equal(&marks.header[i], marks.chunk[i], sizeof(marks.header[i]));
    sb_mapping_put(conn, want.mapping);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    test_bus_stop(&bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_mark_shows_a_header)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
