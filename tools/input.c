/* SPDX-License-Identifier: Apache-2.0 */
#include "input.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stop.h"

#define ROOM_MIN (64u * 1024u)

/* More than any payload can be: reading on would be of no use. */
#define INPUT_MAX ((size_t)UINT32_MAX)

/* Makes room to read on: first by letting go of the lines that were given. */
static int make_room(struct input *input)
{
    if (input->start > 0) {
        memmove(input->bytes, input->bytes + input->start, input->used - input->start);
        input->used -= input->start;
        input->start = 0;
    }
    if (input->capacity - input->used >= ROOM_MIN / 2)
        return 0;
    if (input->used >= INPUT_MAX)
        return -EFBIG;
    size_t capacity = input->capacity > 0 ? 2 * input->capacity : ROOM_MIN;
    char *bytes = realloc(input->bytes, capacity);
    if (bytes == NULL)
        return -ENOMEM;
    input->bytes = bytes;
    input->capacity = capacity;
    return 0;
}

/* Reads once, when there is something. */
static int read_more(struct input *input)
{
    int rc = make_room(input);
    if (rc < 0)
        return rc;
    if (!stop_wait(input->fd))
        return INPUT_STOP;
    ssize_t got = read(input->fd, input->bytes + input->used, input->capacity - input->used);
    if (got > 0)
        input->used += (size_t)got;
    else if (got == 0)
        input->ended = true;
    else if (errno != EINTR && errno != EAGAIN)
        return -errno;
    return INPUT_READY;
}

int input_line(struct input *input, const char **line, size_t *size)
{
    size_t looked = 0; /* bytes after start that hold no newline */
    for (;;) {
        size_t left = input->used - input->start;
        const char *first = left > 0 ? input->bytes + input->start : "";
        const char *newline = left > looked ? memchr(first + looked, '\n', left - looked) : NULL;
        if (newline != NULL || (input->ended && left > 0)) {
            *line = first;
            *size = newline != NULL ? (size_t)(newline - first) : left;
            input->start += newline != NULL ? *size + 1 : left;
            return INPUT_READY;
        }
        if (input->ended)
            return INPUT_END;
        looked = left;
        int rc = read_more(input);
        if (rc != INPUT_READY)
            return rc;
    }
}

int input_all(struct input *input, const char **bytes, size_t *size)
{
    while (!input->ended) {
        int rc = read_more(input);
        if (rc != INPUT_READY)
            return rc;
    }
    *size = input->used - input->start;
    *bytes = *size > 0 ? input->bytes + input->start : "";
    return INPUT_READY;
}

void input_deinit(struct input *input)
{
    free(input->bytes);
    *input = (struct input){.fd = input->fd, .ended = true};
}
