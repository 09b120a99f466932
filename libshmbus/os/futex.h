/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Futexes: words in shared memory that processes sleep on, and a lock for one process's own data.
 *
 * Shared words. Never FUTEX_PRIVATE: sleeper and waker are different processes with different
 * mappings. The value that the caller expects is compared by the kernel before it sleeps, so a
 * change in between is never slept through. A wake-up proves nothing: look again. The kernel only
 * reads the word, so a read-only mapping will do for sleeping on a memfd.
 *
 * Deadlines are CLOCK_MONOTONIC nanoseconds, SB_NEVER means none.
 *
 * Signals: sb_futex_wait() with a deadline returns SB_FUTEX_INTERRUPTED after every handler.
 * Without a deadline, and sb_futex_waitv() in any case, the kernel goes on by itself after a
 * handler that was installed with SA_RESTART, comparing the values again first: a handler that must
 * end such a wait changes a word of it.
 */
#ifndef SB_OS_FUTEX_H
#define SB_OS_FUTEX_H

#include <stdint.h>

#include <linux/futex.h>

#include "base/atomic.h"
#include "base/compiler.h"

enum {
    SB_FUTEX_WOKEN = 0,       /* woken, perhaps for somebody else's reason */
    SB_FUTEX_CHANGED = 1,     /* a word was not the expected value: never slept */
    SB_FUTEX_TIMEOUT = 2,     /* the deadline has passed */
    SB_FUTEX_INTERRUPTED = 3, /* a signal handler ran */
    SB_FUTEX_UNSUPPORTED =
        4 /* sb_futex_waitv only: this kernel (before 5.16) or sandbox has none */
};

#define SB_FUTEX_WAITV_MAX FUTEX_WAITV_MAX

/*
 * Sleeps as long as *word is expected and nobody wakes. One of the outcomes above, or
 * SHMBUS_E_SYSTEM when the word cannot be read. Blocks; thread- and process-safe.
 */
SB_MUST_CHECK int sb_futex_wait(const uint32_t *word, uint32_t expected, int64_t deadline);

/* Fills one element of the array for sb_futex_waitv(). */
SB_INLINE void sb_futex_waitv_set(struct futex_waitv *w, const uint32_t *word, uint32_t expected)
{
    *w = (struct futex_waitv){.uaddr = (uintptr_t)word, .val = expected, .flags = FUTEX_32};
}

/*
 * Sleeps as long as every one of n words (1..SB_FUTEX_WAITV_MAX) has its expected value and nobody
 * wakes one. Outcomes as sb_futex_wait(); after SB_FUTEX_WOKEN *woken is the index of a word that
 * was woken, there may be more. SHMBUS_E_INVALID for a bad n. Blocks; thread- and process-safe.
 */
SB_MUST_CHECK int sb_futex_waitv(struct futex_waitv *words, unsigned n, int64_t deadline,
                                 unsigned *woken);

/*
 * Wakes up to n sleepers (n <= INT_MAX) of *word, in any process; returns how many woke. Never
 * blocks. Safe in signal handlers, leaves errno alone.
 */
int sb_futex_wake(const uint32_t *word, unsigned n);

/*
 * A lock in memory that only one process has: zeroed is free; not recursive, not fair; a thread
 * that dies with it held leaves it held, so nothing that can fail or call out happens under it.
 *
 * Giving it back costs a plain store and a look whether somebody waits. That the store is not still
 * on its way when the look is done is the waiter's business: it says that it waits, then has every
 * running thread of the process pass a full fence (membarrier), and then looks at the lock again.
 * Either the holder's look comes after that fence and sees the waiter, or its store came before and
 * is seen. Where the kernel has no such call, waiters look again every millisecond.
 */
struct sb_lock {
    uint32_t held;
    uint32_t waiters;
};

void sb_lock_wait(struct sb_lock *lock);
void sb_lock_wake(struct sb_lock *lock);

/* Takes the lock; blocks while another thread holds it. Acquires what the last holder wrote. */
SB_INLINE void sb_lock_acquire(struct sb_lock *lock)
{
    uint32_t free_word = 0;
    if (sb_unlikely(!sb_cas_acq_rel(&lock->held, &free_word, 1u)))
        sb_lock_wait(lock);
}

/*
 * Gives the lock back; only its holder may. A lock may be freed only when nobody can still be in
 * here: by whoever has synchronised with all users by other means.
 */
SB_INLINE void sb_lock_release(struct sb_lock *lock)
{
    sb_store_release(&lock->held, 0u);
    sb_fence_light();
    if (sb_unlikely(sb_load_relaxed(&lock->waiters)))
        sb_lock_wake(lock);
}

#endif
