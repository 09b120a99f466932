/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishes this machine's own readings, 20 times a second: processor times, memory, network
 * interfaces, and the figures of every process. Each is one JSON message of its own topic:
 *
 *     host/HOSTNAME/cpu/=N  host/HOSTNAME/mem  host/HOSTNAME/net/NAME  host/HOSTNAME/proc/=PID
 *
 * usage: telemetry [--bus NAME] [--rate HZ] [--seconds S]
 *
 * Ends after S seconds, with SIGTERM or SIGINT, or with its bus, and prints what it has published.
 */
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <shmbus/shmbus.h>

#include "telemetry/feeds.h"
#include "telemetry/readings.h"

struct telemetry {
    const char *bus;
    double rate;
    double seconds; /* 0: without end */
    struct feeds feeds;
    uint64_t round;
    uint64_t late;                     /* rounds that were left out, because one took too long */
    uint64_t published[READING_KINDS]; /* messages */
    uint64_t refused;                  /* pushes that a full queue refused */
    uint64_t failed;                   /* readings that could not be published */
};

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

/*
 * Publishes one reading. That one cannot be published (while the coordinator is away, say) is
 * counted; that the bus has ended is returned.
 */
static int publish(const struct reading *reading, void *arg)
{
    struct telemetry *telemetry = arg;
    struct shmbus_publisher *publisher;
    struct shmbus_delivery delivery;
    char payload[4096];
    size_t size = json_dumpb(reading->figures, payload, sizeof(payload), JSON_COMPACT);
    int rc = size <= sizeof(payload) ? 0 : SHMBUS_E_NOMEM;
    if (rc == 0)
        rc = feeds_find(&telemetry->feeds, reading, telemetry->round, &publisher);
    if (rc == 0)
        rc = shmbus_publisher_publish(publisher, payload, size, NULL, &delivery);
    if (rc != 0) {
        telemetry->failed++;
        return rc == SHMBUS_E_DISCONNECTED ? rc : 0;
    }
    telemetry->published[reading->kind]++;
    telemetry->refused += delivery.refused;
    return 0;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Reads and publishes at the rate, until the time is over or something ends it. */
static int run(struct telemetry *telemetry)
{
    int64_t period_ns = (int64_t)(1e9 / telemetry->rate);
    int64_t next_ns = now_ns();
    int64_t end_ns =
        telemetry->seconds > 0 ? next_ns + (int64_t)(telemetry->seconds * 1e9) : INT64_MAX;
    while (!stopped && next_ns < end_ns) {
        telemetry->round++;
        int rc = readings_take(publish, telemetry);
        if (rc != 0)
            return rc;
        feeds_sweep(&telemetry->feeds, telemetry->round);
        int64_t now = now_ns();
        for (next_ns += period_ns; next_ns <= now; next_ns += period_ns)
            telemetry->late++;
        struct timespec next = {.tv_sec = next_ns / 1000000000, .tv_nsec = next_ns % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    return 0;
}

/* One line: words and numbers in turn. */
static void report(const struct telemetry *telemetry)
{
    printf("telemetry: rounds %llu", (unsigned long long)telemetry->round);
    for (int kind = 0; kind < READING_KINDS; kind++)
        printf(" %s %llu", reading_word(kind), (unsigned long long)telemetry->published[kind]);
    printf(" refused %llu failed %llu late %llu topics %llu gone %llu\n",
           (unsigned long long)telemetry->refused, (unsigned long long)telemetry->failed,
           (unsigned long long)telemetry->late, (unsigned long long)telemetry->feeds.added,
           (unsigned long long)telemetry->feeds.freed);
}

/* Reads the arguments; false if they make no sense. */
static bool read_args(struct telemetry *telemetry, int argc, char **argv)
{
    static const struct option options[] = {{"bus", required_argument, NULL, 'b'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {0}};
    int option;
    while ((option = getopt_long(argc, argv, "b:r:s:", options, NULL)) != -1) {
        if (option == 'b')
            telemetry->bus = optarg;
        else if (option == 'r')
            telemetry->rate = strtod(optarg, NULL);
        else if (option == 's')
            telemetry->seconds = strtod(optarg, NULL);
        else
            return false;
    }
    return optind == argc && telemetry->rate >= 0.001 && telemetry->rate <= 1000 &&
           telemetry->seconds >= 0 && telemetry->seconds <= 1e9;
}

int main(int argc, char **argv)
{
    char host[HOST_NAME_MAX + 1] = "";
    struct telemetry telemetry = {.bus = "default", .rate = 20, .feeds = {.host = host}};
    if (!read_args(&telemetry, argc, argv)) {
        fputs("usage: telemetry [--bus NAME] [--rate HZ] [--seconds S]\n", stderr);
        return 2;
    }
    gethostname(host, sizeof(host) - 1);
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    int rc = shmbus_connect(telemetry.bus, NULL, &telemetry.feeds.conn);
    if (rc == 0)
        rc = run(&telemetry);
    if (rc != 0)
        fprintf(stderr, "telemetry: %s\n", shmbus_errmsg());
    feeds_deinit(&telemetry.feeds);
    shmbus_conn_free(telemetry.feeds.conn);
    report(&telemetry);
    return rc != 0;
}
