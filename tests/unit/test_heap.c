/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: wrap=malloc,realloc no-tsan */
/*
 * The heap: whatever readers do, no chunk that one of them can still reach or holds is reused, and
 * what none can reach comes back. Chunks tell by their content. One thread: nothing for TSan, which
 * would take a minute over it; test_heap_threads.c is for that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "support/heapkit.h"

static long allocations_left = -1; /* before one fails; -1: none does */

static bool allocation_fails(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(p, size);
}

/*
 * A world of rings, seats that come and go, and one publisher with several lanes.
 */
#define RINGS 5
#define LANES 4
#define HELD 40          /* holds remembered per seat */
#define PUBLISHES 20000u /* per ring, at most */

struct hold {
    uint64_t first; /* linear position */
    uint32_t count; /* 0: not held */
    uint64_t gone;  /* bit by bit: had been taken back before */
};

struct ring {
    struct kit *kit;
    struct sb_target target;
    struct sb_target_seat list[KIT_SEATS];
    struct hold hold[KIT_SEATS][HELD];
    uint64_t seq[PUBLISHES]; /* of the message at each linear position */
    uint64_t desc[PUBLISHES];
    uint64_t tail;
};

struct world {
    struct heapkit h;
    uint8_t *base;
    uint64_t limit;
    struct ring ring[RINGS];
    struct sb_lane lane[LANES];
    uint64_t full; /* publishes that found the heap full */
};

static bool seat_live(const struct kit *kit, uint32_t seat)
{
    return kit->seat_rec[seat].gen % 2;
}

static uint32_t random_targets(struct world *w, struct sb_target **targets)
{
    uint32_t count = 0;
    for (int i = 0; i < RINGS; i++) {
        if (rand() % 2)
            targets[count++] = &w->ring[i].target;
    }
    return count;
}

static struct world *world_new(uint64_t size, uint64_t limit)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->limit = limit;
    w->base = aligned_alloc(4096, limit);
    assert_non_null(w->base);
    assert_int_equal(heapkit_init(&w->h, w->base, size, limit, 9), 0);
    for (int i = 0; i < RINGS; i++) {
        static const uint32_t capacity[RINGS] = {1, 3, 10, 64, 300};
        uint32_t full = rand() % 2 ? SB_DROP_OLDEST : SB_REJECT_NEWEST;
        uint32_t seats = full == SB_DROP_OLDEST ? (uint32_t)rand() % (KIT_SEATS + 1) : 1;
        w->ring[i].kit = kit_new(capacity[i], full, seats, 0);
        w->ring[i].target = kit_target(w->ring[i].kit, w->ring[i].list);
    }
    for (int i = 0; i < LANES; i++) {
        struct sb_target *targets[RINGS];
        uint32_t count = random_targets(w, targets);
        assert_int_equal(heapkit_lane(&w->h, &w->lane[i], targets, count), 0);
    }
    return w;
}

static uint32_t random_size(void)
{
    switch (rand() % 40) {
    case 0:
        return (uint32_t)rand() % 20000;
    case 1:
    case 2:
        return (uint32_t)rand() % 5000;
    default:
        return (uint32_t)rand() % 200;
    }
}

/* Publishes on one lane; what sb_lane_open says. */
static int world_publish(struct world *w, struct sb_lane *lane, uint32_t size)
{
    for (uint32_t i = 0; i < lane->set->count; i++) {
        if (sb_container_of(lane->set->target[i], struct ring, target)->tail == PUBLISHES)
            return 0;
    }
    struct heapkit_result result;
    int ret = heapkit_publish(&w->h, lane, size, &result);
    if (ret)
        return ret;
    for (uint32_t i = 0; i < lane->set->count; i++) {
        struct ring *ring = sb_container_of(lane->set->target[i], struct ring, target);
        if (result.pos[i] == UINT64_MAX)
            continue;
        assert_int_equal(result.pos[i], kit_pos(ring->tail, ring->kit->rec.capacity));
        ring->seq[ring->tail] = result.seq;
        ring->desc[ring->tail++] = result.desc;
    }
    return 0;
}

static void expect_intact(const struct world *w, const struct ring *ring, uint64_t n)
{
    uint64_t seq = 0;
    assert_true(heapkit_intact(w->base, w->limit, ring->desc[n], &seq));
    assert_int_equal(seq, ring->seq[n]);
}

