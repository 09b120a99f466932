/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=60 serial wrap=sb_map,sb_unmap */
/*
 * The hostile neighbour of DESIGN 4: a client that writes random and crafted bytes over everything
 * that it was given to write: its heap and inbox, the segments of the rings that its routes lead
 * to, the bells. Others meanwhile
 *  - never crash, and read nothing beyond what is mapped: every mapping lies between two pages that
 *    nobody may touch, and ends where what is allocated ends;
 *  - return from every call in time;
 *  - never deliver anything under another name than that of the connection whose heap it lies in:
 *    what the honest publishers write, nobody else writes;
 *  - lose nothing and keep exact books where they share no ring segment with it.
 * When it has gone, new subscriptions find nothing of what it did.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/publishing.h"
#include "os/map.h"
#include "shm/bell.h"
#include "support/testbus.h"

#define HEAP_LIMIT 65536 /* all of it is allocated from the start */
/* Queues that fill ring segments of their own, to the last byte. */
#define OWN_SEGMENT(i) (256 * (20 + (i)) - 8)
#define WINDOW 100                     /* messages under way between the pair that shares nothing */
#define WAIT_NS (5 * SB_NS_PER_MS)     /* timeout of receives */
#define MARGIN_NS (3 * SB_NS_PER_S)    /* what a call may take beyond that on a busy machine */
#define ROUND_NS (1200 * SB_NS_PER_MS) /* how long one scribbler lives */

#define CLEAN_MARK 0xc1ea000000000000u
#define DIRTY_MARK 0xd1d7000000000000u
#define MARK(word) ((word)&0xffff000000000000u)

/*
 * Guard pages: see --wrap in the first line.
 */

int __wrap_sb_map(int fd, uint64_t size, bool writable, void **ptr);
void __wrap_sb_unmap(void *ptr, uint64_t size);

#define GUARD 4096u

