/* SPDX-License-Identifier: Apache-2.0 */
/* What is seen of a seat's books from outside, while publishers push and its reader takes, does
 * come true. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shm/target.h"
#include "support/ringkit.h"

/*
 * Two publishers and a reader as fast as they can.
 */

struct race {
    struct kit *kit;
    uint32_t publishing; /* atomic */
    uint32_t messages;
    struct sb_books_seen seen;
};

static void *publish_all(void *arg)
{
    struct race *race = arg;
    struct sb_target_seat list[KIT_SEATS];
    struct sb_target target = kit_target(race->kit, list);
    for (uint32_t i = 0; i < race->messages; i++) {
        uint64_t pos;
        (void)sb_target_push(&target, 16 + (i % 5 == 0), &pos);
    }
    free(target.holds);
    __atomic_fetch_sub(&race->publishing, 1, __ATOMIC_ACQ_REL);
    return NULL;
}

/* One at a time; a descriptor of 17 is foreign. */
static void *read_all(void *arg)
{
    struct race *race = arg;
    struct sb_reader r = kit_reader(race->kit, 0);
    for (;;) {
        bool ended = sb_load_acquire(&race->publishing) == 0;
        enum sb_look found = sb_seat_look(&r, r.cursor);
        uint64_t desc;
        if (found == SB_LOOK_EMPTY && ended)
            return NULL;
        if (found == SB_LOOK_LAPPED)
            (void)sb_seat_jump(&r);
        if (found != SB_LOOK_READY)
            continue;
        sb_seat_hold(&r, 0, 1);
        if (sb_seat_read(&r, r.cursor, &desc) == SB_LOOK_READY) {
            uint64_t next = sb_ring_next(r.cursor, r.capacity, r.bits);
            sb_seat_pass(&r, next, desc == 16, desc == 17);
            if (desc == 16)
                sb_bump_relaxed(&r.seat->returned, 1);
        }
        sb_seat_unhold(r.seat, 0);
    }
}

static void run_race(uint32_t capacity, uint32_t full)
{
    struct race race = {.kit = kit_new(capacity, full, 1, 3), .publishing = 2, .messages = 5000};
    pthread_t thread[3];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, publish_all, &race), 0);
    assert_int_equal(pthread_create(&thread[2], NULL, read_all, &race), 0);
    while (sb_load_acquire(&race.publishing)) {
        struct sb_books books = kit_books(race.kit, 0, false);
        assert_int_equal(books.offered, books.received + books.queued + books.dropped);
        sb_seat_books_keep(&race.seen, &books);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    struct sb_books books = kit_books(race.kit, 0, false), kept = books;
    sb_seat_books_keep(&race.seen, &kept);
    assert_memory_equal(&kept, &books, sizeof(kept));
    assert_int_equal(books.queued, 0);
    assert_int_equal(books.offered + race.kit->seat[0].skipped, 2 * race.messages);
    free(race.kit);
}

static void test_what_was_seen_comes_true(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        run_race(1, SB_DROP_OLDEST);
        run_race(2, SB_DROP_OLDEST);
        run_race(7, SB_DROP_OLDEST);
        run_race(1, SB_REJECT_NEWEST);
        run_race(5, SB_REJECT_NEWEST);
    }
}

/*
 * Nothing is ever dropped here: each message is overwritten while it is in the reader's hand,
 * behind its second look. So no look may see a drop.
 */
enum { TO_PUBLISH = 1, TO_READ, TO_END };

struct relay {
    struct kit *kit;
    uint32_t turn; /* atomic */
    uint32_t lost; /* atomic: readers' failures */
};

static uint32_t relay_wait(struct relay *relay, uint32_t not_for)
{
    uint32_t turn;
    while ((turn = sb_load_acquire(&relay->turn)) == not_for)
        sched_yield();
    return turn;
}

static void *relay_publish(void *arg)
{
    struct relay *relay = arg;
    struct sb_target_seat list[KIT_SEATS];
    struct sb_target target = kit_target(relay->kit, list);
    for (int i = 0; relay_wait(relay, TO_READ) != TO_END; i++) {
        uint64_t pos;
        (void)sb_target_push(&target, 16 + (i % 5 == 0), &pos);
        sb_store_release(&relay->turn, TO_READ);
    }
    return NULL;
}

static void *relay_read(void *arg)
{
    struct relay *relay = arg;
    struct sb_reader r = kit_reader(relay->kit, 0);
    for (int i = 0; i < 3000; i++) {
        uint64_t desc = 0;
        sb_seat_hold(&r, 0, 1);
        if (sb_seat_read(&r, r.cursor, &desc) != SB_LOOK_READY)
            sb_store_relaxed(&relay->lost, 1u);
        sb_store_release(&relay->turn, TO_PUBLISH);
        (void)relay_wait(relay, TO_PUBLISH);
        sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), desc == 16, desc == 17);
        if (desc == 16)
            sb_bump_relaxed(&r.seat->returned, 1);
        sb_seat_unhold(r.seat, 0);
    }
    sb_store_release(&relay->turn, TO_END);
    return NULL;
}

static void run_relay(uint32_t capacity)
{
    struct relay relay = {.kit = kit_new(capacity, SB_DROP_OLDEST, 1, 3), .turn = TO_READ};
    struct sb_target_seat list[KIT_SEATS];
    struct sb_target target = kit_target(relay.kit, list);
    pthread_t thread[2];
    uint64_t pos;
    for (uint32_t i = 0; i < capacity; i++)
        assert_int_equal(sb_target_push(&target, 16, &pos), SB_PUSH_DONE);
    assert_int_equal(pthread_create(&thread[0], NULL, relay_publish, &relay), 0);
    assert_int_equal(pthread_create(&thread[1], NULL, relay_read, &relay), 0);
    while (sb_load_acquire(&relay.turn) != TO_END)
        assert_int_equal(kit_books(relay.kit, 0, false).dropped, 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(relay.lost, 0);
    assert_int_equal(kit_books(relay.kit, 0, false).queued, capacity);
    free(relay.kit);
}

static void test_nothing_in_hand_is_seen_as_dropped(void **state)
{
    (void)state;
    run_relay(1);
    run_relay(2);
    run_relay(5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_seen_comes_true),
        cmocka_unit_test(test_nothing_in_hand_is_seen_as_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
