/* SPDX-License-Identifier: Apache-2.0 */
/* shmbus pub: publishes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmbus/publish.h>
#include <shmbus/stats.h>

#include "args.h"
#include "common_parse.h"
#include "input.h"
#include "output.h"
#include "stop.h"

static const char usage[] =
    "usage: shmbus pub TOPIC PAYLOAD | TOPIC -l | TOPIC -s | TOPIC -f FILE\n"
    "\n"
    "Publishes one message, or with -l one for each line of standard input.\n"
    "\n"
    "  -l                 each line of standard input, without its newline\n"
    "  -s                 all of standard input\n"
    "  -f FILE            all of FILE\n"
    "  --count N          publish each message N times\n"
    "  --rate HZ          publish at most HZ times a second\n"
    "  --encoding TAG     what the payload is: bytes (default), utf8, json, cbor, msgpack, "
    "protobuf\n"
    "  --json             print a line for each publish: topic, seq, matched, refused\n"
    "\n"
    "A wildcard of the bus in TOPIC must be escaped, such as \\+ or \\#. What begins with - comes\n"
    "after --, which ends the options.\n";

enum { OPTION_COUNT = ARGS_OWN, OPTION_RATE, OPTION_ENCODING, OPTION_EXTRA };

static const struct option longs[] = {{"count", required_argument, NULL, OPTION_COUNT},
                                      {"rate", required_argument, NULL, OPTION_RATE},
                                      {"encoding", required_argument, NULL, OPTION_ENCODING},
                                      {"extra", required_argument, NULL, OPTION_EXTRA},
                                      {0}};

/* Where payloads come from. */
enum source { SOURCE_ARGUMENT, SOURCE_LINES, SOURCE_STDIN, SOURCE_FILE };

struct pub {
    struct tool *tool;
    const char *topic;
    const char *payload; /* of SOURCE_ARGUMENT */
    const char *path;    /* of SOURCE_FILE */
    enum source source;
    int64_t count;
    double rate; /* 0: as fast as it goes */
    struct shmbus_publish_options options;
    struct shmbus_publisher *publisher;
    int64_t started_ns;
    int64_t published;
    char text[SHMBUS_TOPIC_TEXT_MAX + 1]; /* the topic as the library writes it */
};

static const char *parse_encoding(const char *text, uint32_t *encoding)
{
    for (unsigned i = SHMBUS_BYTES; i <= SHMBUS_PROTOBUF; i++) {
        if (strcmp(text, encoding_word(i)) == 0) {
            *encoding = i;
            return NULL;
        }
    }
    return "bytes, utf8, json, cbor, msgpack or protobuf is wanted; this version has no others";
}

/* Takes one option; NULL, or what is wrong with its value. */
static const char *take_option(struct pub *pub, int option, const char **name)
{
    switch (option) {
    case OPTION_COUNT:
        *name = "--count";
        return parse_positive(optarg, &pub->count);
    case OPTION_RATE:
        *name = "--rate";
        return parse_rate(optarg, &pub->rate);
    case OPTION_ENCODING:
        *name = "--encoding";
        return parse_encoding(optarg, &pub->options.encoding);
    default:
        *name = "--extra";
        return "messages carry no pairs beside their payload in this version";
    }
}

/* Reads the arguments. Returns -1 to go on, else the status to exit with. */
static int read_args(struct pub *pub, int argc, char **argv)
{
    struct args args = {.tool = pub->tool,
                        .argc = argc,
                        .argv = argv,
                        .usage = usage,
                        .shorts = "lsf:",
                        .longs = longs};
    int sources = 0;
    for (int option = args_next(&args); option != ARGS_END; option = args_next(&args)) {
        if (option == ARGS_STOP)
            return args.end;
        if (option == 'l' || option == 's' || option == 'f') {
            sources++;
            pub->source = option == 'l' ? SOURCE_LINES : option == 's' ? SOURCE_STDIN : SOURCE_FILE;
            pub->path = optarg;
            continue;
        }
        const char *name;
        const char *sentence = take_option(pub, option, &name);
        if (sentence != NULL)
            return args_bad_value(&args, name, sentence);
    }
    int words = argc - optind;
    if (words == 0)
        return fail_usage(pub->tool, NULL, "a topic is wanted; see shmbus pub --help");
    pub->topic = argv[optind];
    pub->payload = words > 1 ? argv[optind + 1] : NULL;
    if (words > 2 || sources + (words - 1) != 1)
        return fail_usage(pub->tool, pub->topic,
                          "one of PAYLOAD, -l, -s and -f FILE is wanted; see shmbus pub --help");
    return -1;
}

/*
 * A wildcard in a topic stands for itself in the library. Here it is refused, because whoever types
 * one most likely meant a pattern. Also sets pub->text. Returns -1 to go on, else the status to
 * exit with.
 */
