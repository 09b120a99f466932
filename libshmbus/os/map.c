/* SPDX-License-Identifier: Apache-2.0 */
#include "os/map.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "base/err.h"

int sb_map(int fd, uint64_t size, bool writable, void **ptr)
{
    if (size == 0 || size > INT64_MAX)
        return sb_fail(SHMBUS_E_INVALID, "cannot map %" PRIu64 " bytes of a shared file", size);
    int prot = PROT_READ | (writable ? PROT_WRITE : 0);
    void *made = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    if (made == MAP_FAILED) {
        if (errno == EACCES || errno == EPERM)
            return sb_fail(SHMBUS_E_DENIED,
                           "a shared file cannot be mapped %s: its descriptor or "
                           "its seals do not allow that",
                           writable ? "writable" : "readable");
        return sb_fail_errno("mapping %" PRIu64 " bytes of a shared file failed", size);
    }
    if (madvise(made, size, MADV_DONTFORK) < 0) {
        int code = sb_fail_errno("keeping a shared mapping from being inherited failed");
        munmap(made, size);
        return code;
    }
    *ptr = made;
    return 0;
}

void sb_unmap(void *ptr, uint64_t size)
{
    if (ptr)
        munmap(ptr, size);
}
