/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/err.h"
#include "os/map.h"
#include "os/memfd.h"
#include "os_fds.h"

#define MIB (1u << 20)

static int leaks_setup(void **state)
{
    *state = (void *)(intptr_t)count_fds();
    return 0;
}

static int leaks_teardown(void **state)
{
    return count_fds() == (int)(intptr_t)*state ? 0 : -1;
}

static int make(uint64_t size)
{
    int fd = -1;
    assert_int_equal(sb_memfd_create("shmbus-test", size, &fd), 0);
    return fd;
}

static uint64_t allocated(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void test_create_is_private_and_sparse(void **state)
{
    (void)state;
    int fd = make(64 * MIB);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 64 * MIB);
    assert_int_equal(st.st_blocks, 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}

static void test_create_refuses_sizes(void **state)
{
    (void)state;
    int fd = -7;
    assert_int_equal(sb_memfd_create("x", 0, &fd), SHMBUS_E_INVALID);
    assert_int_equal(sb_memfd_create("x", 100, &fd), SHMBUS_E_INVALID);
    assert_int_equal(sb_memfd_create("x", UINT64_MAX << 12, &fd), SHMBUS_E_INVALID);
    assert_non_null(strstr(shmbus_errmsg(), "page size"));
    assert_int_equal(fd, -7);
}

static void test_commit_allocates_the_range(void **state)
{
    (void)state;
    int fd = make(64 * MIB);
    assert_int_equal(sb_memfd_commit(fd, 0, 3 * MIB + 4096), 0);
    assert_int_equal(allocated(fd), 3 * MIB + 4096);
    assert_int_equal(sb_memfd_commit(fd, 0, 4 * MIB), 0);
    assert_int_equal(allocated(fd), 4 * MIB);
    assert_int_equal(sb_memfd_commit(fd, MIB, MIB), 0);
    assert_int_equal(sb_memfd_commit(fd, MIB, 0), SHMBUS_E_INVALID);
    close(fd);
}

/* A sealed file does not grow: the range that ends beyond it is an error, not a SIGBUS later. */
static void test_commit_stays_inside_a_sealed_file(void **state)
{
    (void)state;
    int fd = make(MIB);
    assert_int_equal(sb_memfd_seal(fd), 0);
    assert_int_equal(sb_memfd_commit(fd, 0, MIB), 0);
    assert_int_equal(sb_memfd_commit(fd, MIB, 2 * MIB), SHMBUS_E_SYSTEM);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(sb_memfd_seal(fd), SHMBUS_E_SYSTEM);
    close(fd);
}

/* In a mount namespace of its own, in a tmpfs of one MiB: 0 when the commit says "no memory". */
static int commit_in_a_small_tmpfs(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/tmp", "tmpfs", 0, "size=1m") < 0)
        return 77;
    int fd = open("/tmp/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 8 * MIB) < 0 || sb_memfd_commit(fd, 0, MIB / 2) != 0)
        return 1;
    return sb_memfd_commit(fd, 0, 8 * MIB) != SHMBUS_E_NOMEM;
}

static void test_commit_reports_full_memory(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(commit_in_a_small_tmpfs());
    int status = child_status(pid);
    if (status == 77)
        skip(); /* needs root to mount a small tmpfs */
    assert_int_equal(status, 0);
}

static void test_heap_seals_keep_the_owner_writing(void **state)
{
    (void)state;
    int fd = make(8 * MIB);
    void *map = NULL;
    assert_int_equal(sb_memfd_commit(fd, 0, MIB), 0);
    assert_int_equal(sb_map(fd, 8 * MIB, true, &map), 0);
    assert_int_equal(sb_memfd_seal_heap(fd), 0);
    unsigned char *bytes = map;
    bytes[0] = 42;

    void *other = NULL;
    assert_int_equal(sb_map(fd, 8 * MIB, true, &other), SHMBUS_E_DENIED);
    assert_null(other);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);

    /* More of the file is committed by the plain call, and the old mapping reaches it. */
    assert_int_equal(sb_memfd_commit(fd, MIB, 2 * MIB), 0);
    assert_int_equal(allocated(fd), 2 * MIB);
    bytes[2 * MIB - 1] = 43;

    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MIB), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(madvise(map, MIB, MADV_REMOVE), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 16 * MIB), -1);
    assert_int_equal(bytes[0], 42);

    assert_int_equal(sb_map(fd, 8 * MIB, false, &other), 0);
    assert_int_equal(((unsigned char *)other)[0], 42);
    assert_int_equal(mprotect(other, 4096, PROT_READ | PROT_WRITE), -1);
    sb_unmap(other, 8 * MIB);
    sb_unmap(map, 8 * MIB);
    close(fd);
}

