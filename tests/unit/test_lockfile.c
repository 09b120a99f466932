/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/err.h"
#include "os/lockfile.h"
#include "os_fds.h"

static char dir[64];
static char path[128];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/shmbus-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/bus.lock", dir);
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

static struct sb_lockfile *acquire(void)
{
    struct sb_lockfile *lock = NULL;
    assert_int_equal(sb_lockfile_acquire(path, 0600, &lock), 0);
    return lock;
}

/* What a process of its own gets: the result of acquire, as an exit status. */
static int acquire_elsewhere(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct sb_lockfile *lock = NULL;
        int rc = sb_lockfile_acquire(path, 0600, &lock);
        char holder[32];
        snprintf(holder, sizeof(holder), "process %d", (int)getppid());
        if (rc == SHMBUS_E_BUS_EXISTS && !strstr(shmbus_errmsg(), holder))
            rc = -99;
        sb_lockfile_release(lock);
        _exit(-rc);
    }
    return -child_status(pid);
}

static void test_one_process_holds_it(void **state)
{
    (void)state;
    mode_t old = umask(0777);
    struct sb_lockfile *lock = acquire();
    umask(old);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(acquire_elsewhere(), SHMBUS_E_BUS_EXISTS);
    sb_lockfile_release(lock);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(acquire_elsewhere(), 0);
    assert_int_equal(access(path, F_OK), -1);
}

/* Refused under any name of the file, and the refusal does not drop the lock. */
static void test_twice_in_one_process(void **state)
{
    (void)state;
    struct sb_lockfile *lock = acquire(), *again = NULL;
    char other[160], link_path[160];
    snprintf(other, sizeof(other), "%s/../%s/bus.lock", dir, strrchr(dir, '/') + 1);
    snprintf(link_path, sizeof(link_path), "%s/hard", dir);
    assert_int_equal(link(path, link_path), 0);
    assert_int_equal(sb_lockfile_acquire(path, 0600, &again), SHMBUS_E_BUS_EXISTS);
    assert_non_null(strstr(shmbus_errmsg(), "this process"));
    assert_int_equal(sb_lockfile_acquire(other, 0600, &again), SHMBUS_E_BUS_EXISTS);
    assert_int_equal(sb_lockfile_acquire(link_path, 0600, &again), SHMBUS_E_BUS_EXISTS);
    assert_null(again);
    struct sb_lockfile_holder holder;
    assert_int_equal(sb_lockfile_query(path, &holder), 0);
    assert_int_equal(holder.pid, getpid());
    assert_int_equal(acquire_elsewhere(), SHMBUS_E_BUS_EXISTS);
    assert_int_equal(unlink(link_path), 0);
    sb_lockfile_release(lock);
}

static void test_query_changes_nothing(void **state)
{
    (void)state;
    struct sb_lockfile_holder holder = {-7, -7};
    assert_int_equal(sb_lockfile_query(path, &holder), SHMBUS_EMPTY);
    assert_int_equal(access(path, F_OK), -1);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(sb_lockfile_query(path, &holder), SHMBUS_EMPTY);
    assert_int_equal(holder.pid, -7);

    struct sb_lockfile *lock = acquire();
    pid_t pid = fork();
    if (pid == 0) {
        if (sb_lockfile_query(path, &holder) != 0)
            _exit(1);
        _exit(holder.pid != getppid() || holder.written != getppid());
    }
    assert_int_equal(child_status(pid), 0);
    assert_int_equal(acquire_elsewhere(), SHMBUS_E_BUS_EXISTS);
    sb_lockfile_release(lock);
}

