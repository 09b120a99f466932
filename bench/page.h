/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file page.h
 * The memory that the bench's processes share beside the bus: what to do, when to start and stop,
 * the lines that the floors bounce, and what came out. It is the bench's own; everything measured
 * on the bus goes through the bus.
 *
 * The parent writes the parameters before it starts a worker, and the phase. Each worker writes
 * its own slot, then reports (through an eventfd, which orders it before the parent's reading).
 */
#ifndef BENCH_PAGE_H
#define BENCH_PAGE_H

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE_WORKERS_MAX 256
#define PAGE_LINE 64

/** What each worker does; the order of worker.c's table. */
enum role {
    ROLE_ATOMIC_PING,
    ROLE_ATOMIC_ECHO,
    ROLE_FUTEX_PING,
    ROLE_FUTEX_ECHO,
    ROLE_MEMCPY,
    ROLE_SPSC_SEND,
    ROLE_SPSC_TAKE,
    ROLE_PUBLISH,
    ROLE_SUBSCRIBE,
    ROLE_PING,
    ROLE_ECHO,
    ROLE_COUNT
};

/** Where a run is; it only grows. */
enum phase {
    PHASE_SETUP = 0, /**< workers get ready and report it */
    PHASE_GO = 1,    /**< what is measured */
    PHASE_STOP = 2,  /**< nothing more is sent; senders report */
    PHASE_DRAIN = 3, /**< receivers take what is left and report */
};

/** What all workers of a run do alike. */
struct page_params {
    char bus[65];
    uint32_t full; /**< SHMBUS_DROP_OLDEST or SHMBUS_REJECT_NEWEST */
    uint32_t size; /**< bytes of payload */
    uint32_t pubs;
    uint32_t subs;
    uint32_t queue;
    uint32_t batch;    /**< messages a receive takes at most; 1: shmbus_recv() */
    uint32_t sleeping; /**< a message is sent only when its receiver is asleep */
    uint32_t crowded;  /**< more workers than cores: who spins lets others run */
};

/** One worker: what it is, and what came out. */
struct page_slot {
    uint32_t role;
    uint32_t nth;      /**< among those of its role */
    int32_t cpu;       /**< to be pinned to; -1: to none */
    int32_t pid;       /**< written by the worker itself */
    uint64_t sent;     /**< messages sent, or copies made */
    uint64_t got;      /**< messages received, duplicates not counted */
    uint64_t lost;     /**< gaps in the sequence of what was received */
    uint64_t end_ns;   /**< when the last was received, or the worker stopped sending */
    uint64_t refusals; /**< publishes that a full queue refused */
    uint64_t receives; /**< receives that returned something */
    uint64_t clean;    /**< publishes in batches that nothing refused */
    uint64_t clean_ns;
    uint64_t rounds;
    double p50_ns;
    double p99_ns;
    double p999_ns;
    char error[400]; /**< what went wrong, as a sentence; empty: nothing */
};

struct page {
    struct page_params params;
    uint64_t bytes; /**< of the whole mapping */
    uint64_t go_ns; /**< when the phase became PHASE_GO */
    int32_t parent; /**< its pid */
    uint32_t phase; /**< futex */
    /* Each on a line of its own: what is bounced, and the two ends of the plain ring. */
    _Alignas(PAGE_LINE) uint64_t word;
    _Alignas(PAGE_LINE) uint32_t futex;
    _Alignas(PAGE_LINE) uint64_t head;
    _Alignas(PAGE_LINE) uint64_t tail;
    /* When the echo had the message, and when it answered. */
    _Alignas(PAGE_LINE) uint64_t echo_got_ns;
    uint64_t echo_sent_ns;
    _Alignas(PAGE_LINE) struct page_slot slot[PAGE_WORKERS_MAX];
    _Alignas(PAGE_LINE) unsigned char ring[]; /**< the plain ring's slots */
};

/* Stores of one process, seen by the other in order: release pairs with acquire. */
static inline uint64_t load64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void store64(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline uint32_t load32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void store32(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/** Sleeps while the word has this value; may return early. */
static inline void futex_wait(uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

/** Wakes all who sleep on the word. */
static inline void futex_wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/** Between two looks of one who spins. */
static inline void spin(uint32_t crowded)
{
    if (crowded)
        sched_yield();
}

#endif
