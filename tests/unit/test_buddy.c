/* SPDX-License-Identifier: Apache-2.0 */
/* The buddy allocator against a map of units that says who owns each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "shm/buddy.h"

#define MODEL_UNITS 5000u
#define RANGES 400u

struct model {
    struct sb_buddy buddy;
    uint8_t taken[MODEL_UNITS];
    uint64_t units;
    uint64_t used;
    struct {
        uint64_t offset, bytes; /* bytes 0: no range */
    } range[RANGES];
};

static uint64_t units_of(uint64_t bytes)
{
    return (bytes + SB_BUDDY_UNIT - 1) / SB_BUDDY_UNIT;
}

/* Whether the model has an aligned free block that can hold n units. */
static bool model_has_room(const struct model *m, uint64_t n)
{
    uint64_t block = (uint64_t)1 << sb_log2_ceil(n);
    for (uint64_t at = 0; at + block <= m->units; at += block)
        if (memchr(m->taken + at, 1, block) == NULL)
            return true;
    return false;
}

static void model_alloc(struct model *m, unsigned slot, uint64_t bytes)
{
    uint64_t offset = 0;
    uint64_t n = units_of(bytes);
    int rc = sb_buddy_alloc(&m->buddy, bytes, &offset);
    assert_int_equal(rc, model_has_room(m, n) ? 0 : SB_BUDDY_FULL);
    if (rc != 0)
        return;
    uint64_t first = offset / SB_BUDDY_UNIT;
    assert_int_equal(offset % (SB_BUDDY_UNIT << sb_log2_ceil(n)), 0);
    assert_true(first + n <= m->units);
    assert_null(memchr(m->taken + first, 1, n));
    memset(m->taken + first, 1, n);
    m->used += n;
    m->range[slot].offset = offset;
    m->range[slot].bytes = bytes;
}

static void model_free(struct model *m, unsigned slot)
{
    uint64_t n = units_of(m->range[slot].bytes);
    sb_buddy_free(&m->buddy, m->range[slot].offset, m->range[slot].bytes);
    memset(m->taken + m->range[slot].offset / SB_BUDDY_UNIT, 0, n);
    m->used -= n;
    m->range[slot].bytes = 0;
}

static void model_step(struct model *m)
{
    unsigned slot = (unsigned)rand() % RANGES;
    if (m->range[slot].bytes != 0) {
        model_free(m, slot);
    } else if (rand() % 200 == 0 && m->units < MODEL_UNITS) {
        m->units += 1 + (unsigned)rand() % (MODEL_UNITS - m->units);
        assert_int_equal(sb_buddy_grow(&m->buddy, m->units * SB_BUDDY_UNIT + 255), 0);
    } else {
        uint64_t largest = (uint64_t)1 << (rand() % 19);
        model_alloc(m, slot, 1 + (uint64_t)rand() % largest);
    }
    assert_int_equal(sb_buddy_used(&m->buddy), m->used * SB_BUDDY_UNIT);
}

static void test_agrees_with_model(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 20; round++) {
        struct model *m = calloc(1, sizeof(*m));
        assert_non_null(m);
        sb_buddy_init(&m->buddy);
        m->units = 1 + (unsigned)rand() % 300;
        assert_int_equal(sb_buddy_grow(&m->buddy, m->units * SB_BUDDY_UNIT), 0);
        for (int i = 0; i < 5000; i++)
            model_step(m);
        for (unsigned slot = 0; slot < RANGES; slot++)
            if (m->range[slot].bytes != 0)
                model_free(m, slot);
        /* Everything has merged again: the largest block there can be is free. */
        model_alloc(m, 0, SB_BUDDY_UNIT << sb_log2_floor(m->units));
        assert_int_not_equal(m->range[0].bytes, 0);
        sb_buddy_deinit(&m->buddy);
        free(m);
    }
}

static void test_reserved_bytes_are_never_handed_out(void **state)
{
    (void)state;
    struct sb_buddy b;
    sb_buddy_init(&b);
    assert_int_equal(sb_buddy_grow(&b, 64 * SB_BUDDY_UNIT), 0);
    sb_buddy_reserve(&b, 3 * SB_BUDDY_UNIT - 1);
    uint64_t offset;
    int count = 0;
    while (sb_buddy_alloc(&b, 1, &offset) == 0) {
        assert_true(offset >= 3 * SB_BUDDY_UNIT);
        count++;
    }
    assert_int_equal(count, 61);
    sb_buddy_deinit(&b);
}

static void test_refuses_what_cannot_be_managed(void **state)
{
    (void)state;
    struct sb_buddy b;
    sb_buddy_init(&b);
    uint64_t offset = 7;
    assert_int_equal(sb_buddy_alloc(&b, 1, &offset), SB_BUDDY_FULL);
    assert_int_equal(sb_buddy_grow(&b, UINT64_MAX), SHMBUS_E_LIMIT);
    assert_int_equal(sb_buddy_grow(&b, 1 << 20), 0);
    assert_int_equal(sb_buddy_grow(&b, 1 << 10), 0);
    assert_int_equal(sb_buddy_size(&b), 1 << 20);
    assert_int_equal(sb_buddy_alloc(&b, UINT64_MAX, &offset), SB_BUDDY_FULL);
    assert_int_equal(offset, 7);
    sb_buddy_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_model),
        cmocka_unit_test(test_reserved_bytes_are_never_handed_out),
        cmocka_unit_test(test_refuses_what_cannot_be_managed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
