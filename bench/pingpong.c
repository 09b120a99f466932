/* SPDX-License-Identifier: Apache-2.0 */
#include "pingpong.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Rounds that are not counted, unless they take long: first touches of memory, first requests to
 * the coordinator. Busy ones go once round a queue of the default length. */
#define WARMUP_BUSY 5000
#define WARMUP_SLEEPING 100
#define WARMUP_NS 10000000

/* From asleep to idle: the kernel's way through the scheduler, with room. */
#define SETTLE_NS 20000

/* The median of many: what is common, whatever interrupts. */
static uint64_t clock_cost(void)
{
    static struct hist cost;
    uint64_t last = now_ns();
    for (int i = 0; i < 10000; i++) {
        uint64_t now = now_ns();
        hist_add(&cost, now - last);
        last = now;
    }
    return (uint64_t)hist_quantile(&cost, 0.5);
}

void pingpong_start(struct pingpong *pp, struct worker *worker)
{
    memset(pp, 0, sizeof(*pp));
    pp->worker = worker;
    pp->clock_ns = clock_cost();
    pp->start_ns = pp->last_ns = now_ns();
}

/* A round that took ns, clock reads included, and has ended. */
static void count(struct pingpong *pp, uint64_t ns, uint64_t clock_reads, uint64_t end_ns)
{
    uint64_t clock_ns = clock_reads * pp->clock_ns;
    uint64_t warmup = pp->worker->page->params.sleeping ? WARMUP_SLEEPING : WARMUP_BUSY;
    if (pp->warm)
        hist_add(&pp->hist, ns > clock_ns ? ns - clock_ns : 0);
    else
        pp->warm = ++pp->rounds >= warmup || end_ns - pp->start_ns >= WARMUP_NS;
}

void pingpong_round(struct pingpong *pp)
{
    uint64_t now = now_ns();
    count(pp, now - pp->last_ns, 1, now);
    pp->last_ns = now;
}

void pingpong_ways(struct pingpong *pp, uint64_t sent_ns, uint64_t got_ns)
{
    const struct page *page = pp->worker->page;
    uint64_t there = load64(&page->echo_got_ns) - sent_ns;
    uint64_t back = got_ns - load64(&page->echo_sent_ns);
    count(pp, there + back, 2, got_ns);
}

void pingpong_finish(struct pingpong *pp)
{
    struct page_slot *self = pp->worker->self;
    if (pp->hist.count == 0)
        worker_fail(pp->worker,
                    "no round trip was measured after %llu to warm up: it takes more --seconds",
                    (unsigned long long)pp->rounds);
    self->rounds = pp->hist.count;
    self->p50_ns = hist_quantile(&pp->hist, 0.5);
    self->p99_ns = hist_quantile(&pp->hist, 0.99);
    self->p999_ns = hist_quantile(&pp->hist, 0.999);
}

int asleep_open(struct worker *worker)
{
    char path[64];
    int pid = worker_peer(worker)->pid;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        worker_fail(worker, "cannot open %s to see that its process sleeps: %s", path,
                    strerror(errno));
    return fd;
}

/* The state is the letter behind the name, which is in parentheses and may hold some itself. */
static int is_asleep(struct worker *worker, int fd)
{
    char line[128];
    ssize_t got = pread(fd, line, sizeof(line) - 1, 0);
    if (got <= 0)
        worker_fail(worker, "cannot read /proc/PID/stat: %s", strerror(got < 0 ? errno : ESRCH));
    line[got] = '\0';
    const char *name_end = strrchr(line, ')');
    return name_end && strncmp(name_end, ") S ", 4) == 0;
}

void asleep_wait(struct worker *worker, int fd)
{
    while (!is_asleep(worker, fd)) {
        if (worker_reached(worker, PHASE_STOP))
            return;
        spin(worker->page->params.crowded);
    }
    uint64_t start = now_ns();
    while (now_ns() - start < SETTLE_NS)
        spin(worker->page->params.crowded);
}
