/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: no-tsan */
/*
 * Readers that never read: a drop_oldest queue loses its oldest messages when they pin the memory
 * that newer ones need, a reject_newest queue refuses beyond its budget; neither makes a publish
 * fail, and the books tell. Only what readers hold can fill a heap. One thread: nothing for TSan.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "support/heapkit.h"

#define QUEUE (1u << 20)
#define LIMIT (UINT64_C(1) << 20)
#define SIZE 64u
#define MANY (getenv("SHMBUS_TEST_LIGHT") ? 100000u : 1000000u)

#define RINGS 10

/* One publisher, rings in sets of their own or together. */
struct desk {
    struct heapkit h;
    uint8_t *base;
    uint32_t rings, lanes;
    struct kit *kit[RINGS];
    struct sb_target target[RINGS];
    struct sb_target_seat list[RINGS][KIT_SEATS];
    struct sb_lane lane[RINGS];
};

static struct desk *desk_new(uint64_t limit)
{
    struct desk *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    d->base = aligned_alloc(4096, limit);
    assert_non_null(d->base);
    assert_int_equal(heapkit_init(&d->h, d->base, 65536, limit, 3), 0);
    return d;
}

static struct sb_target *desk_ring(struct desk *d, uint32_t capacity, uint32_t full)
{
    uint32_t i = d->rings++;
    d->kit[i] = kit_new(capacity, full, 1, 0);
    d->target[i] = kit_target(d->kit[i], d->list[i]);
    d->h.heap.limited += full == SB_REJECT_NEWEST;
    return &d->target[i];
}

static struct sb_lane *desk_lane(struct desk *d, struct sb_target **targets, uint32_t count)
{
    struct sb_lane *lane = &d->lane[d->lanes++];
    assert_int_equal(heapkit_lane(&d->h, lane, targets, count), 0);
    return lane;
}

static void desk_free(struct desk *d)
{
    for (uint32_t i = 0; i < d->lanes; i++)
        sb_lane_leave(&d->h.heap, &d->lane[i]);
    sb_heap_deinit(&d->h.heap);
    for (uint32_t i = 0; i < d->rings; i++) {
        free(d->target[i].holds);
        free(d->kit[i]);
    }
    free(d->base);
    free(d);
}

static uint64_t publish(struct desk *d, struct sb_lane *lane, uint32_t size)
{
    struct heapkit_result result;
    int ret = heapkit_publish(&d->h, lane, size, &result);
    if (ret)
        fail_msg("publish %llu: %s", (unsigned long long)d->h.seq, shmbus_errmsg());
    return lane->set->count - result.taken;
}

struct drained {
    uint64_t count, first, last;
};

/* Reads to the end of a ring: intact, in order. */
static struct drained drain(struct desk *d, uint32_t ring)
{
    struct sb_reader r = kit_reader(d->kit[ring], 0);
    struct drained got = {0, 0, 0};
    uint64_t tombstones = 0;
    for (enum sb_look look; (look = sb_seat_look(&r, r.cursor)) != SB_LOOK_EMPTY;) {
        if (look == SB_LOOK_LAPPED) {
            assert_true(sb_seat_jump(&r) > 0);
            continue;
        }
        uint64_t desc = 0, seq = 0;
        sb_seat_hold(&r, 0, 1);
        assert_int_equal(sb_seat_read(&r, r.cursor, &desc), SB_LOOK_READY);
        uint32_t taken = desc != SB_DESC_TOMBSTONE;
        if (taken) {
            assert_true(heapkit_intact(d->base, d->h.heap.limit, desc, &seq));
            assert_true(seq > got.last);
            got.first = got.first ? got.first : seq;
            got.last = seq;
            got.count++;
        }
        tombstones += !taken;
        sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), taken, 0);
        sb_bump_relaxed(&r.seat->returned, taken);
        sb_seat_unhold(r.seat, 0);
    }
    assert_true(!tombstones || d->kit[ring]->ring->flags == SB_RING_TOMBSTONED);
    return got;
}

static struct sb_books books_balance(struct desk *d, uint32_t ring, uint64_t offered)
{
    struct sb_books books = kit_books(d->kit[ring], 0, false);
    assert_int_equal(books.offered, offered);
    assert_int_equal(books.offered, books.received + books.queued + books.dropped);
    return books;
}

