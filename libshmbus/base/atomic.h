/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Atomics on memory that may be shared between processes.
 *
 * Shared fields are plain fixed-width integers in shm/layout.h, accessed only through the small
 * named operations here, so that every access says its order. They compile to single instructions
 * (never to a libatomic call, whose hidden locks would not be shared between processes).
 *
 * The 16-byte compare-and-swap is written as inline assembly: gcc 12 turns __atomic operations of
 * that size into libatomic calls even with -mcx16.
 */
#ifndef SB_BASE_ATOMIC_H
#define SB_BASE_ATOMIC_H

#include <stdbool.h>

#include "base/compiler.h"

#ifdef SB_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define sb_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define sb_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define sb_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define sb_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define sb_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define sb_add_acq_rel(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define sb_sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define sb_sub_acq_rel(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define sb_or_relaxed(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
#define sb_exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)

/* Adds to a counter that only this thread writes: no locked instruction, but never torn. */
SB_INLINE void sb_bump_relaxed(uint64_t *p, uint64_t v)
{
#if defined(__x86_64__) && !defined(SB_TSAN)
    /* One instruction; compilers make three of an atomic load and store. */
    __asm__ __volatile__("addq %1, %0" : "+m"(*p) : "er"(v) : "cc");
#else
    sb_store_relaxed(p, sb_load_relaxed(p) + v);
#endif
}

/* Compare-and-swap of a naturally aligned integer: release on success, acquire on failure too. */
#define sb_cas_acq_rel(p, expected, desired)                                                       \
    __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQ_REL,               \
                                __ATOMIC_ACQUIRE)

#ifdef SB_TSAN
/* TSan does not model fences; a read-modify-write of one common word orders at least as much. */
extern uint32_t sb_tsan_fence_word;
#define SB_FENCE_FULL() ((void)__atomic_fetch_add(&sb_tsan_fence_word, 1, __ATOMIC_SEQ_CST))
/* Of inline assembly TSan sees nothing. (Its own 16-byte operations take a lock and write one word
 * after the other, which whoever loads a single word can see.) */
#define sb_tsan_releases(p) __tsan_release(p)
#define sb_tsan_acquires(p) __tsan_acquire(p)
#else
#define sb_tsan_releases(p) ((void)0)
#define sb_tsan_acquires(p) ((void)0)
#define SB_FENCE_FULL() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

/* Orders every access before it against every access after it, in all threads and processes. */
SB_INLINE void sb_fence_full(void)
{
#if defined(__x86_64__) && !defined(SB_TSAN)
    /* A locked instruction on the stack is a full barrier on x86-64 and cheaper than mfence. */
    __asm__ __volatile__("lock; orl $0, -4(%%rsp)" ::: "memory", "cc");
#else
    SB_FENCE_FULL();
#endif
}

/* What was loaded before it is loaded before what comes after it; pairs with sb_fence_release. */
SB_INLINE void sb_fence_acquire(void)
{
#ifdef SB_TSAN
    SB_FENCE_FULL();
#else
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* What was stored before it is seen by whoever sees a store behind it and has an acquire fence. */
SB_INLINE void sb_fence_release(void)
{
#ifdef SB_TSAN
    SB_FENCE_FULL();
#else
    __atomic_thread_fence(__ATOMIC_RELEASE);
#endif
}

/*
 * A full fence right behind a read-modify-write of this thread. On x86-64 that locked instruction
 * has been the fence already and only the compiler is held back; elsewhere a real fence.
 */
SB_INLINE void sb_fence_full_after_rmw(void)
{
#if defined(__x86_64__) && !defined(SB_TSAN)
    __asm__ __volatile__("" ::: "memory");
#else
    SB_FENCE_FULL();
#endif
}

/*
 * The light half of an asymmetric fence: holds the compiler back only. The other half is a
 * membarrier system call, which has every running thread of the process pass a full fence.
 */
SB_INLINE void sb_fence_light(void)
{
    __asm__ __volatile__("" ::: "memory");
}

/* Asks for the cache line at p, which need not be mapped, to be written soon. */
SB_INLINE void sb_prefetch_write(const void *p)
{
#if defined(__x86_64__)
    /* The builtin gives this instruction only with -mprfchw; cores without it take it for a nop. */
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)p));
#else
    __builtin_prefetch(p, 1);
#endif
}

/* Asks for the cache line at p, which need not be mapped, to be read soon. */
SB_INLINE void sb_prefetch_read(const void *p)
{
    __builtin_prefetch(p);
}

/* Tells the core that this is a spin loop. */
SB_INLINE void sb_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

/* Two words that change together. */
struct sb_pair {
    uint64_t lo;
    uint64_t hi;
} __attribute__((aligned(16)));

/*
 * If *p equals {old_lo, old_hi}, makes it {new_lo, new_hi}; true when it did. Both words change as
 * one. A full barrier on success; at least acquire on failure. p must be 16-byte aligned.
 */
SB_INLINE bool sb_cas_pair(struct sb_pair *p, uint64_t old_lo, uint64_t old_hi, uint64_t new_lo,
                           uint64_t new_hi)
{
#if defined(__x86_64__)
    bool done;
    sb_tsan_releases(p);
    __asm__ __volatile__("lock; cmpxchg16b %1"
                         : "=@ccz"(done), "+m"(*p), "+a"(old_lo), "+d"(old_hi)
                         : "b"(new_lo), "c"(new_hi)
                         : "memory");
    sb_tsan_acquires(p);
    return done;
#elif defined(__aarch64__)
    uint64_t lo, hi, put_lo, put_hi;
    uint32_t failed;
    sb_tsan_releases(p);
    /*
     * One block, so that the compiler puts no access between load and store, which could make the
     * store fail for ever. ldaxp of a pair is single-copy atomic only if the store succeeds: what
     * was read is written back when it differs, so that a torn read is never taken for an answer.
     */
    __asm__ __volatile__(
        "1: ldaxp %[lo], %[hi], %[p]\n\t"
        "cmp %[lo], %[old_lo]\n\t"
        "ccmp %[hi], %[old_hi], #0, eq\n\t"
        "csel %[put_lo], %[new_lo], %[lo], eq\n\t"
        "csel %[put_hi], %[new_hi], %[hi], eq\n\t"
        "stlxp %w[failed], %[put_lo], %[put_hi], %[p]\n\t"
        "cbnz %w[failed], 1b"
        : [lo] "=&r"(lo), [hi] "=&r"(hi), [put_lo] "=&r"(put_lo), [put_hi] "=&r"(put_hi),
          [failed] "=&r"(failed), [p] "+Q"(*p)
        : [old_lo] "r"(old_lo), [old_hi] "r"(old_hi), [new_lo] "r"(new_lo), [new_hi] "r"(new_hi)
        : "memory", "cc");
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    sb_tsan_acquires(p);
    return lo == old_lo && hi == old_hi;
#else
#error "shmbus needs a lock-free 16-byte compare-and-swap: x86-64 or arm64"
#endif
}

#endif
