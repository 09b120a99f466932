/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every check of client/source.c, one by one: a process with a route into a ring writes chunks and
 * pushes descriptors that no publish would. Each is skipped, which is neither offered nor dropped,
 * and the honest message behind it is delivered: by every way to receive, in rings of both
 * policies, and whether the last message was of the forger's own block or of somebody else's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/publishing.h"
#include "shm/bell.h"
#include "support/testbus.h"

#define PATIENCE INT64_C(10000000000) /* for what is there already */

/* What honest messages say: nobody else writes it. */
#define HONEST 0x1234567800000000u

/* What the processes tell each other, in memory that they share. */
struct stage {
    struct test_bus *bus;
    uint64_t honest_desc; /* of the honest publisher's last message */
    uint32_t honest_route;
};

/*
 * The forger.
 */

struct forger {
    const struct stage *stage;
    struct shmbus_conn *conn;
    struct sb_publishing *p;
    struct sb_route *route;
    struct sb_route *second;      /* for chunks in a block of their own */
    struct shmbus_conn *stranger; /* a connection that publishes nothing */
    uint64_t gone_desc;           /* of a connection that was */
    uint32_t other_route;         /* of a topic that nobody here subscribes to */
    uint32_t freed_route;
};

/* A chunk that a reader would accept. */
struct forged {
    struct sb_lane *lane;
    struct sb_block *block;
    struct sb_chunk *chunk;
    uint64_t unit; /* of the chunk */
    uint64_t desc;
};

static struct sb_route *forger_route(struct forger *f, const char *topic)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    struct sb_route *route;
    if (sb_topic_encode(shmbus_text(topic), SB_TOPIC_CONCRETE, &f->conn->wildcards, bytes,
                        sizeof(bytes), &len) ||
        sb_route_get(f->p, bytes, len, &route)) {
        fprintf(stderr, "route %s: %s\n", topic, shmbus_errmsg());
        abort();
    }
    return route;
}

static bool forger_gone(void *arg)
{
    struct forger *f = arg;
    const struct sb_conn_rec *rec = sb_table_at(sb_conn_arena(f->conn), &f->conn->header->conns,
                                                sb_desc_heap(f->gone_desc), sizeof(*rec));
    return (sb_load_acquire(&rec->gen) & 0xff) != (sb_desc_source(f->gone_desc) & 0xff);
}

static void forger_open(struct forger *f, const struct stage *stage)
{
    *f = (struct forger){.stage = stage, .conn = test_connect(stage->bus)};
    f->p = f->conn->publishing;
    f->route = forger_route(f, "forge/own");
    f->second = forger_route(f, "forge/own/second");
    f->other_route = forger_route(f, "elsewhere")->id;
    struct sb_route *freed = forger_route(f, "forge/freed");
    struct {
        struct sb_unroute_request head;
        uint32_t route, gen;
    } unroute = {{.head.type = SB_CONTROL_UNROUTE, .count = 1}, freed->index, freed->gen};
    struct sb_control_head reply;
    if (sb_request(f->conn, &unroute, sizeof(unroute), &reply, sizeof(reply)))
        abort();
    f->freed_route = freed->id;
    struct shmbus_conn *gone = test_connect(stage->bus);
    f->gone_desc = sb_desc(gone->index, gone->gen, 0, sizeof(struct sb_block));
    shmbus_conn_free(gone);
    f->stranger = test_connect(stage->bus);
    test_until(forger_gone, f, 10000);
}

/* Writes what a publish would write, in a new block or behind the last one. */
static struct forged forger_write(struct forger *f, struct sb_route *route, bool fresh)
{
    struct sb_lane *lane = &route->lane;
    uint32_t need = sizeof(struct sb_chunk) + 16;
    if (sb_route_sync(f->p, route)) /* the readers come and go */
        abort();
    if ((fresh || need > lane->size - lane->used) && sb_lane_open(&f->p->heap, lane, 3 * need))
        abort();
    struct forged forged = {.lane = lane,
                            .block = (struct sb_block *)(void *)lane->block,
                            .chunk = sb_lane_next(lane),
                            .unit = lane->used / SB_CHUNK_UNIT,
                            .desc = sb_lane_next_desc(lane)};
    sb_block_mark(lane->block, forged.unit);
    *forged.chunk = (struct sb_chunk){.route = route->id, .size = 16, .seq = ++f->p->seq};
    memset(forged.chunk + 1, 0xee, 16);
    lane->used += need;
    return forged;
}

