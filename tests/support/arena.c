/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "support/arena.h"

static int arena_grow(void *ctx, uint64_t new_size)
{
    struct test_arena *a = ctx;
    assert_true(new_size <= a->limit);
    sb_store_release(&a->header->size, new_size);
    return 0;
}

void test_arena_init(struct test_arena *a, uint64_t limit)
{
    void *base = mmap(NULL, limit, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    a->header = base;
    a->limit = limit;
    a->header->size = limit < 65536 ? limit : 65536;
    sb_epoch_init(&a->header->epoch);
    for (unsigned i = 0; i < TEST_ARENA_PINS; i++)
        a->pins[i] = &a->header->pin[i];
    struct sb_slab_config config = {.size = a->header->size,
                                    .limit = limit,
                                    .reserved = sizeof(*a->header),
                                    .root = &a->header->epoch,
                                    .grow = arena_grow,
                                    .ctx = a};
    assert_int_equal(sb_slab_init(&a->slab, &config), 0);
}

void test_arena_deinit(struct test_arena *a)
{
    sb_slab_deinit(&a->slab);
    munmap(a->header, a->limit);
}

struct sb_region test_arena_region(const struct test_arena *a)
{
    struct sb_region region = {(const uint8_t *)a->header, sb_load_acquire(&a->header->size)};
    return region;
}

uint64_t test_arena_collect(struct test_arena *a)
{
    return sb_slab_collect(&a->slab, a->pins, TEST_ARENA_PINS);
}
