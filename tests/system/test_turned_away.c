/* SPDX-License-Identifier: Apache-2.0 */
/*
 * N3: who may not attach, or speaks another version, is told so in one sentence, on both sides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/control.h"
#include "shm/layout.h"
#include "support/testbus.h"

static struct test_bus bus;

static int setup(void **state)
{
    (void)state;
    test_bus_start(&bus, NULL);
    return 0;
}

/* Whoever was turned away has left nothing behind. */
static int teardown(void **state)
{
    (void)state;
    assert_int_equal(test_bus_figures(&bus).connections, 0);
    shmbus_conn_free(test_connect(&bus));
    test_bus_stop(&bus);
    return 0;
}

/* In a child that is somebody else. Exits with the line that went wrong. */
static int stranger_main(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    struct shmbus_bus_stats stats;
    struct shmbus_conn *none = NULL;
    if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
        return 1;
    if (shmbus_connect(bus.name, NULL, &none) != SHMBUS_E_DENIED || none)
        return 2;
    if (!strstr(shmbus_errmsg(), bus.name) || !strstr(shmbus_errmsg(), "permission"))
        return 3;
    if (strchr(shmbus_errmsg(), '\n'))
        return 4;
    if (shmbus_inspect(bus.name, &stats, sizeof(stats)) != SHMBUS_E_DENIED)
        return 5;
    return strstr(shmbus_errmsg(), bus.name) ? 0 : 6;
}

static void test_N3_permission_denied(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        printf("only root can become somebody else\n");
        skip();
    }
    /* By the directory, then by the socket itself. */
    for (mode_t mode = 0700; mode <= 0755; mode += 0055) {
        assert_int_equal(chmod(bus.dir, mode), 0);
        struct test_proc proc = test_spawn(stranger_main, NULL);
        assert_int_equal(test_join(&proc), 0);
    }
}

static struct sockaddr_un address(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int len = snprintf(at.sun_path, sizeof(at.sun_path), "%.63s/%.63s.sock", bus.dir, name);
    assert_in_range(len, 1, sizeof(at.sun_path) - 1);
    return at;
}

/* Says hello with these versions; the reply's status, and its sentence. */
static int hello(uint32_t version, uint32_t layout, uint32_t fingerprint, char sentence[512])
{
    struct sockaddr_un at = address(bus.name);
    struct sb_hello_request request = {
        .head = {SB_CONTROL_HELLO, 1, sizeof(request), 0},
        .version = version,
        .layout = layout,
        .fingerprint = fingerprint,
    };
    struct {
        struct sb_control_head head;
        char text[1024];
    } reply;
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(sock, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(send(sock, &request, sizeof(request), 0), sizeof(request));
    ssize_t n = recv(sock, &reply, sizeof(reply), 0);
    close(sock);
    assert_in_range(n, sizeof(reply.head) + 1, sizeof(reply.head) + 511);
    snprintf(sentence, 512, "%.*s", (int)((size_t)n - sizeof(reply.head)), reply.text);
    return reply.head.status;
}

static void test_N3_versions(void **state)
{
    (void)state;
    char sentence[512], ours[64], theirs[64];
    uint32_t print = sb_layout_fingerprint();
    const struct {
        uint32_t version, layout, fingerprint;
    } bad[] = {
        {SB_CONTROL_VERSION + 1, SB_LAYOUT_VERSION, print},
        {SB_CONTROL_VERSION, SB_LAYOUT_VERSION + 1, print},
        {SB_CONTROL_VERSION, SB_LAYOUT_VERSION, print ^ 0x80},
        {0, 0, 0},
    };
    snprintf(ours, sizeof(ours), "control %u and layout %u/%08x", SB_CONTROL_VERSION,
             SB_LAYOUT_VERSION, print);
    for (int i = 0; i < 4; i++) {
        int status = hello(bad[i].version, bad[i].layout, bad[i].fingerprint, sentence);
        snprintf(theirs, sizeof(theirs), "control %u and layout %u/%08x", bad[i].version,
                 bad[i].layout, bad[i].fingerprint);
        assert_int_equal(status, SHMBUS_E_VERSION);
        assert_non_null(strstr(sentence, ours));
        assert_non_null(strstr(sentence, theirs));
        assert_null(strchr(sentence, '\n'));
    }
}

/* A coordinator of another version, as far as a client gets with it. */
static int other_version_main(int fd, void *arg)
{
    static const char sentence[] = "bus speaks control 7, this client control 1";
    struct sb_hello_request request;
    struct {
        struct sb_control_head head;
        char text[sizeof(sentence) - 1];
    } reply = {.head = {SB_CONTROL_HELLO, 0, sizeof(reply), SHMBUS_E_VERSION}};
    int listener = *(int *)arg;
    test_tell(fd, 0);
    int sock = accept(listener, NULL, NULL);
    if (sock < 0 || recv(sock, &request, sizeof(request), 0) != sizeof(request))
        return 1;
    reply.head.id = request.head.id;
    memcpy(reply.text, sentence, sizeof(reply.text));
    return send(sock, &reply, sizeof(reply), MSG_NOSIGNAL) == sizeof(reply) ? 0 : 2;
}

static void test_N3_a_coordinator_of_another_version(void **state)
{
    (void)state;
    struct sockaddr_un at = address("newer");
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    struct test_proc proc = test_spawn(other_version_main, &listener);
    (void)test_hear(proc.fd);
    struct shmbus_conn *none = NULL;
    assert_int_equal(shmbus_connect("newer", NULL, &none), SHMBUS_E_VERSION);
    assert_null(none);
    assert_non_null(strstr(shmbus_errmsg(), "bus speaks control 7, this client control 1"));
    assert_int_equal(test_join(&proc), 0);
    close(listener);
    assert_int_equal(unlink(at.sun_path), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_N3_permission_denied),
        TEST(test_N3_versions),
        TEST(test_N3_a_coordinator_of_another_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