/* Pushes a descriptor; the chunk that was made for it stays until its position has been passed. */
static void forger_push(const struct forged *x)
{
    const struct sb_target *target = x->lane->set->target[0];
    uint64_t pos;
    if (sb_ring_push(&target->ring, x->desc, false, 0, &pos) != SB_PUSH_DONE)
        abort();
    x->lane->open->span[0].end = pos + 1;
    sb_fence_full();
    sb_bell_ring(target->bell, INT32_MAX);
}

/*
 * What is forged: each changes one thing of an acceptable chunk and its descriptor.
 */

static void forge_other_gen(struct forger *f, struct forged *x)
{
    (void)f;
    x->desc += UINT64_C(1) << 40;
}

static void forge_no_start_bit(struct forger *f, struct forged *x)
{
    (void)f;
    x->block->starts[x->unit / 64] &= ~(UINT64_C(1) << x->unit % 64);
}

static void forge_inside_of_a_chunk(struct forger *f, struct forged *x)
{
    (void)f;
    x->desc++; /* its second unit could pass for a header */
}

static void forge_header_over_block(struct forger *f, struct forged *x)
{
    (void)f;
    uint64_t last = x->block->size / SB_CHUNK_UNIT - 1;
    sb_block_mark((uint8_t *)x->block, last);
    x->desc = x->desc - x->unit + last;
}

static void forge_unit_over_bitmap(struct forger *f, struct forged *x)
{
    (void)f;
    x->block->size = SB_BLOCK_MAX * 4;
    x->desc |= 0xfff;
}

static void forge_payload_over_block(struct forger *f, struct forged *x)
{
    (void)f;
    uint64_t room = x->block->size - x->unit * SB_CHUNK_UNIT - sizeof(struct sb_chunk);
    x->chunk->size = (uint32_t)room + 1;
}

static void forge_payload_huge(struct forger *f, struct forged *x)
{
    (void)f;
    x->chunk->size = UINT32_MAX;
}

static void forge_extra_over_block(struct forger *f, struct forged *x)
{
    (void)f;
    x->chunk->extra = UINT16_MAX;
}

static void forge_payload_and_extra_wrap(struct forger *f, struct forged *x)
{
    (void)f;
    x->chunk->extra = 32;
    x->chunk->size = UINT32_MAX - 31;
}

static void forge_block_of_nothing(struct forger *f, struct forged *x)
{
    (void)f;
    x->block->size = 0;
}

static void forge_block_without_room(struct forger *f, struct forged *x)
{
    (void)f;
    x->block->size = sizeof(struct sb_block) + sizeof(struct sb_chunk) - 1;
}

static void forge_block_over_heap(struct forger *f, struct forged *x)
{
    (void)f;
    x->block->size = UINT32_MAX;
}

static void forge_block_just_over_heap(struct forger *f, struct forged *x)
{
    uint64_t offset = sb_desc_block(x->desc);
    x->block->size = (uint32_t)(sb_load_acquire(&f->conn->rec->heap_size) - offset) + 1;
}

static void forge_beyond_heap(struct forger *f, struct forged *x)
{
    uint64_t end = sb_load_acquire(&f->conn->rec->heap_size);
    x->desc = sb_desc(f->conn->index, f->conn->gen, end, sizeof(struct sb_block));
}

static void forge_beyond_mapping(struct forger *f, struct forged *x)
{
    (void)f;
    x->desc |= UINT64_C(0xfffffff) << 12;
}

static void forge_foreign_route(struct forger *f, struct forged *x)
{
    x->chunk->route = f->stage->honest_route;
}

static void forge_freed_route(struct forger *f, struct forged *x)
{
    x->chunk->route = f->freed_route;
}

static void forge_other_topic(struct forger *f, struct forged *x)
{
    x->chunk->route = f->other_route;
}

static void forge_route_gen(struct forger *f, struct forged *x)
{
    (void)f;
    x->chunk->route ^= 0x80;
}

static void forge_unknown_route(struct forger *f, struct forged *x)
{
    (void)f;
    x->chunk->route = UINT32_MAX;
}

static void forge_same_seq(struct forger *f, struct forged *x)
{
    struct forged before = *x, now = forger_write(f, f->route, false);
    forger_push(&before);
    now.chunk->seq = before.chunk->seq;
    *x = now;
}

static void forge_seq_zero(struct forger *f, struct forged *x)
{
    (void)f;
    x->chunk->seq = 0;
}

static void forge_replay(struct forger *f, struct forged *x)
{
    x->desc = f->stage->honest_desc;
}

static void forge_unknown_heap(struct forger *f, struct forged *x)
{
    (void)f;
    x->desc = sb_desc(60000, 1, 0, sizeof(struct sb_block));
}

