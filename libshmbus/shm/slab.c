/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/slab.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define PAGE_UNITS (SB_SLAB_PAGE / SB_SLAB_STEP)
#define MAP_WORDS (PAGE_UNITS / 64)
#define RETIRED_FIRST 64u

struct sb_slab_page {
    uint64_t free_map[MAP_WORDS]; /* a bit for each free object, by its number in the page */
    uint32_t next, prev;          /* in its class's list of pages with room; 0 ends it */
    uint16_t used;                /* objects handed out; 0: this is no slab page */
    uint8_t class;
};

struct sb_slab_retired {
    uint64_t tag;
    uint64_t offset;
    uint64_t bytes;
};

static const uint16_t class_size[SB_SLAB_CLASSES] = {
    16,  32,  48,  64,  80,  96,  112, 128,  160,  192,  224,  256,
    320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048,
};

/* The smallest class that holds bytes, 1..2048. */
static unsigned class_of(uint64_t bytes)
{
    if (bytes <= 128)
        return (unsigned)((bytes - 1) / 16);
    unsigned order = sb_log2_floor(bytes - 1); /* 2^order <= bytes - 1: at least 7 */
    unsigned quarter = (unsigned)((bytes - 1) >> (order - 2)) & 3;
    return 8 + (order - 7) * 4 + quarter;
}

/* What an object of so many bytes counts in `used`. */
static uint64_t rounded(uint64_t bytes)
{
    return bytes <= SB_SLAB_LARGEST ? class_size[class_of(bytes)]
                                    : sb_align_up(bytes, SB_BUDDY_UNIT);
}

static unsigned objects_in_page(unsigned class)
{
    return SB_SLAB_PAGE / class_size[class];
}

static void page_link(struct sb_slab *s, uint32_t index)
{
    struct sb_slab_page *page = &s->pages[index];
    uint32_t first = s->partial[page->class];
    page->prev = 0;
    page->next = first;
    if (first != 0)
        s->pages[first].prev = index;
    s->partial[page->class] = index;
}

static void page_unlink(struct sb_slab *s, const struct sb_slab_page *page)
{
    if (page->next != 0)
        s->pages[page->next].prev = page->prev;
    if (page->prev != 0)
        s->pages[page->prev].next = page->next;
    else
        s->partial[page->class] = page->next;
}

/* Private memory for an arena of `size` bytes, then the arena itself, then the buddy. */
static int grow_to(struct sb_slab *s, uint64_t size)
{
    uint64_t count = size / SB_SLAB_PAGE;
    if (count > s->page_count) {
        struct sb_slab_page *pages = realloc(s->pages, count * sizeof(*pages));
        if (pages == NULL)
            return sb_fail(SHMBUS_E_NOMEM, "no memory to manage an arena of %llu bytes",
                           (unsigned long long)size);
        memset(pages + s->page_count, 0, (count - s->page_count) * sizeof(*pages));
        s->pages = pages;
        s->page_count = count;
    }
    if (size > s->config.size) {
        int rc = s->config.grow(s->config.ctx, size);
        if (rc < 0)
            return rc;
        s->config.size = size;
    }
    return sb_buddy_grow(&s->buddy, size);
}

int sb_slab_init(struct sb_slab *s, const struct sb_slab_config *config)
{
    memset(s, 0, sizeof(*s));
    s->config = *config;
    s->config.limit -= config->limit % SB_BUDDY_UNIT; /* no more than that can be handed out */
    sb_buddy_init(&s->buddy);
    s->retired = calloc(RETIRED_FIRST, sizeof(*s->retired));
    s->retired_mask = RETIRED_FIRST - 1;
    int rc = s->retired != NULL ? grow_to(s, config->size)
                                : sb_fail(SHMBUS_E_NOMEM, "no memory for a new arena");
    if (rc < 0) {
        sb_slab_deinit(s);
        return rc;
    }
    sb_buddy_reserve(&s->buddy, config->reserved);
    return 0;
}

void sb_slab_deinit(struct sb_slab *s)
{
    sb_buddy_deinit(&s->buddy);
    free(s->pages);
    free(s->retired);
    memset(s, 0, sizeof(*s));
}