/* What is queued in a drop_oldest ring is dropped, oldest first, and counted as soon as it is. */
static void test_drop_oldest_never_fails_a_publish(void **state)
{
    (void)state;
    struct desk *d = desk_new(LIMIT);
    struct sb_target *target = desk_ring(d, QUEUE, SB_DROP_OLDEST);
    struct sb_lane *lane = desk_lane(d, &target, 1);
    uint32_t many = MANY;
    for (uint32_t i = 0; i < many; i++)
        assert_int_equal(publish(d, lane, SIZE), 0);
    struct sb_books before = books_balance(d, 0, many);
    assert_int_equal(before.received, 0);
    /* A heap that is full but for what is taken back at a time. */
    assert_in_range(before.queued, LIMIT / (SIZE + 32) * 19 / 20, LIMIT / (SIZE + 32));
    struct drained got = drain(d, 0);
    assert_int_equal(got.count, before.queued);
    assert_int_equal(got.last, many);
    assert_int_equal(got.first, many - got.count + 1);
    struct sb_books after = books_balance(d, 0, many);
    assert_int_equal(after.received, got.count);
    assert_int_equal(after.queued, 0);
    assert_int_equal(after.dropped, before.dropped);
    desk_free(d);
}

/* Several topics in one queue, another publisher's messages in between, slow topics. */
static void test_topics_share_a_queue(void **state)
{
    (void)state;
    struct desk *d = desk_new(LIMIT);
    struct sb_target *target = desk_ring(d, QUEUE, SB_DROP_OLDEST);
    struct sb_lane *lanes[4];
    for (uint32_t i = 0; i < 4; i++)
        lanes[i] = desk_lane(d, &target, 1);
    struct desk *other = desk_new(LIMIT);
    other->h.heap.index = 4;
    struct sb_target theirs = kit_target(d->kit[0], other->list[0]), *their = &theirs;
    struct sb_lane *foreign = desk_lane(other, &their, 1);
    uint32_t many = MANY / 2, strangers = 0;
    for (uint32_t i = 0; i < many; i++) {
        uint32_t slow = i % 1000 == 0 ? 3 : i % 50 == 0 ? 2 : i % 3 == 0;
        assert_int_equal(publish(d, lanes[slow], i % 100 * (i % 7)), 0);
        if (i % 5000 == 0) {
            assert_int_equal(publish(other, foreign, SIZE), 0);
            strangers++;
        }
    }
    struct sb_books books = books_balance(d, 0, many + strangers);
    uint64_t ours = 0, theirs_left = 0, last = 0;
    for (uint32_t i = 0; i < many + strangers; i++) {
        uint64_t desc = d->kit[0]->ring->slot[i].desc, seq = 0;
        if (desc == SB_DESC_TOMBSTONE)
            continue;
        if (sb_desc_heap(desc) == 4) {
            theirs_left++;
            continue;
        }
        assert_true(heapkit_intact(d->base, LIMIT, desc, &seq));
        /* From the first that is left on all are: what goes are the oldest. */
        assert_true(last == 0 || seq == last + 1);
        last = seq;
        ours++;
    }
    assert_int_equal(last, many);
    assert_int_equal(theirs_left, strangers); /* another's are not ours to take back */
    assert_int_equal(books.queued, ours + strangers);
    assert_true(ours > 1000);
    free(theirs.holds);
    desk_free(other);
    desk_free(d);
}

/* A reject_newest ring refuses beyond its budget, and no longer once its reader has moved on. */
static void test_reject_newest_has_a_budget(void **state)
{
    (void)state;
    struct desk *d = desk_new(LIMIT);
    struct sb_target *target = desk_ring(d, QUEUE, SB_REJECT_NEWEST);
    struct sb_lane *lane = desk_lane(d, &target, 1);
    uint64_t refused = 0, all = 0;
    for (int round = 0; round < 3; round++) {
        uint64_t before = refused;
        for (uint32_t i = 0; i < MANY / 4; i++, all++)
            refused += publish(d, lane, SIZE);
        struct sb_books books = books_balance(d, 0, all);
        assert_int_equal(books.dropped, refused);
        assert_int_equal(d->kit[0]->ring->rejected, refused);
        assert_in_range(books.queued, LIMIT / 8 / (SIZE + 32) * 9 / 10,
                        (LIMIT / 8 + 2 * SB_BLOCK_MAX) / (SIZE + 32));
        struct drained got = drain(d, 0);
        assert_int_equal(got.count, books.queued);
        /* The newest were refused, not the oldest. */
        assert_int_equal(got.last - got.first + 1, got.count);
        assert_true(refused > before);
    }
    /* A prompt reader is never refused anything. */
    for (uint32_t i = 0; i < MANY / 4; i++, all++) {
        assert_int_equal(publish(d, lane, i % 1000), 0);
        if (i % 50 == 49)
            (void)drain(d, 0);
    }
    assert_int_equal(books_balance(d, 0, all).dropped, refused);
    desk_free(d);
}