static void forge_heap_of_the_bus(struct forger *f, struct forged *x)
{
    const struct sb_conn_rec *bus =
        sb_table_at(sb_conn_arena(f->conn), &f->conn->header->conns, 0, sizeof(*bus));
    x->desc = sb_desc(0, bus->gen, 256, sizeof(struct sb_block));
}

static void forge_heap_not_for_the_reader(struct forger *f, struct forged *x)
{
    x->desc = sb_desc(f->stranger->index, f->stranger->gen, 0, sizeof(struct sb_block));
}

static void forge_gone_heap(struct forger *f, struct forged *x)
{
    x->desc = f->gone_desc;
}

static void forge_nothing_named(struct forger *f, struct forged *x)
{
    (void)f;
    x->desc = SB_DESC_NONE;
}

static void forge_all_ones(struct forger *f, struct forged *x)
{
    (void)f;
    x->desc = UINT64_MAX;
}

static const struct {
    const char *name;
    void (*forge)(struct forger *f, struct forged *x);
    bool delivered; /* one message more comes before what is skipped */
    bool second;    /* changes its block: in one that the reader has not met */
} forgeries[] = {
    {"another generation of the heap", forge_other_gen, false, false},
    {"no start bit", forge_no_start_bit, false, false},
    {"in the middle of a chunk", forge_inside_of_a_chunk, false, false},
    {"a header over the block's end", forge_header_over_block, false, false},
    {"a unit beyond the bitmap", forge_unit_over_bitmap, false, true},
    {"a payload over the block's end", forge_payload_over_block, false, false},
    {"a payload of 4 GiB", forge_payload_huge, false, false},
    {"an extra area over the block's end", forge_extra_over_block, false, false},
    {"sizes whose sum wraps", forge_payload_and_extra_wrap, false, false},
    {"a block of 0 bytes", forge_block_of_nothing, false, true},
    {"a block without room for a chunk", forge_block_without_room, false, true},
    {"a block of 4 GiB", forge_block_over_heap, false, true},
    {"a block one byte over the heap", forge_block_just_over_heap, false, true},
    {"a block behind the heap", forge_beyond_heap, false, false},
    {"a block behind all heaps", forge_beyond_mapping, false, false},
    {"another's route", forge_foreign_route, false, false},
    {"a route that was given back", forge_freed_route, false, false},
    {"a route to another topic", forge_other_topic, false, false},
    {"another generation of the route", forge_route_gen, false, false},
    {"a route that never was", forge_unknown_route, false, false},
    {"the sequence of the message before", forge_same_seq, true, false},
    {"the sequence 0", forge_seq_zero, false, false},
    {"another's message again", forge_replay, false, false},
    {"a heap that never was", forge_unknown_heap, false, false},
    {"the heap of the bus itself", forge_heap_of_the_bus, false, false},
    {"a heap that leads elsewhere", forge_heap_not_for_the_reader, false, false},
    {"a heap that has gone", forge_gone_heap, false, false},
    {"nothing", forge_nothing_named, false, false},
    {"all bits set", forge_all_ones, false, false},
};

#define FORGERIES (sizeof(forgeries) / sizeof(forgeries[0]))
#define GENUINE 1000u /* asks the forger for a message like any other */

static int forger_main(int fd, void *arg)
{
    struct forger f;
    forger_open(&f, arg);
    test_tell(fd, f.conn->index);
    for (uint64_t what; (what = test_hear_or(fd, UINT64_MAX)) != UINT64_MAX;) {
        struct forged x;
        if (what != GENUINE && forgeries[what].second)
            x = forger_write(&f, f.second, true);
        else
            x = forger_write(&f, f.route, what == GENUINE);
        if (what != GENUINE)
            forgeries[what].forge(&f, &x);
        forger_push(&x);
        test_tell(fd, 0);
    }
    shmbus_conn_free(f.stranger);
    shmbus_conn_free(f.conn);
    return 0;
}

/*
 * The honest side.
 */

enum way { VIEW, MANY, COPY, WAYS };

struct honest {
    struct stage *stage;
    struct shmbus_conn *conn;
    struct shmbus_publisher *publisher;
    struct shmbus_sub *sub;
    struct test_proc forger;
    uint64_t count;
};

static void honest_publish(struct honest *h)
{
    uint64_t payload = HONEST | ++h->count;
    if (shmbus_publisher_publish(h->publisher, &payload, sizeof(payload), NULL, NULL))
        fail_msg("publish: %s", shmbus_errmsg());
    const struct sb_reader *r = &h->sub->reader;
    uint64_t tail = sb_load_acquire(&r->ring->tail);
    /* The position before the tail; the queue is longer than anything here. */
    h->stage->honest_desc = r->ring->slot[(tail - 1) & r->mask].desc;
}

