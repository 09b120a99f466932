/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stop.h"

/* How long a connect may wait between two looks at whether the user has had enough. */
#define CONNECT_SLICE_NS INT64_C(250000000)

/* Prints text with what would break the line, or the terminal, written as \xHH. */
static void put_plain(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == 0x7f)
            fprintf(file, "\\x%02x", byte);
        else
            fputc(byte, file);
    }
}

static void say(const struct tool *tool, const char *topic, const char *format, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        return;
    flockfile(stderr);
    fputs("shmbus: ", stderr);
    if (tool->command != NULL) {
        fputs(tool->command, stderr);
        if (topic != NULL)
            fputc(' ', stderr);
    }
    if (topic != NULL)
        put_plain(stderr, topic);
    if (tool->command != NULL || topic != NULL)
        fputs(": ", stderr);
    put_plain(stderr, text);
    fputc('\n', stderr);
    funlockfile(stderr);
    free(text);
}

int fail(const struct tool *tool, const char *topic, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(tool, topic, format, args);
    va_end(args);
    return END_FAILED;
}

int fail_usage(const struct tool *tool, const char *topic, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(tool, topic, format, args);
    va_end(args);
    return END_USAGE;
}

int fail_errmsg(const struct tool *tool, const char *topic)
{
    return fail(tool, topic, "%s", shmbus_errmsg());
}

/* Whether a bus may yet appear: there is none, or its coordinator is away. */
static bool absent(int rc)
{
    return rc == SHMBUS_E_NO_BUS || rc == SHMBUS_E_COORD;
}

int tool_try_connect(const struct tool *tool, uint32_t flags, struct shmbus_conn **conn)
{
    struct shmbus_connect_options options = SHMBUS_CONNECT_OPTIONS_INIT;
    options.flags = flags;
    int64_t deadline_ns = clock_now() + tool->wait_ns;
    int64_t left_ns = tool->wait_ns;
    int rc;
    do {
        options.wait_ns = left_ns < CONNECT_SLICE_NS ? left_ns : CONNECT_SLICE_NS;
        rc = shmbus_connect(tool->bus, &options, conn);
        left_ns = deadline_ns - clock_now();
    } while (absent(rc) && left_ns > 0 && !stop_requested());
    return rc < 0 && stop_requested() ? SHMBUS_INTERRUPTED : rc;
}

int tool_connect_failed(const struct tool *tool, int rc)
{
    if (rc == SHMBUS_INTERRUPTED)
        return END_DONE;
    if (rc == SHMBUS_E_NO_BUS)
        return fail(tool, NULL, "no such bus %s", tool->bus);
    if (rc == SHMBUS_E_INVALID)
        return fail_usage(tool, NULL, "%s", shmbus_errmsg());
    return fail_errmsg(tool, NULL);
}

int tool_connect(const struct tool *tool, struct shmbus_conn **conn)
{
    int rc = tool_try_connect(tool, 0, conn);
    return rc == 0 ? -1 : tool_connect_failed(tool, rc);
}

char *join_words(const char *const *words, size_t count)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (file == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        fprintf(file, "%s%s", i > 0 ? " " : "", words[i]);
    if (fclose(file) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
