/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trips between two processes over two topics: with both awake (the receiver in a blocking
 * shmbus_recv(), whose spin a message awaited for less than microseconds never leaves), and with
 * each asleep when its message is published.
 */
#include <string.h>

#include "bench.h"
#include "bus.h"
#include "pingpong.h"

/* A payload begins with its number; this one ends the run. */
#define LAST UINT64_MAX

static unsigned char payload[BENCH_SIZE_MAX];

/* One end of the ping-pong. */
struct end {
    struct worker *worker;
    struct shmbus_conn *conn;
    struct shmbus_publisher *publisher;
    struct shmbus_sub *sub;
};

static struct end end_open(struct worker *worker, const char *publish, const char *subscribe)
{
    struct end end = {.worker = worker, .conn = bus_connect(worker)};
    end.sub = bus_subscribe(worker, end.conn, subscribe);
    end.publisher = bus_prepare(worker, end.conn, publish);
    return end;
}

static void end_close(struct end *end)
{
    shmbus_publisher_free(end->publisher);
    shmbus_sub_free(end->sub);
    shmbus_conn_free(end->conn);
}

static void send(struct end *end, const void *bytes)
{
    struct shmbus_delivery delivery;
    if (shmbus_publisher_publish(end->publisher, bytes, end->worker->page->params.size, NULL,
                                 &delivery) != 0)
        worker_fail(end->worker, "cannot publish: %s", shmbus_errmsg());
    if (delivery.matched == 0 || delivery.refused > 0)
        worker_fail(end->worker, "a publish reached nobody: %u queues, %u of them full",
                    delivery.matched, delivery.refused);
}

static void receive(struct end *end, struct shmbus_message *message)
{
    int result;
    do
        result = shmbus_recv(end->sub, message, SHMBUS_FOREVER);
    while (result == SHMBUS_INTERRUPTED);
    if (result == SHMBUS_CLOSED)
        worker_fail(end->worker, "the subscription was closed: %s", shmbus_sub_why(end->sub));
    if (result != 0)
        worker_fail(end->worker, "cannot receive: %s", shmbus_errmsg());
    if (message->size != end->worker->page->params.size)
        worker_fail(end->worker, "received %zu bytes where %u were published", message->size,
                    end->worker->page->params.size);
}

static void ping(struct end *end, uint64_t number)
{
    memcpy(payload, &number, sizeof(number));
    send(end, payload);
}

static void await_pong(struct end *end, uint64_t wanted)
{
    struct shmbus_message message;
    uint64_t number;
    receive(end, &message);
    memcpy(&number, message.payload, sizeof(number));
    shmbus_release(&message);
    if (number != wanted)
        worker_fail(end->worker, "answer %llu to message %llu", (unsigned long long)number,
                    (unsigned long long)wanted);
}

static void ping_busy(struct end *end, struct pingpong *pp)
{
    pingpong_start(pp, end->worker);
    for (uint64_t i = 0; !worker_reached(end->worker, PHASE_STOP); i++) {
        ping(end, i);
        await_pong(end, i);
        pingpong_round(pp);
    }
}

static void ping_sleeping(struct end *end, struct pingpong *pp)
{
    int stat_fd = asleep_open(end->worker);
    pingpong_start(pp, end->worker);
    for (uint64_t i = 0; !worker_reached(end->worker, PHASE_STOP); i++) {
        asleep_wait(end->worker, stat_fd);
        uint64_t sent_ns = now_ns();
        ping(end, i);
        await_pong(end, i);
        pingpong_ways(pp, sent_ns, now_ns());
    }
    close(stat_fd);
}

void latency_ping(struct worker *worker)
{
    static struct pingpong pp;
    struct end end = end_open(worker, "ping", "pong");
    worker_ready(worker);
    if (worker->page->params.sleeping)
        ping_sleeping(&end, &pp);
    else
        ping_busy(&end, &pp);
    ping(&end, LAST);
    pingpong_finish(&pp);
    end_close(&end);
}

void latency_echo(struct worker *worker)
{
    struct page *page = worker->page;
    struct end end = end_open(worker, "pong", "ping");
    worker_ready(worker);
    int stat_fd = page->params.sleeping ? asleep_open(worker) : -1;
    for (;;) {
        struct shmbus_message message;
        uint64_t number;
        receive(&end, &message);
        memcpy(&number, message.payload, sizeof(number));
        if (number == LAST) {
            shmbus_release(&message);
            break;
        }
        if (page->params.sleeping) {
            store64(&page->echo_got_ns, now_ns());
            asleep_wait(worker, stat_fd);
            store64(&page->echo_sent_ns, now_ns());
        }
        send(&end, message.payload);
        shmbus_release(&message);
    }
    if (stat_fd >= 0)
        close(stat_fd);
    end_close(&end);
}

static int run(struct crew *crew, double seconds)
{
    if (crew_start(crew, ROLE_ECHO, 1) != 0 || crew_start(crew, ROLE_PING, 1) != 0 ||
        crew_run(crew, seconds) != 0)
        return -1;
    return crew_finish(crew);
}

static int bus_run(const struct bench_options *options, int sleeping, struct bench_results *results)
{
    struct page_params params = options->params;
    params.sleeping = (uint32_t)sleeping;
    params.crowded = options->cpus.count < 2;
    struct crew crew;
    int status = crew_open(&crew, &params, 0, &options->cpus);
    if (status == 0)
        status = run(&crew, options->seconds);
    if (status == 0) {
        struct bench_result *result = bench_result(results, SYSTEM_SHMBUS, sleeping);
        bench_round_trips(result, &crew.page->slot[1]);
        /* Each answer was that to its message. */
        result->figure[FIGURE_LOST] = 0;
    }
    crew_close(&crew);
    return status;
}

static int bus_busy(const struct bench_options *options, struct bench_results *results)
{
    return bus_run(options, 0, results);
}

static int bus_sleeping(const struct bench_options *options, struct bench_results *results)
{
    return bus_run(options, 1, results);
}

static int latency_run(const struct bench_options *options, struct bench_results *results)
{
    if (floor_around(options, SYSTEM_FLOOR_ATOMIC, results, bus_busy) != 0)
        return -1;
    return floor_around(options, SYSTEM_FLOOR_FUTEX, results, bus_sleeping);
}

const struct bench_scenario latency_scenario = {
    .name = "latency",
    .what = "round trips of one message between two processes, awake and asleep",
    .headline = FIGURE_P50_NS,
    .run = latency_run,
};