static int check_topic(struct pub *pub, struct shmbus_conn *conn)
{
    struct shmbus_bus_stats bus;
    if (shmbus_bus_stats(conn, &bus, sizeof(bus)) < 0)
        return fail_errmsg(pub->tool, pub->topic);
    struct shmbus_wildcards wildcards = {.s_wild = bus.s_wild, .m_wild = bus.m_wild};
    struct shmbus_topic topic = shmbus_text(pub->topic);
    if (shmbus_topic_format(topic, SHMBUS_AS_TOPIC, &wildcards, pub->text, sizeof(pub->text),
                            NULL) < 0)
        return fail_usage(pub->tool, pub->topic, "%s", shmbus_errmsg());
    if (shmbus_topic_validate(topic, SHMBUS_AS_CONCRETE, &wildcards) == 0)
        return -1;
    return fail_usage(pub->tool, pub->topic,
                      "a wildcard cannot be published to; if the token itself is meant, write '%s'",
                      pub->text);
}

/* Publishes one payload as often as was asked for. Returns -1 to go on, else the exit status. */
static int publish(struct pub *pub, const char *payload, size_t size)
{
    for (int64_t i = 0; i < pub->count; i++, pub->published++) {
        int64_t due_ns = pub->started_ns;
        if (pub->rate > 0)
            due_ns += (int64_t)((double)pub->published * 1e9 / pub->rate);
        if (stop_requested() || !stop_sleep(due_ns))
            return END_DONE;
        struct shmbus_delivery delivery;
        if (shmbus_publisher_publish(pub->publisher, payload, size, NULL, &delivery) < 0)
            return fail_errmsg(pub->tool, pub->topic);
        if (!pub->tool->json)
            continue;
        json_t *line = json_pack("{ss sI sI sI}", "topic", pub->text, "seq",
                                 (json_int_t)delivery.seq, "matched", (json_int_t)delivery.matched,
                                 "refused", (json_int_t)delivery.refused);
        int rc = out_json(line);
        if (rc != 0)
            return rc > 0 ? END_DONE
                          : fail(pub->tool, pub->topic, "standard output: %s", strerror(-rc));
    }
    return -1;
}

/* Publishes what input has. Returns as publish(). */
static int publish_input(struct pub *pub, struct input *input, const char *name)
{
    const char *bytes;
    size_t size;
    int end = -1;
    int rc = INPUT_READY;
    if (pub->source == SOURCE_LINES) {
        while (end < 0 && (rc = input_line(input, &bytes, &size)) == INPUT_READY)
            end = publish(pub, bytes, size);
    } else {
        rc = input_all(input, &bytes, &size);
        if (rc == INPUT_READY)
            end = publish(pub, bytes, size);
    }
    if (rc < 0)
        end = fail(pub->tool, pub->topic, "%s: %s", name, strerror(-rc));
    input_deinit(input);
    return end;
}

static int publish_file(struct pub *pub)
{
    struct input input = {.fd = open(pub->path, O_RDONLY | O_CLOEXEC)};
    if (input.fd < 0 && stop_requested())
        return END_DONE; /* a FIFO that nobody has opened for writing */
    if (input.fd < 0)
        return fail(pub->tool, pub->topic, "%s: %s", pub->path, strerror(errno));
    int end = publish_input(pub, &input, pub->path);
    close(input.fd);
    return end;
}

/* Returns -1 when all is published, else the status to exit with. */
static int publish_source(struct pub *pub)
{
    pub->started_ns = clock_now();
    switch (pub->source) {
    case SOURCE_ARGUMENT:
        return publish(pub, pub->payload, strlen(pub->payload));
    case SOURCE_FILE:
        return publish_file(pub);
    default:
        return publish_input(pub, &(struct input){.fd = STDIN_FILENO}, "standard input");
    }
}

static int run(struct tool *tool, int argc, char **argv)
{
    struct pub pub = {.tool = tool, .count = 1, .options = SHMBUS_PUBLISH_OPTIONS_INIT};
    int end = read_args(&pub, argc, argv);
    if (end >= 0)
        return end;
    if (shmbus_topic_validate(shmbus_text(pub.topic), SHMBUS_AS_TOPIC, NULL) < 0)
        return fail_usage(tool, pub.topic, "%s", shmbus_errmsg());
    AUTO_CONN *conn = NULL;
    end = tool_connect(tool, &conn);
    if (end < 0)
        end = check_topic(&pub, conn);
    if (end >= 0)
        return end;
    if (shmbus_prepare(conn, shmbus_text(pub.topic), &pub.options, &pub.publisher) < 0)
        return fail_errmsg(tool, pub.topic);
    end = publish_source(&pub);
    shmbus_publisher_free(pub.publisher);
    return end < 0 ? END_DONE : end;
}

const struct command command_pub = {
    .name = "pub",
    .summary = "publish a message, or one for each line of standard input",
    .run = run,
};
