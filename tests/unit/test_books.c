/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The books of a seat against a record of what became of every message: random histories whose
 * parties are driven step by step, with a look, a close or a kill between any two of them; hostile
 * words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "shm/target.h"
#include "support/ringkit.h"

#define STEPS 400

enum fate { QUEUED, TAKEN, RETURNED, SKIPPED, LOST };

/* Where the reader stands: the next of its steps. */
enum pc { IDLE, HOLD, READ, COUNT_TAKEN, COUNT_SKIPPED, MOVE, RETURN, UNHOLD, DEAD };

/* Where the coordinator's closing stands. */
enum closing { OPEN, ANNOUNCED, FOUND, COUNTED, CLOSED };

struct history {
    struct kit *kit;
    struct sb_reader reader;
    struct sb_target target;
    struct sb_target_seat list[KIT_SEATS];
    uint32_t capacity;
    uint64_t from; /* linear position of message 0 */

    enum fate fate[STEPS];
    bool foreign[STEPS], in_hand[STEPS], tombstone[STEPS];
    uint64_t pushed, refused;

    enum pc pc;
    uint32_t h, batch, read, taken, skipped;
    bool held[SB_HELD_MAX];

    enum closing closing;
    uint64_t end; /* as a message's number */

    struct sb_books_seen seen;
};

static void seed_random(void)
{
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
}

static bool one_in(int n)
{
    return rand() % n == 0;
}

static uint64_t number(const struct history *y, uint64_t pos)
{
    return sb_ring_linear(pos, y->capacity, y->reader.bits) - y->from;
}

static void history_init(struct history *y, uint32_t capacity, uint32_t full)
{
    memset(y, 0, sizeof(*y));
    y->capacity = capacity;
    y->from = (uint64_t)rand() % 4 * capacity + (uint64_t)rand() % capacity;
    y->kit = kit_new(capacity, full, 1, y->from);
    y->kit->ring->rejected = y->kit->seat_rec[0].rejected_base = (uint64_t)rand() % 3;
    y->reader = kit_reader(y->kit, 0);
    y->reader.end = &y->kit->seat_rec[0].end;
    y->target = kit_target(y->kit, y->list);
    y->end = UINT64_MAX;
}

static void history_deinit(struct history *y)
{
    free(y->target.holds);
    free(y->kit);
}

/*
 * Publishers.
 */

static void push(struct history *y)
{
    uint64_t pos = 0;
    bool full = y->target.limited && y->pushed == number(y, y->kit->seat[0].cursor) + y->capacity;
    y->foreign[y->pushed] = one_in(4);
    enum sb_push ret = sb_target_push(&y->target, 16 + y->pushed, &pos);
    assert_int_equal(ret, full ? SB_PUSH_FULL : SB_PUSH_DONE);
    if (full) {
        y->refused += y->closing < FOUND;
        return;
    }
    if (one_in(4))
        y->kit->ring->tail = pos; /* it stopped before it moved the tail */
    assert_int_equal(number(y, pos), y->pushed);
    y->fate[y->pushed++] = QUEUED;
    if (y->pushed <= y->capacity)
        return;
    uint64_t over = y->pushed - y->capacity - 1;
    if (y->fate[over] == QUEUED && !y->in_hand[over])
        y->fate[over] = LOST;
}

/* The owner takes a message back that is in its slot. */
static void take_back(struct history *y)
{
    if (!y->pushed)
        return;
    uint64_t most = y->pushed < y->capacity ? y->pushed : y->capacity;
    uint64_t n = y->pushed - 1 - (uint64_t)rand() % most, linear = y->from + n;
    y->kit->ring->flags |= SB_RING_TOMBSTONED;
    y->kit->ring->slot[linear % y->capacity].desc = SB_DESC_TOMBSTONE;
    y->tombstone[n] = true;
    if (y->fate[n] == QUEUED && !y->in_hand[n])
        y->fate[n] = LOST;
}

/*
 * The reader, as client/recv.c goes.
 */

static void reader_look(struct history *y)
{
    struct sb_reader *r = &y->reader;
    y->h = sb_seat_free_hold(r->seat);
    enum sb_look look = sb_seat_look(r, r->cursor);
    if (look == SB_LOOK_LAPPED)
        (void)sb_seat_jump(r);
    if (look != SB_LOOK_READY || y->h == SB_HELD_MAX)
        return;
    uint32_t max = one_in(2) ? 1 : 1 + (uint32_t)rand() % 5;
    uint64_t pos = r->cursor;
    y->batch = y->read = y->taken = y->skipped = 0;
    while (y->batch < max && sb_seat_look(r, pos) == SB_LOOK_READY && pos < *r->end) {
        pos = sb_ring_next(pos, r->capacity, r->bits);
        y->batch++;
    }
    y->pc = y->batch ? HOLD : IDLE;
}

