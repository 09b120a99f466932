/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/names.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/lockfile.h"
#include "os/sock.h"

#define SB_COORD_NAMES_PATIENCE SB_NS_PER_S

/* The directory of the socket, made if need be; others may pass through it to the socket. */
static int sb_coord_names_directory(const char *wanted, char *dir, size_t size)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    int len;
    if (wanted)
        len = snprintf(dir, size, "%s", wanted);
    else if (geteuid() == 0)
        len = snprintf(dir, size, "/run/shmbus");
    else if (base && *base)
        len = snprintf(dir, size, "%s/shmbus", base);
    else
        return sb_fail(SHMBUS_E_INVALID, "where the socket goes is unknown: XDG_RUNTIME_DIR is not "
                                         "set; name a runtime directory");
    if (len < 0 || (size_t)len >= size)
        return sb_fail(SHMBUS_E_INVALID, "the path of the runtime directory is too long: %.200s",
                       dir);
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return sb_fail_errno("making the runtime directory %s failed", dir);
    return 0;
}

static int sb_coord_names_paths(struct sb_coord_names *names, const char *name,
                                const char *runtime_dir)
{
    char dir[sizeof(names->socket)];
    int ret = sb_coord_names_directory(runtime_dir, dir, sizeof(dir));
    if (ret)
        return ret;
    int len = snprintf(names->socket, sizeof(names->socket), "%s/%s.sock", dir, name);
    if (len < 0 || (size_t)len >= sizeof(names->socket))
        return sb_fail(SHMBUS_E_INVALID,
                       "the path of the socket, %s/%s.sock, is longer than the %zu bytes that "
                       "sockets allow",
                       dir, name, sizeof(names->socket) - 1);
    snprintf(names->arena, sizeof(names->arena), "/dev/shm/shmbus.%s", name);
    return 0;
}

/* Says who has the name, by his pid as we see it, else as he calls himself. */
static int sb_coord_names_taken(const char *name, const char *path)
{
    struct sb_lockfile_holder holder;
    if (sb_lockfile_query(path, &holder) != 0)
        return sb_fail(SHMBUS_E_BUS_EXISTS, "bus %s already has a coordinator", name);
    return sb_fail(SHMBUS_E_BUS_EXISTS, "bus %s already has a coordinator (pid %d)", name,
                   (int)(holder.pid ? holder.pid : holder.written));
}

static int sb_coord_names_lock(struct sb_coord_names *names, const char *name)
{
    char path[sizeof(names->arena) + sizeof(".lock")];
    snprintf(path, sizeof(path), "%s.lock", names->arena);
    int ret = sb_lockfile_acquire(path, 0600, &names->lock);
    if (ret == SHMBUS_E_BUS_EXISTS)
        return sb_coord_names_taken(name, path);
    return ret ? sb_fail_prefix(ret, "bus %s", name) : 0;
}

static int sb_coord_names_foreign(const char *path, uid_t uid)
{
    char buf[1024];
    struct passwd entry, *found = NULL;
    const char *owner = "another user";
    if (getpwuid_r(uid, &entry, buf, sizeof(buf), &found) == 0 && found)
        owner = found->pw_name;
    return sb_fail(SHMBUS_E_DENIED,
                   "%s is a leftover of %s (uid %u): its owner or root has to remove it", path,
                   owner, (unsigned)uid);
}

/* The arena of a dead coordinator of ours; the lock says that none lives. */
static int sb_coord_names_clean(const struct sb_coord_names *names)
{
    struct stat st;
    if (lstat(names->arena, &st) < 0)
        return errno == ENOENT ? 0 : sb_fail_errno("looking at %s failed", names->arena);
    if (st.st_uid != geteuid())
        return sb_coord_names_foreign(names->arena, st.st_uid);
    if (unlink(names->arena) < 0)
        return sb_fail_errno("removing the leftover %s failed", names->arena);
    return 0;
}

int sb_coord_names_take(struct sb_coord_names *names, const char *name, const char *runtime_dir)
{
    memset(names, 0, sizeof(*names));
    names->listener = -1;
    int ret = sb_coord_names_paths(names, name, runtime_dir);
    if (ret == 0)
        ret = sb_coord_names_lock(names, name);
    if (ret)
        return ret;
    ret = sb_coord_names_clean(names);
    if (ret) {
        sb_lockfile_release(names->lock);
        names->lock = NULL;
    }
    return ret;
}

/*
 * A dead predecessor's socket can be alive for some milliseconds after its process: the kernel lets
 * go of what an io_uring waited for by and by. The lock says that it is dead, so it is waited for.
 */
int sb_coord_names_listen(struct sb_coord_names *names, mode_t mode, gid_t gid)
{
    int64_t deadline = sb_clock_after(SB_COORD_NAMES_PATIENCE);
    int ret;
    while ((ret = sb_sock_listen(names->socket, mode, gid, &names->listener)) ==
               SHMBUS_E_BUS_EXISTS &&
           sb_clock_ns() < deadline) {
        struct timespec pause = sb_clock_timespec(5 * SB_NS_PER_MS);
        nanosleep(&pause, NULL);
    }
    return ret;
}

void sb_coord_names_release(struct sb_coord_names *names)
{
    if (names->listener >= 0) {
        unlink(names->socket);
        close(names->listener);
    }
    sb_lockfile_release(names->lock);
}
