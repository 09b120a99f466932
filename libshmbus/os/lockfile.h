/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file whose lock says that one process, and only one, has a name.
 *
 * The lock is a POSIX record lock: it belongs to the process, so neither a forked child nor a
 * descriptor passed elsewhere keeps it, and the kernel drops it however the process ends. Such
 * locks do not exclude within a process, and closing *any* descriptor of the file drops them; so a
 * table of this process's locks, by device and inode, refuses a second attempt and is asked before
 * the file is opened. (A program that closes descriptors it does not own can still drop its own
 * lock.)
 *
 * Anybody who can open the file can hold the name up by locking it: give it mode 0600.
 *
 * Thread-safe. A child forked while another thread is inside these functions must not call them.
 * Nothing waits for a lock to become free.
 */
#ifndef SB_OS_LOCKFILE_H
#define SB_OS_LOCKFILE_H

#include <sys/types.h>

#include "base/compiler.h"

struct sb_lockfile;

/* Who holds a lock. */
struct sb_lockfile_holder {
    pid_t pid;     /* as we see it; 0 when its pid namespace is hidden from us */
    pid_t written; /* as it calls itself in the file; 0 when nothing readable is there */
};

/*
 * Makes the file if it is missing (with exactly that mode), locks it and writes the pid into it.
 * A file that a process of ours left behind is taken over. *lock goes to sb_lockfile_release().
 * Returns 0; SHMBUS_E_BUS_EXISTS (held, by this process or another; the sentence names it);
 * SHMBUS_E_DENIED (the file is another user's, named in the sentence, or the directory forbids it);
 * SHMBUS_E_INVALID (no regular file); SHMBUS_E_NOMEM or SHMBUS_E_SYSTEM. Needs /proc.
 */
SB_MUST_CHECK int sb_lockfile_acquire(const char *path, mode_t mode, struct sb_lockfile **lock);

/*
 * Asks who holds the file at path, changing nothing. Returns 0 (*holder is set), SHMBUS_EMPTY
 * (nobody, or there is no file) or a failure as above.
 */
SB_MUST_CHECK int sb_lockfile_query(const char *path, struct sb_lockfile_holder *holder);

/*
 * Removes the file, then gives the lock up. In a forked child, which never had the lock, only the
 * memory is freed. NULL is fine.
 */
void sb_lockfile_release(struct sb_lockfile *lock);

#endif
