/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Linux tells of itself below /proc, as JSON objects.
 */
#ifndef EXAMPLES_TELEMETRY_READINGS_H
#define EXAMPLES_TELEMETRY_READINGS_H

#include <stdint.h>

#include <jansson.h>

/* What a reading is about. */
enum reading_kind { READING_CPU, READING_MEM, READING_NET, READING_PROC, READING_KINDS };

/* One reading. */
struct reading {
    enum reading_kind kind;
    int64_t number;   /* of the CPU or the process */
    const char *name; /* of the network interface, else "" */
    json_t *figures;  /* the caller of take gives it up */
};

/* The word for a kind in topics and reports. */
const char *reading_word(enum reading_kind kind);

/*
 * Reads everything once and calls take for each reading: CPUs, memory, interfaces, processes. A
 * process or file that vanishes meanwhile is left out. Returns 0, or the first value other than 0
 * that take has returned.
 */
int readings_take(int (*take)(const struct reading *reading, void *arg), void *arg);

#endif
