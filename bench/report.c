/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include <shmbus/shmbus.h>

static const char *const system_names[SYSTEM_COUNT] = {
    [SYSTEM_SHMBUS] = "shmbus",           [SYSTEM_FLOOR_ATOMIC] = "floor-atomic",
    [SYSTEM_FLOOR_FUTEX] = "floor-futex", [SYSTEM_FLOOR_MEMCPY] = "floor-memcpy",
    [SYSTEM_FLOOR_SPSC] = "floor-spsc",
};

/* A figure over the runs. */
struct spread {
    double median;
    double min;
    double max;
};

/* One result over the runs. */
struct summary {
    const struct bench_result *result;
    struct spread figure[FIGURE_COUNT];
    struct spread ratio;   /* its headline by that of shmbus in the same run */
    struct spread bounces; /* its headline in the unit of its floor-atomic of the same run */
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct spread spread_of(double *values, unsigned count)
{
    if (isnan(values[0]))
        return (struct spread){NAN, NAN, NAN};
    qsort(values, count, sizeof(*values), compare);
    double median = count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
    return (struct spread){median, values[0], values[count - 1]};
}

/* The headline of a system in the mode's run; NAN where it was not measured. */
static double headline(const struct bench_scenario *scenario, const struct bench_results *run,
                       enum bench_system system, int sleeping)
{
    for (unsigned i = 0; i < run->count; i++)
        if (run->result[i].system == system && run->result[i].sleeping == sleeping)
            return run->result[i].figure[scenario->headline];
    return NAN;
}

static struct summary summarize(const struct bench_scenario *scenario,
                                const struct bench_results *runs, unsigned count, unsigned nth)
{
    struct summary summary = {.result = &runs[0].result[nth]};
    int sleeping = summary.result->sleeping;
    double *values = calloc(count, sizeof(*values));
    if (!values)
        abort();
    for (int figure = 0; figure < FIGURE_COUNT; figure++) {
        for (unsigned i = 0; i < count; i++)
            values[i] = runs[i].result[nth].figure[figure];
        summary.figure[figure] = spread_of(values, count);
    }
    for (unsigned i = 0; i < count; i++)
        values[i] = runs[i].result[nth].figure[scenario->headline] /
                    headline(scenario, &runs[i], SYSTEM_SHMBUS, sleeping);
    summary.ratio = spread_of(values, count);
    /* Always by the busy floor: one unit for all. */
    for (unsigned i = 0; i < count; i++)
        values[i] = runs[i].result[nth].figure[scenario->headline] /
                    headline(scenario, &runs[i], SYSTEM_FLOOR_ATOMIC, 0);
    summary.bounces = spread_of(values, count);
    free(values);
    return summary;
}

/* --- for scripts --- */

static void json_figure(const char *key, double value, int digits)
{
    if (isnan(value))
        printf(",\"%s\":null", key);
    else
        printf(",\"%s\":%.*f", key, digits, value);
}

static void print_json(const struct bench_options *options, const struct bench_scenario *scenario,
                       const struct summary *summary)
{
    const struct bench_result *result = summary->result;
    const struct spread *figure = summary->figure;
    printf("{\"scenario\":\"%s\",\"system\":\"%s\",\"size\":%u,\"pubs\":%u,\"subs\":%u,\"mode\":\"%"
           "s\"",
           scenario->name, system_names[result->system], options->params.size, result->pubs,
           result->subs, result->sleeping ? "sleep" : "busy");
    json_figure("msgs_per_s", figure[FIGURE_MSGS_PER_S].median, 0);
    json_figure("ns_per_publish", figure[FIGURE_NS_PER_PUBLISH].median, 1);
    json_figure("p50_ns", figure[FIGURE_P50_NS].median, 1);
    json_figure("p99_ns", figure[FIGURE_P99_NS].median, 1);
    json_figure("p999_ns", figure[FIGURE_P999_NS].median, 1);
    json_figure("lost", figure[FIGURE_LOST].median, 0);
    json_figure("ratio_to_shmbus", summary->ratio.median, 5);
    puts("}");
}

/* --- for people --- */

static const char *cell(char *text, size_t size, double value, double unit, int digits)
{
    if (isnan(value))
        return "";
    snprintf(text, size, "%.*f", digits, value / unit);
    return text;
}

static void print_row(const struct bench_scenario *scenario, const struct summary *summary,
                      unsigned runs)
{
    const struct spread *figure = summary->figure, *head = &figure[scenario->headline];
    int rate = scenario->headline == FIGURE_MSGS_PER_S;
    char text[8][32];
    printf("  %-13s %-5s", system_names[summary->result->system],
           summary->result->sleeping ? "sleep" : "busy");
    if (rate)
        printf(" %10s %10s %9s %9s", cell(text[0], 32, figure[FIGURE_MSGS_PER_S].median, 1e6, 2),
               cell(text[1], 32, figure[FIGURE_NS_PER_PUBLISH].median, 1, 1),
               cell(text[6], 32, figure[FIGURE_REFUSALS].median, 1, 1),
               cell(text[7], 32, figure[FIGURE_PER_RECEIVE].median, 1, 1));
    else
        printf(" %10s %10s %10s", cell(text[0], 32, figure[FIGURE_P50_NS].median, 1, 0),
               cell(text[1], 32, figure[FIGURE_P99_NS].median, 1, 0),
               cell(text[2], 32, figure[FIGURE_P999_NS].median, 1, 0));
    printf(" %9s %9s %7s", cell(text[3], 32, summary->bounces.median, 1, 2),
           cell(text[4], 32, summary->ratio.median, 1, 3),
           cell(text[5], 32, figure[FIGURE_LOST].median, 1, 0));
    if (runs > 1)
        printf("   %s..%s", cell(text[6], 32, head->min, rate ? 1e6 : 1, rate ? 2 : 0),
               cell(text[7], 32, head->max, rate ? 1e6 : 1, rate ? 2 : 0));
    putchar('\n');
}

static void print_head(const struct bench_options *options, const struct bench_scenario *scenario,
                       unsigned runs)
{
    const struct page_params *params = &options->params;
    int rate = scenario->headline == FIGURE_MSGS_PER_S;
    printf("\n%s: %u bytes", scenario->name, params->size);
    if (rate)
        printf(", %u to %u, queue %u, %s, up to %u a receive", params->pubs, params->subs,
               params->queue,
               params->full == SHMBUS_DROP_OLDEST ? "drop_oldest" : "reject_newest (lossless)",
               params->batch);
    printf("\n  %-13s %-5s", "system", "mode");
    if (rate)
        printf(" %10s %10s %9s %9s %9s", "million/s", "ns/publish", "refused", "a receive",
               "a bounce");
    else
        printf(" %10s %10s %10s %9s", "p50 ns", "p99 ns", "p99.9 ns", "bounces");
    printf(" %9s %7s", "/ shmbus", "lost");
    if (runs > 1)
        printf("   %s, of %u runs", rate ? "million/s" : "p50 ns", runs);
    putchar('\n');
}

void report_scenario(const struct bench_options *options, const struct bench_scenario *scenario,
                     const struct bench_results *runs, unsigned count)
{
    if (!options->json)
        print_head(options, scenario, count);
    for (unsigned i = 0; i < runs[0].count; i++) {
        struct summary summary = summarize(scenario, runs, count, i);
        if (options->json)
            print_json(options, scenario, &summary);
        else
            print_row(scenario, &summary, count);
    }
}

static void print_processor(void)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file && fgets(line, sizeof(line), file)) {
        const char *value = strstr(line, ": ");
        if (strncmp(line, "model name", 10) == 0 && value) {
            printf("%.*s, ", (int)strcspn(value + 2, "\n"), value + 2);
            break;
        }
    }
    if (file)
        fclose(file);
}

void report_machine(const struct bench_options *options)
{
    struct utsname name;
    printf("shmbus %s on ", shmbus_version());
    print_processor();
    printf("%d cores to use, ", options->cpus.count);
    if (uname(&name) == 0)
        printf("%s %s %s", name.sysname, name.release, name.machine);
    printf("\nbounce: a round trip (p50) of floor-atomic, measured before and after\n"
           "refused: publishes that a full queue refused, by a thousand messages\n");
}
