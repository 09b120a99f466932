/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uuid/uuid.h>

#include "base/clock.h"
#include "base/err.h"
#include "coord/conn.h"
#include "coord/log.h"
#include "coord/route.h"
#include "coord/segment.h"
#include "coord/session.h"
#include "os/pidfd.h"

#define SB_COORD_FAREWELL (SB_NS_PER_S * 8 / 10) /* of the second that stopping may take */

static void sb_coord_bus_header(struct sb_coord *c)
{
    struct sb_arena_header *header = c->arena.header;
    const struct sb_wildcards *w = &c->options.wildcards;
    uint64_t start = 0;
    if (sb_pidfd_start_time(getpid(), &start) != 0)
        start = 0;
    header->version = SB_LAYOUT_VERSION;
    header->fingerprint = sb_layout_fingerprint();
    uuid_generate_random(header->bus_id);
    header->coordinator_pid = (uint32_t)getpid();
    header->coordinator_uid = geteuid();
    header->coordinator_start = start;
    header->heap_limit = c->options.heap_limit;
    header->queue_len = c->options.queue_len;
    header->full = c->options.full;
    header->s_wild_len = w->s_len;
    header->m_wild_len = w->m_len;
    memcpy(header->s_wild, w->s, w->s_len);
    memcpy(header->m_wild, w->m, w->m_len);
    snprintf(header->name, sizeof(header->name), "%s", c->options.name);
    snprintf(header->socket_path, sizeof(header->socket_path), "%s", c->names.socket);
    header->state = SB_BUS_RUNNING;
    header->epoch = 1;
}

/* Tables and tries. Record 0 of the connections is the bus itself and never a client's. */
static int sb_coord_bus_tables(struct sb_coord *c)
{
    struct sb_arena_header *header = c->arena.header;
    struct sb_coord_arena *arena = &c->arena;
    uint32_t bus;
    sb_coord_table_init(&c->conns, arena, &header->conns, sizeof(struct sb_conn_rec), SB_CONNS_MAX,
                        "connections");
    sb_coord_table_init(&c->routes, arena, &header->routes, sizeof(struct sb_route_rec),
                        SB_ROUTES_MAX, "routes");
    sb_coord_table_init(&c->rings, arena, &header->rings, sizeof(struct sb_ring_rec),
                        SB_COORD_RECORDS_MAX, "queues");
    sb_coord_table_init(&c->seats, arena, &header->seats, sizeof(struct sb_seat_rec),
                        SB_COORD_RECORDS_MAX, "subscriptions");
    sb_coord_table_init(&c->segments, arena, &header->segments, sizeof(struct sb_segment_rec),
                        SB_COORD_RECORDS_MAX, "segments");
    int ret = sb_coord_table_take(&c->conns, NULL, &bus);
    c->conns.used = 0;
    return ret ? ret : sb_coord_route_open(c);
}

/* Frees what belongs to the arena; works on a bus that was opened in part. */
static void sb_coord_bus_discard(struct sb_coord *c)
{
    sb_coord_segment_close(c);
    sb_coord_route_close(c);
    sb_coord_table_deinit(&c->conns);
    sb_coord_table_deinit(&c->routes);
    sb_coord_table_deinit(&c->rings);
    sb_coord_table_deinit(&c->seats);
    sb_coord_table_deinit(&c->segments);
    sb_coord_arena_close(&c->arena);
}

static int sb_coord_bus_serve(struct sb_coord *c)
{
    sb_coord_bus_header(c);
    int ret = sb_coord_bus_tables(c);
    if (ret == 0)
        ret = sb_coord_names_listen(&c->names, c->options.mode, c->options.gid);
    if (ret == 0)
        ret = sb_coord_session_listen(c);
    if (ret == 0)
        sb_coord_arena_publish(&c->arena);
    return ret;
}

int sb_coord_bus_open(struct sb_coord *c)
{
    int ret = sb_loop_new(&c->loop);
    if (ret)
        return ret;
    ret = sb_coord_names_take(&c->names, c->options.name, c->options.runtime_dir);
    if (ret == 0) {
        ret =
            sb_coord_arena_open(&c->arena, c->names.arena, c->options.mode, c->options.arena_limit);
        if (ret == 0) {
            ret = sb_coord_bus_serve(c);
            if (ret)
                sb_coord_bus_discard(c);
        }
        if (ret)
            sb_coord_names_release(&c->names);
    }
    if (ret)
        sb_loop_free(sb_take_ptr(c->loop));
    return ret;
}

void sb_coord_bus_run(struct sb_coord *c)
{
    sb_coord_log(c, SHMBUS_LOG_INFO, "bus %s: ready, %s, events by %s", c->options.name,
                 c->names.socket, sb_loop_backend(c->loop));
    if (sb_loop_run(c->loop) != 0)
        sb_coord_log(c, SHMBUS_LOG_ERROR, "bus %s: %s", c->options.name, shmbus_errmsg());
}

void sb_coord_bus_close(struct sb_coord *c)
{
    sb_store_release(&c->arena.header->state, SB_BUS_STOPPED);
    sb_coord_session_farewell(c, sb_clock_after(SB_COORD_FAREWELL));
    sb_coord_bell_ring_all(c);
    sb_loop_remove(c->loop, c->listen_watch);
    sb_coord_session_end(c);
    sb_coord_conn_close(c);
    sb_coord_bus_discard(c);
    sb_coord_names_release(&c->names);
    sb_coord_log(c, SHMBUS_LOG_INFO, "bus %s: ended", c->options.name);
}
