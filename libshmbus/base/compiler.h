/* SPDX-License-Identifier: Apache-2.0 */
/* What gcc and clang offer beyond C11, under short names. */
#ifndef SB_BASE_COMPILER_H
#define SB_BASE_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#define sb_likely(x) __builtin_expect(!!(x), 1)
#define sb_unlikely(x) __builtin_expect(!!(x), 0)

#define SB_INLINE static inline __attribute__((always_inline))
#define SB_NOINLINE __attribute__((noinline))
#define SB_COLD __attribute__((cold, noinline))
#define SB_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define SB_MUST_CHECK __attribute__((warn_unused_result))
#define SB_CLEANUP(fn) __attribute__((cleanup(fn)))

#define SB_CACHE_LINE 64

#define sb_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define sb_array_len(a) (sizeof(a) / sizeof((a)[0]))

/* Gives *p away: returns it and leaves NULL, so that a cleanup attribute frees nothing. */
#define sb_take_ptr(p)                                                                             \
    __extension__({                                                                                \
        __typeof__(p) *sb_take_from = &(p);                                                        \
        __typeof__(p) sb_taken = *sb_take_from;                                                    \
        *sb_take_from = NULL;                                                                      \
        sb_taken;                                                                                  \
    })

#if defined(__SANITIZE_THREAD__)
#define SB_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SB_TSAN 1
#endif
#endif

#endif
