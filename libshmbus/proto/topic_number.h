/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numbers in topics: 64-bit integers and finite doubles, equal where their values are.
 *
 * Encoded, a number is the largest double that is not above it, as 8 bytes in an order that memcmp
 * sees, and what is left, 16 bits big-endian, which is 0 unless it is an integer of more than 53
 * bits. So each value has one encoding, and encodings compare as the values do.
 *
 * Pure functions, safe from any thread.
 */
#ifndef SB_PROTO_TOPIC_NUMBER_H
#define SB_PROTO_TOPIC_NUMBER_H

#include <stdbool.h>

#include <shmbus/topic.h>

#include "base/compiler.h"

#define SB_NUMBER_LEN 10

/* Enough for the text of any number, with a NUL. */
#define SB_NUMBER_TEXT_MAX 32

/* Encodes a SHMBUS_INT or a SHMBUS_DOUBLE that is finite. */
void sb_number_put(const struct shmbus_token *token, uint8_t out[SB_NUMBER_LEN]);

/* Decodes any bytes into a canonical token: SHMBUS_INT where the value is integral and in range.
 * False, with *token untouched, if no number is encoded so. */
bool sb_number_get(const uint8_t in[SB_NUMBER_LEN], struct shmbus_token *token);

/* Reads [-]digits[.digits][e[+-]digits], all of it, in any locale. A number that overflows becomes
 * an infinity, and one written without fraction and exponent a SHMBUS_INT where it fits. False,
 * with *token untouched, if it is no number. */
bool sb_number_parse(const char *text, size_t len, struct shmbus_token *token);

/* Writes the shortest text that sb_number_parse() reads back as the same value; returns its
 * length. The token is a SHMBUS_INT or a SHMBUS_DOUBLE. */
size_t sb_number_format(const struct shmbus_token *token, char out[SB_NUMBER_TEXT_MAX]);

#endif
