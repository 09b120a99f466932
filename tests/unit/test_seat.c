/* SPDX-License-Identifier: Apache-2.0 */
/* A seat at a ring against a plain queue; its books with a reader killed between any two stores;
 * hostile rings; threads. Histories of books are in test_books.c. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "shm/target.h"
#include "support/ringkit.h"

static const uint32_t capacities[] = {1, 2, 3, 7, 10, 4096};

static void seed_random(void)
{
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
}

/*
 * The queue that a ring and one seat should be: messages are numbered by their pushes.
 */
struct model {
    struct kit *kit;
    struct sb_reader reader;
    struct sb_target target;
    struct sb_target_seat list[KIT_SEATS];
    uint64_t from;   /* linear position of push 0 */
    uint64_t pushed; /* taken by the ring */
    uint64_t oldest; /* first number still queued */
    uint64_t received, dropped, rejected, skipped;
    uint32_t held[SB_HELD_MAX]; /* messages under each hold */
};

static void model_init(struct model *m, uint32_t capacity, uint32_t full, uint64_t from)
{
    memset(m, 0, sizeof(*m));
    m->kit = kit_new(capacity, full, 1, from);
    m->from = from;
    m->reader = kit_reader(m->kit, 0);
    m->target = kit_target(m->kit, m->list);
}

static void model_deinit(struct model *m)
{
    free(m->target.holds);
    free(m->kit);
}

static void model_push(struct model *m)
{
    uint32_t capacity = m->kit->rec.capacity;
    bool full = m->pushed - m->oldest == capacity;
    uint64_t pos = 0;
    enum sb_push ret = sb_target_push(&m->target, m->pushed, &pos);
    if (full && m->target.limited) {
        assert_int_equal(ret, SB_PUSH_FULL);
        m->rejected++;
        return;
    }
    assert_int_equal(ret, SB_PUSH_DONE);
    assert_int_equal(pos, kit_pos(m->from + m->pushed, capacity));
    m->pushed++;
    if (full) {
        m->oldest++;
        m->dropped++;
    }
}

/* As a receive does: look, hold, read again, pass. */
static void model_pop(struct model *m, uint32_t max)
{
    struct sb_reader *r = &m->reader;
    uint32_t h = sb_seat_free_hold(r->seat);
    if (h == SB_HELD_MAX)
        return;
    assert_int_equal(m->held[h], 0);
    enum sb_look look = sb_seat_look(r, r->cursor);
    if (look == SB_LOOK_LAPPED) {
        uint64_t gone = sb_ring_linear(r->cursor, r->capacity, r->bits) - m->from;
        assert_int_equal(sb_seat_jump(r), m->oldest - gone);
        look = sb_seat_look(r, r->cursor);
    }
    assert_int_equal(look, m->oldest < m->pushed ? SB_LOOK_READY : SB_LOOK_EMPTY);
    assert_int_equal(r->cursor, kit_pos(m->from + m->oldest, r->capacity));
    uint32_t n = 0;
    uint64_t pos = r->cursor;
    while (n < max && n < r->capacity && sb_seat_look(r, pos) == SB_LOOK_READY) {
        pos = sb_ring_next(pos, r->capacity, r->bits);
        n++;
    }
    assert_int_equal(n, m->pushed - m->oldest < max ? m->pushed - m->oldest : max);
    if (n == 0)
        return;
    sb_seat_hold(r, h, n);
    pos = r->cursor;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t desc = UINT64_MAX;
        assert_int_equal(sb_seat_read(r, pos, &desc), SB_LOOK_READY);
        assert_int_equal(desc, m->oldest + i);
        pos = sb_ring_next(pos, r->capacity, r->bits);
    }
    bool skip = n == 1 && rand() % 8 == 0;
    sb_seat_pass(r, pos, skip ? 0 : n, skip ? 1 : 0);
    m->oldest += n;
    if (skip) {
        m->skipped++;
        sb_seat_unhold(r->seat, h);
        return;
    }
    sb_bump_relaxed(&r->seat->returned, n);
    m->received += n;
    m->held[h] = n;
}

static void model_release(struct model *m)
{
    uint32_t h = (uint32_t)rand() % SB_HELD_MAX;
    if (!m->held[h])
        return;
    m->held[h] = 0;
    sb_seat_unhold(m->reader.seat, h);
}

