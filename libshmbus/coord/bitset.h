/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of small numbers, in private memory, growing as needed. Zeroed is empty. One thread.
 */
#ifndef SB_COORD_BITSET_H
#define SB_COORD_BITSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct sb_bitset {
    uint64_t *word;
    size_t words;
};

void sb_bitset_deinit(struct sb_bitset *set);

/* Room for the numbers 0..n, so that sb_bitset_add() of one of them cannot fail. 0 or
 * SHMBUS_E_NOMEM. */
SB_MUST_CHECK int sb_bitset_reserve(struct sb_bitset *set, uint32_t n);

/* Takes in all of from. 0 or SHMBUS_E_NOMEM, with nothing changed. */
SB_MUST_CHECK int sb_bitset_merge(struct sb_bitset *set, const struct sb_bitset *from);

/* n must have been reserved. */
SB_INLINE void sb_bitset_add(struct sb_bitset *set, uint32_t n)
{
    set->word[n / 64] |= UINT64_C(1) << (n % 64);
}

SB_INLINE bool sb_bitset_has(const struct sb_bitset *set, uint32_t n)
{
    return n / 64 < set->words && (set->word[n / 64] >> (n % 64) & 1);
}

SB_INLINE void sb_bitset_drop(struct sb_bitset *set, uint32_t n)
{
    if (n / 64 < set->words)
        set->word[n / 64] &= ~(UINT64_C(1) << (n % 64));
}

/* The smallest number from n on that is in the set; UINT32_MAX if there is none. */
uint32_t sb_bitset_next(const struct sb_bitset *set, uint32_t n);

/* The smallest number that is not in the set. */
uint32_t sb_bitset_first_absent(const struct sb_bitset *set);

#endif
