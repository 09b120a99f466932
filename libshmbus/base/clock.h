/* SPDX-License-Identifier: Apache-2.0 */
/* CLOCK_MONOTONIC in nanoseconds; deadlines are absolute values of it. */
#ifndef SB_BASE_CLOCK_H
#define SB_BASE_CLOCK_H

#include <time.h>

#include "base/compiler.h"

#define SB_NS_PER_S 1000000000ll
#define SB_NS_PER_MS 1000000ll
#define SB_NEVER INT64_MAX

SB_INLINE int64_t sb_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * SB_NS_PER_S + ts.tv_nsec;
}

SB_INLINE struct timespec sb_clock_timespec(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / SB_NS_PER_S, .tv_nsec = ns % SB_NS_PER_S};
    return ts;
}

/* The deadline that lies ns from now; saturates at SB_NEVER. ns must not be negative. */
SB_INLINE int64_t sb_clock_after(int64_t ns)
{
    int64_t now = sb_clock_ns();
    return ns > SB_NEVER - now ? SB_NEVER : now + ns;
}

#endif
