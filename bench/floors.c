/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine itself gives: the least that two processes pay to exchange a word, awake and
 * asleep, and the most messages that a copy, or a queue that promises nothing, can move.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pingpong.h"

/* Ends a ping-pong; odd numbers are messages and even ones answers before that. */
#define LAST_WORD UINT64_MAX
#define LAST_FUTEX UINT32_MAX

/* --- floor-atomic: one 8-byte word, both awake --- */

void floor_atomic_ping(struct worker *worker)
{
    static struct pingpong pp;
    uint64_t *word = &worker->page->word;
    uint32_t crowded = worker->page->params.crowded;
    worker_ready(worker);
    pingpong_start(&pp, worker);
    for (uint64_t i = 1; !worker_reached(worker, PHASE_STOP); i += 2) {
        store64(word, i);
        while (load64(word) != i + 1)
            spin(crowded);
        pingpong_round(&pp);
    }
    store64(word, LAST_WORD);
    pingpong_finish(&pp);
}

void floor_atomic_echo(struct worker *worker)
{
    uint64_t *word = &worker->page->word;
    uint32_t crowded = worker->page->params.crowded;
    worker_ready(worker);
    for (uint64_t i = 1;; i += 2) {
        uint64_t seen;
        while ((seen = load64(word)) != i && seen != LAST_WORD)
            spin(crowded);
        if (seen == LAST_WORD)
            return;
        store64(word, i + 1);
    }
}

/* --- floor-futex: one word to sleep on, each asleep when the other writes it --- */

static uint32_t sleep_until(uint32_t *word, uint32_t wanted)
{
    uint32_t seen;
    while ((seen = load32(word)) != wanted && seen != LAST_FUTEX)
        futex_wait(word, seen);
    return seen;
}

void floor_futex_ping(struct worker *worker)
{
    static struct pingpong pp;
    uint32_t *word = &worker->page->futex;
    worker_ready(worker);
    int stat_fd = asleep_open(worker);
    pingpong_start(&pp, worker);
    for (uint32_t i = 1; !worker_reached(worker, PHASE_STOP); i += 2) {
        asleep_wait(worker, stat_fd);
        uint64_t sent_ns = now_ns();
        store32(word, i);
        futex_wake(word);
        sleep_until(word, i + 1);
        pingpong_ways(&pp, sent_ns, now_ns());
    }
    store32(word, LAST_FUTEX);
    futex_wake(word);
    pingpong_finish(&pp);
}

void floor_futex_echo(struct worker *worker)
{
    struct page *page = worker->page;
    worker_ready(worker);
    int stat_fd = asleep_open(worker);
    for (uint32_t i = 1; sleep_until(&page->futex, i) != LAST_FUTEX; i += 2) {
        store64(&page->echo_got_ns, now_ns());
        asleep_wait(worker, stat_fd);
        store64(&page->echo_sent_ns, now_ns());
        store32(&page->futex, i + 1);
        futex_wake(&page->futex);
    }
}

/* --- floor-memcpy: the payload's bytes copied, to as many places as the queue has --- */

void floor_memcpy(struct worker *worker)
{
    const struct page_params *params = &worker->page->params;
    size_t size = params->size;
    unsigned char *from = malloc(size);
    unsigned char *to = calloc(params->queue, size);
    if (!from || !to)
        worker_fail(worker, "no memory for %u copies of %zu bytes", params->queue, size);
    memset(from, 1, size);
    worker_ready(worker);
    uint64_t copies = 0;
    while (!worker_reached(worker, PHASE_STOP)) {
        for (size_t i = 0; i < params->queue; i++) {
            memcpy(to + i * size, from, size);
            /* What is written must be written, as if another process could see it. */
            __asm__ volatile("" : : "r"(to) : "memory");
        }
        copies += params->queue;
    }
    worker->self->end_ns = now_ns();
    worker->self->sent = worker->self->got = copies;
    free(from);
    free(to);
}

/* --- floor-spsc: one sender, one receiver, one ring; no order of death, no counts, no bounds ---
 */

static size_t slot_size(const struct page_params *params)
{
    return (params->size + PAGE_LINE - 1) / PAGE_LINE * PAGE_LINE;
}

void floor_spsc_send(struct worker *worker)
{
    struct page *page = worker->page;
    size_t slot = slot_size(&page->params), size = page->params.size;
    uint64_t queue = page->params.queue, tail = 0, head = 0, index = 0;
    unsigned char *payload = calloc(1, size);
    if (!payload)
        worker_fail(worker, "no memory for a payload of %zu bytes", size);
    worker_ready(worker);
    while (!worker_reached(worker, PHASE_STOP)) {
        if (tail - head == queue && tail - (head = load64(&page->head)) == queue) {
            spin(page->params.crowded);
            continue;
        }
        memcpy(payload, &tail, sizeof(tail));
        memcpy(page->ring + index * slot, payload, size);
        index = index + 1 == queue ? 0 : index + 1;
        store64(&page->tail, ++tail);
    }
    worker->self->sent = tail;
    free(payload);
    worker_report(worker);
}

void floor_spsc_take(struct worker *worker)
{
    struct page *page = worker->page;
    size_t slot = slot_size(&page->params);
    uint64_t queue = page->params.queue, tail = 0, head = 0, index = 0;
    worker_ready(worker);
    for (;;) {
        /* The order matters: what was sent before the drain began is seen after it. */
        int drain = worker_reached(worker, PHASE_DRAIN);
        if (head == tail && head == (tail = load64(&page->tail))) {
            if (drain)
                break;
            spin(page->params.crowded);
            continue;
        }
        uint64_t number;
        memcpy(&number, page->ring + index * slot, sizeof(number));
        if (number != head)
            worker_fail(worker, "the plain ring is broken: %llu where %llu should be",
                        (unsigned long long)number, (unsigned long long)head);
        index = index + 1 == queue ? 0 : index + 1;
        store64(&page->head, ++head);
    }
    worker->self->end_ns = now_ns();
    worker->self->got = head;
}
