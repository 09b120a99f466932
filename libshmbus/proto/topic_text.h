/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text form of topics, token by token (contract T4). Callers outside of topic*.c want
 * sb_topic_encode() and sb_topic_format() of proto/topic.h.
 *
 * Pure functions over the caller's memory, safe from any thread.
 */
#ifndef SB_PROTO_TOPIC_TEXT_H
#define SB_PROTO_TOPIC_TEXT_H

#include <stdbool.h>

#include <shmbus/topic.h>

#include "base/compiler.h"

/* Where text goes. What does not fit whole, and all after it, is counted and not written. */
struct sb_sink {
    char *buf;
    size_t size;    /* of buf */
    size_t written; /* always below size, or 0: a NUL fits behind it */
    size_t len;     /* what there would be with room enough */
};

/* A sink over size bytes, of which one is kept for the NUL; buf may be NULL if size is 0. */
void sb_sink_init(struct sb_sink *sink, char *buf, size_t size);

/* Appends len bytes, all or none. */
void sb_sink_put(struct sb_sink *sink, const char *bytes, size_t len);

/* Ends what was written with a NUL, where there is a buffer. True if everything fitted. */
bool sb_sink_end(struct sb_sink *sink);

/* Appends a string or number token. With hide, a string's first byte is written as \xHH, so that
 * the string is read as a literal. */
void sb_text_put_token(struct sb_sink *sink, const struct shmbus_token *token, bool hide);

/* Appends text for a person to read: as it is, but for what cannot be shown, which is written as
 * \xHH. */
void sb_text_put_raw(struct sb_sink *sink, const char *text, size_t len);

/* Reads the tokens of a text. */
struct sb_text_reader {
    const char *at;                     /* the next token; NULL after the last */
    const char *token;                  /* the token read last, as it stands in the text */
    size_t token_len;                   /* and how long it is there */
    unsigned index;                     /* of the token read last, from 1 */
    char bytes[SHMBUS_TOKEN_BYTES_MAX]; /* what a token that holds escapes points to */
};

/* Starts reading text, which is not copied. Returns 0 or SHMBUS_E_INVALID (empty). */
int sb_text_start(struct sb_text_reader *reader, const char *text);

/*
 * Reads the next token. Its str is valid until the next read; literal is set if it holds an escape.
 * Returns 1; 0 after the last; SHMBUS_E_INVALID for a bad escape or number.
 * A string that is too long has its real len; its first SHMBUS_TOKEN_BYTES_MAX bytes can be read.
 */
int sb_text_read(struct sb_text_reader *reader, struct shmbus_token *token);

#endif