/* Everything that any reader could still get at, or holds. */
static void expect_all_intact(const struct world *w)
{
    for (int i = 0; i < RINGS; i++) {
        const struct ring *ring = &w->ring[i];
        uint32_t capacity = ring->kit->rec.capacity, bits = sb_log2_ceil(capacity);
        for (uint32_t s = 0; s < ring->kit->seats; s++) {
            if (!seat_live(ring->kit, s))
                continue;
            uint64_t n = sb_ring_linear(ring->kit->seat[s].cursor, capacity, bits);
            if (n + capacity < ring->tail)
                n = ring->tail - capacity;
            for (; n < ring->tail; n++) {
                uint64_t desc = ring->kit->ring->slot[n % capacity].desc;
                if (desc == SB_DESC_TOMBSTONE) {
                    assert_true(kit_pos(n, capacity) < ring->target.taken_back);
                    continue;
                }
                assert_int_equal(desc, ring->desc[n]);
                expect_intact(w, ring, n);
            }
            for (uint32_t h = 0; h < HELD; h++) {
                const struct hold *hold = &ring->hold[s][h];
                for (uint32_t k = 0; k < hold->count; k++) {
                    if (!(hold->gone >> k & 1))
                        expect_intact(w, ring, hold->first + k);
                }
            }
        }
    }
}

/* Takes up to max messages and keeps holding them, if there is a hold free. */
static void world_take(struct ring *ring, uint32_t seat, uint32_t max)
{
    struct sb_reader r = kit_reader(ring->kit, seat);
    uint32_t h = sb_seat_free_hold(r.seat), n = 0;
    if (h >= HELD)
        return;
    if (sb_seat_look(&r, r.cursor) == SB_LOOK_LAPPED)
        sb_seat_jump(&r);
    uint64_t pos = r.cursor;
    while (n < max && n < r.capacity && sb_seat_look(&r, pos) == SB_LOOK_READY) {
        pos = sb_ring_next(pos, r.capacity, r.bits);
        n++;
    }
    if (n == 0)
        return;
    sb_seat_hold(&r, h, n);
    uint64_t first = sb_ring_linear(r.cursor, r.capacity, r.bits);
    ring->hold[seat][h] = (struct hold){.first = first, .count = n};
    for (uint32_t k = 0; k < n; k++) /* what another holds stays as it was, taken back or not */
        ring->hold[seat][h].gone |=
            (uint64_t)(ring->kit->ring->slot[(first + k) % r.capacity].desc == SB_DESC_TOMBSTONE)
            << k;
    sb_seat_pass(&r, pos, n, 0);
}

static void world_release(struct ring *ring, uint32_t seat, uint32_t h)
{
    if (ring->hold[seat][h].count)
        sb_seat_unhold(&ring->kit->seat[seat], h);
    ring->hold[seat][h].count = 0;
}

/* A reader dies or leaves, another joins: its holds go with it. */
static void world_change_seat(struct ring *ring, uint32_t seat)
{
    if (seat_live(ring->kit, seat))
        kit_seat_leave(ring->kit, seat);
    else
        kit_seat_join(ring->kit, seat);
    memset(ring->hold[seat], 0, sizeof(ring->hold[seat]));
}

static void world_read(struct ring *ring)
{
    if (ring->kit->seats == 0)
        return;
    uint32_t seat = (uint32_t)rand() % ring->kit->seats;
    if (rand() % 300 == 0)
        world_change_seat(ring, seat);
    if (!seat_live(ring->kit, seat))
        return;
    if (rand() % 2)
        world_take(ring, seat, 1 + (uint32_t)rand() % 8);
    else
        world_release(ring, seat, (uint32_t)rand() % HELD);
}

/* All readers take and release everything, or those who do not read go. */
static void world_drain(struct world *w)
{
    for (int i = 0; i < RINGS; i++) {
        struct ring *ring = &w->ring[i];
        for (uint32_t s = 0; s < ring->kit->seats; s++) {
            if (!seat_live(ring->kit, s))
                continue;
            struct sb_reader r = kit_reader(ring->kit, s);
            sb_seat_pass(&r, kit_pos(ring->tail, r.capacity), 0, 0);
            for (uint32_t h = 0; h < HELD; h++)
                world_release(ring, s, h);
        }
    }
}