/* However many there are, and with drop_oldest rings in the same sets. */
static void test_many_idle_queues(void **state)
{
    (void)state;
    struct desk *d = desk_new(LIMIT);
    struct sb_lane *lanes[RINGS];
    struct sb_target *last = NULL;
    for (uint32_t i = 0; i < RINGS; i++) {
        struct sb_target *targets[2] = {
            desk_ring(d, QUEUE / 8, i == RINGS - 1 ? SB_DROP_OLDEST : SB_REJECT_NEWEST), last};
        lanes[i] = desk_lane(d, targets, 1 + (last != NULL));
        last = targets[0];
    }
    uint64_t refused[RINGS] = {0}, offered[RINGS] = {0};
    for (uint32_t i = 0; i < MANY / 2; i++) {
        uint32_t lane = i % RINGS;
        (void)publish(d, lanes[lane], i % 200);
        offered[lane]++;
        if (lane)
            offered[lane - 1]++;
    }
    for (uint32_t i = 0; i < RINGS; i++) {
        refused[i] = d->kit[i]->ring->rejected;
        struct sb_books books = books_balance(d, i, offered[i]);
        assert_true(books.queued > 0);
        struct drained got = drain(d, i);
        assert_int_equal(got.count, books.queued);
        if (i < RINGS - 1)
            assert_int_equal(books.dropped, refused[i]);
        (void)books_balance(d, i, offered[i]);
    }
    desk_free(d);
}

/* A reader in the middle of a queue: what it holds stays, what it has not come to goes. */
static void test_what_is_held_stays(void **state)
{
    (void)state;
    struct desk *d = desk_new(LIMIT);
    struct sb_target *target = desk_ring(d, QUEUE, SB_DROP_OLDEST);
    struct sb_lane *lane = desk_lane(d, &target, 1);
    struct sb_reader r = kit_reader(d->kit[0], 0);
    uint64_t held[SB_HELD_MAX] = {0}, seq[SB_HELD_MAX], found;
    for (uint32_t h = 0; h < SB_HELD_MAX; h++) {
        for (uint32_t i = 0; i < 2000; i++)
            assert_int_equal(publish(d, lane, 1 + i % SIZE), 0);
        for (;;) {
            sb_seat_hold(&r, h, 1);
            assert_int_equal(sb_seat_read(&r, r.cursor, &held[h]), SB_LOOK_READY);
            sb_seat_pass(&r, r.cursor + 1, held[h] != SB_DESC_TOMBSTONE, 0);
            if (held[h] != SB_DESC_TOMBSTONE)
                break;
        }
        assert_true(heapkit_intact(d->base, LIMIT, held[h], &seq[h]));
        for (uint32_t i = 0; i <= h; i++) {
            assert_true(heapkit_intact(d->base, LIMIT, held[i], &found));
            assert_int_equal(found, seq[i]);
        }
    }
    desk_free(d);
}

/* With everything held there is nothing to take back. */
static void test_holds_can_fill_a_heap(void **state)
{
    (void)state;
    struct desk *d = desk_new(65536);
    struct sb_target *target = desk_ring(d, 64, SB_DROP_OLDEST);
    struct sb_lane *lane = desk_lane(d, &target, 1);
    struct sb_reader r = kit_reader(d->kit[0], 0);
    struct heapkit_result result;
    int ret;
    uint32_t h = 0;
    while ((ret = heapkit_publish(&d->h, lane, 2000, &result)) == 0 && h < SB_HELD_MAX) {
        sb_seat_hold(&r, h++, 1);
        sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), 1, 0);
    }
    assert_int_equal(ret, SHMBUS_E_LIMIT);
    assert_non_null(strstr(shmbus_errmsg(), "65536"));
    assert_in_range(h, 65536 / 4096, 65536 / 2000);
    assert_int_equal(heapkit_publish(&d->h, lane, 2000, &result), SHMBUS_E_LIMIT);
    while (h)
        sb_seat_unhold(r.seat, --h);
    assert_int_equal(publish(d, lane, 2000), 0);
    desk_free(d);
}

/* Others can write the tail, and with it the position of a push. */
static void test_a_forged_position_ends_no_loop(void **state)
{
    (void)state;
    struct desk *d = desk_new(LIMIT);
    struct sb_target *target = desk_ring(d, 10, SB_DROP_OLDEST);
    struct sb_lane *lane = desk_lane(d, &target, 1);
    assert_int_equal(publish(d, lane, SIZE), 0);
    uint64_t last = UINT64_MAX - 15 + 9; /* of the last lap there is */
    sb_target_take_back(target, 3 << 8 | 1, last + 1);
    sb_target_read_positions(target);
    assert_int_equal(target->passed, 0);
    assert_int_equal(drain(d, 0).count, 1);
    desk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop_oldest_never_fails_a_publish),
        cmocka_unit_test(test_topics_share_a_queue),
        cmocka_unit_test(test_reject_newest_has_a_budget),
        cmocka_unit_test(test_many_idle_queues),
        cmocka_unit_test(test_what_is_held_stays),
        cmocka_unit_test(test_holds_can_fill_a_heap),
        cmocka_unit_test(test_a_forged_position_ends_no_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
