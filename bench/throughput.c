/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many messages a second go from pubs publishers to subs subscribers of one topic.
 *
 * Lossless (reject_newest): a message that some queue refused is published again until none does;
 * who had taken it before sees its number a second time and does not count it. Every payload
 * begins with its publisher and its number there, so that receivers see each gap and each
 * duplicate for themselves, whatever the bus counts.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bus.h"

#define TOPIC "throughput"

/* What a payload begins with: publisher << NUMBER_BITS | number. */
#define NUMBER_BITS 48
#define NUMBER_MASK ((UINT64_C(1) << NUMBER_BITS) - 1)

/* Publishes between two looks at the clock and at the phase. */
#define BATCH 64

/* How long a refused publisher lets the queue drain: twice as long after each refusal in a row,
 * half as long after each success. */
#define PAUSE_MIN_NS 500
#define PAUSE_MAX_NS 32000

/* How long a receiver waits before it looks at the phase. */
#define LOOK_NS INT64_C(50000000)

/* --- the publisher --- */

struct sender {
    struct worker *worker;
    struct shmbus_publisher *publisher;
    unsigned char *payload;
    uint64_t number;
    uint64_t pause_ns;
};

static void let_drain(struct sender *sender)
{
    uint32_t crowded = sender->worker->page->params.crowded;
    uint64_t start = now_ns();
    do
        spin(crowded);
    while (now_ns() - start < sender->pause_ns);
    if (sender->pause_ns < PAUSE_MAX_NS)
        sender->pause_ns *= 2;
}

/* Publishes the next message until no queue refuses it. Returns how often one did, -1 if the run
 * has stopped before it was through. */
static int send_one(struct sender *sender)
{
    const struct page_params *params = &sender->worker->page->params;
    uint64_t mark = (uint64_t)sender->worker->self->nth << NUMBER_BITS | sender->number;
    memcpy(sender->payload, &mark, sizeof(mark));
    for (int refusals = 0;; refusals++) {
        struct shmbus_delivery delivery;
        int result = shmbus_publisher_publish(sender->publisher, sender->payload, params->size,
                                              NULL, &delivery);
        if (result == 0 && (delivery.refused == 0 || params->full == SHMBUS_DROP_OLDEST)) {
            sender->number++;
            return refusals;
        }
        /* A heap that is full of what is still queued drains as the queue does. */
        if (result != 0 && result != SHMBUS_E_LIMIT)
            worker_fail(sender->worker, "cannot publish: %s", shmbus_errmsg());
        if (worker_reached(sender->worker, PHASE_STOP)) {
            if (sender->number == 0 && result != 0)
                worker_fail(sender->worker, "could not publish anything: %s", shmbus_errmsg());
            return -1;
        }
        sender->worker->self->refusals++;
        let_drain(sender);
    }
}

/* Publishes a batch, and counts its time if nothing in it was refused. */
static void send_batch(struct sender *sender)
{
    struct page_slot *self = sender->worker->self;
    uint64_t start = now_ns();
    int refused = 0;
    for (int i = 0; i < BATCH; i++) {
        int refusals = send_one(sender);
        if (refusals < 0)
            return;
        refused |= refusals;
    }
    if (refused)
        return;
    self->clean += BATCH;
    self->clean_ns += now_ns() - start;
    if (sender->pause_ns > PAUSE_MIN_NS)
        sender->pause_ns /= 2;
}

void throughput_publish(struct worker *worker)
{
    struct shmbus_conn *conn = bus_connect(worker);
    struct sender sender = {
        .worker = worker,
        .publisher = bus_prepare(worker, conn, TOPIC),
        .payload = calloc(1, worker->page->params.size),
        .pause_ns = PAUSE_MIN_NS,
    };
    if (!sender.payload)
        worker_fail(worker, "no memory for a payload");
    worker_ready(worker);
    while (!worker_reached(worker, PHASE_STOP))
        send_batch(&sender);
    worker->self->sent = sender.number;
    worker_report(worker);
    /* What it has published stays deliverable; it stays anyway, as publishers do. */
    worker_wait(worker, PHASE_DRAIN);
    shmbus_publisher_free(sender.publisher);
    shmbus_conn_free(conn);
    free(sender.payload);
}

/* --- the subscriber --- */

struct taker {
    struct worker *worker;
    struct shmbus_sub *sub;
    uint64_t *next; /* of each publisher: the number that comes next */
};

static void take_one(struct taker *taker, struct shmbus_message *message)
{
    struct page_slot *self = taker->worker->self;
    uint64_t mark;
    if (message->size != taker->worker->page->params.size)
        worker_fail(taker->worker, "received %zu bytes where %u were published", message->size,
                    taker->worker->page->params.size);
    memcpy(&mark, message->payload, sizeof(mark));
    shmbus_release(message);
    uint64_t number = mark & NUMBER_MASK;
    if (mark >> NUMBER_BITS >= taker->worker->page->params.pubs)
        worker_fail(taker->worker, "received a message of nobody: %llx", (unsigned long long)mark);
    uint64_t *next = &taker->next[mark >> NUMBER_BITS];
    if (number < *next)
        return;
    self->lost += number - *next;
    self->got++;
    *next = number + 1;
}

