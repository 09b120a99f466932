/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock. Linearisation points: the compare-and-swap that reads 0; the store of 0. A holder that
 * sees a waiter wakes one; it does not matter whether another thread takes the lock first, since
 * that one sees the waiter, too. Asymmetric fences as in userspace-rcu.
 */
#include "os/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

/* NULL for no deadline. One before the clock's start is one that has passed. */
static const struct timespec *sb_futex_until(int64_t deadline, struct timespec *ts)
{
    if (deadline == SB_NEVER)
        return NULL;
    *ts = sb_clock_timespec(deadline > 0 ? deadline : 0);
    return ts;
}

static int sb_futex_outcome(const char *call)
{
    switch (errno) {
    case EAGAIN:
        return SB_FUTEX_CHANGED;
    case ETIMEDOUT:
        return SB_FUTEX_TIMEOUT;
    case EINTR:
        return SB_FUTEX_INTERRUPTED;
    default:
        return sb_fail_errno("%s failed", call);
    }
}

int sb_futex_wait(const uint32_t *word, uint32_t expected, int64_t deadline)
{
    struct timespec ts;
    /* FUTEX_WAIT_BITSET takes an absolute time, of CLOCK_MONOTONIC without a further flag. */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, sb_futex_until(deadline, &ts),
                      NULL, FUTEX_BITSET_MATCH_ANY);
    return rc == 0 ? SB_FUTEX_WOKEN : sb_futex_outcome("futex wait");
}

int sb_futex_waitv(struct futex_waitv *words, unsigned n, int64_t deadline, unsigned *woken)
{
    if (n == 0 || n > SB_FUTEX_WAITV_MAX)
        return sb_fail(SHMBUS_E_INVALID, "cannot sleep on %u futexes at once: 1 to %d are possible",
                       n, SB_FUTEX_WAITV_MAX);
    struct timespec ts;
    long rc = syscall(SYS_futex_waitv, words, n, 0, sb_futex_until(deadline, &ts), CLOCK_MONOTONIC);
    if (rc >= 0) {
        *woken = (unsigned)rc;
        return SB_FUTEX_WOKEN;
    }
    if (errno == ENOSYS || errno == EPERM)
        return SB_FUTEX_UNSUPPORTED;
    return sb_futex_outcome("futex_waitv");
}

int sb_futex_wake(const uint32_t *word, unsigned n)
{
    if (n == 0)
        return 0; /* the kernel would wake one */
    int saved = errno;
    long rc = syscall(SYS_futex, word, FUTEX_WAKE, n < INT_MAX ? n : INT_MAX, NULL, NULL, 0);
    errno = saved;
    return rc < 0 ? 0 : (int)rc;
}

/* The heavy half of an asymmetric fence; false where the kernel, or a sandbox, has none. */
static bool sb_fence_heavy(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0)
        return true;
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
           syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

SB_COLD void sb_lock_wait(struct sb_lock *lock)
{
    int saved = errno;
    sb_add_acq_rel(&lock->waiters, 1u);
    for (;;) {
        bool fenced = sb_fence_heavy();
        uint32_t free_word = 0;
        if (sb_cas_acq_rel(&lock->held, &free_word, 1u))
            break;
        struct timespec nap = {.tv_nsec = 1000000};
        syscall(SYS_futex, &lock->held, FUTEX_WAIT_PRIVATE, 1, fenced ? NULL : &nap, NULL, 0);
    }
    sb_sub_acq_rel(&lock->waiters, 1u);
    errno = saved;
}

SB_COLD void sb_lock_wake(struct sb_lock *lock)
{
    sb_fence_full(); /* free before it wakes */
    syscall(SYS_futex, &lock->held, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
