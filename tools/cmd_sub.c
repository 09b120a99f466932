/* SPDX-License-Identifier: Apache-2.0 */
/* shmbus sub: prints what is published. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shmbus/stats.h>
#include <shmbus/subscribe.h>

#include "args.h"
#include "common_parse.h"
#include "output.h"
#include "stop.h"

static const char usage[] =
    "usage: shmbus sub [OPTION…] PATTERN…\n"
    "\n"
    "Prints the payload of each message that matches one of the patterns, and a newline. Says\n"
    "`subscribed` on standard error once nothing more is missed.\n"
    "\n"
    "  -q N            messages the queue holds (the bus's default, 10 unless changed)\n"
    "  --full POLICY   what a full queue does: drop_oldest or reject_newest\n"
    "  -C COUNT        end after COUNT messages\n"
    "  -W SECONDS      end that long after `subscribed`, with exit status 3\n"
    "  -v              print the topic and a space before each payload\n"
    "  --json          print all that is known of a message\n"
    "  --no-replay     only what is published from now on\n";

enum { OPTION_FULL = ARGS_OWN, OPTION_NO_REPLAY };

static const struct option longs[] = {{"full", required_argument, NULL, OPTION_FULL},
                                      {"no-replay", no_argument, NULL, OPTION_NO_REPLAY},
                                      {0}};

struct sub {
    struct tool *tool;
    struct shmbus_sub *handle;
    struct shmbus_topic patterns[SHMBUS_PATTERNS_MAX];
    size_t pattern_count;
    char *subject; /* the patterns, for messages */
    struct shmbus_subscribe_options options;
    int64_t count;       /* messages to print; 0: no limit */
    int64_t timeout_ns;  /* -1: none */
    int64_t deadline_ns; /* from timeout_ns, once subscribed */
    int64_t printed;
    bool verbose;
};

/* Takes one option; NULL, or what is wrong with its value. */
static const char *take_option(struct sub *sub, int option, const char **name)
{
    switch (option) {
    case 'q':
        *name = "-q";
        return parse_queue_len(optarg, &sub->options.queue_len);
    case OPTION_FULL:
        *name = "--full";
        return parse_full(optarg, &sub->options.full);
    case 'C':
        *name = "-C";
        return parse_positive(optarg, &sub->count);
    case 'W':
        *name = "-W";
        return parse_seconds(optarg, &sub->timeout_ns);
    case 'v':
        sub->verbose = true;
        return NULL;
    default: /* OPTION_NO_REPLAY: nothing is retained in this version, so nothing is replayed */
        return NULL;
    }
}

/* Reads the arguments. Returns -1 to go on, else the status to exit with. */
static int read_args(struct sub *sub, int argc, char **argv)
{
    struct args args = {.tool = sub->tool,
                        .argc = argc,
                        .argv = argv,
                        .usage = usage,
                        .shorts = "q:C:W:v",
                        .longs = longs};
    for (int option = args_next(&args); option != ARGS_END; option = args_next(&args)) {
        if (option == ARGS_STOP)
            return args.end;
        const char *name;
        const char *sentence = take_option(sub, option, &name);
        if (sentence != NULL)
            return args_bad_value(&args, name, sentence);
    }
    sub->pattern_count = (size_t)(argc - optind);
    if (sub->pattern_count == 0)
        return fail_usage(sub->tool, NULL, "a pattern is wanted; see shmbus sub --help");
    if (sub->pattern_count > SHMBUS_PATTERNS_MAX)
        return fail_usage(sub->tool, NULL, "%zu patterns are too many; %d are the most",
                          sub->pattern_count, SHMBUS_PATTERNS_MAX);
    for (size_t i = 0; i < sub->pattern_count; i++)
        sub->patterns[i] = shmbus_text(argv[optind + (int)i]);
    sub->subject = join_words((const char *const *)(argv + optind), sub->pattern_count);
    return sub->subject != NULL ? -1 : fail(sub->tool, NULL, "memory ran out");
}

