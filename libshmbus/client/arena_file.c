/* SPDX-License-Identifier: Apache-2.0 */
#include "client/arena_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

int sb_arena_header_check(const struct sb_arena_header *header, const char *name)
{
    if (sb_load_acquire(&header->magic) != SB_LAYOUT_MAGIC)
        return sb_fail(SHMBUS_E_NO_BUS, "no such bus %s: its memory is not set up", name);
    uint32_t fingerprint = sb_layout_fingerprint();
    if (header->version != SB_LAYOUT_VERSION || header->fingerprint != fingerprint)
        return sb_fail(SHMBUS_E_VERSION,
                       "bus %s has memory layout %u (%08x) and this library %u (%08x): both sides "
                       "need the same version of shmbus",
                       name, header->version, header->fingerprint, SB_LAYOUT_VERSION, fingerprint);
    if (strnlen(header->name, sizeof(header->name)) == sizeof(header->name) ||
        strcmp(header->name, name) != 0)
        return sb_fail(SHMBUS_E_NO_BUS, "no such bus %s: its memory bears another name", name);
    return 0;
}

static int sb_arena_file_errno(const char *name)
{
    if (errno == ENOENT)
        return sb_fail(SHMBUS_E_NO_BUS, "no such bus %s", name);
    if (errno == EACCES || errno == EPERM)
        return sb_fail(SHMBUS_E_DENIED, "permission denied: /dev/shm/shmbus.%s", name);
    return sb_fail_errno("opening /dev/shm/shmbus.%s failed", name);
}

int sb_arena_file_open(const char *name, struct sb_arena_file *file)
{
    char path[sizeof("/shmbus.") + SB_NAME_MAX];
    snprintf(path, sizeof(path), "/shmbus.%s", name);
    struct stat st;
    /* Not blocking: what is planted there may be a FIFO. */
    file->fd = shm_open(path, O_RDONLY | O_NONBLOCK, 0);
    if (file->fd < 0)
        return sb_arena_file_errno(name);
    int ret = fstat(file->fd, &st) < 0 ? sb_arena_file_errno(name) : 0;
    if (ret == 0 &&
        (!S_ISREG(st.st_mode) || !sb_arena_file_read(file, 0, &file->header, sizeof(file->header))))
        ret = sb_fail(SHMBUS_E_NO_BUS, "no such bus %s: its memory is not set up", name);
    if (ret == 0)
        ret = sb_arena_header_check(&file->header, name);
    if (ret) {
        sb_arena_file_close(file);
        return ret;
    }
    file->owner = st.st_uid;
    file->allocated = (uint64_t)st.st_blocks * 512;
    return 0;
}

void sb_arena_file_close(struct sb_arena_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

bool sb_arena_file_read(const struct sb_arena_file *file, uint64_t offset, void *buf, size_t size)
{
    if (offset > INT64_MAX - size)
        return false;
    uint8_t *to = buf;
    while (size > 0) {
        ssize_t n = pread(file->fd, to, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        to += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}
