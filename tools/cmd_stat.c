/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shmbus stat: the figures of a bus.
 *
 * Asks as an observer, which the bus does not count. Without a coordinator it tells what the bus's
 * memory object holds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <shmbus/stats.h>

#include "args.h"
#include "common_parse.h"
#include "output.h"
#include "table.h"

static const char usage[] =
    "usage: shmbus stat [--json]\n"
    "\n"
    "Prints the figures of the bus: its settings and memory, connections, and every open handle\n"
    "with what it has received and lost.\n";

/* For shmbus_bus_handles(): adds the handle to the list arg. */
static int add_handle_json(const struct shmbus_handle_info *handle, void *arg)
{
    const struct shmbus_queue_stats *queue = handle->queue;
    bool one = handle->pattern_count == 1;
    json_t *patterns = one ? NULL : json_array();
    for (size_t i = 0; !one && i < handle->pattern_count; i++)
        json_array_append_new(patterns, json_string(handle->patterns[i]));
    json_t *object =
        json_pack("{ss ss* so* ss so* sI ss sI sI sI}", "kind", handle->kind, "topic",
                  one ? handle->patterns[0] : NULL, "patterns", patterns, "conn_id",
                  handle->conn_id, "pid", handle->pid != 0 ? json_integer(handle->pid) : NULL,
                  "queue_len", (json_int_t)queue->queue_len, "full", full_word(queue->full),
                  "queued", (json_int_t)queue->queued, "received", (json_int_t)queue->received,
                  "dropped", (json_int_t)queue->dropped);
    return json_array_append_new(arg, object) == 0 ? 0 : SHMBUS_E_NOMEM;
}

/*
 * The settings and figures as JSON. Without a coordinator what queues hold and have lost is left
 * out, which handles is NULL for; else it is given up.
 */
static json_t *bus_json(const struct shmbus_bus_stats *bus, json_t *handles)
{
    bool known = handles != NULL;
    return json_pack(
        "{sI so* so* sI ss ss ss sI sI sI sI sI sI sI s{sI sI} ss* so*}", "connections",
        (json_int_t)bus->connections, "dropped",
        known ? json_integer((json_int_t)bus->dropped) : NULL, "publish_failed",
        known ? json_integer((json_int_t)bus->publish_failed) : NULL, "queue_len",
        (json_int_t)bus->queue_len, "full_policy", full_word(bus->full), "s_wild", bus->s_wild,
        "m_wild", bus->m_wild, "subscriptions", (json_int_t)bus->subscriptions, "retained",
        (json_int_t)bus->retained, "retained_bytes", (json_int_t)bus->retained_bytes,
        "retained_watches", (json_int_t)bus->retained_watches, "retained_views",
        (json_int_t)bus->retained_views, "endpoints", (json_int_t)bus->endpoints, "routes",
        (json_int_t)bus->routes, "arena", "size", (json_int_t)bus->arena_size, "used",
        (json_int_t)bus->arena_used, "queues", known ? NULL : "unknown", "handles", handles);
}

/* For shmbus_bus_handles(): adds the handle to the table arg. */
static int add_handle_row(const struct shmbus_handle_info *handle, void *arg)
{
    struct table *table = arg;
    const struct shmbus_queue_stats *queue = handle->queue;
    char *patterns = join_words(handle->patterns, handle->pattern_count);
    if (patterns == NULL)
        return SHMBUS_E_NOMEM;
    table_add_number(table, handle->pid);
    table_add(table, handle->kind);
    table_add(table, full_word(queue->full));
    table_add_number(table, queue->queue_len);
    table_add_number(table, queue->queued);
    table_add_number(table, queue->received);
    table_add_number(table, queue->dropped);
    table_add(table, patterns);
    free(patterns);
    return table->failed ? SHMBUS_E_NOMEM : 0;
}

/* For shmbus_bus_connections(): adds the connection to the table arg. */
static int add_connection_row(const struct shmbus_conn_info *info, void *arg)
{
    struct table *table = arg;
    table_add_number(table, info->pid);
    table_add_number(table, info->uid);
    table_add_number(table, info->gid);
    table_add_number(table, info->subscriptions);
    table_add_number(table, info->routes);
    table_add_number(table, info->heap_size);
    table_add(table, info->conn_id);
    table_add(table, info->principal);
    return table->failed ? SHMBUS_E_NOMEM : 0;
}

static void add_headings(struct table *table, const char *const *headings)
{
    for (size_t i = 0; i < table->columns; i++)
        table_add(table, headings[i]);
}

/* Bytes as a person reads them, in a buffer that is used again by the fourth call. */
static const char *bytes_text(uint64_t bytes)
{
    static char buffers[4][32];
    static unsigned turn;
    char *text = buffers[turn++ % 4];
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double number = (double)bytes;
    unsigned unit = 0;
    for (; number >= 1024 && unit < 4; unit++)
        number /= 1024;
    snprintf(text, sizeof(buffers[0]), "%.*f %s", unit == 0 ? 0 : 1, number, units[unit]);
    return text;
}

