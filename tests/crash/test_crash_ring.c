/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=240 no-asan no-tsan */
/*
 * Push and pop killed at every instruction. (Not with sanitizers: they would try the instructions
 * of the sanitizer.)
 *
 * Party A pushes, or pops one or several messages, and is stopped for ever behind each of its
 * instructions; and that for each instruction at which party B, doing the same, may be stopped for
 * a while. The survivors then go on for more than two laps: the owner of the heap pushes and reuses
 * its memory, another reader reads, the dead reader's seat is taken away. B goes on and ends. All
 * that is read has to be what was pushed, in order, once, intact; the books have to balance; and
 * all memory has to come back.
 *
 * B is stopped before and behind each instruction that changes what others see, and at every n-th,
 * n being $SHMBUS_CRASH_EVERY, 10 without it; with 1 all pairs of instructions are tried.
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

#define HEAP_BYTES 8192u /* of each of the three publishers */
#define STACK_BYTES 8192u
#define KIT_BYTES 4096u
#define BATCH 3u
#define PAYLOAD 104u
#define PUSHES 64u /* more than ever happen */
#define START 5u   /* the linear position at which everything begins */

enum op { NOTHING, PUSH, POP, POP_BATCH };
enum { OWNER, A, B, PARTIES };

static const char *const op_name[] = {"nothing", "push", "pop", "pop of a batch"};

/* What A or B does, and what it found: all of it in the shared memory. */
struct job {
    enum op op;
    uint8_t *heap[PARTIES];
    /* A push. */
    struct sb_target target;
    struct sb_target_seat list[KIT_SEATS];
    uint64_t desc;
    enum sb_push ret;
    uint64_t pos;
    /* A pop. */
    struct sb_reader reader;
    uint32_t count;
    uint64_t at[BATCH], found[BATCH], seq[BATCH], time[BATCH];
    uint32_t ended;
};

/* The shared memory: rewound as a whole. */
struct memory {
    uint8_t kit[KIT_BYTES] __attribute__((aligned(64)));
    uint8_t heap[PARTIES][HEAP_BYTES] __attribute__((aligned(64)));
    struct job job[PARTIES];
    uint8_t stack[PARTIES][STACK_BYTES] __attribute__((aligned(64)));
};

static struct memory *shared;

/* As client/recv.c, release included. */
static void job_pop(struct job *job, uint32_t max)
{
    struct sb_reader *r = &job->reader;
    for (int tries = 0; tries < 20; tries++) {
        enum sb_look look = sb_seat_look(r, r->cursor);
        if (look == SB_LOOK_LAPPED && sb_seat_jump(r))
            continue;
        if (look != SB_LOOK_READY)
            return;
        uint32_t n = 0, h = sb_seat_free_hold(r->seat);
        uint64_t pos = r->cursor;
        while (n < max && n < r->capacity && sb_seat_look(r, pos) == SB_LOOK_READY) {
            pos = sb_ring_next(pos, r->capacity, r->bits);
            n++;
        }
        sb_seat_hold(r, h, n);
        pos = r->cursor;
        while (job->count < n && sb_seat_read(r, pos, &job->found[job->count]) == SB_LOOK_READY) {
            job->at[job->count++] = pos;
            pos = sb_ring_next(pos, r->capacity, r->bits);
        }
        if (job->count) {
            sb_seat_pass(r, pos, job->count, 0);
            sb_bump_relaxed(&r->seat->returned, job->count);
        }
        /* What the user does with it. */
        for (uint32_t i = 0; i < job->count; i++) {
            uint64_t desc = job->found[i];
            const struct sb_chunk *chunk =
                (const void *)(job->heap[sb_desc_heap(desc)] + sb_desc_block(desc) +
                               sb_desc_chunk(desc));
            job->seq[i] = sb_load_relaxed(&chunk->seq);
            job->time[i] = sb_load_relaxed(&chunk->time);
        }
        sb_seat_unhold(r->seat, h);
        if (job->count)
            return;
    }
}