static void reader_read(struct history *y)
{
    struct sb_reader *r = &y->reader;
    uint64_t desc, n = number(y, r->cursor) + y->read;
    uint64_t pos = kit_pos(y->from + n, y->capacity);
    if (sb_seat_read(r, pos, &desc) != SB_LOOK_READY) {
        y->pc = y->read ? COUNT_TAKEN : UNHOLD;
        return;
    }
    if (desc == SB_DESC_TOMBSTONE) {
        assert_true(y->tombstone[n]);
    } else {
        assert_int_equal(desc, 16 + n);
        y->in_hand[n] = true;
        y->taken += !y->foreign[n];
        y->skipped += y->foreign[n];
    }
    if (++y->read == y->batch)
        y->pc = COUNT_TAKEN;
}

/* Messages in hand, of one kind, become something else. */
static void reader_settle(struct history *y, bool foreign, enum fate from, enum fate to)
{
    for (uint64_t n = 0; n < y->pushed; n++) {
        if (y->in_hand[n] && y->foreign[n] == foreign && y->fate[n] == from)
            y->fate[n] = to;
    }
}

static void reader_move(struct history *y)
{
    struct sb_reader *r = &y->reader;
    uint64_t next = kit_pos(y->from + number(y, r->cursor) + y->read, y->capacity);
    sb_seat_pass(r, next, 0, 0);
    reader_settle(y, false, QUEUED, TAKEN);
    y->pc = y->taken ? RETURN : UNHOLD;
}

static void reader_finish(struct history *y, bool keep_hold)
{
    if (keep_hold)
        y->held[y->h] = true;
    else
        sb_seat_unhold(y->reader.seat, y->h);
    memset(y->in_hand, 0, sizeof(y->in_hand));
    y->pc = IDLE;
}

static void reader_idle(struct history *y)
{
    uint32_t h = (uint32_t)rand() % 8;
    if (y->held[h] && one_in(2)) {
        sb_seat_unhold(y->reader.seat, h);
        y->held[h] = false;
    }
    reader_look(y);
}

static void reader_step(struct history *y)
{
    struct sb_seat *seat = y->reader.seat;
    switch (y->pc) {
    case IDLE:
        reader_idle(y);
        break;
    case HOLD:
        sb_seat_hold(&y->reader, y->h, y->batch);
        y->pc = READ;
        break;
    case READ:
        reader_read(y);
        break;
    case COUNT_TAKEN:
        seat->taken += y->taken;
        y->pc = COUNT_SKIPPED;
        break;
    case COUNT_SKIPPED:
        seat->skipped += y->skipped;
        reader_settle(y, true, QUEUED, SKIPPED);
        y->pc = MOVE;
        break;
    case MOVE:
        reader_move(y);
        break;
    case RETURN:
        seat->returned += y->taken;
        reader_settle(y, false, TAKEN, RETURNED);
        reader_finish(y, true);
        break;
    case UNHOLD:
        reader_finish(y, false);
        break;
    case DEAD:
        break;
    }
}

/*
 * The coordinator.
 */

static void close_step(struct history *y)
{
    struct sb_seat_rec *rec = &y->kit->seat_rec[0];
    struct sb_ring *ring = y->kit->ring;
    switch (y->closing) {
    case OPEN:
        rec->closing = 1;
        break;
    case ANNOUNCED:
        y->end = number(y, sb_ring_tail_exact(ring, y->capacity, y->reader.bits));
        break;
    case FOUND:
        rec->rejected_end = rec->rejected_base + y->refused;
        break;
    case COUNTED:
        rec->end = kit_pos(y->from + y->end, y->capacity);
        break;
    case CLOSED:
        return;
    }
    y->closing++;
}

/*
 * What the books should say.
 */

static struct sb_books expected(const struct history *y, bool dead)
{
    struct sb_books books = {.offered = y->refused, .dropped = y->refused};
    uint64_t cursor = number(y, y->kit->seat[0].cursor), end = y->pushed;
    if (y->closing == CLOSED)
        end = cursor > y->end ? cursor : y->end;
    for (uint64_t n = 0; n < end; n++) {
        books.offered += y->fate[n] != SKIPPED;
        books.received += y->fate[n] == RETURNED;
        books.queued += !dead && (y->fate[n] == QUEUED || y->fate[n] == TAKEN);
        books.dropped +=
            y->fate[n] == LOST || (dead && (y->fate[n] == QUEUED || y->fate[n] == TAKEN));
    }
    return books;
}

