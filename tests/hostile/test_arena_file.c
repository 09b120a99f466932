/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in /dev/shm under the name of a bus was written by anybody: a real arena with bytes
 * changed, cut off, grown, being truncated right now, or something that is no file at all.
 * shmbus_inspect() and the look-up of shmbus_connect() find figures or say what is wrong, at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/layout.h"
#include "support/testbus.h"

#define AT_ONCE_NS (2 * SB_NS_PER_S) /* allows for a busy machine */

/* A real arena, and the name under which its mutants are planted. */
static struct {
    uint8_t *bytes;
    size_t size;
    char name[64];
    char path[128];
    char dir[64]; /* where no bus is looked for in vain */
} arena;

static struct sb_arena_header *arena_header(uint8_t *bytes)
{
    return (void *)bytes;
}

static void plant(const uint8_t *bytes, size_t size)
{
    int fd = open(arena.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

/* The code is one of these, and there is a sentence. */
static void assert_refused(int ret, const char *what)
{
    static const int codes[] = {SHMBUS_E_NO_BUS,  SHMBUS_E_VERSION, SHMBUS_E_DENIED,
                                SHMBUS_E_INVALID, SHMBUS_E_COORD,   SHMBUS_E_SYSTEM};
    for (size_t i = 0; i < sb_array_len(codes); i++)
        if (ret == codes[i] && strlen(shmbus_errmsg()) > 10)
            return;
    fail_msg("%s: %d, %s", what, ret, shmbus_errmsg());
}

static int inspect(void)
{
    struct shmbus_bus_stats stats;
    memset(&stats, 0xff, sizeof(stats));
    int64_t start = sb_clock_ns();
    int ret = shmbus_inspect(arena.name, &stats, sizeof(stats));
    assert_in_range(sb_clock_ns() - start, 0, AT_ONCE_NS);
    if (ret) {
        assert_refused(ret, "inspect");
        return ret;
    }
    assert_non_null(memchr(stats.s_wild, 0, sizeof(stats.s_wild)));
    assert_non_null(memchr(stats.m_wild, 0, sizeof(stats.m_wild)));
    return 0;
}

static int connect_by_arena(void)
{
    struct shmbus_connect_options options = SHMBUS_CONNECT_OPTIONS_INIT;
    struct shmbus_conn *conn;
    options.control_timeout_ns = 50 * SB_NS_PER_MS;
    int64_t start = sb_clock_ns();
    int ret = shmbus_connect(arena.name, &options, &conn);
    assert_in_range(sb_clock_ns() - start, 0, AT_ONCE_NS);
    assert_refused(ret, "connect");
    return ret;
}

static int arena_make(void **state)
{
    (void)state;
    struct test_bus bus;
    struct stat st;
    char path[128];
    test_bus_start(&bus, NULL);
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "a/#", 10, SHMBUS_DROP_OLDEST);
    if (shmbus_publish(conn, shmbus_text("a/b"), "c", 1, NULL, NULL))
        return -1;
    snprintf(path, sizeof(path), "/dev/shm/shmbus.%s", bus.name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    arena.size = (size_t)st.st_size;
    arena.bytes = malloc(arena.size);
    if (!arena.bytes || read(fd, arena.bytes, arena.size) != (ssize_t)arena.size)
        return -1;
    close(fd);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    test_bus_stop(&bus);
    snprintf(arena.name, sizeof(arena.name), "test-planted-%ld", (long)getpid());
    snprintf(arena.path, sizeof(arena.path), "/dev/shm/shmbus.%s", arena.name);
    snprintf(arena.dir, sizeof(arena.dir), "/tmp/shmbus-test-XXXXXX");
    if (!mkdtemp(arena.dir))
        return -1;
    setenv("SHMBUS_RUNTIME_DIR", arena.dir, 1);
    struct sb_arena_header *header = arena_header(arena.bytes);
    memset(header->name, 0, sizeof(header->name));
    strcpy(header->name, arena.name);
    return 0;
}

static int arena_free(void **state)
{
    (void)state;
    unlink(arena.path);
    rmdir(arena.dir);
    free(arena.bytes);
    return 0;
}

/* Unchanged it has what was there, so that what follows changes something that is understood. */
static void test_a_leftover_is_understood(void **state)
{
    (void)state;
    struct shmbus_bus_stats stats;
    plant(arena.bytes, arena.size);
    assert_int_equal(shmbus_inspect(arena.name, &stats, sizeof(stats)), 0);
    assert_int_equal(stats.connections, 1);
    assert_int_equal(stats.subscriptions, 1);
    assert_int_equal(stats.routes, 1);
    assert_int_equal(connect_by_arena(), SHMBUS_E_NO_BUS);
}

static void test_any_length(void **state)
{
    (void)state;
    const size_t header = sizeof(struct sb_arena_header);
    for (size_t size = 0; size <= arena.size; size += size < header + 64 ? 1 : 1009) {
        plant(arena.bytes, size);
        assert_int_equal(inspect() == 0, size >= header);
        if (size < header + 64)
            assert_int_equal(connect_by_arena(), SHMBUS_E_NO_BUS);
    }
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    assert_int_equal(unlink(arena.path), 0);
    assert_int_equal(mkfifo(arena.path, 0600), 0);
    assert_int_equal(inspect(), SHMBUS_E_NO_BUS);
    assert_int_equal(connect_by_arena(), SHMBUS_E_NO_BUS);
    assert_int_equal(unlink(arena.path), 0);
    assert_int_equal(mkdir(arena.path, 0700), 0);
    assert_true(inspect() < 0);
    assert_true(connect_by_arena() < 0);
    assert_int_equal(rmdir(arena.path), 0);
    const char *targets[] = {"/dev/zero", "/dev/tty", "/proc/self/mem", arena.path, "/nowhere"};
    for (size_t i = 0; i < sb_array_len(targets); i++) {
        assert_int_equal(symlink(targets[i], arena.path), 0);
        assert_true(inspect() < 0);
        assert_true(connect_by_arena() < 0);
        assert_int_equal(unlink(arena.path), 0);
    }
}

/* The longest tables that a header can claim, in a file with a hole of a terabyte. */
static void test_tables_without_end(void **state)
{
    (void)state;
    uint8_t *bytes = malloc(arena.size);
    assert_non_null(bytes);
    memcpy(bytes, arena.bytes, arena.size);
    struct sb_arena_header *header = arena_header(bytes);
    struct sb_table *tables[] = {&header->conns, &header->routes, &header->seats};
    for (size_t i = 0; i < sb_array_len(tables); i++) {
        tables[i]->count = UINT32_MAX;
        for (size_t k = 0; k < SB_TABLE_CHUNKS; k++)
            tables[i]->chunk[k] = (uint64_t)(k + 1) << 32;
    }
    plant(bytes, arena.size);
    assert_int_equal(truncate(arena.path, INT64_C(1) << 40), 0);
    assert_int_equal(inspect(), 0);
    for (size_t i = 0; i < sb_array_len(tables); i++)
        for (size_t k = 0; k < SB_TABLE_CHUNKS; k++)
            tables[i]->chunk[k] = UINT64_MAX - 8 * k;
    plant(bytes, arena.size);
    assert_int_equal(inspect(), 0);
    free(bytes);
}

/* A few words of the header, or of what it leads to, changed. */
static void mutate(uint64_t *random, uint8_t *bytes, size_t size)
{
    static const uint64_t words[] = {0, 1, UINT64_MAX, INT64_MAX, UINT32_MAX, 1u << 31, 4096};
    for (uint64_t n = 1 + test_random(random) % 8; n > 0; n--) {
        size_t within = test_random(random) % 4 ? sizeof(struct sb_arena_header) : size;
        size_t at = test_random(random) % (within - 8);
        uint64_t word = test_random(random) % 2 ? words[test_random(random) % 7]
                                                : test_random(random) >> test_random(random) % 64;
        memcpy(bytes + at, &word, 1 + test_random(random) % 8);
    }
}

static void test_any_bytes(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    const struct sb_arena_header *good = arena_header(arena.bytes);
    uint8_t *bytes = malloc(arena.size);
    size_t some = 65536;
    int understood = 0, rounds = test_light() ? 500 : 5000;
    assert_non_null(bytes);
    if (some > arena.size)
        some = arena.size;
    for (int i = 0; i < rounds; i++) {
        memcpy(bytes, arena.bytes, some);
        mutate(&random, bytes, some);
        struct sb_arena_header *header = arena_header(bytes);
        if (i % 4) { /* past the first checks */
            header->magic = good->magic;
            header->version = good->version;
            header->fingerprint = good->fingerprint;
            memcpy(header->name, good->name, sizeof(header->name));
        }
        plant(bytes, some - test_random(&random) % 2 * (test_random(&random) % some));
        understood += inspect() == 0;
        (void)connect_by_arena();
    }
    assert_in_range(understood, rounds / 10, rounds);
    free(bytes);
}

static int truncater_main(int fd, void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    int file = open(arena.path, O_RDWR);
    test_tell(fd, 0);
    for (;;) {
        if (ftruncate(file, (off_t)(test_random(&random) % 8192)) < 0 ||
            ftruncate(file, (off_t)arena.size) < 0 || pwrite(file, arena.bytes, 4096, 0) != 4096)
            return 1;
    }
}

/* Mapped, it would be a SIGBUS. */
static void test_truncated_meanwhile(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    int understood = 0, rounds = test_light() ? 500 : 5000;
    plant(arena.bytes, arena.size);
    struct test_proc truncater = test_spawn(truncater_main, &random);
    (void)test_hear(truncater.fd);
    for (int i = 0; i < rounds; i++) {
        understood += inspect() == 0;
        (void)connect_by_arena();
    }
    test_kill(&truncater);
    assert_true(understood > 0);
}

/*
 * Where the header leads.
 */

static int connect_leading_to(const char *path)
{
    uint8_t *bytes = malloc(arena.size);
    assert_non_null(bytes);
    memcpy(bytes, arena.bytes, arena.size);
    struct sb_arena_header *header = arena_header(bytes);
    memset(header->socket_path, 0, sizeof(header->socket_path));
    memcpy(header->socket_path, path, strnlen(path, sizeof(header->socket_path)));
    plant(bytes, arena.size);
    free(bytes);
    return connect_by_arena();
}

/* Answers each connection with random bytes, or not at all. */
static int listener_main(int fd, void *arg)
{
    uint64_t random = 1;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", (const char *)arg);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (bind(listener, (const void *)&addr, sizeof(addr)) < 0 || listen(listener, 8) < 0)
        return 1;
    test_tell(fd, 0);
    for (;;) {
        uint32_t message[64];
        int sock = accept(listener, NULL, NULL);
        ssize_t n = recv(sock, message, sizeof(message), 0);
        uint64_t how = test_random(&random) % 4;
        size_t len = how == 0 ? 0 : 16 + test_random(&random) % (sizeof(message) - 16);
        for (size_t i = how == 1 ? 0 : 4; i < 64; i++)
            message[i] = (uint32_t)test_random(&random);
        if (how != 1) /* the reply to what was asked, as far as its head tells */
            message[2] = (uint32_t)(len = how == 2 ? 56 : len);
        if (n > 0 && len > 0)
            (void)!send(sock, message, len, MSG_NOSIGNAL);
        if (how == 0)
            (void)recv(sock, message, sizeof(message), 0); /* until the client gives up */
        close(sock);
    }
}

static void test_where_it_leads(void **state)
{
    (void)state;
    char path[128], longest[256];
    memset(longest, '/', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(connect_leading_to(longest), SHMBUS_E_NO_BUS);
    assert_int_equal(connect_leading_to(""), SHMBUS_E_NO_BUS);
    assert_int_equal(connect_leading_to("relative"), SHMBUS_E_NO_BUS);
    assert_true(connect_leading_to("/dev/null") < 0);
    assert_true(connect_leading_to(arena.dir) < 0);
    assert_true(connect_leading_to(arena.path) < 0);
    snprintf(path, sizeof(path), "%s/fifo", arena.dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(connect_leading_to(path) < 0);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/anybody", arena.dir);
    struct test_proc listener = test_spawn(listener_main, path);
    (void)test_hear(listener.fd);
    for (int i = 0; i < 60; i++)
        assert_true(connect_leading_to(path) < 0);
    test_kill(&listener);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_leftover_is_understood),
        cmocka_unit_test(test_any_length),
        cmocka_unit_test(test_what_is_no_file),
        cmocka_unit_test(test_tables_without_end),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_truncated_meanwhile),
        cmocka_unit_test(test_where_it_leads),
    };
    return cmocka_run_group_tests(tests, arena_make, arena_free);
}