/* The settings and figures as lines for people. */
static void print_bus(FILE *file, const char *name, const struct shmbus_bus_stats *bus, bool known)
{
    fprintf(file, "bus %s: ", name);
    if (known)
        fprintf(file, "coordinator pid %u", bus->coordinator_pid);
    else
        fputs("no coordinator answers; what queues hold and have lost is unknown", file);
    fprintf(file, "\nqueues of %llu, %s; wildcards %s and %s\n", (unsigned long long)bus->queue_len,
            full_word(bus->full), bus->s_wild, bus->m_wild);
    fprintf(file, "connections %u, subscriptions %u, routes %u", bus->connections,
            bus->subscriptions, bus->routes);
    if (known)
        fprintf(file, ", dropped %llu, publishes failed %llu", (unsigned long long)bus->dropped,
                (unsigned long long)bus->publish_failed);
    fprintf(file, "\nretained %u (%s), watches %u, views %u, endpoints %u\n", bus->retained,
            bytes_text(bus->retained_bytes), bus->retained_watches, bus->retained_views,
            bus->endpoints);
    fprintf(file, "memory: arena %s, %s of it used\n", bytes_text(bus->arena_size),
            bytes_text(bus->arena_used));
}

/* Writes what was printed into file, an open_memstream() over text and size. Gives the text up. */
static int write_text(const struct tool *tool, FILE *file, char **text, const size_t *size)
{
    int rc = fclose(file) == 0 ? out_text(*text, *size) : -ENOMEM;
    free(*text);
    return rc < 0 ? fail(tool, NULL, "standard output: %s", strerror(-rc)) : END_DONE;
}

/* The tables of connections and handles, below the lines of the bus. */
static int print_tables(struct shmbus_conn *conn, FILE *file)
{
    static const char *const connection_headings[] = {"PID",    "UID",  "GID",        "SUBS",
                                                      "ROUTES", "HEAP", "CONNECTION", "PRINCIPAL"};
    static const char *const handle_headings[] = {"PID",    "HANDLE",   "FULL",    "QUEUE",
                                                  "QUEUED", "RECEIVED", "DROPPED", "TOPIC"};
    struct table connections = {.columns = 8, .right = 0x3f};
    struct table handles = {.columns = 8, .right = 0x79};
    add_headings(&connections, connection_headings);
    add_headings(&handles, handle_headings);
    int rc = shmbus_bus_connections(conn, add_connection_row, &connections);
    if (rc == 0)
        rc = shmbus_bus_handles(conn, add_handle_row, &handles);
    if (rc == 0) {
        fputc('\n', file);
        table_print(&connections, file);
        fputc('\n', file);
        table_print(&handles, file);
    }
    table_deinit(&connections);
    table_deinit(&handles);
    return rc;
}

static int report_text(const struct tool *tool, struct shmbus_conn *conn,
                       const struct shmbus_bus_stats *bus)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (file == NULL)
        return fail(tool, NULL, "memory ran out");
    print_bus(file, tool->bus, bus, conn != NULL);
    if (conn != NULL && print_tables(conn, file) < 0) {
        fclose(file);
        free(text);
        return fail_errmsg(tool, NULL);
    }
    return write_text(tool, file, &text, &size);
}

static int report_json(const struct tool *tool, struct shmbus_conn *conn,
                       const struct shmbus_bus_stats *bus)
{
    json_t *handles = conn != NULL ? json_array() : NULL;
    if (conn != NULL && shmbus_bus_handles(conn, add_handle_json, handles) < 0) {
        json_decref(handles);
        return fail_errmsg(tool, NULL);
    }
    int rc = out_json(bus_json(bus, handles));
    return rc < 0 ? fail(tool, NULL, "standard output: %s", strerror(-rc)) : END_DONE;
}

/*
 * What the memory object of a bus tells where no coordinator answers; if there is none, what the
 * connect that returned connected has failed of.
 */
static int inspect(const struct tool *tool, int connected)
{
    struct shmbus_bus_stats bus;
    int rc = shmbus_inspect(tool->bus, &bus, sizeof(bus));
    if (rc == SHMBUS_E_NO_BUS)
        return tool_connect_failed(tool, connected);
    if (rc < 0)
        return fail_errmsg(tool, NULL);
    return tool->json ? report_json(tool, NULL, &bus) : report_text(tool, NULL, &bus);
}

static int run(struct tool *tool, int argc, char **argv)
{
    struct args args = {.tool = tool, .argc = argc, .argv = argv, .usage = usage, .shorts = ""};
    if (args_next(&args) == ARGS_STOP)
        return args.end;
    if (optind != argc)
        return fail_usage(tool, NULL, "'%s': it takes no arguments; see shmbus stat --help",
                          argv[optind]);
    AUTO_CONN *conn = NULL;
    int rc = tool_try_connect(tool, SHMBUS_CONNECT_OBSERVER, &conn);
    if (rc == SHMBUS_E_NO_BUS || rc == SHMBUS_E_COORD)
        return inspect(tool, rc);
    if (rc != 0)
        return tool_connect_failed(tool, rc);
    struct shmbus_bus_stats bus;
    if (shmbus_bus_stats(conn, &bus, sizeof(bus)) < 0)
        return fail_errmsg(tool, NULL);
    return tool->json ? report_json(tool, conn, &bus) : report_text(tool, conn, &bus);
}

const struct command command_stat = {
    .name = "stat",
    .summary = "print the figures of the bus, its connections and its handles",
    .run = run,
};
