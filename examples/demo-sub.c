/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A subscriber of the demonstration: receives, as slowly as it is told to, until SIGTERM, and then
 * shows that its books are right. It keeps books of its own and compares them with the bus's.
 *
 * usage: demo-sub --bus NAME [--queue N] [--full POLICY] [--delay-ms MS] NAME PATTERN…
 *
 * Prints `subscribed` on standard error once active. After SIGTERM it unsubscribes, so that nothing
 * more is admitted, reads the figures, drains the queue and prints one line of words and numbers:
 *
 *     NAME offered N received N queued N dropped N drained N lost N balance right|wrong
 *
 * received, queued and dropped are the bus's figures at that moment. drained is how many messages
 * then came, and lost the sum of lost_before of all messages. The exit status is 0 if
 *
 *     offered = received + queued + dropped,  drained = queued,  lost <= dropped,
 *
 * and received is what it has counted. (lost falls short of dropped by the drops of a
 * `reject_newest` queue that no later message has followed.)
 */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <shmbus/shmbus.h>

/* How long a receive may block: SIGTERM between the look at `stopped` and the receive costs that.
 */
#define RECEIVE_NS INT64_C(200000000)

struct reader {
    const char *bus;
    const char *name;
    int64_t delay_ms;
    struct shmbus_subscribe_options options;
    struct shmbus_topic patterns[SHMBUS_PATTERNS_MAX];
    size_t pattern_count;
    uint64_t received;
    uint64_t lost;
};

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

/* Receives one message; as shmbus_recv(). */
static int receive(struct reader *reader, struct shmbus_sub *sub, int64_t timeout_ns)
{
    struct shmbus_message message;
    int rc = shmbus_recv(sub, &message, timeout_ns);
    if (rc != 0)
        return rc;
    reader->received++;
    reader->lost += message.lost_before;
    shmbus_release(&message);
    return 0;
}

/* Receives until SIGTERM. Returns 0, or why receiving is no longer possible. */
static int follow(struct reader *reader, struct shmbus_sub *sub)
{
    struct timespec delay = {.tv_sec = reader->delay_ms / 1000,
                             .tv_nsec = reader->delay_ms % 1000 * 1000000};
    while (!stopped) {
        int rc = receive(reader, sub, RECEIVE_NS);
        if (rc < 0 || rc == SHMBUS_CLOSED)
            return rc;
        if (rc == 0 && reader->delay_ms > 0)
            nanosleep(&delay, NULL); /* the slowness that is shown */
    }
    return 0;
}

/* Compares the bus's books with its own; 0 if they are right. */
static int audit(struct reader *reader, struct shmbus_sub *sub)
{
    struct shmbus_queue_stats books;
    uint64_t received = reader->received;
    int rc = shmbus_sub_stats(sub, &books, sizeof(books));
    if (rc != 0)
        return rc;
    while ((rc = receive(reader, sub, 0)) == 0)
        continue;
    uint64_t drained = reader->received - received;
    bool right = rc == SHMBUS_CLOSED && books.received == received && drained == books.queued &&
                 books.offered == books.received + books.queued + books.dropped &&
                 reader->lost <= books.dropped;
    printf("%s offered %llu received %llu queued %llu dropped %llu drained %llu lost %llu "
           "balance %s\n",
           reader->name, (unsigned long long)books.offered, (unsigned long long)books.received,
           (unsigned long long)books.queued, (unsigned long long)books.dropped,
           (unsigned long long)drained, (unsigned long long)reader->lost,
           right ? "right" : "wrong");
    return right ? 0 : 1;
}

/* Reads the arguments; false if they make no sense. */
static bool read_args(struct reader *reader, int argc, char **argv)
{
    static const struct option options[] = {{"bus", required_argument, NULL, 'b'},
                                            {"queue", required_argument, NULL, 'q'},
                                            {"full", required_argument, NULL, 'f'},
                                            {"delay-ms", required_argument, NULL, 'd'},
                                            {0}};
    int option;
    while ((option = getopt_long(argc, argv, "b:q:f:d:", options, NULL)) != -1) {
        if (option == 'b')
            reader->bus = optarg;
        else if (option == 'q')
            reader->options.queue_len = strtoll(optarg, NULL, 10);
        else if (option == 'f')
            reader->options.full =
                strcmp(optarg, "reject_newest") == 0 ? SHMBUS_REJECT_NEWEST : SHMBUS_DROP_OLDEST;
        else if (option == 'd')
            reader->delay_ms = strtoll(optarg, NULL, 10);
        else
            return false;
    }
    if (argc - optind < 2 || argc - optind - 1 > SHMBUS_PATTERNS_MAX || reader->delay_ms < 0)
        return false;
    reader->name = argv[optind++];
    while (optind < argc)
        reader->patterns[reader->pattern_count++] = shmbus_text(argv[optind++]);
    return true;
}

int main(int argc, char **argv)
{
    struct reader reader = {.bus = "default", .options = SHMBUS_SUBSCRIBE_OPTIONS_INIT};
    if (!read_args(&reader, argc, argv)) {
        fputs("usage: demo-sub --bus NAME [--queue N] [--full POLICY] [--delay-ms MS] NAME "
              "PATTERN…\n",
              stderr);
        return 2;
    }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    struct shmbus_conn *conn = NULL;
    struct shmbus_sub *sub = NULL;
    int rc = shmbus_connect(reader.bus, NULL, &conn);
    if (rc == 0)
        rc = shmbus_subscribe_many(conn, reader.patterns, reader.pattern_count, &reader.options,
                                   &sub);
    if (rc == 0) {
        fputs("subscribed\n", stderr);
        rc = follow(&reader, sub);
    }
    if (rc == 0)
        rc = shmbus_unsubscribe(conn, sub);
    if (rc == 0)
        rc = audit(&reader, sub);
    if (rc < 0)
        fprintf(stderr, "demo-sub %s: %s\n", reader.name, shmbus_errmsg());
    else if (rc == SHMBUS_CLOSED)
        fprintf(stderr, "demo-sub %s: %s\n", reader.name, shmbus_sub_why(sub));
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    return rc != 0;
}
