/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/bitset.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void sb_bitset_deinit(struct sb_bitset *set)
{
    free(set->word);
    set->word = NULL;
    set->words = 0;
}

int sb_bitset_reserve(struct sb_bitset *set, uint32_t n)
{
    size_t words = (size_t)n / 64 + 1;
    if (words <= set->words)
        return 0;
    if (words < 2 * set->words)
        words = 2 * set->words;
    uint64_t *word = realloc(set->word, words * sizeof(*word));
    if (!word)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a set of %zu numbers", words * 64);
    memset(word + set->words, 0, (words - set->words) * sizeof(*word));
    set->word = word;
    set->words = words;
    return 0;
}

int sb_bitset_merge(struct sb_bitset *set, const struct sb_bitset *from)
{
    if (from->words == 0)
        return 0;
    int ret = sb_bitset_reserve(set, (uint32_t)(from->words * 64 - 1));
    if (ret)
        return ret;
    for (size_t i = 0; i < from->words; i++)
        set->word[i] |= from->word[i];
    return 0;
}

uint32_t sb_bitset_next(const struct sb_bitset *set, uint32_t n)
{
    for (size_t i = n / 64; i < set->words; i++) {
        uint64_t word = set->word[i];
        if (i == n / 64)
            word &= ~UINT64_C(0) << (n % 64);
        if (word)
            return (uint32_t)(i * 64 + (unsigned)__builtin_ctzll(word));
    }
    return UINT32_MAX;
}

uint32_t sb_bitset_first_absent(const struct sb_bitset *set)
{
    size_t i = 0;
    while (i < set->words && set->word[i] == UINT64_MAX)
        i++;
    unsigned bit = i < set->words ? (unsigned)__builtin_ctzll(~set->word[i]) : 0;
    return (uint32_t)(i * 64 + bit);
}