/* Ends the world: nothing may be left in its heap. */
static void world_free(struct world *w)
{
    world_drain(w);
    assert_true(sb_heap_reclaim(&w->h.heap) >= 0);
    for (int i = 0; i < LANES; i++)
        assert_true(sb_lane_idle(&w->h.heap, &w->lane[i]));
    for (int i = 0; i < LANES; i++)
        sb_lane_leave(&w->h.heap, &w->lane[i]);
    assert_int_equal(sb_buddy_used(&w->h.heap.buddy), 0);
    assert_int_equal(w->h.sets, 0);
    sb_heap_deinit(&w->h.heap);
    for (int i = 0; i < RINGS; i++) {
        free(w->ring[i].target.holds);
        free(w->ring[i].kit);
    }
    free(w->base);
    free(w);
}

static void world_step(struct world *w)
{
    int lane = rand() % LANES;
    if (rand() % 1000 == 0) {
        world_drain(w);
    } else if (rand() % 3) {
        world_read(&w->ring[rand() % RINGS]);
    } else if (rand() % 200 == 0) {
        struct sb_target *targets[RINGS];
        uint32_t count = random_targets(w, targets);
        assert_int_equal(heapkit_lane_set(&w->h, &w->lane[lane], targets, count), 0);
    } else {
        /* Lanes of very different rates. */
        for (int burst = lane * lane * (rand() % 4); burst >= 0; burst--) {
            int ret = world_publish(w, &w->lane[lane], random_size());
            assert_true(ret == 0 || ret == SHMBUS_E_LIMIT);
            w->full += ret != 0;
        }
    }
}

static void seed_random(void)
{
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
}

static void test_nothing_reachable_is_reused(void **state)
{
    (void)state;
    seed_random();
    uint64_t full = 0, published = 0;
    for (int round = 0; round < 12; round++) {
        struct world *w = world_new(4096u << round % 4, 65536u << round % 6);
        for (int i = 0; i < 6000; i++) {
            world_step(w);
            if (i % 64 == 0)
                expect_all_intact(w);
        }
        expect_all_intact(w);
        full += w->full;
        published += w->h.seq;
        world_free(w);
    }
    print_message("%llu published, heap full %llu times\n", (unsigned long long)published,
                  (unsigned long long)full);
    assert_true(full > 0 && published > full);
}

/* In its stride a publisher with prompt readers needs no more than it needed at first. */
static void test_memory_comes_back(void **state)
{
    (void)state;
    struct kit *kit = kit_new(64, SB_REJECT_NEWEST, 1, 0);
    struct sb_target_seat list[KIT_SEATS];
    struct sb_target target = kit_target(kit, list);
    struct sb_target *targets[] = {&target};
    struct heapkit h;
    struct sb_lane lane;
    uint8_t *base = aligned_alloc(4096, 1 << 20);
    assert_non_null(base);
    assert_int_equal(heapkit_init(&h, base, 65536, 1 << 20, 1), 0);
    assert_int_equal(heapkit_lane(&h, &lane, targets, 1), 0);
    struct sb_reader r = kit_reader(kit, 0);
    for (int i = 0; i < 100000; i++) {
        struct heapkit_result result;
        assert_int_equal(heapkit_publish(&h, &lane, 100, &result), 0);
        assert_int_equal(result.taken, 1);
        if (i % 50 < 40)
            continue;
        while (sb_seat_look(&r, r.cursor) == SB_LOOK_READY)
            sb_seat_pass(&r, sb_ring_next(r.cursor, 64, r.bits), 1, 0);
    }
    assert_int_equal(sb_buddy_size(&h.heap.buddy), 65536);
    sb_lane_leave(&h.heap, &lane);
    sb_heap_deinit(&h.heap);
    free(target.holds);
    free(base);
    free(kit);
}

/* A heap full of what is held refuses, says so, and goes on when something has been released. */
static void test_a_full_heap_refuses_and_recovers(void **state)
{
    (void)state;
    struct world *w = world_new(4096, 16384);
    struct ring *ring = &w->ring[4];
    free(ring->kit);
    ring->kit = kit_new(300, SB_DROP_OLDEST, 1, 0);
    ring->target = kit_target(ring->kit, ring->list);
    struct sb_target *targets[] = {&ring->target};
    assert_int_equal(heapkit_lane_set(&w->h, &w->lane[0], targets, 1), 0);
    for (int round = 0; round < 20; round++) {
        int ret = 0, count = 0;
        while ((ret = world_publish(w, &w->lane[0], 200)) == 0) {
            if (++count % 4 == 0)
                world_take(ring, 0, 4);
        }
        assert_int_equal(ret, SHMBUS_E_LIMIT);
        assert_non_null(strstr(shmbus_errmsg(), "16384"));
        assert_true(count > 16384 / 512);
        assert_int_equal(world_publish(w, &w->lane[0], 200), SHMBUS_E_LIMIT);
        expect_all_intact(w);
        world_drain(w);
    }
    uint32_t most = (uint32_t)(sb_heap_chunk_max(16384) - sizeof(struct sb_chunk));
    assert_int_equal(world_publish(w, &w->lane[0], most), 0);
    world_free(w);
}

