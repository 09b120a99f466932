/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariant: while this process holds a lock, the file's (device, inode) is in the table, and no
 * other descriptor of that file is opened for anything but its name (O_PATH: closing such a one
 * drops no locks). That is why a file that exists is first opened by name only, looked up in the
 * table, and then opened for good through that very descriptor: between the two the path may come
 * to name another file.
 *
 * Removing: the holder removes the file while it holds the lock. Whoever opened it before and gets
 * the lock after that finds that the path no longer names its file, and starts again.
 */
#include "os/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fork.h"
#include "os/futex.h"
#include "os/memfd.h"

/* How often the file may vanish or be replaced under us before we give up. */
#define SB_LOCKFILE_TRIES 100

enum { SB_LOCKFILE_AGAIN = 100 }; /* internal outcome: the path has changed, start again */

struct sb_lockfile {
    struct sb_lockfile *next;
    struct sb_file_id id;
    uint32_t fork_id; /* a forked child inherits the table but not the locks */
    int fd;
    char path[];
};

static struct sb_lock sb_lockfile_mutex; /* over the table and every step of acquire and query */
static struct sb_lockfile *sb_lockfile_table;

static bool sb_lockfile_same(const struct sb_file_id *a, const struct sb_file_id *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}

static bool sb_lockfile_is_mine(const struct sb_file_id *id)
{
    for (struct sb_lockfile *l = sb_lockfile_table; l; l = l->next) {
        if (sb_fork_mine(l->fork_id) && sb_lockfile_same(&l->id, id))
            return true;
    }
    return false;
}

static int sb_lockfile_denied(const char *path, const struct stat *st)
{
    return sb_fail(SHMBUS_E_DENIED,
                   "the lock file %s belongs to uid %u, and this is uid %u: only "
                   "that user can use or remove it",
                   path, (unsigned)st->st_uid, (unsigned)geteuid());
}

static int sb_lockfile_path_failed(const char *what, const char *path)
{
    if (errno == EACCES || errno == EPERM || errno == EROFS)
        return sb_fail(SHMBUS_E_DENIED, "%s the lock file %s is not permitted", what, path);
    return sb_fail_errno("%s the lock file %s failed", what, path);
}

/* What a file that exists is, found out without opening it: 0, SB_LOCKFILE_AGAIN when it does not
 * exist. *name_fd is an O_PATH descriptor. */
static int sb_lockfile_open_name(const char *path, int *name_fd, struct stat *st)
{
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? SB_LOCKFILE_AGAIN : sb_lockfile_path_failed("looking at", path);
    int rc = 0;
    if (fstat(fd, st) < 0)
        rc = sb_fail_errno("looking at the lock file %s failed", path);
    else if (!S_ISREG(st->st_mode))
        rc = sb_fail(SHMBUS_E_INVALID, "%s is no regular file: it cannot be the lock file", path);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *name_fd = fd;
    return 0;
}

/* Opens the file behind an O_PATH descriptor, after the table has allowed that. */
static int sb_lockfile_reopen(int name_fd, int flags, const char *path, const struct stat *st,
                              int *fd)
{
    char self[32];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", name_fd);
    int opened = open(self, flags | O_CLOEXEC);
    if (opened < 0 && errno == EACCES)
        return sb_lockfile_denied(path, st);
    if (opened < 0)
        return sb_fail_errno("opening the lock file %s through %s failed", path, self);
    *fd = opened;
    return 0;
}

static int sb_lockfile_create(const char *path, mode_t mode, int *fd)
{
    int made = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (made < 0)
        return errno == EEXIST ? SB_LOCKFILE_AGAIN : sb_lockfile_path_failed("making", path);
    if (fchmod(made, mode) < 0) { /* the umask may have taken some of it */
        int rc = sb_fail_errno("giving the lock file %s its mode failed", path);
        close(made);
        return rc;
    }
    *fd = made;
    return 0;
}

/* Opens the file at path, made if need be; never one that this process has locked. */
static int sb_lockfile_open(const char *path, mode_t mode, int *fd)
{
    int name_fd = -1;
    struct stat st;
    int rc = sb_lockfile_open_name(path, &name_fd, &st);
    if (rc == SB_LOCKFILE_AGAIN)
        return sb_lockfile_create(path, mode, fd);
    if (rc != 0)
        return rc;
    struct sb_file_id id = {.dev = st.st_dev, .ino = st.st_ino};
    if (sb_lockfile_is_mine(&id))
        rc = sb_fail(SHMBUS_E_BUS_EXISTS, "the lock file %s is held by this process already", path);
    else
        rc = sb_lockfile_reopen(name_fd, O_RDWR, path, &st, fd);
    close(name_fd);
    return rc;
}

/* Stores who holds the file of fd: 0 or SHMBUS_EMPTY. */
static int sb_lockfile_ask(int fd, const char *path, struct sb_lockfile_holder *holder)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_GETLK, &fl) < 0)
        return sb_fail_errno("asking who holds the lock file %s failed", path);
    if (fl.l_type == F_UNLCK)
        return SHMBUS_EMPTY;
    char text[24] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    long written = strtol(text, NULL, 10);
    holder->pid = fl.l_pid > 0 ? fl.l_pid : 0;
    holder->written = written > 0 && written <= INT32_MAX ? (pid_t)written : 0;
    return 0;
}

