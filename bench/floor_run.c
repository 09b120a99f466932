/* SPDX-License-Identifier: Apache-2.0 */
/* The floors, as their parent runs them. */
#include <math.h>
#include <stdio.h>

#include "bench.h"

struct bench_result *bench_result(struct bench_results *results, enum bench_system system,
                                  int sleeping)
{
    struct bench_result *result = &results->result[results->count++];
    *result = (struct bench_result){.system = system, .sleeping = sleeping, .pubs = 1, .subs = 1};
    for (int i = 0; i < FIGURE_COUNT; i++)
        result->figure[i] = NAN;
    return result;
}

void bench_round_trips(struct bench_result *result, const struct page_slot *ping)
{
    result->figure[FIGURE_P50_NS] = ping->p50_ns;
    result->figure[FIGURE_P99_NS] = ping->p99_ns;
    result->figure[FIGURE_P999_NS] = ping->p999_ns;
}

/* Which workers make a floor. */
static const struct floor {
    enum role role[2];
    unsigned workers;
    unsigned drained; /* workers that report when they stop, before the others drain */
    int ring;
} floors[SYSTEM_COUNT] = {
    [SYSTEM_FLOOR_ATOMIC] = {{ROLE_ATOMIC_PING, ROLE_ATOMIC_ECHO}, 2, 0, 0},
    [SYSTEM_FLOOR_FUTEX] = {{ROLE_FUTEX_PING, ROLE_FUTEX_ECHO}, 2, 0, 0},
    [SYSTEM_FLOOR_MEMCPY] = {{ROLE_MEMCPY, ROLE_MEMCPY}, 1, 0, 0},
    [SYSTEM_FLOOR_SPSC] = {{ROLE_SPSC_SEND, ROLE_SPSC_TAKE}, 2, 1, 1},
};

static int run(struct crew *crew, const struct floor *floor, double seconds)
{
    for (unsigned i = 0; i < floor->workers; i++)
        if (crew_start(crew, floor->role[i], 1) != 0)
            return -1;
    if (crew_run(crew, seconds) != 0 || crew_advance(crew, floor->drained, PHASE_DRAIN) != 0)
        return -1;
    return crew_finish(crew);
}

static void take(struct bench_result *result, const struct page *page, const struct floor *floor)
{
    const struct page_slot *last = &page->slot[floor->workers - 1];
    if (page->slot[0].rounds > 0) {
        bench_round_trips(result, &page->slot[0]);
        return;
    }
    double seconds = (double)(last->end_ns - page->go_ns) * 1e-9;
    result->figure[FIGURE_MSGS_PER_S] = (double)last->got / seconds;
}

/* Measures a floor once. Returns 0 or -1. */
static int measure(const struct bench_options *options, enum bench_system system, double seconds,
                   struct bench_results *results)
{
    const struct floor *floor = &floors[system];
    struct page_params params = options->params;
    params.sleeping = system == SYSTEM_FLOOR_FUTEX;
    params.crowded = (int)floor->workers > options->cpus.count;
    size_t slot = (params.size + PAGE_LINE - 1) / PAGE_LINE * PAGE_LINE;

    struct crew crew;
    int status = crew_open(&crew, &params, floor->ring ? slot * params.queue : 0, &options->cpus);
    if (status == 0)
        status = run(&crew, floor, seconds);
    if (status == 0) {
        struct bench_result *result = bench_result(results, system, (int)params.sleeping);
        take(result, crew.page, floor);
        if (floor->workers == 1)
            result->subs = 0;
    }
    crew_close(&crew);
    return status;
}

int floor_run(const struct bench_options *options, enum bench_system system,
              struct bench_results *results)
{
    return measure(options, system, options->seconds / 2, results);
}

/* A floor that changes more than that from before to after a run is that of another machine. */
#define SAME_MACHINE 1.5

/* Runs of the bus whose floor changed are thrown away, but for the last. */
#define TRIES 4

static int same_machine(const struct bench_results *floor, int last)
{
    double before = floor->result[0].figure[FIGURE_P50_NS];
    double after = floor->result[1].figure[FIGURE_P50_NS];
    if (before <= SAME_MACHINE * after && after <= SAME_MACHINE * before)
        return 1;
    fprintf(
        stderr,
        "shmbus-bench: the floor's round trip was %.0f ns before a run and %.0f ns after it: %s\n",
        before, after, last ? "do not rely on its ratios" : "it is measured again");
    return 0;
}

/* Long enough for some round trips also where others want the cores. */
#define SECONDS_MIN 0.2

int floor_around(const struct bench_options *options, enum bench_system system,
                 struct bench_results *results, bench_run_fn *bus)
{
    struct bench_results floor;
    double seconds = options->seconds > 4 * SECONDS_MIN ? options->seconds / 4 : SECONDS_MIN;
    unsigned count = results->count;
    int tries = 0;
    do {
        floor.count = 0;
        results->count = count;
        if (measure(options, system, seconds, &floor) != 0 || bus(options, results) != 0 ||
            measure(options, system, seconds, &floor) != 0)
            return -1;
        tries++;
    } while (!same_machine(&floor, tries == TRIES) && tries < TRIES);
    struct bench_result *mean = &results->result[results->count++];
    *mean = floor.result[0];
    for (int i = 0; i < FIGURE_COUNT; i++)
        mean->figure[i] = (floor.result[0].figure[i] + floor.result[1].figure[i]) / 2;
    return 0;
}
