/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shmbus-bench: what the bus gives, beside what the machine would give without it, measured in one
 * run. The work is done by processes of its own (worker.h), on a bus of its own unless --bus.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bus.h"
#include "report.h"

#define WRONG_USAGE 2

/* What all queues of a run may hold: they are allocated beforehand, by floors too. */
#define QUEUED_BYTES_MAX (UINT64_C(256) << 20)

static const struct bench_scenario *const scenarios[] = {&throughput_scenario, &latency_scenario};
#define SCENARIO_COUNT (sizeof(scenarios) / sizeof(*scenarios))

/* What to measure, as the command line says. */
struct plan {
    struct bench_options options;
    const struct bench_scenario *scenario[SCENARIO_COUNT];
    unsigned count;
};

static void print_help(void)
{
    puts("usage: shmbus-bench [SCENARIO...] [OPTION...]\n"
         "\n"
         "Measures shmbus, and beside it what the machine gives without it (floor-...).\n"
         "\n"
         "Scenarios (all of them unless named):");
    for (size_t i = 0; i < SCENARIO_COUNT; i++)
        printf("  %-12s %s\n", scenarios[i]->name, scenarios[i]->what);
    puts(
        "\n"
        "Options:\n"
        "  --size BYTES    of a payload: 8..16777216 (64)\n"
        "  --pubs N        publishers of throughput, each a process (1)\n"
        "  --subs N        subscribers of throughput, each a process (1)\n"
        "  --queue N       messages a subscriber's queue holds (4096)\n"
        "  --full P        reject_newest: what is refused is published again, nothing is lost\n"
        "                  (default); drop_oldest: what is lost is counted\n"
        "  --batch N       messages a subscriber takes at once: 1..64 (16); 1 is shmbus_recv,\n"
        "                  more is shmbus_recv_many\n"
        "  --seconds S     to measure the bus in each scenario; half of it for each floor (2)\n"
        "  --repeat N      runs, one after the other; medians are printed, and for people the\n"
        "                  smallest and largest (1)\n"
        "  --cpus LIST     processors for the processes, in turn, as in 0,2 (all that it may use)\n"
        "  --bus NAME      measure on a bus that runs (a bus of its own)\n"
        "  --json          a JSON object a line and result; null is what it has no figure for\n"
        "  --help, --version");
}

static int wrong(const char *format, const char *value)
{
    fputs("shmbus-bench: ", stderr);
    fprintf(stderr, format, value);
    fputs("\n", stderr);
    return -1;
}

static int unknown_scenario(const char *name)
{
    fprintf(stderr, "shmbus-bench: no scenario %s; there are:", name);
    for (size_t i = 0; i < SCENARIO_COUNT; i++)
        fprintf(stderr, " %s", scenarios[i]->name);
    fputs("\n", stderr);
    return -1;
}

static int parse_number(const char *option, const char *text, unsigned min, unsigned max,
                        uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || number < min || number > max) {
        fprintf(stderr, "shmbus-bench: --%s %s: must be a number from %u to %u\n", option, text,
                min, max);
        return -1;
    }
    *value = (uint32_t)number;
    return 0;
}

static int parse_seconds(const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !(number >= 0.1 && number <= 3600))
        return wrong("--seconds %s: must be from 0.1 to 3600", text);
    *value = number;
    return 0;
}

static int parse_cpus(const char *text, struct cpus *cpus)
{
    const char *at = text;
    cpus->count = 0;
    for (;;) {
        char *end;
        long cpu = strtol(at, &end, 10);
        if (end == at || cpu < 0 || cpu >= CPU_SETSIZE || cpus->count == PAGE_WORKERS_MAX ||
            (*end && *end != ','))
            return wrong("--cpus %s: must be processors, as in 0,2", text);
        cpus->cpu[cpus->count++] = (int)cpu;
        if (!*end)
            return 0;
        at = end + 1;
    }
}

static int parse_full(const char *text, uint32_t *full)
{
    if (strcmp(text, "reject_newest") == 0)
        *full = SHMBUS_REJECT_NEWEST;
    else if (strcmp(text, "drop_oldest") == 0)
        *full = SHMBUS_DROP_OLDEST;
    else
        return wrong("--full %s: must be reject_newest or drop_oldest", text);
    return 0;
}

static int parse_bus(const char *text, struct page_params *params)
{
    if (strlen(text) >= sizeof(params->bus) || !*text)
        return wrong("--bus %s: a name has 1 to 64 characters", text);
    strcpy(params->bus, text);
    return 0;
}

