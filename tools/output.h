/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard output, a line at a time and unbuffered: what was written is with the reader, and a line
 * of up to PIPE_BUF bytes is never mixed with another writer's.
 */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <stdbool.h>
#include <sys/uio.h>

#include <jansson.h>
#include <shmbus/subscribe.h>

/*
 * Each write returns 0; 1 when writing has come to a clean end (nobody reads any more, or SIGINT or
 * SIGTERM came while it was blocked); or a negative errno. The parts are changed.
 */
int out_parts(struct iovec *parts, int count);

/* The bytes as they are. */
int out_text(const char *text, size_t size);

/* The object on a line, and gives it up. NULL counts as memory having run out. */
int out_json(json_t *object);

/* Whether nobody will ever read what would be written next. Never blocks. */
bool out_abandoned(void);

/* All that is known of a message. NULL if memory ran out. (message_json.c) */
json_t *json_message(const struct shmbus_message *message);

/* The word for SHMBUS_BYTES … SHMBUS_PROTOBUF; NULL for others. */
const char *encoding_word(unsigned encoding);

#endif
