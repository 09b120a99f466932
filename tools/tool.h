/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands of shmbus share: what they were asked, how they fail, how they end.
 *
 * A command is a function in a file of its own, cmd_NAME.c, listed in shmbus.c. It reads its
 * options through args.h, writes through output.h, and returns the exit status.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shmbus/connection.h>

/* Exit statuses that scripts rely on. */
enum { END_DONE = 0, END_FAILED = 1, END_USAGE = 2, END_TIMEOUT = 3 };

/* What was said for all commands alike. */
struct tool {
    const char *command; /* for messages; NULL before it is known */
    const char *bus;
    int64_t wait_ns; /* for the bus to appear */
    bool json;
};

struct command {
    const char *name;
    const char *summary;
    int (*run)(struct tool *tool, int argc, char **argv); /* argv[0] is the command's name */
};

extern const struct command command_pub;
extern const struct command command_sub;
extern const struct command command_stat;

/*
 * One line on standard error, `shmbus: COMMAND[ TOPIC]: what is wrong`; topic may be NULL. Control
 * characters are written as \xHH, so that it stays one line. Returns the status to exit with:
 * END_FAILED and END_USAGE.
 */
int fail(const struct tool *tool, const char *topic, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int fail_usage(const struct tool *tool, const char *topic, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* fail() with what the library has said of its last failure. */
int fail_errmsg(const struct tool *tool, const char *topic);

/*
 * Connects, waiting for the bus as long as was asked for. Returns as shmbus_connect(), and
 * SHMBUS_INTERRUPTED where the user has asked for the end.
 */
int tool_try_connect(const struct tool *tool, uint32_t flags, struct shmbus_conn **conn);

/* Says what a connect that returned rc has failed of, and returns the status to exit with. */
int tool_connect_failed(const struct tool *tool, int rc);

/* Both: returns -1 and *conn to go on, else the status to exit with. */
int tool_connect(const struct tool *tool, struct shmbus_conn **conn);

/* The words with a space between them, to be freed; NULL if memory ran out. */
char *join_words(const char *const *words, size_t count);

/* For a local connection that ends with its scope. */
#define AUTO_CONN __attribute__((cleanup(tool_disconnect))) struct shmbus_conn
static inline void tool_disconnect(struct shmbus_conn **conn)
{
    shmbus_conn_free(*conn);
}

#endif
