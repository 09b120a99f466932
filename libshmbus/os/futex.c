/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock is the three-state futex mutex of Drepper, "Futexes Are Tricky" (mutex2): a thread that
 * had to wait takes the lock as "held and perhaps somebody sleeps", since it cannot know that it
 * was the last. Linearisation points: the compare-and-swap or exchange that reads 0; the exchange
 * to 0.
 */
#include "os/futex.h"

#include <errno.h>
#include <limits.h>
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

SB_COLD void sb_lock_wait(struct sb_lock *lock)
{
    while (sb_exchange_acq_rel(&lock->word, 2u) != 0)
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

SB_COLD void sb_lock_wake(struct sb_lock *lock)
{
    syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