static void model_compare(struct model *m)
{
    struct sb_books books = kit_books(m->kit, 0, false);
    uint64_t dropped = m->dropped + m->rejected;
    assert_int_equal(books.received, m->received);
    assert_int_equal(books.queued, m->pushed - m->oldest);
    assert_int_equal(books.dropped, dropped);
    assert_int_equal(books.offered, m->pushed + m->rejected - m->skipped);
    assert_int_equal(books.offered, books.received + books.queued + books.dropped);
    books = kit_books(m->kit, 0, true);
    assert_int_equal(books.queued, 0);
    assert_int_equal(books.offered, books.received + books.dropped);
    for (uint32_t h = 0; h < SB_HELD_MAX; h++)
        assert_int_equal((m->kit->seat[0].hold[h] & 0xff), m->held[h]);
}

static void compare_with_queue(uint32_t capacity, uint32_t full, uint64_t from)
{
    struct model m;
    model_init(&m, capacity, full, from);
    for (int i = 0; i < 6000; i++) {
        uint32_t most = 1 + (uint32_t)rand() % SB_HELD_MAX;
        uint32_t burst = (uint32_t)rand() % 30 == 0 ? capacity + (uint32_t)rand() % 5 : 1;
        switch (rand() % 4) {
        case 0:
            for (uint32_t k = 0; k < burst; k++)
                model_push(&m);
            break;
        case 1:
            model_pop(&m, 1);
            break;
        case 2:
            model_pop(&m, rand() % 4 ? 1 + most % 4 : most);
            break;
        default:
            for (uint32_t k = 0; k < most; k++)
                model_release(&m);
        }
        model_compare(&m);
    }
    model_deinit(&m);
}

static void test_agrees_with_a_queue(void **state)
{
    (void)state;
    seed_random();
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        uint32_t capacity = capacities[c];
        for (uint32_t full = SB_DROP_OLDEST; full <= SB_REJECT_NEWEST; full++) {
            compare_with_queue(capacity, full, 0);
            compare_with_queue(capacity, full, 3 * (uint64_t)capacity + capacity / 2);
        }
    }
}

/*
 * A seat is a few words; a reader that dies between two of its stores leaves one of these states.
 * Whatever it is, nothing is counted twice or not at all.
 */
static void books_after_death(uint32_t capacity, uint32_t full, uint32_t queued, uint32_t batch)
{
    for (uint32_t stores = 0; stores <= 4; stores++) {
        struct model m;
        model_init(&m, capacity, full, capacity + 1);
        for (uint32_t i = 0; i < queued; i++)
            model_push(&m);
        struct sb_reader *r = &m.reader;
        if (sb_seat_look(r, r->cursor) == SB_LOOK_LAPPED)
            sb_seat_jump(r);
        if (stores >= 1)
            sb_seat_hold(r, 0, batch);
        if (stores >= 2)
            r->seat->taken += batch;
        if (stores >= 3)
            r->seat->cursor = sb_ring_advance(r->cursor, batch, capacity, r->bits);
        if (stores >= 4)
            r->seat->returned += batch;
        struct sb_books books = kit_books(m.kit, 0, true);
        assert_int_equal(books.offered, queued);
        assert_int_equal(books.received, stores >= 4 ? batch : 0);
        assert_int_equal(books.queued, 0);
        assert_int_equal(books.dropped, books.offered - books.received);
        /* As long as it lives, what is in hand is not dropped; for the moment between the stores
         * of taken and cursor it may hide as many that were. */
        books = kit_books(m.kit, 0, false);
        assert_true(books.dropped <= m.dropped + m.rejected);
        if (stores != 2)
            assert_int_equal(books.dropped, m.dropped + m.rejected);
        model_deinit(&m);
    }
}

static void test_books_balance_after_any_death(void **state)
{
    (void)state;
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        uint32_t capacity = capacities[c];
        for (uint32_t full = SB_DROP_OLDEST; full <= SB_REJECT_NEWEST; full++) {
            uint32_t most = capacity < SB_HELD_MAX ? capacity : SB_HELD_MAX;
            for (uint32_t batch = 1; batch <= most; batch += 1 + batch / 2) {
                books_after_death(capacity, full, batch, batch);
                books_after_death(capacity, full, capacity, batch);
                books_after_death(capacity, full, 3 * capacity + 1, batch);
            }
        }
    }
}