/* The kernel gives the lock of a killed process up; what it left behind is taken over. */
static void test_a_killed_holder_is_succeeded(void **state)
{
    (void)state;
    int ready[2];
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct sb_lockfile *lock = NULL;
        if (sb_lockfile_acquire(path, 0600, &lock) == 0 && write(ready[1], "x", 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    close(ready[1]);
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    struct sb_lockfile *lock = NULL;
    assert_int_equal(sb_lockfile_acquire(path, 0600, &lock), SHMBUS_E_BUS_EXISTS);
    kill(pid, SIGKILL);
    child_status(pid);
    assert_int_equal(access(path, F_OK), 0);
    lock = acquire();
    sb_lockfile_release(lock);
}

/* A child has neither the lock nor the right to remove the file, whatever it inherited. */
static void test_a_forked_child_releases_nothing(void **state)
{
    (void)state;
    struct sb_lockfile *lock = acquire();
    pid_t pid = fork();
    if (pid == 0) {
        sb_lockfile_release(lock);
        _exit(0);
    }
    assert_int_equal(child_status(pid), 0);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(acquire_elsewhere(), SHMBUS_E_BUS_EXISTS);
    sb_lockfile_release(lock);
}

static void test_a_replaced_file_is_not_removed(void **state)
{
    (void)state;
    struct sb_lockfile *lock = acquire();
    assert_int_equal(unlink(path), 0);
    struct sb_lockfile *second = acquire(); /* another file by now: another lock */
    sb_lockfile_release(lock);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(acquire_elsewhere(), SHMBUS_E_BUS_EXISTS);
    sb_lockfile_release(second);
}

static void test_what_is_no_lock_file(void **state)
{
    (void)state;
    struct sb_lockfile *lock = NULL;
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(sb_lockfile_acquire(path, 0600, &lock), SHMBUS_E_INVALID);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(sb_lockfile_acquire(path, 0600, &lock), SHMBUS_E_INVALID);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(sb_lockfile_acquire("/nonexistent/x", 0600, &lock), SHMBUS_E_SYSTEM);
    if (geteuid() == 0) {
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_int_equal(sb_lockfile_acquire(path, 0600, &lock), SHMBUS_E_DENIED);
        assert_non_null(strstr(shmbus_errmsg(), "65534"));
        assert_non_null(strstr(shmbus_errmsg(), path));
    }
    assert_null(lock);
}

#define RACERS 4
#define RACES 200

/* Takes and releases; a counter file beside it, changed only under the lock, would lose updates. */
static int race(const char *counter)
{
    for (int done = 0; done < RACES;) {
        struct sb_lockfile *lock = NULL;
        int rc = sb_lockfile_acquire(path, 0600, &lock);
        if (rc != 0 && rc != SHMBUS_E_BUS_EXISTS && rc != SHMBUS_E_SYSTEM)
            return 1;
        if (rc != 0)
            continue;
        int value = 0;
        int fd = open(counter, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (pread(fd, &value, sizeof(value), 0) < 0)
            return 2;
        value++;
        sched_yield(); /* lets another one in, if the lock does */
        if (pwrite(fd, &value, sizeof(value), 0) != sizeof(value))
            return 3;
        close(fd);
        sb_lockfile_release(lock);
        done++;
    }
    return 0;
}

static void test_removal_and_taking_race(void **state)
{
    (void)state;
    char counter[160];
    snprintf(counter, sizeof(counter), "%s/counter", dir);
    pid_t pids[RACERS];
    for (int i = 0; i < RACERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(race(counter));
    }
    for (int i = 0; i < RACERS; i++)
        assert_int_equal(child_status(pids[i]), 0);
    int value = 0;
    int fd = open(counter, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, &value, sizeof(value)), sizeof(value));
    close(fd);
    assert_int_equal(value, RACERS * RACES);
    assert_int_equal(unlink(counter), 0);
}

#define CHECKED(f) cmocka_unit_test_setup_teardown(f, leaks_setup, leaks_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECKED(test_one_process_holds_it),
        CHECKED(test_twice_in_one_process),
        CHECKED(test_query_changes_nothing),
        CHECKED(test_a_killed_holder_is_succeeded),
        CHECKED(test_a_forked_child_releases_nothing),
        CHECKED(test_a_replaced_file_is_not_removed),
        CHECKED(test_what_is_no_lock_file),
        CHECKED(test_removal_and_taking_race),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