/* A range of the buddy; doubles the arena, or more where that is too little for this request. */
static int alloc_range(struct sb_slab *s, uint64_t bytes, uint64_t *offset)
{
    while (sb_buddy_alloc(&s->buddy, bytes, offset) == SB_BUDDY_FULL) {
        uint64_t size = sb_slab_size(s);
        uint64_t limit = s->config.limit;
        if (size >= limit || bytes > limit)
            return sb_fail(SHMBUS_E_LIMIT,
                           "no room for %llu bytes in the arena: %llu of at most %llu are used",
                           (unsigned long long)bytes, (unsigned long long)sb_buddy_used(&s->buddy),
                           (unsigned long long)limit);
        uint64_t doubled = 2 * size;
        uint64_t enough = (uint64_t)2 << sb_log2_ceil(bytes); /* its upper half holds the request */
        uint64_t wanted = doubled > enough ? doubled : enough;
        int rc = grow_to(s, wanted < limit ? wanted : limit);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int alloc_page(struct sb_slab *s, unsigned class)
{
    uint64_t offset;
    int rc = alloc_range(s, SB_SLAB_PAGE, &offset);
    if (rc < 0)
        return rc;
    uint32_t index = (uint32_t)(offset / SB_SLAB_PAGE);
    struct sb_slab_page *page = &s->pages[index];
    memset(page, 0, sizeof(*page));
    page->class = (uint8_t) class;
    unsigned n = objects_in_page(class);
    for (unsigned w = 0; w * 64 < n; w++)
        page->free_map[w] = n - w * 64 >= 64 ? UINT64_MAX : ((uint64_t)1 << (n - w * 64)) - 1;
    page_link(s, index);
    return 0;
}

/* Takes the first free object of a page that has one. */
static unsigned page_take(struct sb_slab_page *page)
{
    unsigned w = 0;
    while (page->free_map[w] == 0)
        w++;
    unsigned bit = (unsigned)__builtin_ctzll(page->free_map[w]);
    page->free_map[w] &= page->free_map[w] - 1;
    page->used++;
    return w * 64 + bit;
}

int sb_slab_alloc(struct sb_slab *s, uint64_t bytes, uint64_t *offset)
{
    if (bytes > SB_SLAB_LARGEST) {
        int rc = alloc_range(s, bytes, offset);
        if (rc == 0)
            s->used += rounded(bytes);
        return rc;
    }
    unsigned class = class_of(bytes);
    if (s->partial[class] == 0) {
        int rc = alloc_page(s, class);
        if (rc < 0)
            return rc;
    }
    uint32_t index = s->partial[class];
    struct sb_slab_page *page = &s->pages[index];
    unsigned object = page_take(page);
    if (page->used == objects_in_page(class))
        page_unlink(s, page);
    s->used += class_size[class];
    *offset = (uint64_t)index * SB_SLAB_PAGE + object * class_size[class];
    return 0;
}

static void free_small(struct sb_slab *s, uint64_t offset, unsigned class)
{
    uint32_t index = (uint32_t)(offset / SB_SLAB_PAGE);
    unsigned object = (unsigned)(offset % SB_SLAB_PAGE) / class_size[class];
    uint64_t bit = (uint64_t)1 << (object % 64);
    struct sb_slab_page *page = &s->pages[index];
    assert(page->class == class && page->used > 0 && !(page->free_map[object / 64] & bit));
    page->free_map[object / 64] |= bit;
    if (page->used == objects_in_page(class))
        page_link(s, index);
    page->used--;
    if (page->used == 0) {
        page_unlink(s, page);
        sb_buddy_free(&s->buddy, (uint64_t)index * SB_SLAB_PAGE, SB_SLAB_PAGE);
    }
}

void sb_slab_free(struct sb_slab *s, uint64_t offset, uint64_t bytes)
{
    s->used -= rounded(bytes);
    if (bytes <= SB_SLAB_LARGEST)
        free_small(s, offset, class_of(bytes));
    else
        sb_buddy_free(&s->buddy, offset, bytes);
}

/* Doubles the ring of retired objects; false if there is no memory. */
static bool retired_grow(struct sb_slab *s)
{
    size_t old = s->retired_mask + 1;
    struct sb_slab_retired *ring = calloc(2 * old, sizeof(*ring));
    if (ring == NULL)
        return false;
    for (size_t i = 0; i < s->retired_count; i++)
        ring[i] = s->retired[(s->retired_head + i) & s->retired_mask];
    free(s->retired);
    s->retired = ring;
    s->retired_mask = 2 * old - 1;
    s->retired_head = 0;
    return true;
}

/* Frees the retired objects with tags up to this one. */
static void free_retired(struct sb_slab *s, uint64_t tag)
{
    while (s->retired_count > 0) {
        const struct sb_slab_retired *oldest = &s->retired[s->retired_head];
        if (oldest->tag > tag)
            break;
        s->retired_head = (s->retired_head + 1) & s->retired_mask;
        s->retired_count--;
        s->retired_bytes -= rounded(oldest->bytes);
        sb_slab_free(s, oldest->offset, oldest->bytes);
    }
}

void sb_slab_retire(struct sb_slab *s, uint64_t offset, uint64_t bytes)
{
    if (s->retired_count > s->retired_mask && !retired_grow(s))
        sb_slab_break(s);
    size_t at = (s->retired_head + s->retired_count++) & s->retired_mask;
    s->retired[at] = (struct sb_slab_retired){sb_epoch_tag(s->config.root), offset, bytes};
    s->retired_bytes += rounded(bytes);
}

/* Begins a new epoch if something carries the tag of the next one. */
static void close_epoch(struct sb_slab *s)
{
    size_t newest = (s->retired_head + s->retired_count - 1) & s->retired_mask;
    if (s->retired_count > 0 && s->retired[newest].tag == sb_epoch_tag(s->config.root))
        sb_epoch_advance(s->config.root);
}

uint64_t sb_slab_collect(struct sb_slab *s, const uint64_t *const *pins, size_t n)
{
    if (s->retired_count > 0) {
        close_epoch(s);
        free_retired(s, sb_epoch_oldest(pins, n));
    }
    return s->retired_bytes;
}

void sb_slab_break(struct sb_slab *s)
{
    close_epoch(s);
    sb_epoch_break(s->config.root);
    free_retired(s, UINT64_MAX);
}
