/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=120 no-asan no-tsan */
/*
 * An owner killed at every instruction of publishing: opening blocks, writing chunks, pushing to
 * two rings, looking at what readers have passed, reusing memory. (Not with sanitizers: they would
 * try the instructions of the sanitizer.)
 *
 * Wherever it dies, readers get all that it has pushed, in order and intact, what one holds stays
 * as it is, and others go on publishing at the same rings. Once with queues so short that memory
 * comes back by itself, and once with a heap so small that messages nobody has read are taken back:
 * then readers get all that was not, and the books tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "support/heapkit.h"
#include "support/stepper.h"

#define HEAP_BYTES 262144u
#define KIT_BYTES 8192u
#define MESSAGES 40u
#define KEEP_AT 5u /* messages after which the patient reader takes one and holds it */

enum { OWNER, SURVIVOR, PUBLISHERS };

struct rings {
    uint8_t fast[KIT_BYTES] __attribute__((aligned(64))); /* drop_oldest: all messages */
    uint8_t sure[KIT_BYTES] __attribute__((aligned(64))); /* reject_newest: every other one */
};

struct memory {
    struct rings rings; /* put back after each point: survivors write nothing else that is shared */
    uint8_t heap[PUBLISHERS][HEAP_BYTES] __attribute__((aligned(64)));
    uint32_t published; /* by the owner: publishes that have returned */
    uint32_t failed;    /* what one of them returned */
};

/* What differs between the tests. */
struct scene {
    uint32_t capacity; /* of both rings */
    uint32_t limit;    /* of the owner's heap */
    uint32_t stride;   /* instructions between kill points */
    uint32_t flags;    /* that the drop_oldest ring may have, and has in the end */
};

static struct memory *shared;
static const struct scene *scene;
static uint64_t points;

static void failed(const char *what, int line, uint32_t step)
{
    fail_msg("line %d: %s: killed behind %u instructions, %u published", line, what, step,
             shared->published);
}

#define REQUIRE(what)                                                                              \
    do {                                                                                           \
        if (!(what))                                                                               \
            failed(#what, __LINE__, step);                                                         \
    } while (0)

/* Reads one at the owner's own seat of the reject_newest ring, so that its memory comes back. */
static void owner_read(struct sb_reader *r)
{
    if (sb_seat_look(r, r->cursor) != SB_LOOK_READY)
        return;
    sb_seat_hold(r, 0, 1);
    sb_seat_pass(r, sb_ring_next(r->cursor, r->capacity, r->bits), 1, 0);
    sb_bump_relaxed(&r->seat->returned, 1);
    sb_seat_unhold(r->seat, 0);
}

static uint32_t message_size(uint32_t i)
{
    return i % 13 == 12 ? 1000 : i % 5 * 40;
}

struct owner {
    struct heapkit h;
    struct sb_lane lane[2];
    struct sb_target target[2];
    struct sb_target_seat list[2][KIT_SEATS];
    struct sb_reader reader;
};

static void owner_run(void *arg)
{
    struct owner *o = arg;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        struct heapkit_result result;
        /* Now and then everything that can be reused is free, and reused at once. */
        for (int lane = 0; lane < 2 && i % 20 > 10; lane++) {
            (void)sb_lane_idle(&o->h.heap, &o->lane[lane]);
            o->lane[lane].grown = SB_BLOCK_UNIT;
        }
        int ret = heapkit_publish(&o->h, &o->lane[i % 2], message_size(i), &result);
        if (ret)
            sb_store_relaxed(&shared->failed, (uint32_t)ret);
        sb_store_release(&shared->published, i + 1);
        if (i % 4 == 3)
            owner_read(&o->reader);
        if (i % 10 == 9)
            (void)sb_heap_reclaim(&o->h.heap);
    }
}

static void owner_make(struct owner *o)
{
    memset(shared, 0, sizeof(*shared));
    struct kit *fast = kit_init(shared->rings.fast, scene->capacity, SB_DROP_OLDEST, 2, 4);
    struct kit *sure = kit_init(shared->rings.sure, scene->capacity, SB_REJECT_NEWEST, 1, 0);
    o->target[0] = kit_target(fast, o->list[0]);
    o->target[1] = kit_target(sure, o->list[1]);
    o->reader = kit_reader(sure, 0);
    struct sb_target *targets[] = {&o->target[0], &o->target[1]};
    assert_int_equal(heapkit_init(&o->h, shared->heap[OWNER], 4096, scene->limit, OWNER), 0);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(heapkit_lane(&o->h, &o->lane[i], targets, i + 1), 0);
}

static void owner_free(struct owner *o)
{
    for (int i = 0; i < 2; i++) {
        sb_lane_leave(&o->h.heap, &o->lane[i]);
        free(o->target[i].holds);
    }
    sb_heap_deinit(&o->h.heap);
}

/* Reads to the end of a ring at a seat: intact, in order, and as many as the books say. Returns the
 * owner's last one. */
