/* SPDX-License-Identifier: Apache-2.0 */
#include "os/pidfd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

/* PIDFD_THREAD (Linux 6.9), as the descriptor's flags show it. */
#define SB_PIDFD_THREAD O_EXCL

int sb_pidfd_open(pid_t pid, int *pidfd)
{
    if (pid <= 0)
        return sb_fail(SHMBUS_E_INVALID, "%d is no process that a pidfd could be opened of",
                       (int)pid);
    long fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0) {
        *pidfd = (int)fd;
        return 0;
    }
    if (errno == ESRCH)
        return SHMBUS_DONE;
    if (errno == EMFILE || errno == ENFILE)
        return sb_fail(SHMBUS_E_LIMIT, "no free descriptor for a pidfd (RLIMIT_NOFILE)");
    return sb_fail_errno("opening a pidfd of process %d failed", (int)pid);
}

/* Reads a file of /proc, which is not larger than cap - 1, as a string. */
static int sb_pidfd_read_proc(const char *path, char *text, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t len = 0;
    ssize_t n = 0;
    while (len < cap - 1) {
        n = read(fd, text + len, cap - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    int saved = errno;
    close(fd);
    errno = saved;
    return n < 0 ? -1 : 0;
}

/* No file can have a link text without a slash: this tells a pidfd from anything forged. */
static int sb_pidfd_check_kind(int fd)
{
    char path[32], kind[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(path, kind, sizeof(kind) - 1);
    int flags = fcntl(fd, F_GETFL);
    if (len < 0 || flags < 0)
        return sb_fail_errno("looking at %s failed (is /proc mounted?)", path);
    kind[len] = '\0';
    if (strcmp(kind, "anon_inode:[pidfd]") != 0)
        return sb_fail(SHMBUS_E_INVALID, "a descriptor sent as a pidfd is none, but %s", kind);
    if (flags & SB_PIDFD_THREAD)
        return sb_fail(SHMBUS_E_INVALID,
                       "a pidfd of a thread was sent where one of a process is due");
    return 0;
}

int sb_pidfd_verify(int pidfd, pid_t pid)
{
    int rc = sb_pidfd_check_kind(pidfd);
    if (rc != 0)
        return rc;
    char path[40], info[512];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    if (sb_pidfd_read_proc(path, info, sizeof(info)) < 0)
        return sb_fail_errno("reading %s failed", path);
    const char *line = strstr(info, "\nPid:");
    if (!line)
        return sb_fail(SHMBUS_E_SYSTEM, "%s does not say which process a pidfd is of", path);
    long found = strtol(line + strlen("\nPid:"), NULL, 10);
    if (found == -1)
        return SHMBUS_DONE;
    if (found != (long)pid)
        return sb_fail(SHMBUS_E_INVALID, "a pidfd of process %ld was sent by process %d", found,
                       (int)pid);
    return 0;
}

int sb_pidfd_wait(int pidfd, int64_t deadline)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    for (;;) {
        struct timespec ts, *left = NULL;
        if (deadline != SB_NEVER) {
            int64_t now = deadline > 0 ? sb_clock_ns() : 0;
            ts = sb_clock_timespec(deadline > now ? deadline - now : 0);
            left = &ts;
        }
        int rc = ppoll(&p, 1, left, NULL);
        if (rc == 0)
            return SHMBUS_TIMEOUT;
        if (rc > 0 && !(p.revents & POLLNVAL))
            return 0;
        if (rc > 0)
            errno = EBADF;
        if (errno != EINTR)
            return sb_fail_errno("waiting for the end of a process failed");
    }
}

int sb_pidfd_start_time(pid_t pid, uint64_t *ticks)
{
    char path[32], stat[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (sb_pidfd_read_proc(path, stat, sizeof(stat)) < 0) {
        if (errno == ESRCH || (errno == ENOENT && access("/proc/self", F_OK) == 0))
            return SHMBUS_DONE;
        return sb_fail_errno("reading %s failed", path);
    }
    /* Field 22; field 2, the name, may hold spaces and parentheses but is followed by the last. */
    char *field = strrchr(stat, ')');
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    char *end = NULL;
    uint64_t value = field ? strtoull(field, &end, 10) : 0;
    if (!field || end == field)
        return sb_fail(SHMBUS_E_SYSTEM, "%s has no start time", path);
    *ticks = value;
    return 0;
}
