/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a topic as its user gives it, text or tokens alike, one token at a time. Used by the
 * encoder and by what keeps the user's form; others want sb_topic_encode() of proto/topic.h.
 *
 * Pure functions over the caller's memory, safe from any thread.
 */
#ifndef SB_PROTO_TOPIC_ENCODE_H
#define SB_PROTO_TOPIC_ENCODE_H

#include "proto/topic.h"
#include "proto/topic_text.h"

struct sb_topic_reader {
    const struct shmbus_token *tokens;
    size_t count;
    unsigned index; /* of the token read last, from 1 */
    bool is_text;
    struct sb_text_reader text;
};

/* Starts reading; topic must stay as it is. Returns 0 or SHMBUS_E_INVALID. */
int sb_topic_read_start(struct sb_topic_reader *reader, struct shmbus_topic topic);

/*
 * Reads the next token, as it was given. Its str is never NULL and valid until the next read.
 * Returns 1; 0 after the last; SHMBUS_E_INVALID where the token breaks a rule.
 */
int sb_topic_read(struct sb_topic_reader *reader, struct shmbus_token *token);

#endif
