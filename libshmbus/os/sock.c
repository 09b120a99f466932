/* SPDX-License-Identifier: Apache-2.0 */
/* Messages; the making of sockets is in sock_path.c. */
#include "os/sock.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* What the kernel allows in one message (SCM_MAX_FD), so that no descriptor is cut off. */
#define SB_SOCK_KERNEL_FDS 253

union sb_sock_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(SB_SOCK_KERNEL_FDS * sizeof(int))];
};

/* Waits for events until the deadline: 0, SHMBUS_TIMEOUT or a failure. */
static int sb_sock_wait(int fd, short events, int64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        struct timespec ts, *left = NULL;
        if (deadline != SB_NEVER) {
            int64_t now = sb_clock_ns();
            if (deadline <= now)
                return SHMBUS_TIMEOUT;
            ts = sb_clock_timespec(deadline - now);
            left = &ts;
        }
        int rc = ppoll(&p, 1, left, NULL);
        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR)
            return sb_fail_errno("waiting for a socket failed");
    }
}

static int sb_sock_send_failed(size_t len, unsigned n_fds)
{
    switch (errno) {
    case EPIPE:
    case ECONNRESET:
        return SHMBUS_CLOSED;
    case EMSGSIZE:
        return sb_fail(SHMBUS_E_INVALID,
                       "a message of %zu bytes is larger than the socket's send buffer", len);
    case ETOOMANYREFS:
        return sb_fail(SHMBUS_E_LIMIT,
                       "%u descriptors cannot be sent: too many are under way to "
                       "processes that have not received them",
                       n_fds);
    case ENOBUFS:
        return sb_fail(SHMBUS_E_NOMEM, "no memory to send a message of %zu bytes", len);
    default:
        return sb_fail_errno("sending a message of %zu bytes failed", len);
    }
}

static void sb_sock_attach_fds(struct msghdr *msg, union sb_sock_control *control, const int *fds,
                               unsigned n_fds)
{
    if (n_fds == 0)
        return;
    memset(control, 0, sizeof(*control));
    msg->msg_control = control->bytes;
    msg->msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
    memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
}

int sb_sock_send(int fd, const void *data, size_t len, const int *fds, unsigned n_fds,
                 int64_t deadline)
{
    if (len == 0)
        return sb_fail(SHMBUS_E_INVALID, "an empty message cannot be told from the end: not sent");
    if (n_fds > SB_SOCK_FDS_MAX)
        return sb_fail(SHMBUS_E_LIMIT, "a message with %u descriptors: at most %d can be sent",
                       n_fds, SB_SOCK_FDS_MAX);
    union sb_sock_control control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    sb_sock_attach_fds(&msg, &control, fds, n_fds);
    for (;;) {
        if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return 0;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return sb_sock_send_failed(len, n_fds);
        int rc = sb_sock_wait(fd, POLLOUT, deadline);
        if (rc != 0)
            return rc;
    }
}

/* Moves the descriptors of msg to out, closing those beyond max; returns how many came. */
static unsigned sb_sock_collect_fds(struct msghdr *msg, int *out, unsigned max)
{
    unsigned came = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (came < max)
                out[came] = got;
            else
                close(got);
            came++;
        }
    }
    return came;
}

/* 0 when a received message may be delivered. */
static int sb_sock_judge(const struct msghdr *msg, size_t got, size_t cap, unsigned came,
                         unsigned max_fds)
{
    if (got == 0)
        return SHMBUS_CLOSED;
    if (msg->msg_flags & MSG_TRUNC)
        return sb_fail(SHMBUS_E_INVALID, "the peer sent a message of more than %zu bytes", cap);
    if (came > max_fds)
        return sb_fail(SHMBUS_E_INVALID, "the peer sent %u descriptors where at most %u are due",
                       came, max_fds);
    /* There is room for all that a message can carry: what is missing could not be opened here. */
    if (msg->msg_flags & MSG_CTRUNC)
        return sb_fail(SHMBUS_E_LIMIT, "descriptors that a peer sent are lost: this process has no "
                                       "free ones (RLIMIT_NOFILE)");
    return 0;
}

static int sb_sock_recv_wait(int fd, struct msghdr *msg, int64_t deadline, size_t *got)
{
    struct msghdr empty = *msg;
    bool was_reset = false;
    for (;;) {
        *msg = empty;
        ssize_t n = recvmsg(fd, msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n >= 0) {
            *got = (size_t)n;
            return 0;
        }
        if (errno == EINTR)
            continue;
        /* Said once, when the peer left something unread, and ahead of what it had sent. */
        if (errno == ECONNRESET && !was_reset) {
            was_reset = true;
            continue;
        }
        if (errno == ECONNRESET)
            return SHMBUS_CLOSED;
        if (errno != EAGAIN)
            return sb_fail_errno("receiving a message failed");
        int rc = sb_sock_wait(fd, POLLIN, deadline);
        if (rc != 0)
            return rc;
    }
}

int sb_sock_recv(int fd, void *buf, size_t cap, size_t *len, struct sb_sock_fds *fds,
                 unsigned max_fds, int64_t deadline)
{
    if (max_fds > SB_SOCK_FDS_MAX || (max_fds > 0 && !fds))
        return sb_fail(SHMBUS_E_INVALID, "cannot receive %u descriptors: 0 to %d are possible",
                       max_fds, SB_SOCK_FDS_MAX);
    union sb_sock_control control;
    struct iovec iov = {.iov_base = buf, .iov_len = cap};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    size_t got = 0;
    int rc = sb_sock_recv_wait(fd, &msg, deadline, &got);
    if (rc != 0)
        return rc;
    struct sb_sock_fds mine;
    unsigned came = sb_sock_collect_fds(&msg, mine.fd, max_fds);
    mine.n = came < max_fds ? came : max_fds;
    rc = sb_sock_judge(&msg, got, cap, came, max_fds);
    if (rc != 0) {
        sb_sock_fds_close(&mine);
        return rc;
    }
    if (fds) {
        fds->n = mine.n;
        memcpy(fds->fd, mine.fd, mine.n * sizeof(int));
    }
    *len = got;
    return 0;
}

void sb_sock_fds_close(struct sb_sock_fds *fds)
{
    int saved = errno;
    for (unsigned i = 0; i < fds->n; i++) {
        if (fds->fd[i] >= 0)
            close(fds->fd[i]);
    }
    fds->n = 0;
    errno = saved;
}

int sb_sock_peer(int fd, struct sb_sock_peer *peer)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return sb_fail_errno("asking who is at the other end of a socket failed");
    *peer = (struct sb_sock_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
    return 0;
}

int sb_sock_peer_pidfd(int fd, int *pidfd)
{
    int got;
    socklen_t len = sizeof(got);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &got, &len) == 0) {
        *pidfd = got;
        return 0;
    }
    switch (errno) {
    case ENOPROTOOPT: /* not known to the kernel */
    case EPERM:       /* not allowed by a sandbox */
    case ENODATA:     /* no peer process */
    case ESRCH:       /* reaped, and the kernel is too old to tell (before 6.16) */
    case EINVAL:
        return SHMBUS_EMPTY;
    case EMFILE:
    case ENFILE:
        return sb_fail(SHMBUS_E_LIMIT, "no free descriptor for a pidfd of a peer (RLIMIT_NOFILE)");
    default:
        return sb_fail_errno("asking for a pidfd of a peer failed");
    }
}
