/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/sock.h"
#include "os_fds.h"

static char dir[64];
static char path[128];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/shmbus-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/bus.sock", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static int leaks_setup(void **state)
{
    *state = (void *)(intptr_t)count_fds();
    return 0;
}

static int leaks_teardown(void **state)
{
    unlink(path);
    return count_fds() == (int)(intptr_t)*state ? 0 : -1;
}

static void make_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(int pair[2])
{
    close(pair[0]);
    close(pair[1]);
}

static int listen_here(mode_t mode)
{
    int fd = -1;
    assert_int_equal(sb_sock_listen(path, mode, SB_SOCK_GROUP_KEEP, &fd), 0);
    return fd;
}

static void test_listen_has_exactly_its_mode(void **state)
{
    (void)state;
    mode_t old = umask(0077);
    int fd = -1;
    gid_t group = geteuid() == 0 ? 12345 : getegid();
    assert_int_equal(sb_sock_listen(path, 0660, group, &fd), 0);
    umask(old);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(st.st_gid, group);
    close(fd);
}

static void test_listen_replaces_only_the_dead(void **state)
{
    (void)state;
    int first = listen_here(0600), second = -7;
    assert_int_equal(sb_sock_listen(path, 0600, SB_SOCK_GROUP_KEEP, &second), SHMBUS_E_BUS_EXISTS);
    assert_int_equal(second, -7);
    close(first);
    second = listen_here(0600);
    close(second);
    assert_int_equal(unlink(path), 0);

    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(sb_sock_listen(path, 0600, SB_SOCK_GROUP_KEEP, &second), SHMBUS_E_INVALID);
    close(file);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void test_listen_leaves_another_users_leftover(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* needs to give a file away */
    close(listen_here(0600));
    assert_int_equal(chown(path, 65534, 65534), 0);
    int fd = -7;
    assert_int_equal(sb_sock_listen(path, 0600, SB_SOCK_GROUP_KEEP, &fd), SHMBUS_E_DENIED);
    assert_non_null(strstr(shmbus_errmsg(), "65534"));
    assert_non_null(strstr(shmbus_errmsg(), path));
}

static void test_paths_that_are_too_long_are_refused(void **state)
{
    (void)state;
    char longest[109];
    memset(longest, 'x', sizeof(longest));
    longest[108] = '\0';
    int fd = -7;
    assert_int_equal(sb_sock_connect(longest, SB_SOCK_NOW, &fd), SHMBUS_E_INVALID);
    longest[107] = '\0';
    assert_int_equal(sb_sock_connect(longest, SB_SOCK_NOW, &fd), SHMBUS_E_NO_BUS);
    longest[104] = '\0';
    assert_int_equal(sb_sock_listen(longest, 0600, SB_SOCK_GROUP_KEEP, &fd), SHMBUS_E_INVALID);
    assert_non_null(strstr(shmbus_errmsg(), "103"));
    assert_int_equal(sb_sock_connect("", SB_SOCK_NOW, &fd), SHMBUS_E_INVALID);
    assert_int_equal(fd, -7);
}

static void test_connect_and_accept(void **state)
{
    (void)state;
    int listener = listen_here(0600), client = -1, server = -1;
    assert_int_equal(sb_sock_accept(listener, &server), SHMBUS_EMPTY);
    assert_int_equal(sb_sock_connect(path, sb_clock_after(SB_NS_PER_S), &client), 0);
    assert_int_equal(sb_sock_accept(listener, &server), 0);
    assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);
    struct sb_sock_peer peer;
    assert_int_equal(sb_sock_peer(server, &peer), 0);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    int pidfd = -1;
    int rc = sb_sock_peer_pidfd(server, &pidfd);
    assert_true(rc == 0 || rc == SHMBUS_EMPTY);
    if (rc == 0)
        close(pidfd);
    close(server);
    close(client);
    close(listener);
    assert_int_equal(sb_sock_connect(path, SB_NEVER, &client), SHMBUS_E_NO_BUS);
}