static void assert_balanced(const struct sb_books *b)
{
    uint64_t sum;
    assert_false(__builtin_add_overflow(b->received, b->queued, &sum));
    assert_false(__builtin_add_overflow(sum, b->dropped, &sum));
    assert_int_equal(b->offered, sum);
}

static void assert_books(struct sb_books books, struct sb_books right)
{
    assert_balanced(&right);
    assert_int_equal(books.received, right.received);
    assert_int_equal(books.dropped, right.dropped);
    assert_int_equal(books.queued, right.queued);
    assert_int_equal(books.offered, right.offered);
}

/* Reports, as both sides do: nothing that counts events decreases. */
static struct sb_books report(struct history *y, struct sb_books books)
{
    struct sb_books_seen before = y->seen;
    uint64_t offered = books.offered;
    assert_balanced(&books);
    sb_seat_books_keep(&y->seen, &books);
    assert_balanced(&books);
    assert_true(books.offered == offered || (books.offered > offered && books.queued == 0));
    assert_true(books.received >= before.received && books.dropped >= before.dropped);
    assert_int_equal(books.received, y->seen.received);
    assert_int_equal(books.dropped, y->seen.dropped);
    return books;
}

/*
 * Between counting foreign messages from the end on as skipped and moving the cursor over them:
 * they are counted off an `offered` that does not have them yet. Who dies right there leaves it so.
 */
static bool odd(const struct history *y)
{
    return y->pc == MOVE && number(y, y->reader.cursor) + y->read > y->end;
}

/* A look with nothing going on meanwhile. */
static void look(struct history *y)
{
    struct sb_books books = kit_books(y->kit, 0, false), right = expected(y, false);
    bool finding = y->closing != OPEN && y->closing != CLOSED;
    assert_true(books.dropped <= right.dropped);
    if (!finding && !odd(y))
        assert_int_equal(books.received, right.received);
    if (!finding && (y->pc == IDLE || y->pc == HOLD || y->pc == RETURN))
        assert_books(books, right);
    (void)report(y, books);
}

static void world_step(struct history *y);

static void meanwhile(struct history *y)
{
    while (one_in(3))
        world_step(y);
}

/*
 * A look that takes long: each word is copied when it is its turn, in the order of sb_seat_books,
 * while the others go on; then the books are made of the copies.
 */
static void slow_look(struct history *y)
{
    struct kit *kit = y->kit;
    struct kit *copy = kit_new(y->capacity, kit->rec.full, 1, y->from);
    struct sb_seat *seat = &copy->seat[0];
    struct sb_seat_rec *rec = &copy->seat_rec[0];
    rec->rejected_base = kit->seat_rec[0].rejected_base;
    seat->returned = kit->seat[0].returned;
    meanwhile(y);
    copy->ring->rejected = kit->ring->rejected;
    meanwhile(y);
    uint64_t tail = sb_ring_tail_seen(kit->ring, y->capacity, y->reader.bits);
    copy->ring->tail = tail;
    meanwhile(y);
    rec->closing = kit->seat_rec[0].closing;
    meanwhile(y);
    rec->end = kit->seat_rec[0].end;
    rec->rejected_end = kit->seat_rec[0].rejected_end;
    meanwhile(y);
    seat->cursor = kit->seat[0].cursor;
    meanwhile(y);
    copy->ring->flags = kit->ring->flags;
    memcpy(copy->ring->slot, kit->ring->slot, y->capacity * sizeof(struct sb_slot));
    /* What has come since at the tail was not there when the tail was read. */
    struct sb_slot *slot = &copy->ring->slot[sb_ring_index(tail, y->reader.bits)];
    uint64_t lap = sb_ring_lap(tail, y->reader.bits);
    if (slot->seq > lap)
        *slot = (struct sb_slot){.seq = lap, .desc = UINT64_MAX};
    meanwhile(y);
    seat->holds = kit->seat[0].holds;
    for (uint64_t h = 0; h < seat->holds; h++) {
        seat->hold[h] = kit->seat[0].hold[h];
        meanwhile(y);
    }
    seat->taken = kit->seat[0].taken;
    meanwhile(y);
    seat->skipped = kit->seat[0].skipped;
    (void)report(y, kit_books(copy, 0, false));
    free(copy);
}

/*
 * Histories.
 */

