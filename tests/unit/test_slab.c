/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the arena: no two overlap, every byte comes back, retired ones wait for pins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "shm/slab.h"

#define LIMIT ((uint64_t)8 << 20)
#define OBJECTS 3000u

struct arena {
    struct sb_slab slab;
    struct sb_epoch_root root;
    uint8_t memory[LIMIT]; /* each object is filled with its own byte */
    uint64_t size;
    int grow_fails; /* how often the next grows fail */
};

static int arena_grow(void *ctx, uint64_t new_size)
{
    struct arena *a = ctx;
    assert_true(new_size > a->size && new_size <= LIMIT);
    if (a->grow_fails > 0) {
        a->grow_fails--;
        return sb_fail(SHMBUS_E_SYSTEM, "no");
    }
    a->size = new_size;
    return 0;
}

static int setup(void **state)
{
    struct arena *a = calloc(1, sizeof(*a));
    assert_non_null(a);
    a->size = 65536;
    sb_epoch_init(&a->root);
    struct sb_slab_config config = {.size = a->size,
                                    .limit = LIMIT,
                                    .reserved = 5000,
                                    .root = &a->root,
                                    .grow = arena_grow,
                                    .ctx = a};
    assert_int_equal(sb_slab_init(&a->slab, &config), 0);
    *state = a;
    return 0;
}

static int teardown(void **state)
{
    struct arena *a = *state;
    assert_int_equal(a->slab.used, 0);
    assert_int_equal(sb_buddy_used(&a->slab.buddy), 5120);
    sb_slab_deinit(&a->slab);
    free(a);
    return 0;
}

struct object {
    uint64_t offset, bytes;
    uint8_t fill;
};

static uint64_t random_size(void)
{
    int kind = rand() % 100;
    if (kind < 70)
        return 1 + (uint64_t)rand() % 200;
    return 1 + (uint64_t)rand() % (kind < 97 ? 2500 : 20000);
}

static void object_alloc(struct arena *a, struct object *o)
{
    uint64_t bytes = random_size();
    uint64_t before = a->slab.used;
    assert_int_equal(sb_slab_alloc(&a->slab, bytes, &o->offset), 0);
    assert_int_equal(o->offset % 16, 0);
    assert_true(o->offset >= 5000 && o->offset + bytes <= a->size);
    /* The waste of a size class is at most a fifth, or 15 bytes. */
    uint64_t counted = a->slab.used - before;
    assert_true(counted >= bytes && (counted < bytes + 16 || counted < bytes + bytes / 4));
    o->bytes = bytes;
    o->fill = (uint8_t)rand();
    memset(a->memory + o->offset, o->fill, bytes);
}

static void object_check(const struct arena *a, const struct object *o)
{
    for (uint64_t i = 0; i < o->bytes; i++)
        assert_int_equal(a->memory[o->offset + i], o->fill);
}

static void test_objects_never_overlap(void **state)
{
    struct arena *a = *state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    struct object *objects = calloc(OBJECTS, sizeof(*objects));
    assert_non_null(objects);
    for (int i = 0; i < 100000; i++) {
        struct object *o = &objects[(unsigned)rand() % OBJECTS];
        if (o->bytes == 0) {
            object_alloc(a, o);
        } else {
            object_check(a, o);
            sb_slab_free(&a->slab, o->offset, o->bytes);
            o->bytes = 0;
        }
    }
    for (unsigned i = 0; i < OBJECTS; i++)
        if (objects[i].bytes != 0)
            sb_slab_free(&a->slab, objects[i].offset, objects[i].bytes);
    free(objects);
}

static void test_every_size_has_its_class(void **state)
{
    struct arena *a = *state;
    for (uint64_t bytes = 1; bytes <= 3000; bytes++) {
        uint64_t offset;
        assert_int_equal(sb_slab_alloc(&a->slab, bytes, &offset), 0);
        assert_true(a->slab.used >= bytes);
        assert_true(bytes > 128 || a->slab.used < bytes + 16);
        sb_slab_free(&a->slab, offset, bytes);
    }
}

static void test_grows_to_its_limit_and_says_so(void **state)
{
    struct arena *a = *state;
    uint64_t first, offset;
    a->grow_fails = 1;
    assert_int_equal(sb_slab_alloc(&a->slab, 65536, &first), SHMBUS_E_SYSTEM);
    assert_int_equal(sb_slab_alloc(&a->slab, 65536, &first), 0);
    assert_int_equal(sb_slab_size(&a->slab), 131072);
    assert_int_equal(sb_slab_alloc(&a->slab, LIMIT, &offset), SHMBUS_E_LIMIT);
    assert_int_equal(sb_slab_alloc(&a->slab, LIMIT / 2, &offset), 0);
    assert_int_equal(sb_slab_size(&a->slab), LIMIT);
    sb_slab_free(&a->slab, offset, LIMIT / 2);
    sb_slab_free(&a->slab, first, 65536);
}

static void test_retired_waits_for_older_pins(void **state)
{
    struct arena *a = *state;
    uint64_t words[2] = {0, 0};
    const uint64_t *pins[2] = {&words[0], &words[1]};
    struct sb_epoch_pin old, young;
    uint64_t x, y;
    assert_int_equal(sb_slab_alloc(&a->slab, 100, &x), 0);
    assert_int_equal(sb_slab_alloc(&a->slab, 3000, &y), 0);
    sb_epoch_pin(&old, &a->root, &words[0]);
    sb_slab_retire(&a->slab, x, 100);
    assert_int_equal(sb_slab_collect(&a->slab, pins, 2), 112);
    sb_epoch_pin(&young, &a->root, &words[1]);
    sb_slab_retire(&a->slab, y, 3000);
    assert_int_equal(sb_slab_collect(&a->slab, pins, 2), 112 + 3072);
    assert_true(sb_epoch_unpin(&old));
    assert_int_equal(sb_slab_collect(&a->slab, pins, 2), 3072); /* young cannot have seen x */
    assert_true(sb_epoch_unpin(&young));
    assert_int_equal(sb_slab_collect(&a->slab, pins, 2), 0);
}

static void test_broken_pin_frees_and_is_noticed(void **state)
{
    struct arena *a = *state;
    uint64_t word = 0;
    const uint64_t *pins[1] = {&word};
    struct sb_epoch_pin pin;
    uint64_t x[1000];
    for (unsigned i = 0; i < sb_array_len(x); i++)
        assert_int_equal(sb_slab_alloc(&a->slab, 64, &x[i]), 0);
    sb_epoch_pin(&pin, &a->root, &word);
    for (unsigned i = 0; i < sb_array_len(x); i++)
        sb_slab_retire(&a->slab, x[i], 64);
    assert_int_equal(sb_slab_collect(&a->slab, pins, 1), 64000);
    assert_false(sb_epoch_is_broken(&pin));
    sb_slab_break(&a->slab);
    assert_int_equal(a->slab.used, 0);
    assert_true(sb_epoch_is_broken(&pin));
    assert_false(sb_epoch_unpin(&pin));
    sb_epoch_pin(&pin, &a->root, &word);
    assert_true(sb_epoch_unpin(&pin));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_objects_never_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_size_has_its_class, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grows_to_its_limit_and_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retired_waits_for_older_pins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_pin_frees_and_is_noticed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