int __wrap_sb_map(int fd, uint64_t size, bool writable, void **ptr)
{
    uint64_t whole = sb_align_up(size, GUARD);
    uint8_t *base = mmap(NULL, whole + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        abort();
    int prot = PROT_READ | (writable ? PROT_WRITE : 0);
    void *made = mmap(base + GUARD, whole, prot, MAP_SHARED | MAP_FIXED, fd, 0);
    if (made == MAP_FAILED || madvise(base, whole + 2 * GUARD, MADV_DONTFORK) < 0)
        abort();
    *ptr = made;
    return 0;
}

void __wrap_sb_unmap(void *ptr, uint64_t size)
{
    if (ptr)
        munmap((uint8_t *)ptr - GUARD, sb_align_up(size, GUARD) + 2 * GUARD);
}

/*
 * What the processes share.
 */

struct scene {
    struct test_bus bus;
    uint64_t seed;
    uint32_t stop; /* atomic: how far the end has come */
    char clean_id[37], dirty_id[37];
    uint64_t published;   /* atomic: by the clean publisher */
    uint64_t received[2]; /* atomic: of that by its subscribers */
    uint64_t honest, torn, hostile, pushed;
};

enum { RUN, NO_MORE_SCRIBBLERS, NO_MORE_PUBLISHERS, STOP };

struct role {
    struct scene *scene;
    int index;
};

#define INSIST(ok, ...)                                                                            \
    do {                                                                                           \
        if (!(ok)) {                                                                               \
            fprintf(stderr, "%s:%d: ", __func__, __LINE__);                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static bool runs(const struct scene *scene, uint32_t until)
{
    return sb_load_acquire(&scene->stop) < until;
}

static void insist_in_time(int64_t start, const char *what)
{
    double took = (double)(sb_clock_ns() - start);
    INSIST(took < WAIT_NS + MARGIN_NS, "%s took %.0f ms", what, took / SB_NS_PER_MS);
}

/*
 * The pair that shares nothing with the scribbler.
 */

static int clean_publisher_main(int fd, void *arg)
{
    struct scene *scene = ((struct role *)arg)->scene;
    struct shmbus_conn *conn = test_connect(&scene->bus);
    memcpy(scene->clean_id, shmbus_conn_id(conn), sizeof(scene->clean_id));
    test_tell(fd, 0);
    for (uint64_t n = 1; runs(scene, NO_MORE_PUBLISHERS); n++) {
        while (n - sb_load_acquire(&scene->received[0]) > WINDOW ||
               n - sb_load_acquire(&scene->received[1]) > WINDOW)
            sched_yield();
        uint64_t payload[8];
        struct shmbus_delivery delivery;
        for (int i = 0; i < 8; i++)
            payload[i] = CLEAN_MARK | n;
        int64_t start = sb_clock_ns();
        int ret =
            shmbus_publish(conn, shmbus_text("clean"), payload, sizeof(payload), NULL, &delivery);
        INSIST(ret == 0, "%s", shmbus_errmsg());
        INSIST(delivery.matched == 2 && delivery.refused == 0, "%u matched, %u refused",
               delivery.matched, delivery.refused);
        insist_in_time(start, "publish");
        sb_store_release(&scene->published, n);
        if (n % 64 == 0)
            usleep(500); /* leaves the others a processor */
    }
    shmbus_conn_free(conn);
    return 0;
}

static int clean_subscriber_main(int fd, void *arg)
{
    struct role *role = arg;
    struct scene *scene = role->scene;
    struct shmbus_conn *conn = test_connect(&scene->bus);
    struct shmbus_sub *sub =
        test_subscribe(conn, "clean", OWN_SEGMENT(role->index),
                       role->index ? SHMBUS_REJECT_NEWEST : SHMBUS_DROP_OLDEST);
    test_tell(fd, 0);
    for (uint64_t n = 0; runs(scene, STOP) || n < sb_load_acquire(&scene->published);) {
        struct shmbus_message m;
        int64_t start = sb_clock_ns();
        int ret = shmbus_recv(sub, &m, WAIT_NS);
        insist_in_time(start, "recv");
        INSIST(ret >= 0, "%s", shmbus_errmsg());
        if (ret)
            continue;
        n++;
        uint64_t payload[8];
        INSIST(m.size == sizeof(payload), "message %" PRIu64 " of %zu bytes", n, m.size);
        memcpy(payload, m.payload, sizeof(payload));
        for (int i = 0; i < 8; i++)
            INSIST(payload[i] == (CLEAN_MARK | n), "%016" PRIx64 " in message %" PRIu64, payload[i],
                   n);
        INSIST(m.lost_before == 0, "%" PRIu64 " lost", m.lost_before);
        INSIST(strcmp(m.origin->conn_id, scene->clean_id) == 0, "from %s", m.origin->conn_id);
        shmbus_release(&m);
        sb_store_release(&scene->received[role->index], n);
    }
    uint64_t published = sb_load_acquire(&scene->published);
    struct shmbus_queue_stats books = test_books(sub);
    INSIST(books.offered == published && books.received == published && books.dropped == 0,
           "%" PRIu64 " published: offered %" PRIu64 ", received %" PRIu64 ", dropped %" PRIu64,
           published, books.offered, books.received, books.dropped);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    return 0;
}

/*
 * Those that share rings with it.
 */

static int dirty_publisher_main(int fd, void *arg)
{
    struct scene *scene = ((struct role *)arg)->scene;
    struct shmbus_conn *conn = test_connect(&scene->bus);
    uint64_t random = scene->seed ^ 1;
    memcpy(scene->dirty_id, shmbus_conn_id(conn), sizeof(scene->dirty_id));
    test_tell(fd, 0);
    for (uint64_t n = 1; runs(scene, NO_MORE_PUBLISHERS);) {
        uint64_t payload[128];
        size_t words = 1 + test_random(&random) % 128;
        for (size_t i = 0; i < words; i++)
            payload[i] = DIRTY_MARK | n;
        int64_t start = sb_clock_ns();
        int ret = shmbus_publish(conn, shmbus_text("dirty/honest"), payload, words * 8, NULL, NULL);
        /* A scribbler that subscribes can pin what it was sent, as any reader. */
        INSIST(ret == 0 || ret == SHMBUS_E_LIMIT, "%s", shmbus_errmsg());
        insist_in_time(start, "publish");
        n += ret == 0;
        if (n % 16 == 0)
            usleep(200);
    }
    shmbus_conn_free(conn);
    return 0;
}

struct dirty_reader {
    struct scene *scene;
    struct shmbus_sub *sub;
    uint64_t last_seq; /* of the honest publisher */
    uint64_t honest, torn, hostile;
};

/* Reads all of a message, and judges it by what it says against who it is said to be from. */
static void judge(struct dirty_reader *r, const struct shmbus_message *m)
{
    const uint8_t *bytes = m->payload;
    bool honest = strcmp(m->origin->conn_id, r->scene->dirty_id) == 0, whole = true;
    uint64_t first = 0, word;
    INSIST(strcmp(m->origin->conn_id, r->scene->clean_id) != 0, "from who never published it");
    if (m->size >= 8)
        memcpy(&first, bytes, 8);
    for (size_t i = 0; i + 8 <= m->size; i += 8) {
        memcpy(&word, bytes + i, 8);
        whole &= word == first;
        if (!honest)
            INSIST(MARK(word) != DIRTY_MARK, "what another wrote in a message of %s",
                   m->origin->conn_id);
    }
    volatile uint8_t last = m->size ? bytes[m->size - 1] : 0;
    (void)last;
    if (!honest) {
        INSIST(strncmp(m->topic->text, "dirty/h", 7) == 0 &&
                   strcmp(m->topic->text, "dirty/honest") != 0,
               "%s from a scribbler", m->topic->text);
        r->hostile++;
        return;
    }
    INSIST(strcmp(m->topic->text, "dirty/honest") == 0, "%s of the honest one", m->topic->text);
    INSIST(m->seq > r->last_seq, "message %" PRIu64 " behind %" PRIu64, m->seq, r->last_seq);
    r->last_seq = m->seq;
    whole &= m->size >= 8 && MARK(first) == DIRTY_MARK && (first & 0xffffffff) == m->seq;
    if (whole)
        r->honest++;
    else
        r->torn++;
}

enum way { VIEW, MANY, COPY, WAYS };

static int dirty_recv(struct dirty_reader *r, enum way way, struct shmbus_message *m, size_t *count)
{
    static uint8_t buffer[HEAP_LIMIT];
    int64_t start = sb_clock_ns();
    int ret;
    *count = 1;
    if (way == COPY)
        ret = shmbus_recv_copy(r->sub, m, buffer, sizeof(buffer), NULL, WAIT_NS);
    else if (way == MANY)
        ret = shmbus_recv_many(r->sub, m, SHMBUS_HELD_MAX, count, WAIT_NS);
    else
        ret = shmbus_recv(r->sub, m, WAIT_NS);
    insist_in_time(start, "receive");
    INSIST(ret >= 0, "%s", shmbus_errmsg());
    if (ret)
        *count = 0;
    return ret;
}

/* One subscription, for a while. */
static void dirty_episode(struct dirty_reader *r, struct shmbus_conn *conn, enum way way,
                          uint64_t *random)
{
    static const int64_t queues[] = {1, 3, 16, 100, 1000};
    struct shmbus_message m[SHMBUS_HELD_MAX];
    struct shmbus_queue_stats books;
    size_t count;
    r->sub = test_subscribe(conn, test_random(random) % 2 ? "dirty/#" : "dirty/+",
                            queues[test_random(random) % 5],
                            test_random(random) % 2 ? SHMBUS_REJECT_NEWEST : SHMBUS_DROP_OLDEST);
    int64_t end = sb_clock_ns() + (int64_t)(test_random(random) % (100 * SB_NS_PER_MS));
    while (sb_clock_ns() < end) {
        dirty_recv(r, way, m, &count);
        for (size_t i = 0; i < count; i++) {
            judge(r, &m[i]);
            shmbus_release(&m[i]);
        }
        (void)shmbus_sub_stats(r->sub, &books, sizeof(books));
    }
    int64_t start = sb_clock_ns();
    shmbus_sub_free(r->sub);
    insist_in_time(start, "free");
}

static int dirty_subscriber_main(int fd, void *arg)
{
    struct role *role = arg;
    struct scene *scene = role->scene;
    struct shmbus_conn *conn = test_connect(&scene->bus);
    struct dirty_reader r = {.scene = scene};
    uint64_t random = scene->seed ^ (uint64_t)(100 + role->index);
    test_tell(fd, 0);
    while (runs(scene, NO_MORE_SCRIBBLERS)) {
        r.last_seq = 0;
        dirty_episode(&r, conn, (enum way)(role->index % WAYS), &random);
    }
    sb_add_relaxed(&scene->honest, r.honest);
    sb_add_relaxed(&scene->torn, r.torn);
    sb_add_relaxed(&scene->hostile, r.hostile);
    shmbus_conn_free(conn);
    return 0;
}

/*
 * The scribbler.
 */

#define REGIONS 64

struct region {
    uint8_t *base;
    uint64_t size;
    uint32_t kind, index; /* of what it was mapped as */
};

struct scribbler {
    struct scene *scene;
    struct shmbus_conn *conn;
    struct sb_publishing *p;
    struct sb_route *route;
    struct shmbus_sub *sub;
    uint64_t random;
    uint64_t seq;
    struct region region[REGIONS];
    struct sb_mapping *mapping[REGIONS];
    uint32_t count; /* the first two are heap and inbox */
};

static uint64_t pick(struct scribbler *s, uint64_t n)
{
    return test_random(&s->random) % n;
}

static uint64_t any_word(struct scribbler *s)
{
    static const uint64_t words[] = {
        0,          1,          2,    UINT64_MAX, UINT64_MAX - 1, INT64_MAX,   UINT32_MAX,
        1ull << 32, 1ull << 63, 4096, HEAP_LIMIT, 16384,          0x100000000, 255};
    return pick(s, 2) ? words[pick(s, sb_array_len(words))]
                      : test_random(&s->random) >> pick(s, 64);
}

/* Asks for everything and keeps what it is given. */
static void scribbler_map(struct scribbler *s)
{
    const struct sb_arena_header *header = s->conn->header;
    for (uint32_t i = 2; i < s->count; i++)
        sb_mapping_put(s->conn, s->mapping[i]);
    s->count = 2;
    s->region[0] = (struct region){s->conn->heap, sb_load_acquire(&s->conn->rec->heap_size), 0, 0};
    s->region[1] = (struct region){(uint8_t *)s->conn->inbox,
                                   sb_load_acquire(&s->conn->rec->inbox_size), 0, 0};
    for (uint32_t i = 0; i < sb_load_acquire(&header->segments.count) && s->count < REGIONS; i++) {
        const struct sb_segment_rec *rec =
            sb_table_at(sb_conn_arena(s->conn), &header->segments, i, sizeof(*rec));
        uint32_t kind = rec->kind == SB_SEGMENT_BELLS ? SB_MAP_BELLS : SB_MAP_RINGS_WRITE;
        struct sb_mapping_want want = {.kind = kind, .index = i, .gen = sb_load_acquire(&rec->gen)};
        uint64_t size = rec->size;
        if (want.gen % 2 == 0 || sb_mapping_get(s->conn, &want, 1) || !want.mapping)
            continue;
        INSIST(kind == SB_MAP_BELLS || size <= SB_RING_SEGMENT_SIZE || want.gen != rec->gen,
               "given a segment that no route leads to");
        s->mapping[s->count] = want.mapping;
        s->region[s->count++] = (struct region){want.mapping->base, want.mapping->size, kind, i};
    }
}

/* Random words at random places. */
static void scribble_anywhere(struct scribbler *s)
{
    const struct region *r = &s->region[pick(s, s->count)];
    for (uint64_t n = 1 + pick(s, 64); n > 0; n--)
        sb_store_relaxed((uint64_t *)(void *)(r->base + 8 * pick(s, r->size / 8)), any_word(s));
}

/* A ring that can be written, or NULL. */
static struct sb_ring *scribbler_ring(struct scribbler *s, uint32_t *capacity)
{
    const struct sb_arena_header *header = s->conn->header;
    uint32_t i = (uint32_t)pick(s, sb_load_acquire(&header->rings.count));
    const struct sb_ring_rec *rec =
        sb_table_at(sb_conn_arena(s->conn), &header->rings, i, sizeof(*rec));
    uint64_t offset = rec->offset;
    *capacity = rec->capacity;
    for (uint32_t k = 2; k < s->count; k++) {
        const struct region *r = &s->region[k];
        if (r->kind == SB_MAP_RINGS_WRITE && r->index == rec->segment && *capacity &&
            offset + sb_ring_bytes(*capacity) <= r->size)
            return (struct sb_ring *)(void *)(r->base + offset);
    }
    return NULL;
}

/* A descriptor of a connection that there is. */
static uint64_t other_desc(struct scribbler *s)
{
    const struct sb_arena_header *header = s->conn->header;
    uint32_t i = (uint32_t)pick(s, sb_load_acquire(&header->conns.count));
    const struct sb_conn_rec *rec =
        sb_table_at(sb_conn_arena(s->conn), &header->conns, i, sizeof(*rec));
    return sb_desc(i, rec->gen - (pick(s, 8) == 0), pick(s, HEAP_LIMIT / SB_BLOCK_UNIT + 2) * 256,
                   (uint32_t)pick(s, 1024) * SB_CHUNK_UNIT);
}

/* A chunk in its own heap, most of which a reader would accept. */
static uint64_t own_desc(struct scribbler *s)
{
    const struct sb_arena_header *header = s->conn->header;
    uint64_t offset = pick(s, HEAP_LIMIT / SB_BLOCK_UNIT - 8) * SB_BLOCK_UNIT;
    struct sb_block *block = (void *)(s->conn->heap + offset);
    uint64_t unit = sizeof(*block) / SB_CHUNK_UNIT + pick(s, 64);
    struct sb_chunk *chunk = (void *)((uint8_t *)block + unit * SB_CHUNK_UNIT);
    block->size = pick(s, 4) ? 2048 : (uint32_t)any_word(s);
    block->starts[unit / 64] |= UINT64_C(1) << unit % 64;
    uint32_t other = (uint32_t)pick(s, sb_load_acquire(&header->routes.count));
    const struct sb_route_rec *route =
        sb_table_at(sb_conn_arena(s->conn), &header->routes, other, sizeof(*route));
    chunk->route = pick(s, 4) ? s->route->id : sb_route_id(other, route->gen);
    chunk->tags = (uint16_t)any_word(s);
    chunk->extra = pick(s, 4) ? 0 : (uint16_t)any_word(s);
    chunk->size = pick(s, 4) ? (uint32_t)pick(s, 512) : (uint32_t)any_word(s);
    chunk->seq = pick(s, 64) ? ++s->seq : any_word(s);
    return sb_desc(s->conn->index, s->conn->gen, offset, (uint32_t)unit * SB_CHUNK_UNIT);
}

static uint64_t any_desc(struct scribbler *s)
{
    uint32_t capacity;
    struct sb_ring *ring = scribbler_ring(s, &capacity);
    switch (pick(s, 8)) {
    case 0:
        return any_word(s);
    case 1:
        return other_desc(s);
    case 2: /* what another has pushed */
    case 3:
        return ring ? sb_load_relaxed(&ring->slot[pick(s, capacity)].desc) : SB_DESC_TOMBSTONE;
    default:
        return own_desc(s);
    }
}

/* Puts a ring into a state that pushes lead to, so that traffic goes on there. */
static void ring_repair(struct sb_ring *ring, uint32_t capacity)
{
    uint64_t lap = 1;
    for (uint32_t i = 0; i < capacity; i++) {
        uint64_t seq = sb_load_relaxed(&ring->slot[i].seq);
        if (seq < 1u << 30 && seq > lap)
            lap = seq;
    }
    for (uint32_t i = 0; i < capacity; i++)
        sb_store_relaxed(&ring->slot[i].seq, lap);
    sb_store_relaxed(&ring->tail, lap << sb_log2_ceil(capacity));
}

static void scribble_ring(struct scribbler *s)
{
    uint32_t capacity;
    struct sb_ring *ring = scribbler_ring(s, &capacity);
    if (!ring)
        return;
    struct sb_ring_view view = sb_ring_view(ring, capacity);
    uint64_t tail = sb_load_relaxed(&ring->tail), pos;
    switch (pick(s, 8)) {
    case 0:
        sb_store_relaxed(&ring->tail, pick(s, 2) ? any_word(s) : tail + pick(s, 5) - 2);
        break;
    case 1:
        sb_store_relaxed(&ring->tail, tail + (pick(s, 5) << view.bits));
        break;
    case 2: /* slots of the next lap */
        for (uint32_t i = 0; i < capacity; i++) {
            sb_store_relaxed(&ring->slot[i].desc, any_desc(s));
            sb_add_relaxed(&ring->slot[i].seq, 1);
        }
        break;
    case 3:
        sb_store_relaxed(&ring->slot[pick(s, capacity)].seq, any_word(s));
        sb_store_relaxed(&ring->rejected, any_word(s));
        break;
    case 4:
    case 5:
        ring_repair(ring, capacity);
        break;
    default:
        for (uint64_t n = 1 + pick(s, 32); n > 0; n--) {
            if (sb_ring_push(&view, any_desc(s), false, 0, &pos) == SB_PUSH_DONE)
                s->scene->pushed++;
        }
    }
}

/* Cursors beyond tails, holds over everything, pins of epochs that are to come. */
static void scribble_inbox(struct scribbler *s)
{
    struct sb_seat *seat = s->sub->reader.seat;
    sb_store_relaxed(&seat->cursor, any_word(s));
    sb_store_relaxed(&seat->holds, pick(s, 2) ? SB_HELD_MAX : any_word(s));
    for (int i = 0; i < SB_HELD_MAX; i++)
        sb_store_relaxed(&seat->hold[i], pick(s, 2) ? 0 : any_word(s));
    sb_store_relaxed(&seat->taken, any_word(s));
    sb_store_relaxed(&seat->returned, any_word(s));
    sb_store_relaxed(&seat->skipped, any_word(s));
    for (int i = 0; i < SB_PINS; i++)
        sb_store_relaxed(&s->conn->inbox->pin[i], pick(s, 2) ? 0 : any_word(s));
}

static void scribble_bells(struct scribbler *s)
{
    const struct region *r = &s->region[pick(s, s->count)];
    if (r->kind != SB_MAP_BELLS)
        return;
    struct sb_bell *bell = (struct sb_bell *)(void *)r->base + pick(s, r->size / sizeof(*bell));
    for (uint64_t n = pick(s, 100); n > 0; n--)
        sb_store_relaxed(&bell->word, (uint32_t)any_word(s));
    (void)sb_futex_wake(&bell->word, INT32_MAX);
}

static void scribbler_open(struct scribbler *s, struct role *role)
{
    static const char *const topics[] = {"dirty/h", "dirty/h/2"};
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    *s = (struct scribbler){.scene = role->scene, .conn = test_connect(&role->scene->bus)};
    s->random = role->scene->seed * 31 + (uint64_t)role->index;
    s->p = s->conn->publishing;
    s->sub = test_subscribe(s->conn, "dirty/#", 16, SHMBUS_DROP_OLDEST);
    for (int i = 1; i >= 0; i--)
        INSIST(sb_topic_encode(shmbus_text(topics[i]), SB_TOPIC_CONCRETE, &s->conn->wildcards,
                               bytes, sizeof(bytes), &len) == 0 &&
                   sb_route_get(s->p, bytes, len, &s->route) == 0,
               "%s", shmbus_errmsg());
}

static int scribbler_main(int fd, void *arg)
{
    struct scribbler s;
    scribbler_open(&s, arg);
    scribbler_map(&s);
    test_tell(fd, 0);
    int64_t look = sb_clock_ns();
    while (runs(s.scene, STOP)) {
        if (sb_clock_ns() > look) { /* rings come and go */
            scribbler_map(&s);
            look = sb_clock_ns() + 20 * SB_NS_PER_MS;
        }
        switch (pick(&s, 8)) {
        case 0:
            scribble_anywhere(&s);
            break;
        case 1:
            scribble_inbox(&s);
            break;
        case 2:
            scribble_bells(&s);
            break;
        default:
            scribble_ring(&s);
        }
        if (pick(&s, 64) == 0)
            usleep(100); /* lets the others notice */
    }
    return 0;
}

/*
 * The scene.
 */

#define DIRTY_SUBSCRIBERS 3

/* The coordinator goes on answering, in time. */
static void watch_for(struct scene *scene, int64_t ns)
{
    int64_t end = sb_clock_ns() + ns;
    while (sb_clock_ns() < end) {
        int64_t start = sb_clock_ns();
        (void)test_bus_figures(&scene->bus);
        insist_in_time(start, "figures");
        usleep(20000);
    }
}

/* New subscriptions of all the kinds there were get everything. */
static void nothing_is_left(struct scene *scene)
{
    static const int64_t queues[] = {1, 3, 16, 100, 1000};
    struct shmbus_conn *conn = test_connect(&scene->bus);
    for (int i = 0; i < 10; i++) {
        int64_t queue = queues[i / 2];
        struct shmbus_sub *sub = test_subscribe(conn, "dirty/after", queue,
                                                i % 2 ? SHMBUS_REJECT_NEWEST : SHMBUS_DROP_OLDEST);
        for (int64_t n = 0; n < 2 * queue; n++) {
            struct shmbus_message m;
            struct shmbus_delivery delivery;
            assert_int_equal(
                shmbus_publish(conn, shmbus_text("dirty/after"), &n, sizeof(n), NULL, &delivery),
                0);
            assert_int_equal(delivery.matched, 1);
            if (delivery.refused)
                fail_msg("message %" PRId64 " to a queue of %" PRId64 " was refused", n, queue);
            int ret = shmbus_recv(sub, &m, 0);
            if (ret)
                fail_msg("message %" PRId64 " of a queue of %" PRId64 ": %d", n, queue, ret);
            assert_memory_equal(m.payload, &n, sizeof(n));
            assert_int_equal(m.lost_before, 0);
            shmbus_release(&m);
        }
        struct shmbus_queue_stats books = test_books(sub);
        assert_int_equal(books.offered, 2 * queue);
        assert_int_equal(books.received, 2 * queue);
        shmbus_sub_free(sub);
    }
    shmbus_conn_free(conn);
}

static void join_all(struct test_proc *procs, int count)
{
    int failed = 0;
    for (int i = 0; i < count; i++) {
        int status = test_join(&procs[i]);
        if (status)
            fprintf(stderr, "process %d of the scene ended with status %d\n", i, status);
        failed += status != 0;
    }
    assert_int_equal(failed, 0);
}

static void test_a_hostile_neighbour(void **state)
{
    (void)state;
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    struct scene *scene =
        mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(scene, MAP_FAILED);
    scene->seed = test_seed();
    options.heap_limit = HEAP_LIMIT;
    test_bus_start(&scene->bus, &options);
    /* Keeps a segment alive, and with it rings that others have left. */
    struct shmbus_conn *keeper = test_connect(&scene->bus);
    struct shmbus_sub *kept = test_subscribe(keeper, "kept", 2, SHMBUS_DROP_OLDEST);
    struct test_proc procs[4 + DIRTY_SUBSCRIBERS];
    int n = 0, dirty;
    for (int i = 0; i < 2; i++, n++)
        procs[n] = test_spawn(clean_subscriber_main, &(struct role){scene, i});
    for (int i = 0; i < n; i++)
        (void)test_hear(procs[i].fd);
    procs[n++] = test_spawn(clean_publisher_main, &(struct role){scene, 0});
    procs[n++] = test_spawn(dirty_publisher_main, &(struct role){scene, 0});
    (void)test_hear(procs[2].fd);
    (void)test_hear(procs[3].fd);
    dirty = n;
    for (int i = 0; i < DIRTY_SUBSCRIBERS; i++, n++) {
        procs[n] = test_spawn(dirty_subscriber_main, &(struct role){scene, i});
        (void)test_hear(procs[n].fd);
    }
    for (int round = 0; round < 2; round++) {
        struct test_proc scribbler = test_spawn(scribbler_main, &(struct role){scene, round});
        (void)test_hear(scribbler.fd);
        watch_for(scene, ROUND_NS);
        test_kill(&scribbler);
    }
    sb_store_release(&scene->stop, NO_MORE_SCRIBBLERS);
    join_all(&procs[dirty], DIRTY_SUBSCRIBERS);
    nothing_is_left(scene);
    sb_store_release(&scene->stop, NO_MORE_PUBLISHERS);
    join_all(&procs[2], 2);
    sb_store_release(&scene->stop, STOP);
    join_all(procs, 2);
    printf("%" PRIu64 " clean messages; %" PRIu64 " of the honest one beside %" PRIu64
           " torn and %" PRIu64 " of the scribbler, which pushed %" PRIu64 "\n",
           scene->published, scene->honest, scene->torn, scene->hostile, scene->pushed);
    assert_true(scene->honest > 0 && scene->hostile > 0);
    shmbus_sub_free(kept);
    shmbus_conn_free(keeper);
    test_bus_stop(&scene->bus);
    munmap(scene, sizeof(*scene));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_hostile_neighbour)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
