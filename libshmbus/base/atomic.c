/* SPDX-License-Identifier: Apache-2.0 */
#include "base/atomic.h"

#ifdef SB_TSAN
uint32_t sb_tsan_fence_word;
#else
typedef int sb_atomic_no_empty_unit; /* ISO C wants a declaration in every file */
#endif