/* While a reader that was lapped is between reading its cursor and jumping. */
static void test_a_lapped_reader_reads_nothing(void **state)
{
    (void)state;
    for (size_t c = 0; c < sb_array_len(capacities); c++) {
        struct model m;
        model_init(&m, capacities[c], SB_DROP_OLDEST, 5);
        struct sb_reader *r = &m.reader;
        model_push(&m);
        assert_int_equal(sb_seat_look(r, r->cursor), SB_LOOK_READY);
        for (uint32_t i = 0; i < capacities[c]; i++)
            model_push(&m);
        sb_seat_hold(r, 0, 1);
        uint64_t desc = 77;
        assert_int_equal(sb_seat_read(r, r->cursor, &desc), SB_LOOK_LAPPED);
        assert_int_equal(desc, 77);
        assert_int_equal(sb_seat_jump(r), 1);
        sb_seat_unhold(r->seat, 0);
        model_pop(&m, 1);
        model_deinit(&m);
    }
}

static uint64_t random64(void)
{
    return (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand();
}

/* A jump believes a tail only within the lap that the slot proves. */
static void test_a_hostile_tail_moves_nobody_far(void **state)
{
    (void)state;
    seed_random();
    for (int round = 0; round < 20000; round++) {
        uint32_t capacity = 1 + (uint32_t)rand() % 12;
        uint64_t from = (uint64_t)rand() % 50, newer = capacity + (uint64_t)rand() % 50;
        struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 1, from + newer);
        kit->seat[0].cursor = kit_pos(from, capacity);
        kit->ring->tail = rand() % 2 ? random64() : (uint64_t)rand() % 200;
        struct sb_reader r = kit_reader(kit, 0);
        if (sb_seat_look(&r, r.cursor) == SB_LOOK_LAPPED) {
            uint64_t jumped = sb_seat_jump(&r);
            uint64_t at = sb_ring_linear(r.cursor, capacity, r.bits);
            assert_int_equal(at, from + jumped);
            assert_true(jumped > 0 && jumped <= newer);
            assert_true(sb_ring_index(r.cursor, r.bits) < capacity);
            assert_int_equal(r.cursor, kit->seat[0].cursor);
        }
        free(kit);
    }
}

/* Random bytes in a ring: a reader stays within it, and within the steps that it asks for. */
static void test_random_slots_do_no_harm(void **state)
{
    (void)state;
    seed_random();
    for (int round = 0; round < 20000; round++) {
        uint32_t capacity = 1 + (uint32_t)rand() % 12;
        struct kit *kit = kit_new(capacity, SB_DROP_OLDEST, 1, (uint64_t)rand() % 50);
        struct sb_reader r = kit_reader(kit, 0);
        for (uint32_t i = 0; i < capacity; i++)
            kit->ring->slot[i].seq =
                rand() % 2 ? random64() : sb_ring_lap(r.cursor, r.bits) + (uint64_t)rand() % 5 - 1;
        kit->ring->tail = rand() % 2 ? random64() : r.cursor + (uint64_t)rand() % 20 - 5;
        for (int i = 0; i < 20; i++) {
            uint64_t desc, before = r.cursor;
            enum sb_look look = sb_seat_look(&r, r.cursor);
            sb_seat_hold(&r, 0, 1);
            if (look == SB_LOOK_READY && sb_seat_read(&r, r.cursor, &desc) == SB_LOOK_READY)
                sb_seat_pass(&r, sb_ring_next(r.cursor, capacity, r.bits), 1, 0);
            else if (sb_seat_look(&r, r.cursor) == SB_LOOK_LAPPED && sb_seat_jump(&r) == 0)
                break;
            assert_true(r.cursor >= before);
            assert_true(sb_ring_index(r.cursor, r.bits) < capacity);
        }
        free(kit);
    }
}

/*
 * Threads: publishers with a number each, readers with a seat each.
 */
#define PUBLISHERS 3
#define MESSAGES 30000u

struct party {
    struct kit *kit;
    uint32_t id;
    uint32_t *running; /* publishers that have not ended */
    uint64_t refused, received;
    bool failed;
};

