/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets at a path: listening, accepting, connecting. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/sock.h"

/* Appended to the path while a new socket is made ready beside the old one. */
#define SB_SOCK_NEW ".new"

static int sb_sock_addr(const char *path, const char *suffix, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s%s", path, suffix);
    if (*path == '\0' || len < 0 || (size_t)len >= sizeof(addr->sun_path))
        return sb_fail(SHMBUS_E_INVALID,
                       "the socket path \"%.120s\" has %zu bytes: 1 to %zu are possible", path,
                       strlen(path), sizeof(addr->sun_path) - 1 - strlen(suffix));
    return 0;
}

static int sb_sock_new(int flags, int *fd)
{
    int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
    if (made < 0)
        return sb_fail_errno("making a unix socket failed");
    *fd = made;
    return 0;
}

static int sb_sock_path_failed(const char *what, const char *path)
{
    if (errno == EACCES || errno == EPERM)
        return sb_fail(SHMBUS_E_DENIED, "%s %s is not permitted", what, path);
    return sb_fail_errno("%s %s failed", what, path);
}

/* Whether path is free to be taken: nothing there, or a socket of ours that nobody listens at. */
static int sb_sock_check_stale(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : sb_sock_path_failed("looking at", path);
    if (!S_ISSOCK(st.st_mode))
        return sb_fail(SHMBUS_E_INVALID, "%s exists and is no socket: it is not replaced", path);
    int probe = -1;
    int rc = sb_sock_connect(path, SB_SOCK_NOW, &probe);
    if (rc == 0)
        close(probe);
    /* A full backlog, or a socket of another type that is listened at, is somebody, too. */
    if (rc == 0 || rc == SHMBUS_TIMEOUT || rc == SHMBUS_E_INVALID)
        return sb_fail(SHMBUS_E_BUS_EXISTS, "somebody listens at %s", path);
    if (rc != SHMBUS_E_NO_BUS)
        return rc;
    if (st.st_uid != geteuid())
        return sb_fail(SHMBUS_E_DENIED, "%s is a leftover of uid %u: that user has to remove it",
                       path, (unsigned)st.st_uid);
    return 0;
}

/* Makes fd listen at addr, reachable for nobody before it has its group and mode. */
static int sb_sock_bind(int fd, const struct sockaddr_un *addr, mode_t mode, gid_t group)
{
    const char *path = addr->sun_path;
    if (unlink(path) < 0 && errno != ENOENT)
        return sb_sock_path_failed("removing", path);
    if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
        return sb_sock_path_failed("making the socket", path);
    /* Until listen(), a connect() is refused whatever the mode that the umask left. */
    if (group != SB_SOCK_GROUP_KEEP && lchown(path, (uid_t)-1, group) < 0)
        return sb_sock_path_failed("changing the group of", path);
    if (chmod(path, mode) < 0)
        return sb_sock_path_failed("changing the mode of", path);
    if (listen(fd, SOMAXCONN) < 0)
        return sb_fail_errno("listening at %s failed", path);
    return 0;
}

int sb_sock_listen(const char *path, mode_t mode, gid_t group, int *fd)
{
    struct sockaddr_un addr;
    int made = -1;
    int rc = sb_sock_addr(path, SB_SOCK_NEW, &addr);
    if (rc == 0)
        rc = sb_sock_check_stale(path);
    if (rc == 0)
        rc = sb_sock_new(SOCK_NONBLOCK, &made);
    if (rc != 0)
        return rc;
    rc = sb_sock_bind(made, &addr, mode, group);
    if (rc == 0 && rename(addr.sun_path, path) < 0)
        rc = sb_sock_path_failed("putting a new socket at", path);
    if (rc != 0) {
        unlink(addr.sun_path);
        close(made);
        return rc;
    }
    *fd = made;
    return 0;
}

int sb_sock_accept(int listener, int *fd)
{
    int got;
    do
        got = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    while (got < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (got >= 0) {
        *fd = got;
        return 0;
    }
    switch (errno) {
    case EAGAIN:
        return SHMBUS_EMPTY;
    case EMFILE:
    case ENFILE:
        return sb_fail(SHMBUS_E_LIMIT,
                       "no free descriptor for a new connection (RLIMIT_NOFILE or fs.file-max)");
    default:
        return sb_fail_errno("accepting a connection failed");
    }
}

/* A full backlog cannot be polled for: connect() itself waits, as long as the send timeout says. */
static int sb_sock_connect_once(int fd, const struct sockaddr_un *addr, int64_t deadline)
{
    struct timeval tv = {0};
    if (deadline != SB_NEVER) {
        int64_t left = deadline - sb_clock_ns();
        /* 0 would be no limit at all. */
        left = left < 1000 ? 1000 : left;
        tv.tv_sec = left / SB_NS_PER_S;
        tv.tv_usec = left % SB_NS_PER_S / 1000;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
        return -1;
    return connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
}

static int sb_sock_connect_failed(const char *path)
{
    switch (errno) {
    case EAGAIN:
        return SHMBUS_TIMEOUT;
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
        return sb_fail(SHMBUS_E_NO_BUS, "nobody listens at %s", path);
    case EACCES:
    case EPERM:
        return sb_fail(SHMBUS_E_DENIED, "no permission to connect to %s", path);
    case EPROTOTYPE:
        return sb_fail(SHMBUS_E_INVALID, "%s is a socket of another type", path);
    default:
        return sb_fail_errno("connecting to %s failed", path);
    }
}

int sb_sock_connect(const char *path, int64_t deadline, int *fd)
{
    struct sockaddr_un addr;
    int made = -1;
    int rc = sb_sock_addr(path, "", &addr);
    if (rc == 0)
        rc = sb_sock_new(0, &made);
    if (rc != 0)
        return rc;
    do
        rc = sb_sock_connect_once(made, &addr, deadline);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        rc = sb_sock_connect_failed(path);
        close(made);
        return rc;
    }
    *fd = made;
    return 0;
}