static void test_growing_can_fail(void **state)
{
    (void)state;
    struct world *w = world_new(SB_BLOCK_MAX, 65536);
    w->h.grow_fails = SHMBUS_E_COORD;
    struct sb_target *targets[] = {&w->ring[4].target};
    assert_int_equal(heapkit_lane_set(&w->h, &w->lane[0], targets, 1), 0);
    assert_int_equal(world_publish(w, &w->lane[0], SB_BLOCK_MAX), SHMBUS_E_COORD);
    assert_int_equal(world_publish(w, &w->lane[0], 100), 0);
    w->h.grow_fails = 0;
    assert_int_equal(world_publish(w, &w->lane[0], SB_BLOCK_MAX), 0);
    expect_all_intact(w);
    world_free(w);
}

/* A block beyond SB_BLOCK_MAX ends in bytes that its bitmap does not cover. */
static void test_a_large_block_is_for_one_chunk(void **state)
{
    (void)state;
    struct world *w = world_new(65536, 1 << 20);
    struct ring *ring = &w->ring[4];
    free(ring->kit);
    ring->kit = kit_new(300, SB_REJECT_NEWEST, 1, 0);
    ring->target = kit_target(ring->kit, ring->list);
    struct sb_target *targets[] = {&ring->target};
    assert_int_equal(heapkit_lane_set(&w->h, &w->lane[0], targets, 1), 0);
    for (uint32_t size = SB_BLOCK_MAX - 200; size < 3 * SB_BLOCK_MAX; size += 57) {
        assert_int_equal(world_publish(w, &w->lane[0], size), 0);
        for (uint32_t k = 0; k < 8; k++)
            assert_int_equal(world_publish(w, &w->lane[0], k * 8), 0);
        expect_all_intact(w);
        world_drain(w);
    }
    /* Given back because no ring took it: small ones must not fill it up either. */
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(world_publish(w, &w->lane[0], 10), 0);
    assert_int_equal(world_publish(w, &w->lane[0], 20000), 0);
    assert_int_equal(ring->kit->ring->rejected, 1);
    world_drain(w);
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(world_publish(w, &w->lane[0], 90), 0);
    expect_all_intact(w);
    world_free(w);
}

/* A reader that never reads keeps what its ring has taken, and nothing of what it refused. */
static void test_an_idle_reader_fails_no_publish(void **state)
{
    (void)state;
    struct world *w = world_new(4096, 65536);
    struct sb_target *targets[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct ring *ring = &w->ring[2 + i];
        free(ring->kit);
        ring->kit = kit_new(30, i ? SB_REJECT_NEWEST : SB_DROP_OLDEST, 1, 0);
        ring->target = kit_target(ring->kit, ring->list);
        targets[i] = &ring->target;
    }
    assert_int_equal(heapkit_lane_set(&w->h, &w->lane[0], targets, 2), 0);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(world_publish(w, &w->lane[0], 100), 0);
    assert_int_equal(w->ring[2].tail, 10000);
    assert_int_equal(w->ring[3].tail, 30);
    expect_all_intact(w);
    world_free(w);
}

/* The n-th allocation fails, for every n. */
static void test_no_memory_harms_nothing(void **state)
{
    (void)state;
    long n = 0;
    bool failed = true;
    for (; failed; n++) {
        srand(5);
        struct world *w = world_new(4096, 1 << 20);
        failed = false;
        allocations_left = n;
        for (int i = 0; i < 400; i++) {
            int ret = world_publish(w, &w->lane[rand() % LANES], random_size());
            assert_true(ret == 0 || ret == SHMBUS_E_NOMEM);
            for (int k = 0; k < 3; k++)
                world_read(&w->ring[rand() % RINGS]);
        }
        failed = allocations_left < 0;
        allocations_left = -1;
        expect_all_intact(w);
        world_free(w);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_reachable_is_reused),
        cmocka_unit_test(test_memory_comes_back),
        cmocka_unit_test(test_a_full_heap_refuses_and_recovers),
        cmocka_unit_test(test_growing_can_fail),
        cmocka_unit_test(test_a_large_block_is_for_one_chunk),
        cmocka_unit_test(test_an_idle_reader_fails_no_publish),
        cmocka_unit_test(test_no_memory_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