/* Receives what is there, waiting for timeout_ns. Returns whether there was anything. */
static int take_batch(struct taker *taker, int64_t timeout_ns)
{
    struct shmbus_message messages[SHMBUS_HELD_MAX];
    uint32_t batch = taker->worker->page->params.batch;
    size_t count = 1;
    int result = batch == 1 ? shmbus_recv(taker->sub, messages, timeout_ns)
                            : shmbus_recv_many(taker->sub, messages, batch, &count, timeout_ns);
    if (result == SHMBUS_EMPTY || result == SHMBUS_TIMEOUT)
        return 0;
    if (result == SHMBUS_CLOSED)
        worker_fail(taker->worker, "the subscription was closed: %s", shmbus_sub_why(taker->sub));
    if (result < 0)
        worker_fail(taker->worker, "cannot receive: %s", shmbus_errmsg());
    if (result == 0)
        taker->worker->self->receives++;
    for (size_t i = 0; result == 0 && i < count; i++)
        take_one(taker, &messages[i]);
    return 1;
}

/* What was published and has not come by the end has been lost too. */
static void count_missing(struct taker *taker)
{
    const struct page *page = taker->worker->page;
    for (unsigned i = 0; i < page->params.subs + page->params.pubs; i++) {
        const struct page_slot *slot = &page->slot[i];
        if (slot->role == ROLE_PUBLISH && slot->sent > taker->next[slot->nth])
            taker->worker->self->lost += slot->sent - taker->next[slot->nth];
    }
}

void throughput_subscribe(struct worker *worker)
{
    struct shmbus_conn *conn = bus_connect(worker);
    struct taker taker = {
        .worker = worker,
        .sub = bus_subscribe(worker, conn, TOPIC),
        .next = calloc(worker->page->params.pubs, sizeof(*taker.next)),
    };
    if (!taker.next)
        worker_fail(worker, "no memory to count in");
    worker_ready(worker);
    /* The order matters: what was published before the drain began is there after it. */
    for (;;) {
        int drain = worker_reached(worker, PHASE_DRAIN);
        if (!take_batch(&taker, drain ? 0 : LOOK_NS) && drain)
            break;
    }
    worker->self->end_ns = now_ns();
    count_missing(&taker);
    shmbus_sub_free(taker.sub);
    shmbus_conn_free(conn);
    free(taker.next);
}

/* --- the parent --- */

static int run(struct crew *crew, const struct bench_options *options)
{
    unsigned pubs = options->params.pubs;
    if (crew_start(crew, ROLE_SUBSCRIBE, options->params.subs) != 0 ||
        crew_start(crew, ROLE_PUBLISH, pubs) != 0 || crew_run(crew, options->seconds) != 0 ||
        crew_advance(crew, pubs, PHASE_DRAIN) != 0)
        return -1;
    return crew_finish(crew);
}

static void take(struct bench_result *result, const struct page *page)
{
    uint64_t got = 0, lost = 0, clean = 0, clean_ns = 0, end_ns = page->go_ns;
    uint64_t sent = 0, refusals = 0, receives = 0;
    for (unsigned i = 0; i < result->subs + result->pubs; i++) {
        const struct page_slot *slot = &page->slot[i];
        got += slot->got;
        lost += slot->lost;
        sent += slot->sent;
        refusals += slot->refusals;
        receives += slot->receives;
        clean += slot->clean;
        clean_ns += slot->clean_ns;
        end_ns = slot->end_ns > end_ns ? slot->end_ns : end_ns;
    }
    result->figure[FIGURE_MSGS_PER_S] = (double)got / ((double)(end_ns - page->go_ns) * 1e-9);
    result->figure[FIGURE_LOST] = (double)lost;
    if (sent > 0)
        result->figure[FIGURE_REFUSALS] = 1000 * (double)refusals / (double)sent;
    if (receives > 0)
        result->figure[FIGURE_PER_RECEIVE] = (double)got / (double)receives;
    if (clean > 0)
        result->figure[FIGURE_NS_PER_PUBLISH] = (double)clean_ns / (double)clean;
}

static int bus_run(const struct bench_options *options, struct bench_results *results)
{
    struct page_params params = options->params;
    params.crowded = (int)(params.pubs + params.subs) > options->cpus.count;
    struct crew crew;
    int status = crew_open(&crew, &params, 0, &options->cpus);
    if (status == 0)
        status = run(&crew, options);
    if (status == 0) {
        struct bench_result *result = bench_result(results, SYSTEM_SHMBUS, 0);
        result->pubs = params.pubs;
        result->subs = params.subs;
        take(result, crew.page);
    }
    crew_close(&crew);
    return status;
}

static int throughput_run(const struct bench_options *options, struct bench_results *results)
{
    if (floor_around(options, SYSTEM_FLOOR_ATOMIC, results, bus_run) != 0)
        return -1;
    /* Bounces a second, to compare messages with. */
    struct bench_result *atomic = &results->result[results->count - 1];
    atomic->figure[FIGURE_MSGS_PER_S] = 1e9 / atomic->figure[FIGURE_P50_NS];
    if (floor_run(options, SYSTEM_FLOOR_MEMCPY, results) != 0)
        return -1;
    return floor_run(options, SYSTEM_FLOOR_SPSC, results);
}

const struct bench_scenario throughput_scenario = {
    .name = "throughput",
    .what = "messages a second through one topic, lossless unless --full drop_oldest",
    .headline = FIGURE_MSGS_PER_S,
    .run = throughput_run,
};
