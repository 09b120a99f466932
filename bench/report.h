/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file report.h
 * Medians over runs, for people and for scripts.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench.h"

/** Prints where this is measured: processor, cores, kernel, version. */
void report_machine(const struct bench_options *options);

/** Prints a scenario's results of count runs, all of the same systems in the same order. */
void report_scenario(const struct bench_options *options, const struct bench_scenario *scenario,
                     const struct bench_results *runs, unsigned count);

#endif
