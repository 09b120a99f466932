/* SPDX-License-Identifier: Apache-2.0 */
#include "readings.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where readings go. */
struct taker {
    int (*take)(const struct reading *reading, void *arg);
    void *arg;
};

const char *reading_word(enum reading_kind kind)
{
    static const char *const words[READING_KINDS] = {"cpu", "mem", "net", "proc"};
    return words[kind];
}

static int give(const struct taker *taker, enum reading_kind kind, int64_t number, const char *name,
                json_t *figures)
{
    struct reading reading = {.kind = kind, .number = number, .name = name, .figures = figures};
    int rc = figures != NULL ? taker->take(&reading, taker->arg) : 0;
    json_decref(figures);
    return rc;
}

/* Reads a file from its beginning into text, as much as fits, with a NUL; false if it is gone. */
static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t used = 0;
    ssize_t got;
    while (used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0)
        used += (size_t)got;
    close(fd);
    text[used] = '\0';
    return used > 0;
}

/* Clock ticks, which the kernel counts processor time in, as milliseconds. */
static json_int_t ticks_ms(uint64_t ticks)
{
    static long per_second;
    if (per_second == 0)
        per_second = sysconf(_SC_CLK_TCK);
    return (json_int_t)(ticks * 1000 / (uint64_t)per_second);
}

/* The times of one processor, from its line; NULL for other lines. */
static json_t *cpu_figures(const char *line, unsigned *cpu)
{
    static const char *const keys[] = {"user_ms",   "nice_ms", "system_ms",  "idle_ms",
                                       "iowait_ms", "irq_ms",  "softirq_ms", "steal_ms"};
    enum { KEYS = sizeof(keys) / sizeof(keys[0]) };
    uint64_t ticks[KEYS];
    if (strncmp(line, "cpu ", 4) == 0) /* all of them together */
        return NULL;
    if (sscanf(line,
               "cpu%u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               cpu, &ticks[0], &ticks[1], &ticks[2], &ticks[3], &ticks[4], &ticks[5], &ticks[6],
               &ticks[7]) != 1 + KEYS)
        return NULL;
    json_t *figures = json_object();
    for (int i = 0; i < KEYS; i++)
        json_object_set_new(figures, keys[i], json_integer(ticks_ms(ticks[i])));
    return figures;
}

static int read_cpus(const struct taker *taker)
{
    static char text[64 * 1024];
    if (!read_text("/proc/stat", text, sizeof(text)))
        return 0;
    int rc = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); rc == 0 && line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned cpu = 0;
        json_t *figures = cpu_figures(line, &cpu);
        rc = give(taker, READING_CPU, cpu, "", figures);
    }
    return rc;
}

static int read_memory(const struct taker *taker)
{
    static const char *const wanted[] = {"MemTotal", "MemFree",   "MemAvailable", "Buffers",
                                         "Cached",   "SwapTotal", "SwapFree"};
    char text[8 * 1024];
    if (!read_text("/proc/meminfo", text, sizeof(text)))
        return 0;
    json_t *figures = json_object();
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char key[32];
        uint64_t kib;
        if (sscanf(line, "%31[^:]: %" SCNu64 " kB", key, &kib) != 2)
            continue;
        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
            if (strcmp(key, wanted[i]) == 0)
                json_object_set_new(figures, key, json_integer((json_int_t)(kib * 1024)));
    }
    return give(taker, READING_MEM, 0, "", figures);
}

static int read_interfaces(const struct taker *taker)
{
    static char text[64 * 1024];
    if (!read_text("/proc/net/dev", text, sizeof(text)))
        return 0;
    int rc = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); rc == 0 && line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char name[64];
        uint64_t in[4], out[4]; /* bytes, packets, errors, drops */
        if (sscanf(line,
                   " %63[^: ]: %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                   " %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                   name, &in[0], &in[1], &in[2], &in[3], &out[0], &out[1], &out[2], &out[3]) == 9)
            rc = give(taker, READING_NET, 0, name,
                      json_pack("{sI sI sI sI sI sI sI sI}", "rx_bytes", (json_int_t)in[0],
                                "rx_packets", (json_int_t)in[1], "rx_errors", (json_int_t)in[2],
                                "rx_dropped", (json_int_t)in[3], "tx_bytes", (json_int_t)out[0],
                                "tx_packets", (json_int_t)out[1], "tx_errors", (json_int_t)out[2],
                                "tx_dropped", (json_int_t)out[3]));
    }
    return rc;
}

/* A process's name as text: whatever bytes it has given itself, kept to printable ASCII. */
static void plain_name(char *name)
{
    for (; *name != '\0'; name++)
        if (*name < ' ' || *name > '~')
            *name = '?';
}

/* The name stands in parentheses and may hold some itself; what follows the last one is fields. */
static json_t *process_figures(char *text)
{
    char *name = strchr(text, '(');
    char *end = strrchr(text, ')');
    if (name == NULL || end == NULL || end < name)
        return NULL;
    *end = '\0';
    plain_name(++name);
    char state[2];
    uint64_t utime, stime, threads;
    int64_t rss;
    if (sscanf(end + 1,
               " %1s %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
               " %*d %*d %*d %*d %" SCNu64 " %*d %*u %*u %" SCNd64,
               state, &utime, &stime, &threads, &rss) != 5)
        return NULL;
    return json_pack("{ss ss sI sI sI sI}", "name", name, "state", state, "user_ms",
                     ticks_ms(utime), "system_ms", ticks_ms(stime), "threads", (json_int_t)threads,
                     "rss_bytes", (json_int_t)(rss * sysconf(_SC_PAGESIZE)));
}

static int read_processes(const struct taker *taker)
{
    DIR *directory = opendir("/proc");
    if (directory == NULL)
        return 0;
    int rc = 0;
    const struct dirent *entry;
    while (rc == 0 && (entry = readdir(directory)) != NULL) {
        char path[sizeof("/proc//stat") + sizeof(entry->d_name)];
        char text[1024];
        if (entry->d_name[strspn(entry->d_name, "0123456789")] != '\0')
            continue;
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        if (read_text(path, text, sizeof(text)))
            rc = give(taker, READING_PROC, strtoll(entry->d_name, NULL, 10), "",
                      process_figures(text));
    }
    closedir(directory);
    return rc;
}

int readings_take(int (*take)(const struct reading *reading, void *arg), void *arg)
{
    struct taker taker = {.take = take, .arg = arg};
    int (*const readers[])(const struct taker *) = {read_cpus, read_memory, read_interfaces,
                                                    read_processes};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(readers) / sizeof(readers[0]); i++)
        rc = readers[i](&taker);
    return rc;
}
