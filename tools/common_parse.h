/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The values that people give on the command line and in configuration files, read strictly.
 *
 * Each function returns NULL and sets its out-parameter, or leaves it alone and returns the words
 * that say what is wanted; they follow the option and its value in a message. Pure.
 */
#ifndef TOOLS_COMMON_PARSE_H
#define TOOLS_COMMON_PARSE_H

#include <stdint.h>

/* A whole number in decimal, 0..INT64_MAX. */
const char *parse_whole(const char *text, int64_t *number);

/* A whole number of at least 1. */
const char *parse_positive(const char *text, int64_t *number);

/* A decimal number above 0, such as 20 or 0.5. */
const char *parse_rate(const char *text, double *rate);

/* Seconds, such as 3 or 0.25, at most 1e9; gives nanoseconds. */
const char *parse_seconds(const char *text, int64_t *ns);

/* Bytes: a whole number, of KiB, MiB or GiB with the suffix K, M or G. */
const char *parse_size(const char *text, uint64_t *bytes);

/* How many messages a queue holds: 1..SHMBUS_QUEUE_MAX. */
const char *parse_queue_len(const char *text, int64_t *messages);

/* What a full queue does: drop_oldest or reject_newest. */
const char *parse_full(const char *text, uint32_t *full);

/* The word for SHMBUS_DROP_OLDEST or SHMBUS_REJECT_NEWEST. */
const char *full_word(uint32_t full);

#endif