static void job_run(void *arg)
{
    struct job *job = arg;
    if (job->op == PUSH)
        job->ret = sb_target_push(&job->target, job->desc, &job->pos);
    else if (job->op != NOTHING)
        job_pop(job, job->op == POP ? 1 : BATCH);
    sb_store_release(&job->ended, 1);
}

/*
 * What is tried, and the point at which it is.
 */
static struct {
    uint32_t capacity, full, queued; /* before A and B begin */
    enum op op[PARTIES];
    uint32_t step[PARTIES]; /* instructions that A and B have run */
} try;

static uint64_t points;

static void failed(const char *what, int line)
{
    fail_msg("line %d: %s: ring of %u, %s, %u queued; A: %s, killed behind %u instructions; "
             "B: %s, stopped behind %u",
             line, what, try.capacity, try.full == SB_DROP_OLDEST ? "drop_oldest" : "reject_newest",
             try.queued, op_name[try.op[A]], try.step[A], op_name[try.op[B]], try.step[B]);
}

#define REQUIRE(what)                                                                              \
    do {                                                                                           \
        if (!(what))                                                                               \
            failed(#what, __LINE__);                                                               \
    } while (0)

static bool pops(int party)
{
    return try.op[party] == POP || try.op[party] == POP_BATCH;
}

/* Where a party sits. A reject_newest ring has one seat. */
static uint32_t seat_of(int party)
{
    return try.full == SB_DROP_OLDEST ? (uint32_t)party : 0;
}

/*
 * The survivors: the owner, whose private memory is here, and the reader at seat 0.
 */
struct world {
    struct kit *kit;
    struct heapkit owner;
    struct sb_lane lane;
    struct sb_target target;
    struct sb_target_seat list[KIT_SEATS];
    uint64_t desc[PUSHES];       /* what was pushed, from START on */
    uint64_t end;                /* linear tail */
    uint64_t reading[KIT_SEATS]; /* linear cursors of the seats that survivors read */
    uint64_t received[KIT_SEATS];
    uint64_t refused;
};

/* Every message gets a block of its own, the first that is free: so memory is reused at once. */
static void world_push(struct world *w)
{
    struct heapkit_result result = {0};
    (void)sb_lane_idle(&w->owner.heap, &w->lane);
    w->lane.grown = SB_BLOCK_UNIT;
    REQUIRE(heapkit_publish(&w->owner, &w->lane, PAYLOAD, &result) == 0);
    if (result.taken == 0) {
        REQUIRE(w->target.limited);
        w->refused++;
        return;
    }
    REQUIRE(result.pos[0] == kit_pos(w->end, try.capacity));
    w->desc[w->end++ - START] = result.desc;
}

/* The memory as it is before A and B begin, and the owner that made it so. Always the same. */
static void world_make(struct world *w)
{
    memset(w, 0, sizeof(*w));
    uint32_t seats = try.full == SB_DROP_OLDEST ? 3 : 1;
    w->kit = kit_init(shared->kit, try.capacity, try.full, seats, START);
    w->end = START;
    w->target = kit_target(w->kit, w->list);
    w->target.hold_room = 0;
    struct sb_target *targets[] = {&w->target};
    REQUIRE(heapkit_init(&w->owner, shared->heap[OWNER], HEAP_BYTES, HEAP_BYTES, OWNER) == 0);
    REQUIRE(heapkit_lane(&w->owner, &w->lane, targets, 1) == 0);
    for (uint32_t i = 0; i < try.queued; i++)
        world_push(w);
    w->refused = 0;
    for (uint32_t i = 0; i < seats; i++)
        w->reading[i] = START;
}

/* A message of a party's own, in a heap of its own: the first chunk of the first block. */
static uint64_t job_message(int party)
{
    uint8_t *base = shared->heap[party];
    memset(base, 0, HEAP_BYTES);
    ((struct sb_block *)(void *)base)->size = SB_BLOCK_UNIT;
    sb_block_mark(base, sizeof(struct sb_block) / SB_CHUNK_UNIT);
    struct sb_chunk *chunk = (struct sb_chunk *)(void *)(base + sizeof(struct sb_block));
    *chunk = (struct sb_chunk){.route = (uint32_t)party, .seq = 1, .time = ~UINT64_C(1)};
    return sb_desc((uint32_t)party, 1, 0, sizeof(struct sb_block));
}

static void jobs_make(struct world *w)
{
    for (int party = A; party <= B; party++) {
        struct job *job = &shared->job[party];
        memset(job, 0, sizeof(*job));
        job->op = try.op[party];
        for (int i = 0; i < PARTIES; i++)
            job->heap[i] = shared->heap[i];
        if (job->op == PUSH) {
            job->target = kit_target(w->kit, job->list);
            job->desc = job_message(party);
        } else if (pops(party)) {
            job->reader = kit_reader(w->kit, seat_of(party));
        }
    }
}

/* Finds out what A and B have pushed so far: nothing, or one message each. */
static void world_adopt(struct world *w)
{
    uint64_t found = 0, capacity = try.capacity;
    for (uint32_t i = 0; i < capacity; i++) {
        const struct sb_slot *slot = &w->kit->ring->slot[i];
        for (int party = A; party <= B; party++) {
            if (try.op[party] != PUSH || slot->desc != shared->job[party].desc)
                continue;
            uint64_t n = (slot->seq - 1) * capacity + i;
            REQUIRE(n >= w->end && n < w->end + 2);
            REQUIRE(w->desc[n - START] == 0);
            w->desc[n - START] = slot->desc;
            found++;
        }
    }
    w->end += found;
    REQUIRE(sb_ring_tail_seen(w->kit->ring, try.capacity, w->target.ring.bits) ==
            kit_pos(w->end, try.capacity));
}

/* Reads all that is there at a seat, one by one; each must be what was pushed there, intact. The
 * last one stays held when keep is true. */
static void world_read(struct world *w, uint32_t seat, bool keep)
{
    struct sb_reader r = kit_reader(w->kit, seat);
    uint32_t h = keep ? 1 : 0;
    while (w->reading[seat] < w->end) {
        while (sb_seat_look(&r, r.cursor) == SB_LOOK_LAPPED) { /* twice where the tail lags */
            uint64_t jumped = sb_seat_jump(&r);
            REQUIRE(jumped > 0);
            w->reading[seat] += jumped;
        }
        uint64_t n = w->reading[seat], desc = 0, seq;
        REQUIRE(n + try.capacity >= w->end);
        REQUIRE(r.cursor == kit_pos(n, try.capacity));
        REQUIRE(sb_seat_look(&r, r.cursor) == SB_LOOK_READY);
        sb_seat_hold(&r, h, 1);
        REQUIRE(sb_seat_read(&r, r.cursor, &desc) == SB_LOOK_READY);
        REQUIRE(desc == w->desc[n - START]);
        REQUIRE(heapkit_intact(shared->heap[sb_desc_heap(desc)], HEAP_BYTES, desc, &seq));
        sb_seat_pass(&r, sb_ring_next(r.cursor, r.capacity, r.bits), 1, 0);
        sb_bump_relaxed(&r.seat->returned, 1);
        w->reading[seat]++;
        w->received[seat]++;
    }
    REQUIRE(sb_seat_look(&r, r.cursor) == SB_LOOK_EMPTY);
    if (!keep)
        sb_seat_unhold(r.seat, 0);
}

/* Whether the survivors read a seat: not while its own reader may come back. */
static bool surviving(uint32_t seat)
{
    return !(pops(A) && seat_of(A) == seat) && !(pops(B) && seat_of(B) == seat);
}

static void world_exchange(struct world *w, uint32_t pushes, uint32_t read_every)
{
    for (uint32_t i = 1; i <= pushes; i++) {
        world_push(w);
        if (i % read_every == 0 && surviving(0))
            world_read(w, 0, i % 2);
    }
}

static void expect_books(struct world *w, uint32_t seat, bool dead)
{
    struct sb_books books = kit_books(w->kit, seat, dead);
    uint64_t start =
        sb_ring_linear(w->kit->seat_rec[seat].start, try.capacity, w->target.ring.bits);
    uint64_t rejected = w->kit->ring->rejected;
    REQUIRE(books.offered == w->end - start + rejected);
    REQUIRE(books.offered == books.received + books.queued + books.dropped);
    REQUIRE(books.received == w->kit->seat[seat].returned);
    REQUIRE(dead || try.full == SB_DROP_OLDEST || books.dropped == rejected);
}

/* A is noticed to be dead: its seat is taken away. Only a shared ring has others to go on. */
static void world_bury(struct world *w)
{
    if (!pops(A))
        return;
    uint32_t seat = seat_of(A);
    expect_books(w, seat, true);
    kit_seat_leave(w->kit, seat);
    if (try.full == SB_REJECT_NEWEST) {
        kit_seat_join(w->kit, seat);
        w->reading[seat] = w->end;
        w->kit->ring->rejected = 0;
        w->refused = 0;
    }
    kit_target_refresh(&w->target);
}

/* B has gone on and ended: late, but as if nothing had happened. */
static void world_expect_b(struct world *w, bool had_pushed)
{
    struct job *job = &shared->job[B];
    REQUIRE(job->ended);
    if (try.op[B] == PUSH && job->ret == SB_PUSH_DONE) {
        if (!had_pushed)
            w->desc[w->end++ - START] = job->desc;
        uint64_t n = sb_ring_linear(job->pos, try.capacity, w->target.ring.bits);
        REQUIRE(n >= START && n < w->end && w->desc[n - START] == job->desc);
    } else if (try.op[B] == PUSH) {
        REQUIRE(job->ret == SB_PUSH_FULL && w->target.limited && !had_pushed);
    }
    for (uint32_t i = 0; i < job->count; i++) {
        uint64_t n = sb_ring_linear(job->at[i], try.capacity, w->target.ring.bits);
        REQUIRE(n >= START && n < w->end && job->found[i] == w->desc[n - START]);
        REQUIRE(i == 0 || job->at[i] > job->at[i - 1]);
        REQUIRE(job->seq[i] && job->time[i] == ~job->seq[i]);
    }
    if (pops(B)) {
        w->reading[seat_of(B)] = sb_ring_linear(job->reader.cursor, try.capacity, job->reader.bits);
        REQUIRE(job->reader.cursor == w->kit->seat[seat_of(B)].cursor);
    }
}

/* Everybody reads everything; then nothing is left anywhere. */
static void world_end(struct world *w)
{
    for (uint32_t seat = 0; seat < w->kit->seats; seat++) {
        if (w->kit->seat_rec[seat].gen % 2 == 0)
            continue;
        world_read(w, seat, false);
        sb_seat_unhold(&w->kit->seat[seat], 1);
        expect_books(w, seat, false);
    }
    REQUIRE(w->kit->ring->flags == 0);
    REQUIRE(sb_lane_idle(&w->owner.heap, &w->lane));
    sb_lane_leave(&w->owner.heap, &w->lane);
    REQUIRE(sb_buddy_used(&w->owner.heap.buddy) == 0 && w->owner.sets == 0);
    sb_heap_deinit(&w->owner.heap);
    free(w->target.holds);
}

/* At this point A is dead and B stands still. */
static void survive(const struct memory *now, struct stepper *b)
{
    static struct world w;
    world_make(&w);
    memcpy(shared, now, sizeof(*now));
    world_adopt(&w);
    bool had_pushed = false;
    for (uint64_t n = 0; n < w.end - START; n++)
        had_pushed = had_pushed || (try.op[B] == PUSH && w.desc[n] == shared->job[B].desc);
    if (points++ % 2 && surviving(0))
        world_read(&w, 0, false);
    world_exchange(&w, 2 * try.capacity + 1, 2);
    world_bury(&w);
    world_exchange(&w, try.capacity + 1, 3);
    REQUIRE(stepper_finish(b));
    world_expect_b(&w, had_pushed);
    world_exchange(&w, try.capacity + 2, try.capacity + 2);
    world_end(&w);
}

/* A, behind each of its instructions, with B where it is. */
static uint32_t try_a(struct memory *now, struct stepper *a, struct stepper *b)
{
    struct stepper_state b_here;
    stepper_save(b, &b_here);
    bool more = true;
    for (try.step[A] = 0;; try.step[A]++) {
        memcpy(now, shared, sizeof(*now));
        survive(now, b);
        memcpy(shared, now, sizeof(*now));
        stepper_restore(b, &b_here);
        if (!more)
            return try.step[A];
        more = stepper_step(a);
    }
}

/*
 * Where B is stopped: before and behind each instruction that changes what others see, and at every
 * n-th in between.
 */
#define STEPS 4000u

static uint32_t every(void)
{
    const char *text = getenv("SHMBUS_CRASH_EVERY");
    int n = text ? atoi(text) : 0;
    return n > 0 ? (uint32_t)n : 10;
}

static void mark_stops(struct stepper *b, bool stop[STEPS], struct memory *start)
{
    static struct memory before;
    struct stepper_state here;
    stepper_save(b, &here);
    memcpy(start, shared, sizeof(*start));
    memset(stop, 0, STEPS);
    for (uint32_t k = 0; k + 1 < STEPS; k++) {
        memcpy(&before, shared, sizeof(before));
        if (k % every() == 0)
            stop[k] = true;
        if (!stepper_step(b))
            break;
        if (memcmp(before.kit, shared->kit, KIT_BYTES) != 0)
            stop[k] = stop[k + 1] = true;
    }
    memcpy(shared, start, sizeof(*start));
    stepper_restore(b, &here);
}

static void try_pair(enum op op_a, enum op op_b)
{
    try.op[A] = op_a;
    try.op[B] = op_b;
    struct world w;
    world_make(&w);
    jobs_make(&w);
    sb_lane_leave(&w.owner.heap, &w.lane);
    sb_heap_deinit(&w.owner.heap);
    free(w.target.holds);
    static struct memory now, start;
    static bool stop[STEPS];
    struct stepper a, b;
    struct stepper_state a_start;
    stepper_start(&a, NULL, job_run, &shared->job[A], shared->stack[A], STACK_BYTES);
    stepper_start(&b, NULL, job_run, &shared->job[B], shared->stack[B], STACK_BYTES);
    stepper_save(&a, &a_start);
    mark_stops(&b, stop, &start);
    bool more = true;
    for (try.step[B] = 0;; try.step[B]++) {
        if (stop[try.step[B]] || !more) {
            memcpy(&start, shared, sizeof(start));
            try_a(&now, &a, &b);
            memcpy(shared, &start, sizeof(start));
            stepper_restore(&a, &a_start);
        }
        if (!more || op_b == NOTHING)
            break;
        more = stepper_step(&b);
    }
    stepper_end(&a);
    stepper_end(&b);
}

static void try_all(uint32_t full, enum op op_a, enum op op_b)
{
    for (uint32_t capacity = 2; capacity <= 3; capacity++) {
        uint32_t most = full == SB_DROP_OLDEST ? capacity + 2 : capacity;
        for (uint32_t queued = 0; queued <= most; queued++) {
            try.capacity = capacity;
            try.full = full;
            try.queued = queued;
            try_pair(op_a, op_b);
        }
    }
}

static void test_drop_oldest(void **state)
{
    (void)state;
    points = 0;
    for (enum op op_a = PUSH; op_a <= POP_BATCH; op_a++) {
        for (enum op op_b = NOTHING; op_b <= POP_BATCH; op_b++)
            try_all(SB_DROP_OLDEST, op_a, op_b);
    }
    print_message("%llu kill points\n", (unsigned long long)points);
}

/* One seat only, so that not both can pop. */
static void test_reject_newest(void **state)
{
    (void)state;
    points = 0;
    for (enum op op_a = PUSH; op_a <= POP_BATCH; op_a++) {
        for (enum op op_b = NOTHING; op_b <= POP_BATCH; op_b++) {
            if (op_a == PUSH || op_b == PUSH || op_b == NOTHING)
                try_all(SB_REJECT_NEWEST, op_a, op_b);
        }
    }
    print_message("%llu kill points\n", (unsigned long long)points);
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
        cmocka_unit_test(test_drop_oldest),
        cmocka_unit_test(test_reject_newest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
