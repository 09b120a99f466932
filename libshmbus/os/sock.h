/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets that carry whole messages and descriptors (SOCK_SEQPACKET).
 *
 * One message is sent or received whole or not at all. Nothing here changes a descriptor's flags:
 * every call says by its deadline how long it may block. Deadlines are CLOCK_MONOTONIC nanoseconds,
 * SB_NEVER is none; one that has passed (SB_SOCK_NOW) means one attempt without waiting. A signal
 * handler does not end a wait: these calls are bounded by their deadline, and a message half waited
 * for is of no use to anybody. SIGPIPE is never raised.
 *
 * All descriptors made or received are close-on-exec. Thread-safe; two threads that receive from
 * one socket get different messages.
 */
#ifndef SB_OS_SOCK_H
#define SB_OS_SOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

#define SB_SOCK_NOW 0
/* Descriptors a message can carry; the kernel's own limit is 253. */
#define SB_SOCK_FDS_MAX 250
/* sb_sock_listen(): keep the process's own group. */
#define SB_SOCK_GROUP_KEEP ((gid_t)-1)

/* Descriptors that came with a message. They belong to the caller until it takes or closes them. */
struct sb_sock_fds {
    unsigned n;
    int fd[SB_SOCK_FDS_MAX];
};

/* Who is at the other end: of an accepted socket, as it was at connect(); of a connected one, as it
 * was at listen(). pid is 0 where the process is in a pid namespace that we cannot see. */
struct sb_sock_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/*
 * Listens at path with exactly these permissions (mode, group), from the moment it can be connected
 * to. A socket that nobody listens at any more and that belongs to us is replaced atomically:
 * clients never find the path missing. The caller makes sure by other means (os/lockfile.h) that
 * two processes do not do that at once. A second name, path plus ".new", is used for a moment.
 * Returns 0, SHMBUS_E_INVALID (path empty or longer than 103 bytes, or no socket is there),
 * SHMBUS_E_BUS_EXISTS (somebody listens there), SHMBUS_E_DENIED (a leftover of another user, or no
 * right to the directory or group) or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_sock_listen(const char *path, mode_t mode, gid_t group, int *fd);

/*
 * Takes one connection of a listening socket. Returns 0, SHMBUS_EMPTY (none is waiting),
 * SHMBUS_E_LIMIT (this process or the system is out of descriptors; the connection stays waiting,
 * so an event loop must pause this listener) or SHMBUS_E_SYSTEM. Does not block if the listener
 * came from sb_sock_listen().
 */
SB_MUST_CHECK int sb_sock_accept(int listener, int *fd);

/*
 * Connects to path; waits while the listener's backlog is full. Returns 0, SHMBUS_TIMEOUT,
 * SHMBUS_E_INVALID (path empty or longer than 107 bytes, or another kind of socket),
 * SHMBUS_E_NO_BUS (nothing there, or nobody listens), SHMBUS_E_DENIED or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_sock_connect(const char *path, int64_t deadline, int *fd);

/*
 * Sends len bytes (at least one) with n_fds descriptors, which stay the caller's.
 * Returns 0; SHMBUS_TIMEOUT (the socket stayed full, nothing was sent); SHMBUS_CLOSED (the peer is
 * gone); SHMBUS_E_INVALID (empty, or larger than the socket's buffer); SHMBUS_E_LIMIT (too many
 * descriptors, here or under way); SHMBUS_E_NOMEM or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_sock_send(int fd, const void *data, size_t len, const int *fds, unsigned n_fds,
                               int64_t deadline);

/*
 * Receives one message of at most cap bytes with at most max_fds descriptors. fds may be NULL when
 * max_fds is 0; its n is overwritten, so it must own nothing.
 * Returns 0 (*len, *fds set); SHMBUS_TIMEOUT (nothing came); SHMBUS_CLOSED (the peer is gone and
 * everything it had sent was received; an empty message is taken for that). A message that is
 * longer or carries more descriptors than allowed is consumed and refused with SHMBUS_E_INVALID:
 * whoever sent it does not keep to the protocol. SHMBUS_E_LIMIT: this process is out of
 * descriptors, the message is lost. Else SHMBUS_E_SYSTEM. Unless 0 is returned, every descriptor
 * that came has been closed.
 */
SB_MUST_CHECK int sb_sock_recv(int fd, void *buf, size_t cap, size_t *len, struct sb_sock_fds *fds,
                               unsigned max_fds, int64_t deadline);

/* Hands descriptor i to the caller and leaves -1, which sb_sock_fds_close() passes over. */
SB_INLINE int sb_sock_fds_take(struct sb_sock_fds *fds, unsigned i)
{
    int fd = fds->fd[i];
    fds->fd[i] = -1;
    return fd;
}

/* Closes what was not taken; for SB_CLEANUP, too. Keeps errno. */
void sb_sock_fds_close(struct sb_sock_fds *fds);

/* Who is at the other end, see above. 0 or SHMBUS_E_SYSTEM. */
SB_MUST_CHECK int sb_sock_peer(int fd, struct sb_sock_peer *peer);

/*
 * A pidfd of the process at the other end, which cannot be a later process with the same number.
 * Returns 0, SHMBUS_EMPTY (the kernel, before 6.5, or the sandbox has no such thing, or the process
 * has ended and is not known any more), SHMBUS_E_LIMIT (out of descriptors) or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_sock_peer_pidfd(int fd, int *pidfd);

#endif
