/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hist.h
 * A histogram of times in fixed memory, after the idea of HdrHistogram: each power of two is cut
 * into the same number of parts, so that every value is known to within 1/128 of itself.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

/** Powers of two below 2^HIST_WHOLE_BITS are exact; values from 2^HIST_MAX_BITS on are its last. */
#define HIST_WHOLE_BITS 8
#define HIST_MAX_BITS 40
#define HIST_PARTS (1u << (HIST_WHOLE_BITS - 1))
#define HIST_CELLS ((HIST_MAX_BITS - HIST_WHOLE_BITS + 2) * HIST_PARTS)

/** Zeroed memory is an empty histogram. One thread at a time. */
struct hist {
    uint64_t count;
    uint64_t cell[HIST_CELLS];
};

/** Counts one value. */
void hist_add(struct hist *hist, uint64_t value);

/** The smallest value that at least share (0..1) of the values do not exceed; 0 of none. */
double hist_quantile(const struct hist *hist, double share);

#endif