static int sb_lockfile_refused(int fd, const char *path)
{
    struct sb_lockfile_holder who = {0};
    int rc = sb_lockfile_ask(fd, path, &who);
    if (rc == SHMBUS_EMPTY)
        return SB_LOCKFILE_AGAIN; /* given up meanwhile */
    if (rc != 0)
        return rc;
    if (who.pid > 0)
        return sb_fail(SHMBUS_E_BUS_EXISTS, "the lock file %s is held by process %d", path,
                       (int)who.pid);
    return sb_fail(SHMBUS_E_BUS_EXISTS,
                   "the lock file %s is held by a process of another pid namespace, process %d "
                   "there",
                   path, (int)who.written);
}

/* Locks the open file and makes sure that it is still the one at path, and ours. */
static int sb_lockfile_lock(int fd, const char *path)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &fl) < 0) {
        if (errno == EACCES || errno == EAGAIN)
            return sb_lockfile_refused(fd, path);
        return sb_fail_errno("locking %s failed", path);
    }
    struct stat mine, there;
    if (fstat(fd, &mine) < 0)
        return sb_fail_errno("looking at the lock file %s failed", path);
    if (lstat(path, &there) < 0)
        return errno == ENOENT ? SB_LOCKFILE_AGAIN : sb_lockfile_path_failed("looking at", path);
    if (mine.st_dev != there.st_dev || mine.st_ino != there.st_ino)
        return SB_LOCKFILE_AGAIN;
    return mine.st_uid == geteuid() ? 0 : sb_lockfile_denied(path, &mine);
}

static int sb_lockfile_write_pid(int fd, const char *path)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len)
        return sb_fail_errno("writing the process id to the lock file %s failed", path);
    return 0;
}

static int sb_lockfile_try(struct sb_lockfile *lock, mode_t mode)
{
    int fd = -1;
    int rc = sb_fork_arm(&lock->fork_id);
    if (rc == 0)
        rc = sb_lockfile_open(lock->path, mode, &fd);
    if (rc != 0)
        return rc;
    rc = sb_lockfile_lock(fd, lock->path);
    if (rc == 0)
        rc = sb_lockfile_write_pid(fd, lock->path);
    if (rc == 0)
        rc = sb_memfd_identity(fd, &lock->id);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    lock->fd = fd;
    lock->next = sb_lockfile_table;
    sb_lockfile_table = lock;
    return 0;
}

int sb_lockfile_acquire(const char *path, mode_t mode, struct sb_lockfile **lock)
{
    size_t len = strlen(path) + 1;
    struct sb_lockfile *made = calloc(1, sizeof(*made) + len);
    if (!made)
        return sb_fail(SHMBUS_E_NOMEM, "no memory to lock %s", path);
    memcpy(made->path, path, len);
    int rc = SB_LOCKFILE_AGAIN;
    sb_lock_acquire(&sb_lockfile_mutex);
    for (int i = 0; i < SB_LOCKFILE_TRIES && rc == SB_LOCKFILE_AGAIN; i++)
        rc = sb_lockfile_try(made, mode);
    sb_lock_release(&sb_lockfile_mutex);
    if (rc == 0) {
        *lock = made;
        return 0;
    }
    free(made);
    if (rc == SB_LOCKFILE_AGAIN)
        return sb_fail(SHMBUS_E_SYSTEM, "the lock file %s keeps being removed and made by others",
                       path);
    return rc;
}

static int sb_lockfile_query_locked(const char *path, struct sb_lockfile_holder *holder)
{
    int name_fd = -1, fd = -1;
    struct stat st;
    int rc = sb_lockfile_open_name(path, &name_fd, &st);
    if (rc != 0)
        return rc == SB_LOCKFILE_AGAIN ? SHMBUS_EMPTY : rc;
    struct sb_file_id id = {.dev = st.st_dev, .ino = st.st_ino};
    if (sb_lockfile_is_mine(&id)) {
        *holder = (struct sb_lockfile_holder){.pid = getpid(), .written = getpid()};
    } else {
        rc = sb_lockfile_reopen(name_fd, O_RDONLY, path, &st, &fd);
        if (rc == 0) {
            rc = sb_lockfile_ask(fd, path, holder);
            close(fd);
        }
    }
    close(name_fd);
    return rc;
}

int sb_lockfile_query(const char *path, struct sb_lockfile_holder *holder)
{
    sb_lock_acquire(&sb_lockfile_mutex);
    int rc = sb_lockfile_query_locked(path, holder);
    sb_lock_release(&sb_lockfile_mutex);
    return rc;
}

static void sb_lockfile_remove_file(const struct sb_lockfile *lock)
{
    struct stat st;
    if (lstat(lock->path, &st) < 0)
        return;
    struct sb_file_id there = {.dev = st.st_dev, .ino = st.st_ino};
    if (sb_lockfile_same(&there, &lock->id))
        unlink(lock->path);
}

void sb_lockfile_release(struct sb_lockfile *lock)
{
    if (!lock)
        return;
    sb_lock_acquire(&sb_lockfile_mutex);
    for (struct sb_lockfile **at = &sb_lockfile_table; *at; at = &(*at)->next) {
        if (*at == lock) {
            *at = lock->next;
            break;
        }
    }
    if (sb_fork_mine(lock->fork_id))
        sb_lockfile_remove_file(lock);
    /* An inherited descriptor of a file that this process has locked itself since has to stay. */
    if (!sb_lockfile_is_mine(&lock->id))
        close(lock->fd);
    sb_lock_release(&sb_lockfile_mutex);
    free(lock);
}
