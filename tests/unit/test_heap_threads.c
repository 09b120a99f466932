/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads over one mapping: each publisher has a heap and pushes to a drop_oldest ring that two
 * read and, some, to a reject_newest ring that one reads. Readers keep what they took for a while.
 * Once with short queues, and once with queues that are deeper than the heaps, and readers that
 * fall behind, so that publishers take back what is queued.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/heapkit.h"

#define PUBLISHERS 3
#define READERS 3
#define KEPT 8
#define HEAP_LIMIT (UINT64_C(1) << 19)
#define DEEP 16384u

struct stage {
    struct kit *fast, *sure;
    uint8_t *heap[PUBLISHERS];
    uint32_t messages; /* of each publisher */
    uint32_t running;  /* publishers that have not ended */
    uint32_t behind;   /* readers wait for so many more now and then */
};

struct party {
    struct stage *stage;
    uint32_t id;
    int failed_line;
    uint64_t refused; /* publisher: by the reject_newest ring */
    uint64_t pushed;  /* publisher: to the reject_newest ring, refused included */
};

static void party_expect_at(struct party *p, bool good, int line)
{
    if (!good && !p->failed_line)
        p->failed_line = line;
}

#define party_expect(p, good) party_expect_at(p, good, __LINE__)

static void *publisher_main(void *arg)
{
    struct party *p = arg;
    struct stage *st = p->stage;
    struct sb_target_seat list[2][KIT_SEATS];
    struct sb_target fast = kit_target(st->fast, list[0]), sure = kit_target(st->sure, list[1]);
    struct sb_target *targets[] = {&fast, &sure};
    struct heapkit h;
    struct sb_lane lane[2];
    party_expect(p, heapkit_init(&h, st->heap[p->id], 8192, HEAP_LIMIT, p->id) == 0);
    for (uint32_t i = 0; i < 2; i++)
        party_expect(p, heapkit_lane(&h, &lane[i], targets, i + 1) == 0);
    for (uint32_t n = 0; n < st->messages; n++) {
        bool both = n % 3 == 0;
        struct heapkit_result result = {0};
        party_expect(p, heapkit_publish(&h, &lane[both], n * 7 % 300, &result) == 0);
        p->pushed += both;
        p->refused += both && result.pos[1] == UINT64_MAX;
    }
    /* When everybody has read everything, all comes back. */
    __atomic_fetch_sub(&st->running, 1, __ATOMIC_ACQ_REL);
    while (!sb_lane_idle(&h.heap, &lane[0]) || !sb_lane_idle(&h.heap, &lane[1]))
        sched_yield();
    for (uint32_t i = 0; i < 2; i++)
        sb_lane_leave(&h.heap, &lane[i]);
    party_expect(p, sb_buddy_used(&h.heap.buddy) == 0 && h.sets == 0);
    sb_heap_deinit(&h.heap);
    free(fast.holds);
    free(sure.holds);
    return NULL;
}

static uint64_t party_check(struct party *p, uint64_t desc, uint64_t *seq)
{
    uint32_t from = sb_desc_heap(desc);
    *seq = 0;
    party_expect(p,
                 from < PUBLISHERS && heapkit_intact(p->stage->heap[from], HEAP_LIMIT, desc, seq));
    return from < PUBLISHERS ? from : 0;
}

/* Falls behind. */
static void reader_wait(const struct stage *st, const struct sb_reader *r)
{
    uint64_t enough = sb_ring_linear(r->cursor, r->capacity, r->bits) + st->behind;
    while (sb_load_acquire(&st->running) &&
           sb_ring_linear(sb_load_acquire(&r->ring->tail), r->capacity, r->bits) < enough)
        sched_yield();
}