static void world_step(struct history *y)
{
    uint32_t burst = one_in(12) ? y->capacity + 1 : 1;
    switch (rand() % 8) {
    case 0:
    case 1:
        for (; burst && y->pushed < STEPS; burst--)
            push(y);
        break;
    case 2:
        if (one_in(4))
            take_back(y);
        break;
    case 3:
        if (y->closing != OPEN)
            close_step(y);
        break;
    default:
        reader_step(y);
    }
}

static void history_run(uint32_t capacity, uint32_t full)
{
    struct history y;
    history_init(&y, capacity, full);
    uint64_t steps = 1 + (uint64_t)rand() % STEPS, closes = (uint64_t)rand() % (2 * STEPS);
    bool kill = one_in(2);
    for (uint64_t i = 0; i < steps; i++) {
        world_step(&y);
        if (i == closes)
            close_step(&y);
        if (one_in(8))
            slow_look(&y);
        look(&y);
    }
    if (kill && !odd(&y)) {
        y.pc = DEAD;
        while (y.closing != CLOSED)
            close_step(&y);
        assert_books(kit_books(y.kit, 0, true), expected(&y, true));
    } else {
        kill = false;
        while (y.closing != OPEN && y.closing != CLOSED)
            close_step(&y);
        while (y.pc != IDLE)
            reader_step(&y);
        assert_books(kit_books(y.kit, 0, false), expected(&y, false));
    }
    /* Nothing was reported that did not come true. */
    assert_books(report(&y, kit_books(y.kit, 0, kill)), expected(&y, kill));
    history_deinit(&y);
}

static void test_any_history(void **state)
{
    (void)state;
    static const uint32_t capacities[] = {1, 2, 3, 4, 7, 10};
    seed_random();
    for (int i = 0; i < 4000; i++)
        history_run(capacities[(size_t)rand() % sb_array_len(capacities)],
                    one_in(3) ? SB_REJECT_NEWEST : SB_DROP_OLDEST);
}

/*
 * Whatever stands in memory that others write.
 */

static uint64_t random64(void)
{
    uint64_t word = (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand();
    switch (rand() % 4) {
    case 0:
        return word;
    case 1:
        return UINT64_MAX - word % 200;
    default:
        return word % 200;
    }
}

static void scribble(uint64_t *words, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(*words); i++) {
        if (one_in(2))
            words[i] = random64();
    }
}

static void test_hostile_words_balance(void **state)
{
    (void)state;
    seed_random();
    for (int round = 0; round < 30000; round++) {
        uint32_t capacity = 1 + (uint32_t)rand() % 12;
        uint32_t full = one_in(2) ? SB_REJECT_NEWEST : SB_DROP_OLDEST;
        struct kit *kit = kit_new(capacity, full, 1, (uint64_t)rand() % 50);
        struct sb_books_seen seen = {0};
        kit->seat_rec[0].closing = one_in(4);
        for (int i = 0; i < 4; i++) {
            scribble((uint64_t *)(void *)&kit->seat[0], sizeof(kit->seat[0]));
            scribble((uint64_t *)(void *)kit->ring, sb_ring_bytes(capacity));
            if (i == 2) {
                kit->seat_rec[0].end = kit_pos((uint64_t)rand() % 200, capacity);
                kit->seat_rec[0].rejected_end = random64();
            }
            struct sb_books_seen before = seen;
            struct sb_books books = kit_books(kit, 0, i == 3);
            assert_balanced(&books);
            assert_true(i != 3 || books.queued == 0);
            sb_seat_books_keep(&seen, &books);
            assert_balanced(&books);
            assert_true(books.received >= before.received && books.dropped >= before.dropped);
        }
        free(kit);
    }
}

/* A batch that ended early keeps its hold on what it did not take, and that has been dropped. */
static void test_an_old_hold_hides_no_drop(void **state)
{
    (void)state;
    struct history y;
    history_init(&y, 4, SB_DROP_OLDEST);
    for (int i = 0; i < 4; i++)
        push(&y);
    sb_seat_hold(&y.reader, 0, 4);
    sb_seat_pass(&y.reader, kit_pos(y.from + 1, 4), 1, 0);
    sb_bump_relaxed(&y.reader.seat->returned, 1);
    for (int i = 0; i < 5; i++)
        push(&y);
    struct sb_books right = {.offered = 9, .received = 1, .queued = 4, .dropped = 4};
    assert_books(kit_books(y.kit, 0, false), right);
    history_deinit(&y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_history),
        cmocka_unit_test(test_hostile_words_balance),
        cmocka_unit_test(test_an_old_hold_hides_no_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
