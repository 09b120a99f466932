/* SPDX-License-Identifier: Apache-2.0 */
/* Small arithmetic on powers of two. */
#ifndef SB_BASE_BITS_H
#define SB_BASE_BITS_H

#include "base/compiler.h"

/* x rounded up to a multiple of the power of two a; the caller makes sure it does not wrap. */
SB_INLINE uint64_t sb_align_up(uint64_t x, uint64_t a)
{
    return (x + (a - 1)) & ~(a - 1);
}

/* floor(log2(x)); x must not be 0. */
SB_INLINE unsigned sb_log2_floor(uint64_t x)
{
    return 63u - (unsigned)__builtin_clzll(x);
}

/* The smallest k with 2^k >= x; 0 for 0 and 1. */
SB_INLINE unsigned sb_log2_ceil(uint64_t x)
{
    return x <= 1 ? 0 : sb_log2_floor(x - 1) + 1;
}

#endif