static void *reader_main(void *arg)
{
    struct party *p = arg;
    struct sb_reader r = kit_reader(p->id < 2 ? p->stage->fast : p->stage->sure, p->id % 2);
    uint64_t kept[KEPT] = {0}, last[PUBLISHERS] = {0}, seq;
    for (uint32_t turn = 0;;) {
        bool ended = sb_load_acquire(&p->stage->running) == 0;
        enum sb_look look = sb_seat_look(&r, r.cursor);
        if (look == SB_LOOK_EMPTY && ended)
            break;
        if (look == SB_LOOK_LAPPED)
            party_expect(p, sb_seat_jump(&r) > 0);
        if (look != SB_LOOK_READY)
            continue;
        if (p->stage->behind && turn % 4096 == 0)
            reader_wait(p->stage, &r);
        uint32_t h = turn % KEPT;
        if (kept[h])
            party_check(p, kept[h], &seq);
        kept[h] = 0;
        sb_seat_unhold(r.seat, h);
        uint64_t desc;
        sb_seat_hold(&r, h, 1);
        if (sb_seat_read(&r, r.cursor, &desc) != SB_LOOK_READY)
            continue;
        if (desc == SB_DESC_TOMBSTONE) {
            turn++;
            sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), 0, 0);
            continue;
        }
        uint64_t from = party_check(p, desc, &seq);
        party_expect(p, seq > last[from]);
        last[from] = seq;
        kept[h] = desc;
        turn++;
        sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), 1, 0);
        sb_bump_relaxed(&r.seat->returned, 1);
    }
    for (uint32_t h = 0; h < KEPT; h++) {
        if (kept[h])
            party_check(p, kept[h], &seq);
        sb_seat_unhold(r.seat, h);
    }
    return NULL;
}

/* Returns the flags of the drop_oldest ring. */
static uint32_t run(uint32_t fast, uint32_t sure, uint32_t behind)
{
    struct stage st = {.fast = kit_new(fast, SB_DROP_OLDEST, 2, 0),
                       .sure = kit_new(sure, SB_REJECT_NEWEST, 1, 0),
                       .messages = getenv("SHMBUS_TEST_LIGHT") ? 10000 : 100000,
                       .running = PUBLISHERS,
                       .behind = behind};
    struct party party[PUBLISHERS + READERS];
    pthread_t thread[PUBLISHERS + READERS];
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        st.heap[i] = aligned_alloc(4096, HEAP_LIMIT);
        assert_non_null(st.heap[i]);
    }
    for (uint32_t i = 0; i < PUBLISHERS + READERS; i++) {
        bool publisher = i < PUBLISHERS;
        party[i] = (struct party){.stage = &st, .id = publisher ? i : i - PUBLISHERS};
        assert_int_equal(
            pthread_create(&thread[i], NULL, publisher ? publisher_main : reader_main, &party[i]),
            0);
    }
    uint64_t refused = 0, pushed = 0;
    for (uint32_t i = 0; i < PUBLISHERS + READERS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(party[i].failed_line, 0);
        refused += party[i].refused;
        pushed += party[i].pushed;
    }
    for (uint32_t i = 0; i < READERS; i++) {
        struct sb_books books = kit_books(i < 2 ? st.fast : st.sure, i % 2, false);
        assert_int_equal(books.offered, i < 2 ? PUBLISHERS * (uint64_t)st.messages : pushed);
        assert_int_equal(books.queued, 0);
        assert_int_equal(books.offered, books.received + books.dropped);
        if (i == 2)
            assert_int_equal(books.dropped, refused);
    }
    for (uint32_t i = 0; i < PUBLISHERS; i++)
        free(st.heap[i]);
    uint32_t flags = st.fast->ring->flags;
    assert_int_equal(st.sure->ring->flags, 0);
    free(st.fast);
    free(st.sure);
    return flags;
}

static void test_threads_reuse_nothing_reachable(void **state)
{
    (void)state;
    assert_int_equal(run(20, 30, 0), 0);
}

static void test_threads_take_back(void **state)
{
    (void)state;
    assert_int_equal(run(DEEP, DEEP, DEEP / 4 * 3), SB_RING_TOMBSTONED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_reuse_nothing_reachable),
        cmocka_unit_test(test_threads_take_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
