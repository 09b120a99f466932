/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads from a descriptor: all of it, or a line at a time. SIGINT and SIGTERM end a read.
 */
#ifndef TOOLS_INPUT_H
#define TOOLS_INPUT_H

#include <stdbool.h>
#include <stddef.h>

/* A descriptor and what has been read of it. Start from {.fd = fd}; end with input_deinit(). */
struct input {
    int fd;
    bool ended;
    char *bytes;
    size_t start; /* where the line that was given last ends */
    size_t used;
    size_t capacity;
};

/* What the reads return beside a negative errno. */
enum { INPUT_READY = 0, INPUT_END = 1, INPUT_STOP = 2 };

/*
 * The next line without its newline, valid until the next call; the last one may lack the newline.
 * INPUT_END after the last line, INPUT_STOP when the user has asked for the end.
 */
int input_line(struct input *input, const char **line, size_t *size);

/* All that is left. INPUT_STOP when the user has asked for the end. */
int input_all(struct input *input, const char **bytes, size_t *size);

/* Frees what was read; the descriptor stays open. */
void input_deinit(struct input *input);

#endif