enum {
    OPT_SIZE = 256,
    OPT_PUBS,
    OPT_SUBS,
    OPT_QUEUE,
    OPT_FULL,
    OPT_BATCH,
    OPT_SECONDS,
    OPT_REPEAT,
    OPT_CPUS,
    OPT_BUS,
    OPT_PEERS,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"size", required_argument, NULL, OPT_SIZE},
    {"pubs", required_argument, NULL, OPT_PUBS},
    {"subs", required_argument, NULL, OPT_SUBS},
    {"queue", required_argument, NULL, OPT_QUEUE},
    {"full", required_argument, NULL, OPT_FULL},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"repeat", required_argument, NULL, OPT_REPEAT},
    {"cpus", required_argument, NULL, OPT_CPUS},
    {"bus", required_argument, NULL, OPT_BUS},
    {"peers", required_argument, NULL, OPT_PEERS},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static int parse_option(int option, const char *text, struct bench_options *options)
{
    struct page_params *params = &options->params;
    switch (option) {
    case OPT_SIZE:
        return parse_number("size", text, BENCH_SIZE_MIN, BENCH_SIZE_MAX, &params->size);
    case OPT_PUBS:
        return parse_number("pubs", text, 1, PAGE_WORKERS_MAX / 2, &params->pubs);
    case OPT_SUBS:
        return parse_number("subs", text, 1, PAGE_WORKERS_MAX / 2, &params->subs);
    case OPT_QUEUE:
        return parse_number("queue", text, 1, SHMBUS_QUEUE_MAX, &params->queue);
    case OPT_FULL:
        return parse_full(text, &params->full);
    case OPT_BATCH:
        return parse_number("batch", text, 1, SHMBUS_HELD_MAX, &params->batch);
    case OPT_SECONDS:
        return parse_seconds(text, &options->seconds);
    case OPT_REPEAT:
        return parse_number("repeat", text, 1, 1000, &options->repeat);
    case OPT_CPUS:
        return parse_cpus(text, &options->cpus);
    case OPT_BUS:
        return parse_bus(text, params);
    case OPT_JSON:
        options->json = 1;
        return 0;
    case OPT_PEERS:
        return wrong("--peers %s: this version measures no peers, but shmbus and floors", text);
    default:
        /* getopt has said what is wrong. */
        return -1;
    }
}

static int parse_scenario(const char *name, struct plan *plan)
{
    for (unsigned i = 0; i < plan->count; i++)
        if (strcmp(name, plan->scenario[i]->name) == 0)
            return 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++)
        if (strcmp(name, scenarios[i]->name) == 0) {
            plan->scenario[plan->count++] = scenarios[i];
            return 0;
        }
    return unknown_scenario(name);
}

/* The processors that this process may use. */
static int allowed_cpus(struct cpus *cpus)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return wrong("sched_getaffinity: %s", strerror(errno));
    for (int cpu = 0; cpu < CPU_SETSIZE && cpus->count < PAGE_WORKERS_MAX; cpu++)
        if (CPU_ISSET((size_t)cpu, &set))
            cpus->cpu[cpus->count++] = cpu;
    return 0;
}

static int complete_plan(struct plan *plan)
{
    struct bench_options *options = &plan->options;
    const struct page_params *params = &options->params;
    if ((uint64_t)params->size * params->queue > QUEUED_BYTES_MAX)
        return wrong("--size times --queue must be at most %s", "256 MiB");
    for (size_t i = 0; plan->count == 0 && i < SCENARIO_COUNT; i++)
        plan->scenario[i] = scenarios[i];
    if (plan->count == 0)
        plan->count = SCENARIO_COUNT;
    if (options->cpus.count == 0 && allowed_cpus(&options->cpus) != 0)
        return -1;
    if (options->cpus.count == 1)
        fputs("shmbus-bench: one core: the processes are not pinned, and take turns on it; "
              "figures say little\n",
              stderr);
    return 0;
}

/* Returns 0, or -1 having said what is wrong. */
static int parse(int argc, char **argv, struct plan *plan)
{
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == OPT_HELP || option == OPT_VERSION) {
            if (option == OPT_HELP)
                print_help();
            else
                printf("shmbus-bench %s\n", shmbus_version());
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        if (parse_option(option, optarg, &plan->options) != 0)
            return -1;
    }
    for (; optind < argc; optind++)
        if (parse_scenario(argv[optind], plan) != 0)
            return -1;
    return complete_plan(plan);
}

/* All scenarios once, and again, so that a machine that slows down slows all of them alike. */
static int measure(const struct plan *plan, struct bench_results *results)
{
    unsigned repeat = plan->options.repeat;
    for (unsigned run = 0; run < repeat; run++)
        for (unsigned i = 0; i < plan->count; i++)
            if (plan->scenario[i]->run(&plan->options, &results[i * repeat + run]) != 0)
                return -1;
    return 0;
}

static int measure_on_bus(struct plan *plan, struct bench_results *results)
{
    struct bus bus = {0};
    if (crew_watch_signals() != 0)
        return -1;
    if (!plan->options.params.bus[0] && bus_start(&bus, &plan->options.params) != 0)
        return -1;
    int status = measure(plan, results);
    bus_stop(&bus);
    return status;
}

/* Ends as the signal would have ended it. */
static void die_of(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    raise(signal);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--worker") == 0)
        return worker_main(argv[2]);
    static struct plan plan = {
        .options = {.params = {.full = SHMBUS_REJECT_NEWEST,
                               .size = 64,
                               .pubs = 1,
                               .subs = 1,
                               .queue = 4096,
                               .batch = 16},
                    .seconds = 2,
                    .repeat = 1},
    };
    if (parse(argc, argv, &plan) != 0)
        return WRONG_USAGE;
    unsigned repeat = plan.options.repeat;
    struct bench_results *results = calloc((size_t)plan.count * repeat, sizeof(*results));
    if (!results) {
        perror("shmbus-bench: results");
        return EXIT_FAILURE;
    }
    int status = measure_on_bus(&plan, results);
    if (crew_interrupted())
        die_of(crew_interrupted());
    if (status == 0 && !plan.options.json)
        report_machine(&plan.options);
    for (unsigned i = 0; status == 0 && i < plan.count; i++)
        report_scenario(&plan.options, plan.scenario[i], &results[i * repeat], repeat);
    free(results);
    if (fflush(stdout) != 0) {
        perror("shmbus-bench: standard output");
        return EXIT_FAILURE;
    }
    return status == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
