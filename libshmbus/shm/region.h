/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading mapped memory whose content is not trusted: every offset goes through one check.
 *
 * A region is passed by value, since a process can have several of a kind mapped (two arenas after
 * a restart of the coordinator). Thread-safe: these functions keep nothing.
 */
#ifndef SB_SHM_REGION_H
#define SB_SHM_REGION_H

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/atomic.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words of bytes are little-endian");

/* Mapped memory as far as it is allocated: base is aligned to a page. */
struct sb_region {
    const uint8_t *base;
    uint64_t size;
};

/* Where `size` bytes at `offset` are, or NULL if they are not all inside. */
SB_INLINE const void *sb_arena_at(struct sb_region region, uint64_t offset, uint64_t size)
{
    if (offset > region.size || size > region.size - offset)
        return NULL;
    return region.base + offset;
}

/*
 * Strings of bytes in the arena that readers look at under a pin (shm/epoch.h) are stored as
 * 64-bit words, the last one filled up with zeros. If the pin is broken the memory is written
 * while it is read; so words are accessed atomically, and a reader gets garbage at worst.
 */

/* Bytes that a string of len takes. */
SB_INLINE size_t sb_arena_string_size(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

/* The next word of a string of which `left` bytes, at least 1, are at p. */
SB_INLINE uint64_t sb_arena_word(const uint8_t *p, size_t left)
{
    uint64_t word;
    if (left >= 8) {
        memcpy(&word, p, 8);
        return word;
    }
    if (left >= 4) {
        uint32_t low, high; /* they overlap, and agree where they do */
        memcpy(&low, p, 4);
        memcpy(&high, p + left - 4, 4);
        return low | (uint64_t)high << (8 * (left - 4));
    }
    return p[0] | (uint64_t)p[left / 2] << (8 * (left / 2)) |
           (uint64_t)p[left - 1] << (8 * (left - 1));
}

/* Writer: stores len bytes at `to`. */
SB_INLINE void sb_arena_string_store(uint64_t *to, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i += 8)
        sb_store_relaxed(&to[i / 8], sb_arena_word(bytes + i, len - i));
}

/* Whether the string at `from` is these len bytes. Its own length has been compared before. */
SB_INLINE bool sb_arena_string_equal(const uint64_t *from, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i += 8)
        if (sb_load_relaxed(&from[i / 8]) != sb_arena_word(bytes + i, len - i))
            return false;
    return true;
}

/* Copies the string of len bytes at `from`. */
SB_INLINE void sb_arena_string_load(uint8_t *to, const uint64_t *from, size_t len)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = sb_load_relaxed(&from[i / 8]);
        memcpy(to + i, &word, len - i < 8 ? len - i : 8);
    }
}

#endif
