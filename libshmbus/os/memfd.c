/* SPDX-License-Identifier: Apache-2.0 */
#include "os/memfd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/err.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* Linux 6.3 */
#endif

/* tmpfs gives up and undoes a whole fallocate() when a signal is pending. A piece takes well under
 * a millisecond, so the retry of a piece gets through any sane signal rate. */
#define SB_COMMIT_PIECE (1u << 20)

static int sb_memfd_new(const char *name)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, flags); /* the kernel does not know the flag */
    return fd;
}

int sb_memfd_create(const char *name, uint64_t size, int *fd)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (size == 0 || size % page != 0 || size > INT64_MAX)
        return sb_fail(SHMBUS_E_INVALID,
                       "memory file %s of %" PRIu64 " bytes: the size must be a positive multiple "
                       "of the page size, %" PRIu64,
                       name, size, page);
    int made = sb_memfd_new(name);
    if (made < 0)
        return sb_fail_errno("creating memory file %s failed", name);
    /* 0777 by default: another user who gets a read-only descriptor could reopen it writable. */
    if (fchmod(made, S_IRUSR | S_IWUSR) < 0 || ftruncate(made, (off_t)size) < 0) {
        int code = sb_fail_errno("giving memory file %s its mode and %" PRIu64 " bytes failed",
                                 name, size);
        close(made);
        return code;
    }
    *fd = made;
    return 0;
}

static int sb_memfd_commit_piece(int fd, uint64_t from, uint64_t len)
{
    int rc;
    do
        rc = fallocate(fd, 0, (off_t)from, (off_t)len);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno == ENOSPC || errno == ENOMEM)
        return sb_fail(SHMBUS_E_NOMEM,
                       "no memory for the bytes %" PRIu64 " to %" PRIu64
                       " of a shared file: memory, its control group or its file system is full",
                       from, from + len);
    return sb_fail_errno("allocating the bytes %" PRIu64 " to %" PRIu64 " of a shared file failed",
                         from, from + len);
}

int sb_memfd_commit(int fd, uint64_t from, uint64_t to)
{
    if (from > to || to > INT64_MAX)
        return sb_fail(SHMBUS_E_INVALID,
                       "cannot allocate the bytes %" PRIu64 " to %" PRIu64
                       " of a shared file: the range ends before it begins or is too large",
                       from, to);
    while (from < to) {
        uint64_t len = to - from < SB_COMMIT_PIECE ? to - from : SB_COMMIT_PIECE;
        int rc = sb_memfd_commit_piece(fd, from, len);
        if (rc < 0)
            return rc;
        from += len;
    }
    return 0;
}

int sb_memfd_seal(int fd)
{
    if (fcntl(fd, F_ADD_SEALS, SB_MEMFD_SEALS_SIZE) < 0)
        return sb_fail_errno("sealing the size of a memory file failed");
    return 0;
}

int sb_memfd_seal_heap(int fd)
{
    if (fcntl(fd, F_ADD_SEALS, SB_MEMFD_SEALS_HEAP) < 0)
        return sb_fail_errno("sealing a heap against writers failed");
    return 0;
}

int sb_memfd_readonly(int fd, int *readonly_fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct sb_file_id was = {0}, is = {0};
    int rc = sb_memfd_identity(fd, &was);
    if (rc < 0)
        return rc;
    int opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0 && errno == ENOENT)
        return sb_fail(SHMBUS_E_SYSTEM,
                       "a read-only descriptor is made by opening %s, which is "
                       "not there: mount /proc",
                       path);
    if (opened < 0)
        return sb_fail_errno("opening %s for a read-only descriptor failed", path);
    rc = sb_memfd_identity(opened, &is);
    if (rc == 0 && (is.dev != was.dev || is.ino != was.ino))
        rc = sb_fail(SHMBUS_E_SYSTEM,
                     "%s is another file than descriptor %d: /proc is not this "
                     "process's own",
                     path, fd);
    if (rc < 0) {
        close(opened);
        return rc;
    }
    *readonly_fd = opened;
    return 0;
}

int sb_memfd_check(int fd, uint64_t size, unsigned seals)
{
    struct stat st;
    struct statfs fs;
    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
        return sb_fail_errno("looking at a received descriptor failed");
    /* Huge pages have seals as well, but run out at the first touch. */
    if (!S_ISREG(st.st_mode) || fs.f_type != TMPFS_MAGIC)
        return sb_fail(SHMBUS_E_INVALID, "a received descriptor is no memory file");
    if ((uint64_t)st.st_size != size)
        return sb_fail(SHMBUS_E_INVALID,
                       "a received memory file has %" PRIu64 " bytes instead of %" PRIu64,
                       (uint64_t)st.st_size, size);
    int have = fcntl(fd, F_GET_SEALS);
    if (have < 0)
        return sb_fail_errno("reading the seals of a received memory file failed");
    if (((unsigned)have & seals) != seals)
        return sb_fail(SHMBUS_E_INVALID,
                       "a received memory file has the seals 0x%x and should have 0x%x",
                       (unsigned)have, seals);
    return 0;
}

int sb_memfd_identity(int fd, struct sb_file_id *id)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return sb_fail_errno("looking at descriptor %d failed", fd);
    id->dev = st.st_dev;
    id->ino = st.st_ino;
    return 0;
}