/* Receives one message, one way or the other; the word it says, or the outcome when none came. */
static uint64_t honest_recv(struct honest *h, enum way way, int64_t timeout)
{
    struct shmbus_message m;
    uint8_t buffer[64];
    uint64_t word = 0;
    size_t count = 1;
    int ret;
    if (way == VIEW)
        ret = shmbus_recv(h->sub, &m, timeout);
    else if (way == MANY)
        ret = shmbus_recv_many(h->sub, &m, 1, &count, timeout);
    else
        ret = shmbus_recv_copy(h->sub, &m, buffer, sizeof(buffer), NULL, timeout);
    if (ret < 0)
        fail_msg("receive: %s", shmbus_errmsg());
    if (ret)
        return (uint64_t)ret;
    assert_int_equal(count, 1);
    assert_true(m.size >= sizeof(word));
    memcpy(&word, m.payload, sizeof(word));
    bool honest = strcmp(m.origin->conn_id, shmbus_conn_id(h->conn)) == 0;
    if (honest != ((word & 0xffffffff00000000u) == HONEST))
        fail_msg("%016" PRIx64 " from %s", word, m.origin->conn_id);
    if (way != COPY)
        shmbus_release(&m);
    return honest ? word : 0;
}

static void forge(struct honest *h, uint64_t what)
{
    assert_true(test_tell(h->forger.fd, what));
    (void)test_hear(h->forger.fd);
}

static void expect(const char *name, bool near, uint64_t got, uint64_t wanted)
{
    if (got != wanted)
        fail_msg("%s%s: %#" PRIx64 " came instead of %#" PRIx64, name,
                 near ? ", behind one of the same block" : "", got, wanted);
}

/* One forgery between two honest messages; near: the last message received is the forger's. */
static void one_forgery(struct honest *h, uint32_t what, enum way way, bool near)
{
    const char *name = forgeries[what].name;
    honest_publish(h);
    expect(name, near, honest_recv(h, way, PATIENCE), HONEST | h->count);
    if (near) {
        forge(h, GENUINE);
        expect(name, near, honest_recv(h, way, PATIENCE), 0);
    }
    struct shmbus_queue_stats before = test_books(h->sub);
    uint64_t skipped = h->sub->reader.seat->skipped;
    forge(h, what);
    honest_publish(h);
    if (forgeries[what].delivered)
        expect(name, near, honest_recv(h, way, PATIENCE), 0);
    expect(name, near, honest_recv(h, way, PATIENCE), HONEST | h->count);
    expect(name, near, honest_recv(h, way, 0), SHMBUS_EMPTY);
    struct shmbus_queue_stats after = test_books(h->sub);
    uint64_t messages = forgeries[what].delivered ? 2 : 1;
    assert_int_equal(h->sub->reader.seat->skipped, skipped + 1);
    assert_int_equal(after.offered, before.offered + messages);
    assert_int_equal(after.received, before.received + messages);
    assert_int_equal(after.dropped, before.dropped);
}