static void *publish_many(void *arg)
{
    struct party *p = arg;
    struct sb_target_seat list[KIT_SEATS];
    struct sb_target target = kit_target(p->kit, list);
    for (uint64_t n = 1; n <= MESSAGES; n++) {
        uint64_t pos;
        enum sb_push ret = sb_target_push(&target, (uint64_t)p->id << 32 | n, &pos);
        if (ret == SB_PUSH_FULL)
            p->refused++;
        else if (ret != SB_PUSH_DONE)
            p->failed = true;
    }
    __atomic_fetch_sub(p->running, 1, __ATOMIC_ACQ_REL);
    return NULL;
}

/* Takes up to 3 at once, until nothing is there and nobody publishes any more. */
static void *read_many(void *arg)
{
    struct party *p = arg;
    struct sb_reader r = kit_reader(p->kit, p->id);
    uint64_t last[PUBLISHERS] = {0};
    for (;;) {
        bool ended = sb_load_acquire(p->running) == 0;
        enum sb_look look = sb_seat_look(&r, r.cursor);
        if (look == SB_LOOK_EMPTY && ended)
            return NULL;
        if (look == SB_LOOK_LAPPED && sb_seat_jump(&r) == 0)
            p->failed = true;
        if (look != SB_LOOK_READY)
            continue;
        uint32_t h = sb_seat_free_hold(r.seat), n = 0;
        uint64_t pos = r.cursor, desc;
        sb_seat_hold(&r, h, 3);
        while (n < 3 && sb_seat_look(&r, pos) == SB_LOOK_READY &&
               sb_seat_read(&r, pos, &desc) == SB_LOOK_READY) {
            uint64_t from = desc >> 32, number = desc & UINT32_MAX;
            if (from >= PUBLISHERS || number <= last[from] || number > MESSAGES)
                p->failed = true;
            else
                last[from] = number;
            pos = sb_ring_next(pos, r.capacity, r.bits);
            n++;
        }
        if (n) {
            sb_seat_pass(&r, pos, n, 0);
            sb_bump_relaxed(&r.seat->returned, n);
            p->received += n;
        }
        sb_seat_unhold(r.seat, h);
    }
}

static void exchange(uint32_t capacity, uint32_t full, uint32_t seats)
{
    struct kit *kit = kit_new(capacity, full, seats, 3);
    struct party publisher[PUBLISHERS] = {0}, reader[KIT_SEATS] = {0};
    pthread_t thread[PUBLISHERS + KIT_SEATS];
    uint32_t running = PUBLISHERS;
    for (uint32_t i = 0; i < seats; i++) {
        reader[i] = (struct party){.kit = kit, .id = i, .running = &running};
        assert_int_equal(pthread_create(&thread[PUBLISHERS + i], NULL, read_many, &reader[i]), 0);
    }
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        publisher[i] = (struct party){.kit = kit, .id = i, .running = &running};
        assert_int_equal(pthread_create(&thread[i], NULL, publish_many, &publisher[i]), 0);
    }
    uint64_t refused = 0;
    for (uint32_t i = 0; i < PUBLISHERS + seats; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        assert_false(publisher[i].failed);
        refused += publisher[i].refused;
    }
    for (uint32_t i = 0; i < seats; i++) {
        struct sb_books books = kit_books(kit, i, false);
        assert_false(reader[i].failed);
        assert_int_equal(books.offered, PUBLISHERS * MESSAGES);
        assert_int_equal(books.received, reader[i].received);
        assert_int_equal(books.queued, 0);
        assert_int_equal(books.dropped, books.offered - books.received);
        if (full == SB_REJECT_NEWEST)
            assert_int_equal(books.dropped, refused);
    }
    free(kit);
}

static void test_threads_exchange(void **state)
{
    (void)state;
    exchange(1, SB_DROP_OLDEST, 2);
    exchange(7, SB_DROP_OLDEST, 3);
    exchange(512, SB_DROP_OLDEST, 3);
    exchange(1, SB_REJECT_NEWEST, 1);
    exchange(100, SB_REJECT_NEWEST, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_a_queue),
        cmocka_unit_test(test_books_balance_after_any_death),
        cmocka_unit_test(test_a_lapped_reader_reads_nothing),
        cmocka_unit_test(test_a_hostile_tail_moves_nobody_far),
        cmocka_unit_test(test_random_slots_do_no_harm),
        cmocka_unit_test(test_threads_exchange),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