static uint64_t read_all(struct kit *kit, uint32_t step)
{
    struct sb_reader r = kit_reader(kit, 0);
    struct sb_books before = kit_books(kit, 0, false), after;
    uint64_t last[PUBLISHERS] = {0}, count = 0;
    for (;;) {
        enum sb_look look = sb_seat_look(&r, r.cursor);
        if (look == SB_LOOK_EMPTY)
            break;
        if (look == SB_LOOK_LAPPED) {
            REQUIRE(sb_seat_jump(&r) > 0);
            continue;
        }
        uint64_t desc = 0, seq = 0;
        sb_seat_hold(&r, 1, 1);
        REQUIRE(sb_seat_read(&r, r.cursor, &desc) == SB_LOOK_READY);
        uint32_t taken = desc != SB_DESC_TOMBSTONE, from = taken ? sb_desc_heap(desc) : OWNER;
        REQUIRE(from < PUBLISHERS);
        REQUIRE(!taken || heapkit_intact(shared->heap[from], HEAP_BYTES, desc, &seq));
        REQUIRE(!taken || seq > last[from]);
        last[from] = taken ? seq : last[from];
        count += taken;
        sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), taken, 0);
        sb_bump_relaxed(&r.seat->returned, taken);
        sb_seat_unhold(r.seat, 1);
    }
    after = kit_books(kit, 0, false);
    /* The other ring is read by the owner itself, which may have died over that. */
    if (kit->rec.full == SB_DROP_OLDEST) {
        REQUIRE(before.offered == after.offered && before.dropped == after.dropped);
        REQUIRE(before.queued == count && after.queued == 0);
    }
    return last[OWNER];
}

/* Another publisher at the same rings. */
static void publish_more(uint32_t step)
{
    struct heapkit h;
    struct sb_lane lane;
    struct sb_target_seat list[KIT_SEATS];
    struct sb_target target = kit_target((struct kit *)(void *)shared->rings.fast, list);
    struct sb_target *targets[] = {&target};
    REQUIRE(heapkit_init(&h, shared->heap[SURVIVOR], HEAP_BYTES, HEAP_BYTES, SURVIVOR) == 0);
    REQUIRE(heapkit_lane(&h, &lane, targets, 1) == 0);
    for (uint32_t i = 0; i < scene->capacity + 1; i++) {
        struct heapkit_result result;
        REQUIRE(heapkit_publish(&h, &lane, 24, &result) == 0 && result.taken == 1);
    }
    sb_lane_leave(&h.heap, &lane);
    sb_heap_deinit(&h.heap);
    free(target.holds);
}

/* A reader that takes one message early and keeps it. */
static uint64_t keep(uint64_t kept)
{
    if (kept || sb_load_acquire(&shared->published) < KEEP_AT)
        return kept;
    struct sb_reader r = kit_reader((struct kit *)(void *)shared->rings.fast, 1);
    while (sb_seat_look(&r, r.cursor) == SB_LOOK_LAPPED)
        (void)sb_seat_jump(&r);
    sb_seat_hold(&r, 0, 1);
    if (sb_seat_read(&r, r.cursor, &kept) != SB_LOOK_READY)
        return 0;
    bool taken = kept != SB_DESC_TOMBSTONE;
    sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), taken, 0);
    return taken ? kept : 0;
}

static void survive(uint64_t kept, uint32_t step)
{
    static struct rings now;
    struct kit *fast = (struct kit *)(void *)shared->rings.fast;
    struct kit *sure = (struct kit *)(void *)shared->rings.sure;
    uint64_t seq;
    points++;
    now = shared->rings;
    REQUIRE(shared->failed == 0);
    REQUIRE(!kept || heapkit_intact(shared->heap[OWNER], HEAP_BYTES, kept, &seq));
    uint64_t last = read_all(fast, step);
    REQUIRE(last == shared->published || last == shared->published + 1);
    read_all(sure, step);
    struct sb_books books = kit_books(fast, 0, false);
    REQUIRE(books.offered == last && books.queued == 0);
    publish_more(step);
    read_all(fast, step);
    REQUIRE((fast->ring->flags | scene->flags) == scene->flags && sure->ring->flags == 0);
    REQUIRE(!kept || heapkit_intact(shared->heap[OWNER], HEAP_BYTES, kept, &seq));
    shared->rings = now;
}

static void kill_anywhere(const struct scene *played)
{
    struct owner owner;
    scene = played;
    points = 0;
    owner_make(&owner);
    struct stepper s;
    stepper_start(&s, NULL, owner_run, &owner, NULL, 0);
    uint64_t kept = 0;
    uint32_t step = 0;
    do {
        kept = keep(kept);
        if (step % scene->stride == 0)
            survive(kept, step);
        step++;
    } while (stepper_step(&s));
    survive(kept, step);
    REQUIRE(shared->published == MESSAGES && kept);
    REQUIRE(((struct kit *)(void *)shared->rings.fast)->ring->flags == scene->flags);
    stepper_end(&s);
    owner_free(&owner);
    print_message("%u instructions, %llu kill points\n", step, (unsigned long long)points);
}

static void test_owner_killed_anywhere(void **state)
{
    (void)state;
    static const struct scene short_queues = {.capacity = 3, .limit = HEAP_BYTES, .stride = 1};
    kill_anywhere(&short_queues);
}

static void test_owner_killed_while_taking_back(void **state)
{
    (void)state;
    static const struct scene small_heap = {
        .capacity = 64, .limit = 12288, .stride = 7, .flags = SB_RING_TOMBSTONED};
    kill_anywhere(&small_heap);
}

int main(void)
{
    const char *missing = stepper_missing();
    if (missing) {
        printf("skipped: %s\n", missing);
        return 77;
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owner_killed_anywhere),
        cmocka_unit_test(test_owner_killed_while_taking_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