/* Fills the backlog (of one) and times out at the deadline. */
static void test_connect_waits_for_the_backlog(void **state)
{
    (void)state;
    int listener = listen_here(0600);
    assert_int_equal(listen(listener, 0), 0);
    int a = -1, b = -7, server = -1;
    assert_int_equal(sb_sock_connect(path, SB_SOCK_NOW, &a), 0);
    int64_t deadline = sb_clock_after(20 * SB_NS_PER_MS);
    assert_int_equal(sb_sock_connect(path, deadline, &b), SHMBUS_TIMEOUT);
    /* The kernel counts this wait in ticks of up to 10 ms. */
    assert_true(sb_clock_ns() >= deadline - 10 * SB_NS_PER_MS);
    assert_int_equal(sb_sock_connect(path, SB_SOCK_NOW, &b), SHMBUS_TIMEOUT);
    assert_int_equal(b, -7);
    assert_int_equal(sb_sock_accept(listener, &server), 0);
    assert_int_equal(sb_sock_connect(path, SB_NEVER, &b), 0);
    close(server);
    close(a);
    close(b);
    close(listener);
}

static void test_messages_keep_their_bounds(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    char buf[16];
    size_t len = 99;
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, NULL, 0, SB_SOCK_NOW),
                     SHMBUS_TIMEOUT);
    assert_int_equal(sb_sock_send(pair[0], "", 0, NULL, 0, SB_SOCK_NOW), SHMBUS_E_INVALID);
    assert_int_equal(sb_sock_send(pair[0], "one", 3, NULL, 0, SB_SOCK_NOW), 0);
    assert_int_equal(sb_sock_send(pair[0], "0123456789abcdefX", 17, NULL, 0, SB_SOCK_NOW), 0);
    assert_int_equal(sb_sock_send(pair[0], "two", 3, NULL, 0, SB_SOCK_NOW), 0);
    assert_int_equal(len, 99);
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, NULL, 0, SB_SOCK_NOW), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(buf, "one", 3);
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, NULL, 0, SB_SOCK_NOW),
                     SHMBUS_E_INVALID);
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, NULL, 0, SB_SOCK_NOW), 0);
    assert_memory_equal(buf, "two", 3);
    close(pair[0]);
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, NULL, 0, SB_NEVER),
                     SHMBUS_CLOSED);
    assert_int_equal(sb_sock_send(pair[1], "x", 1, NULL, 0, SB_NEVER), SHMBUS_CLOSED);
    close(pair[1]);
}

/* A peer that closes with something unread resets the connection; what it had sent is there. */
static void test_a_reset_loses_nothing(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    char buf[16];
    size_t len = 0;
    assert_int_equal(sb_sock_send(pair[0], "last", 4, NULL, 0, SB_SOCK_NOW), 0);
    assert_int_equal(sb_sock_send(pair[1], "unread", 6, NULL, 0, SB_SOCK_NOW), 0);
    close(pair[0]);
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, NULL, 0, SB_SOCK_NOW), 0);
    assert_int_equal(len, 4);
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, NULL, 0, SB_SOCK_NOW),
                     SHMBUS_CLOSED);
    close(pair[1]);
}

static void test_send_times_out_when_full(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    static char big[32768];
    int rc, sent = 0;
    while ((rc = sb_sock_send(pair[0], big, sizeof(big), NULL, 0, SB_SOCK_NOW)) == 0)
        sent++;
    assert_int_equal(rc, SHMBUS_TIMEOUT);
    assert_true(sent > 0);
    int64_t deadline = sb_clock_after(5 * SB_NS_PER_MS);
    assert_int_equal(sb_sock_send(pair[0], big, sizeof(big), NULL, 0, deadline), SHMBUS_TIMEOUT);
    assert_true(sb_clock_ns() >= deadline);
    size_t len;
    while (sent-- > 0)
        assert_int_equal(sb_sock_recv(pair[1], big, sizeof(big), &len, NULL, 0, SB_SOCK_NOW), 0);
    assert_int_equal(sb_sock_recv(pair[1], big, sizeof(big), &len, NULL, 0, SB_SOCK_NOW),
                     SHMBUS_TIMEOUT);
    static char huge[16 << 20];
    assert_int_equal(sb_sock_send(pair[0], huge, sizeof(huge), NULL, 0, SB_SOCK_NOW),
                     SHMBUS_E_INVALID);
    close_pair(pair);
}