static void honest_open(struct honest *h, struct test_bus *bus)
{
    test_bus_start(bus, NULL);
    h->stage =
        mmap(NULL, sizeof(*h->stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(h->stage, MAP_FAILED);
    h->stage->bus = bus;
    h->conn = test_connect(bus);
    assert_int_equal(shmbus_prepare(h->conn, shmbus_text("forge/honest"), NULL, &h->publisher), 0);
    /* The only route of its connection. */
    for (uint32_t i = 0; i < h->conn->publishing->route_buckets; i++) {
        const struct sb_route *route = h->conn->publishing->routes[i];
        if (route)
            h->stage->honest_route = route->id;
    }
    h->forger = test_spawn(forger_main, h->stage);
    (void)test_hear(h->forger.fd);
}

static void honest_close(struct honest *h, struct test_bus *bus)
{
    assert_true(test_tell(h->forger.fd, UINT64_MAX));
    assert_int_equal(test_join(&h->forger), 0);
    shmbus_publisher_free(h->publisher);
    shmbus_conn_free(h->conn);
    munmap(h->stage, sizeof(*h->stage));
    test_bus_stop(bus);
}

static void all_forgeries(uint32_t full)
{
    struct test_bus bus;
    struct honest h = {0};
    honest_open(&h, &bus);
    for (enum way way = VIEW; way < WAYS; way++) {
        h.sub = test_subscribe(h.conn, "forge/#", 1000, full);
        for (uint32_t what = 0; what < FORGERIES; what++) {
            one_forgery(&h, what, way, false);
            one_forgery(&h, what, way, true);
        }
        shmbus_sub_free(h.sub);
    }
    honest_close(&h, &bus);
}

static void test_drop_oldest_skips_each_forgery(void **state)
{
    (void)state;
    all_forgeries(SHMBUS_DROP_OLDEST);
}

static void test_reject_newest_skips_each_forgery(void **state)
{
    (void)state;
    all_forgeries(SHMBUS_REJECT_NEWEST);
}

/* Whether it is still one when the heap has grown, and is one push. */
static bool stays_forged(uint32_t what)
{
    return !forgeries[what].delivered && forgeries[what].forge != forge_beyond_heap &&
           forgeries[what].forge != forge_block_just_over_heap;
}

/* All of them at once, in one batch, and the books are right. */
static void test_a_queue_full_of_forgeries(void **state)
{
    (void)state;
    struct test_bus bus;
    struct honest h = {0};
    struct shmbus_message m[SHMBUS_HELD_MAX];
    size_t count;
    honest_open(&h, &bus);
    h.sub = test_subscribe(h.conn, "forge/#", 1000, SHMBUS_DROP_OLDEST);
    honest_publish(&h);
    assert_int_equal(honest_recv(&h, VIEW, PATIENCE), HONEST | h.count);
    uint64_t skipped = h.sub->reader.seat->skipped;
    for (uint32_t i = 0; i < 3 * FORGERIES; i++) {
        if (stays_forged(i % FORGERIES)) {
            forge(&h, i % FORGERIES);
            skipped++;
        }
    }
    honest_publish(&h);
    assert_int_equal(shmbus_recv_many(h.sub, m, SHMBUS_HELD_MAX, &count, PATIENCE), 0);
    assert_int_equal(count, 1);
    assert_memory_equal(m[0].payload, &(uint64_t){HONEST | h.count}, 8);
    shmbus_release(&m[0]);
    assert_int_equal(h.sub->reader.seat->skipped, skipped);
    struct shmbus_queue_stats books = test_books(h.sub);
    assert_int_equal(books.received, 2);
    assert_int_equal(books.dropped, 0);
    assert_int_equal(books.queued, 0);
    shmbus_sub_free(h.sub);
    honest_close(&h, &bus);
}

#define REFUSED 2000u
#define REFUSED_AT_ONCE 16u /* SB_RECV_REFUSED, at the first look and at the second */

static uint32_t kind_of(void (*what)(struct forger *f, struct forged *x))
{
    uint32_t i = 0;
    while (forgeries[i].forge != what)
        i++;
    return i;
}

/*
 * Each message that leads to a heap that is not for the reader costs a request. A receive that does
 * not wait makes a few of them, not as many as a queue holds; one that waits keeps its timeout; and
 * a closed queue is not said to be drained before it is.
 */
static void test_requests_for_nothing_are_bounded(void **state)
{
    (void)state;
    struct test_bus bus;
    struct honest h = {0};
    honest_open(&h, &bus);
    h.sub = test_subscribe(h.conn, "forge/#", 2 * REFUSED, SHMBUS_DROP_OLDEST);
    for (uint32_t i = 0; i < REFUSED; i++)
        forge(&h, kind_of(forge_heap_not_for_the_reader));
    honest_publish(&h);
    uint32_t asked = h.conn->last_id;
    assert_int_equal(honest_recv(&h, VIEW, 0), SHMBUS_EMPTY);
    assert_in_range(h.conn->last_id - asked, 1, REFUSED_AT_ONCE);
    asked = h.conn->last_id;
    assert_int_equal(honest_recv(&h, VIEW, 1), SHMBUS_TIMEOUT);
    assert_in_range(h.conn->last_id - asked, 1, 2 * REFUSED_AT_ONCE);
    assert_int_equal(shmbus_unsubscribe(h.conn, h.sub), 0);
    uint64_t got = honest_recv(&h, VIEW, 0);
    while (got == SHMBUS_EMPTY)
        got = honest_recv(&h, VIEW, 0);
    expect("a closed queue", false, got, HONEST | h.count);
    assert_int_equal(honest_recv(&h, VIEW, 0), SHMBUS_CLOSED);
    shmbus_sub_free(h.sub);
    honest_close(&h, &bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop_oldest_skips_each_forgery),
        cmocka_unit_test(test_reject_newest_skips_each_forgery),
        cmocka_unit_test(test_a_queue_full_of_forgeries),
        cmocka_unit_test(test_requests_for_nothing_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
