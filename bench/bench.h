/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bench.h
 * What is asked of a scenario, and what it answers.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "crew.h"

/** Bytes of payload: at least a number's, at most these. */
#define BENCH_SIZE_MIN 8
#define BENCH_SIZE_MAX (16u << 20)

/** The options of the command line. */
struct bench_options {
    struct page_params params;
    struct cpus cpus;
    double seconds; /**< how long the bus is measured; each floor half of it */
    unsigned repeat;
    int json;
};

/** A bounce of floor-atomic is the unit, in which machines can be compared. */
enum bench_system {
    SYSTEM_SHMBUS,
    SYSTEM_FLOOR_ATOMIC,
    SYSTEM_FLOOR_FUTEX,
    SYSTEM_FLOOR_MEMCPY,
    SYSTEM_FLOOR_SPSC,
    SYSTEM_COUNT
};

/** Figures of one result; NAN: has none. The last two are for people, who ask why. */
enum bench_figure {
    FIGURE_MSGS_PER_S,
    FIGURE_NS_PER_PUBLISH,
    FIGURE_P50_NS,
    FIGURE_P99_NS,
    FIGURE_P999_NS,
    FIGURE_LOST,
    FIGURE_REFUSALS,    /**< a thousand messages; how often the queue was full */
    FIGURE_PER_RECEIVE, /**< messages that a receive returned */
    FIGURE_COUNT
};

/** What one system did in one scenario and mode. */
struct bench_result {
    enum bench_system system;
    int sleeping; /**< its mode */
    unsigned pubs;
    unsigned subs;
    double figure[FIGURE_COUNT];
};

/** A scenario's results in one run: shmbus first, its floors behind it, for each mode. */
#define BENCH_RESULTS_MAX 8

struct bench_results {
    unsigned count;
    struct bench_result result[BENCH_RESULTS_MAX];
};

/** Measures once and appends what it found. Returns 0, or -1 having said why. */
typedef int bench_run_fn(const struct bench_options *options, struct bench_results *results);

/** Something that can be measured. */
struct bench_scenario {
    const char *name;
    const char *what;           /**< in a line, for --help */
    enum bench_figure headline; /**< what ratios are made of */
    bench_run_fn *run;
};

extern const struct bench_scenario throughput_scenario, latency_scenario;

/** Appends a result with no figures yet, of one publisher and one subscriber. */
struct bench_result *bench_result(struct bench_results *results, enum bench_system system,
                                  int sleeping);

/** Measures a floor for half of the seconds and appends its result. Returns 0 or -1. */
int floor_run(const struct bench_options *options, enum bench_system system,
              struct bench_results *results);

/**
 * Measures on the bus, with a floor right before and right after it, and appends the mean of the
 * two behind what the bus gave. Where virtual processors wander, two cores are near at one time
 * and far at another: a run before and after which the floor differs is thrown away, whatever the
 * bus gave in it, and measured again, a few times at most. Returns 0 or -1.
 */
int floor_around(const struct bench_options *options, enum bench_system system,
                 struct bench_results *results, bench_run_fn *bus);

/** Takes the figures of round trips from the worker that pinged. */
void bench_round_trips(struct bench_result *result, const struct page_slot *ping);

#endif