static void send_fds(int sock, const char *text, unsigned n)
{
    int fds[SB_SOCK_FDS_MAX];
    for (unsigned i = 0; i < n; i++)
        fds[i] = sock;
    assert_int_equal(sb_sock_send(sock, text, strlen(text), fds, n, SB_SOCK_NOW), 0);
}

static void test_250_descriptors_arrive(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    send_fds(pair[0], "many", SB_SOCK_FDS_MAX);
    assert_int_equal(sb_sock_send(pair[0], "x", 1, (int[]){0}, SB_SOCK_FDS_MAX + 1, SB_SOCK_NOW),
                     SHMBUS_E_LIMIT);
    struct sb_sock_fds fds;
    char buf[8];
    size_t len;
    int before = count_fds();
    assert_int_equal(sb_sock_recv(pair[1], buf, sizeof(buf), &len, &fds, SB_SOCK_FDS_MAX, SB_NEVER),
                     0);
    assert_int_equal(fds.n, SB_SOCK_FDS_MAX);
    assert_int_equal(count_fds(), before + SB_SOCK_FDS_MAX);
    int taken = sb_sock_fds_take(&fds, 7);
    assert_true(fcntl(taken, F_GETFD) & FD_CLOEXEC);
    sb_sock_fds_close(&fds);
    assert_int_equal(count_fds(), before + 1);
    assert_int_equal(close(taken), 0);
    close_pair(pair);
}

static void test_refused_messages_leak_no_descriptors(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    struct sb_sock_fds fds = {.n = 42};
    char buf[4];
    size_t len;
    int before = count_fds();

    send_fds(pair[0], "four", 5); /* more descriptors than are due */
    assert_int_equal(sb_sock_recv(pair[1], buf, 4, &len, &fds, 4, SB_SOCK_NOW), SHMBUS_E_INVALID);
    send_fds(pair[0], "four", 1); /* none is due */
    assert_int_equal(sb_sock_recv(pair[1], buf, 4, &len, NULL, 0, SB_SOCK_NOW), SHMBUS_E_INVALID);
    send_fds(pair[0], "five5", 3); /* too long a text */
    assert_int_equal(sb_sock_recv(pair[1], buf, 4, &len, &fds, 4, SB_SOCK_NOW), SHMBUS_E_INVALID);
    assert_int_equal(fds.n, 42);

    /* An empty message with a descriptor, which sb_sock_send() would not send. */
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct msghdr msg = {.msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &pair[0], sizeof(int));
    assert_int_equal(sendmsg(pair[0], &msg, 0), 0);
    assert_int_equal(sb_sock_recv(pair[1], buf, 4, &len, &fds, 4, SB_SOCK_NOW), SHMBUS_CLOSED);

    assert_int_equal(count_fds(), before);
    close_pair(pair);
}

static void test_running_out_of_descriptors_is_a_limit(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    send_fds(pair[0], "text", 20);
    int before = count_fds();
    struct rlimit old, tight;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    tight = old;
    tight.rlim_cur = (rlim_t)pair[1] + 10;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct sb_sock_fds fds;
    char buf[4];
    size_t len;
    int rc = sb_sock_recv(pair[1], buf, 4, &len, &fds, 30, SB_SOCK_NOW);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(rc, SHMBUS_E_LIMIT);
    assert_int_equal(count_fds(), before);
    close_pair(pair);
}

#define CHECKED(f) cmocka_unit_test_setup_teardown(f, leaks_setup, leaks_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECKED(test_listen_has_exactly_its_mode),
        CHECKED(test_listen_replaces_only_the_dead),
        CHECKED(test_listen_leaves_another_users_leftover),
        CHECKED(test_paths_that_are_too_long_are_refused),
        CHECKED(test_connect_and_accept),
        CHECKED(test_connect_waits_for_the_backlog),
        CHECKED(test_messages_keep_their_bounds),
        CHECKED(test_a_reset_loses_nothing),
        CHECKED(test_send_times_out_when_full),
        CHECKED(test_250_descriptors_arrive),
        CHECKED(test_refused_messages_leak_no_descriptors),
        CHECKED(test_running_out_of_descriptors_is_a_limit),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