static void test_readonly_descriptor_cannot_write(void **state)
{
    (void)state;
    int fd = make(MIB), ro = -1;
    assert_int_equal(sb_memfd_readonly(fd, &ro), 0);
    assert_int_equal(fcntl(ro, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_true(fcntl(ro, F_GETFD) & FD_CLOEXEC);
    void *map = NULL;
    assert_int_equal(sb_map(ro, MIB, true, &map), SHMBUS_E_DENIED);
    assert_int_equal(sb_map(ro, MIB, false, &map), 0);
    assert_int_equal(fcntl(ro, F_ADD_SEALS, F_SEAL_GROW), -1);
    struct sb_file_id a, b;
    assert_int_equal(sb_memfd_identity(fd, &a), 0);
    assert_int_equal(sb_memfd_identity(ro, &b), 0);
    assert_true(a.dev == b.dev && a.ino == b.ino);
    sb_unmap(map, MIB);
    close(ro);
    close(fd);
}

static void test_readonly_refuses_what_is_not_open(void **state)
{
    (void)state;
    int ro = -7;
    assert_int_equal(sb_memfd_readonly(-1, &ro), SHMBUS_E_SYSTEM);
    assert_int_equal(ro, -7);
}

/* The reason for mode 0600: another user cannot turn a read-only descriptor into a writable one. */
static void test_readonly_cannot_be_reopened_by_another_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* needs a second user to become */
    int fd = make(MIB), ro = -1;
    assert_int_equal(sb_memfd_readonly(fd, &ro), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char path[32];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", ro);
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(2);
        _exit(open(path, O_RDWR) >= 0);
    }
    assert_int_equal(child_status(pid), 0);
    close(ro);
    close(fd);
}

static void test_check_of_received_descriptors(void **state)
{
    (void)state;
    int fd = make(MIB);
    assert_int_equal(sb_memfd_check(fd, MIB, 0), 0);
    assert_int_equal(sb_memfd_check(fd, MIB, SB_MEMFD_SEALS_SIZE), SHMBUS_E_INVALID);
    assert_int_equal(sb_memfd_check(fd, 2 * MIB, 0), SHMBUS_E_INVALID);
    assert_int_equal(sb_memfd_seal(fd), 0);
    assert_int_equal(sb_memfd_check(fd, MIB, SB_MEMFD_SEALS_SIZE), 0);
    assert_int_equal(sb_memfd_check(fd, MIB, SB_MEMFD_SEALS_HEAP), SHMBUS_E_INVALID);
    assert_non_null(strstr(shmbus_errmsg(), "seals"));
    close(fd);

    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(sb_memfd_check(null, 0, 0), SHMBUS_E_INVALID);
    close(null);
    assert_int_equal(sb_memfd_check(-1, 0, 0), SHMBUS_E_SYSTEM);

    /* Huge pages carry seals but can run out at the first touch. */
    int huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_ALLOW_SEALING);
    if (huge >= 0) {
        assert_int_equal(ftruncate(huge, 2 * MIB), 0);
        assert_int_equal(fcntl(huge, F_ADD_SEALS, SB_MEMFD_SEALS_SIZE), 0);
        assert_int_equal(sb_memfd_check(huge, 2 * MIB, SB_MEMFD_SEALS_SIZE), SHMBUS_E_INVALID);
        close(huge);
    }
}

#define CHECKED(f) cmocka_unit_test_setup_teardown(f, leaks_setup, leaks_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECKED(test_create_is_private_and_sparse),
        CHECKED(test_create_refuses_sizes),
        CHECKED(test_commit_allocates_the_range),
        CHECKED(test_commit_stays_inside_a_sealed_file),
        CHECKED(test_commit_reports_full_memory),
        CHECKED(test_heap_seals_keep_the_owner_writing),
        CHECKED(test_readonly_descriptor_cannot_write),
        CHECKED(test_readonly_refuses_what_is_not_open),
        CHECKED(test_readonly_cannot_be_reopened_by_another_user),
        CHECKED(test_check_of_received_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
