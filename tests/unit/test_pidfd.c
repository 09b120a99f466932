/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/pidfd.h"
#include "os_fds.h"

/* A child that lives until it is killed. */
static pid_t start_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    return pid;
}

static void test_readable_once_the_process_has_ended(void **state)
{
    (void)state;
    pid_t pid = start_child();
    int fd = -1;
    assert_int_equal(sb_pidfd_open(pid, &fd), 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(sb_pidfd_verify(fd, pid), 0);
    assert_int_equal(sb_pidfd_verify(fd, getpid()), SHMBUS_E_INVALID);
    assert_int_equal(sb_pidfd_verify(fd, 0), SHMBUS_E_INVALID);
    assert_int_equal(sb_pidfd_wait(fd, 0), SHMBUS_TIMEOUT);
    assert_int_equal(sb_pidfd_wait(fd, sb_clock_after(2 * SB_NS_PER_MS)), SHMBUS_TIMEOUT);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(sb_pidfd_wait(fd, SB_NEVER), 0);
    assert_int_equal(child_status(pid), 255);
    assert_int_equal(sb_pidfd_wait(fd, 0), 0);
    assert_int_equal(sb_pidfd_verify(fd, pid), SHMBUS_DONE);
    int again = -7;
    assert_int_equal(sb_pidfd_open(pid, &again), SHMBUS_DONE);
    assert_int_equal(again, -7);
    close(fd);
    assert_int_equal(sb_pidfd_wait(fd, SB_NEVER), SHMBUS_E_SYSTEM);
}

static void test_only_pidfds_of_processes_are_accepted(void **state)
{
    (void)state;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(sb_pidfd_verify(null, getpid()), SHMBUS_E_INVALID);
    close(null);
    assert_int_equal(sb_pidfd_verify(-1, getpid()), SHMBUS_E_SYSTEM);
    int fd = -7;
    assert_int_equal(sb_pidfd_open(0, &fd), SHMBUS_E_INVALID);
    assert_int_equal(sb_pidfd_open(-5, &fd), SHMBUS_E_INVALID);
    int thread = (int)syscall(SYS_pidfd_open, getpid(), O_EXCL);
    if (thread >= 0) { /* before 6.9 there are none */
        assert_int_equal(sb_pidfd_verify(thread, getpid()), SHMBUS_E_INVALID);
        assert_non_null(strstr(shmbus_errmsg(), "thread"));
        close(thread);
    }
}

/* A name made to break parsers of /proc/<pid>/stat. */
static void test_start_time_names_the_process(void **state)
{
    (void)state;
    uint64_t plain = 0, named = 0, child = 0, none = 7;
    assert_int_equal(sb_pidfd_start_time(getpid(), &plain), 0);
    assert_int_equal(prctl(PR_SET_NAME, "a) R 1 2 (b"), 0);
    assert_int_equal(sb_pidfd_start_time(getpid(), &named), 0);
    assert_true(plain > 0 && plain == named);
    pid_t pid = start_child();
    assert_int_equal(sb_pidfd_start_time(pid, &child), 0);
    assert_true(child >= plain && child <= plain + 100 * 60);
    kill(pid, SIGKILL);
    child_status(pid);
    assert_int_equal(sb_pidfd_start_time(pid, &none), SHMBUS_DONE);
    assert_int_equal(none, 7);
}

static int fds_at_start;

static int count_at_start(void **state)
{
    (void)state;
    fds_at_start = count_fds();
    return 0;
}

static int compare_at_end(void **state)
{
    (void)state;
    return count_fds() == fds_at_start ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readable_once_the_process_has_ended),
        cmocka_unit_test(test_only_pidfds_of_processes_are_accepted),
        cmocka_unit_test(test_start_time_names_the_process),
    };
    return cmocka_run_group_tests(tests, count_at_start, compare_at_end);
}