/* Prints one message; as out_parts(). */
static int print(const struct sub *sub, const struct shmbus_message *message)
{
    if (sub->tool->json)
        return out_json(json_message(message));
    struct iovec parts[] = {
        {.iov_base = (char *)message->topic->text, .iov_len = message->topic->text_len},
        {.iov_base = " ", .iov_len = 1},
        {.iov_base = (void *)message->payload, .iov_len = message->size},
        {.iov_base = "\n", .iov_len = 1},
    };
    return sub->verbose ? out_parts(parts, 4) : out_parts(parts + 2, 2);
}

/*
 * Receives and prints one message. Returns -1 to go on, else the status to exit with; *rc says what
 * the receive did.
 */
static int step(struct sub *sub, int64_t timeout_ns, int *rc)
{
    struct shmbus_message message;
    *rc = shmbus_recv(sub->handle, &message, timeout_ns);
    if (*rc < 0)
        return fail_errmsg(sub->tool, sub->subject);
    if (*rc == SHMBUS_CLOSED)
        return fail(sub->tool, sub->subject, "%s", shmbus_sub_why(sub->handle));
    if (*rc != 0)
        return stop_requested() || out_abandoned() ? END_DONE : -1;
    int written = print(sub, &message);
    shmbus_release(&message);
    if (written < 0)
        return fail(sub->tool, sub->subject, "standard output: %s", strerror(-written));
    return written > 0 || ++sub->printed == sub->count || stop_requested() ? END_DONE : -1;
}

/* The time is over: prints what is queued, and not what goes on arriving. */
static int finish(struct sub *sub)
{
    struct shmbus_queue_stats stats;
    if (shmbus_sub_stats(sub->handle, &stats, sizeof(stats)) < 0)
        return fail_errmsg(sub->tool, sub->subject);
    for (uint64_t left = stats.queued; left > 0; left--) {
        int rc;
        int end = step(sub, 0, &rc);
        if (end >= 0)
            return end;
        if (rc != 0)
            break;
    }
    return END_TIMEOUT;
}

/* Prints messages until something ends it. */
static int follow(struct sub *sub)
{
    for (;;) {
        int64_t timeout_ns = STOP_LOOK_NS;
        if (sub->timeout_ns >= 0) {
            int64_t left_ns = sub->deadline_ns - clock_now();
            if (left_ns <= 0)
                return finish(sub);
            timeout_ns = left_ns < timeout_ns ? left_ns : timeout_ns;
        }
        int rc;
        int end = step(sub, timeout_ns, &rc);
        if (end >= 0)
            return end;
    }
}

static int subscribe_and_follow(struct sub *sub)
{
    AUTO_CONN *conn = NULL;
    int end = tool_connect(sub->tool, &conn);
    if (end >= 0)
        return end;
    int rc =
        shmbus_subscribe_many(conn, sub->patterns, sub->pattern_count, &sub->options, &sub->handle);
    if (rc == SHMBUS_E_INVALID)
        return fail_usage(sub->tool, sub->subject, "%s", shmbus_errmsg());
    if (rc < 0)
        return fail_errmsg(sub->tool, sub->subject);
    sub->deadline_ns = clock_now() + (sub->timeout_ns > 0 ? sub->timeout_ns : 0);
    fputs("subscribed\n", stderr);
    end = follow(sub);
    shmbus_sub_free(sub->handle);
    return end;
}

static int run(struct tool *tool, int argc, char **argv)
{
    struct sub sub = {.tool = tool, .timeout_ns = -1, .options = SHMBUS_SUBSCRIBE_OPTIONS_INIT};
    int end = read_args(&sub, argc, argv);
    if (end < 0)
        end = subscribe_and_follow(&sub);
    free(sub.subject);
    return end;
}

const struct command command_sub = {
    .name = "sub",
    .summary = "print what is published to the topics of one or several patterns",
    .run = run,
};
