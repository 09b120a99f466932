/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/request.h"

#include <string.h>

#include "base/err.h"
#include "coord/conn.h"
#include "coord/map.h"
#include "coord/route.h"
#include "coord/session.h"
#include "coord/stats.h"
#include "coord/sub.h"
#include "os/memfd.h"

typedef int sb_coord_request_fn(struct sb_coord *c, struct sb_coord_session *session,
                                const struct sb_control_head *request,
                                struct sb_coord_reply *reply);

/* The reply's body, zeroed, size bytes with the head. */
static void *sb_coord_reply_body(struct sb_coord_reply *reply, size_t size)
{
    memset(reply->head + 1, 0, size - sizeof(*reply->head));
    reply->head->size = (uint32_t)size;
    return reply->head;
}

static void sb_coord_reply_fd(struct sb_coord_reply *reply, int fd, bool owned)
{
    reply->fd[reply->fd_count] = fd;
    reply->owned[reply->fd_count++] = owned;
}

/* A client of another version is told so, whatever else its message holds. */
static int sb_coord_hello_version(const struct sb_coord *c, const struct sb_hello_request *hello,
                                  size_t len)
{
    if (len < offsetof(struct sb_hello_request, observer))
        return sb_fail(SHMBUS_E_INVALID, "hello: a message of %zu bytes says no version", len);
    if (hello->version == SB_CONTROL_VERSION && hello->layout == SB_LAYOUT_VERSION &&
        hello->fingerprint == sb_layout_fingerprint())
        return 0;
    return sb_fail(SHMBUS_E_VERSION,
                   "bus %s speaks control %u and layout %u/%08x, this client control %u and layout "
                   "%u/%08x: both sides need the same version of shmbus",
                   c->options.name, SB_CONTROL_VERSION, SB_LAYOUT_VERSION, sb_layout_fingerprint(),
                   hello->version, hello->layout, hello->fingerprint);
}

static int sb_coord_request_hello(struct sb_coord *c, struct sb_coord_session *session,
                                  const struct sb_control_head *request,
                                  struct sb_coord_reply *reply)
{
    const struct sb_hello_request *hello = (const void *)request;
    struct sb_hello_reply *body = sb_coord_reply_body(reply, sizeof(*body));
    int arena;
    int ret = sb_memfd_readonly(c->arena.fd, &arena);
    if (ret)
        return ret;
    sb_coord_reply_fd(reply, arena, true);
    body->conn = SB_NONE;
    body->arena_limit = c->arena.limit;
    if (!hello->observer) {
        struct sb_coord_conn *conn;
        ret = sb_coord_conn_attach(c, session, session->fd, &session->peer, &conn);
        if (ret)
            return ret;
        session->conn = conn;
        body->conn = conn->index;
        body->gen = conn->gen;
        body->heap_limit = c->options.heap_limit;
        body->inbox_limit = SB_COORD_INBOX_LIMIT;
        body->bell_segment = conn->bell.segment->index;
        body->bell = conn->bell.index;
        sb_coord_reply_fd(reply, conn->heap_fd, false);
        sb_coord_reply_fd(reply, conn->inbox_fd, false);
    }
    session->greeted = true;
    return 0;
}

static int sb_coord_request_armed(struct sb_coord *c, struct sb_coord_session *session,
                                  const struct sb_control_head *request,
                                  struct sb_coord_reply *reply)
{
    (void)c;
    (void)request;
    (void)sb_coord_reply_body(reply, sizeof(*reply->head));
    return sb_coord_conn_arm(session->conn);
}

static int sb_coord_request_subscribe(struct sb_coord *c, struct sb_coord_session *session,
                                      const struct sb_control_head *request,
                                      struct sb_coord_reply *reply)
{
    struct sb_subscribe_reply *body = sb_coord_reply_body(reply, sizeof(*body));
    struct sb_coord_seat *seat;
    int ret = sb_coord_sub_add(c, session->conn, (const void *)request, &seat);
    if (ret)
        return ret;
    body->seat = seat->index;
    body->seat_gen = seat->gen;
    body->ring = seat->ring->index;
    body->ring_gen = seat->ring->gen;
    return 0;
}

static int sb_coord_request_seat(struct sb_coord *c, struct sb_coord_session *session,
                                 const struct sb_control_head *request,
                                 struct sb_coord_reply *reply)
{
    const struct sb_seat_request *which = (const void *)request;
    struct sb_coord_seat *seat = sb_coord_table_object(&c->seats, which->seat);
    (void)sb_coord_reply_body(reply, sizeof(*reply->head));
    if (!seat || seat->gen != which->seat_gen || seat->conn != session->conn)
        return sb_fail(SHMBUS_E_FOREIGN, "seat %u/%u is no subscription of this connection",
                       which->seat, which->seat_gen);
    if (request->type == SB_CONTROL_LEAVE)
        sb_coord_sub_leave(c, seat);
    else
        sb_coord_sub_close(c, seat, SB_REASON_UNSUBSCRIBED);
    return 0;
}

static int sb_coord_request_route(struct sb_coord *c, struct sb_coord_session *session,
                                  const struct sb_control_head *request,
                                  struct sb_coord_reply *reply)
{
    const struct sb_route_request *which = (const void *)request;
    struct sb_route_reply *body = sb_coord_reply_body(reply, sizeof(*body));
    const uint8_t *topic = (const uint8_t *)(which + 1);
    struct sb_coord_route *route;
    if (which->flags != 0)
        return sb_fail(SHMBUS_E_INVALID, "a route has no flags 0x%x in this version", which->flags);
    int ret = sb_topic_check(topic, which->topic_len, false);
    if (ret == 0)
        ret = sb_coord_route_grant(c, session->conn, topic, which->topic_len, &route);
    if (ret)
        return ret;
    body->route = route->index;
    body->gen = route->gen;
    return 0;
}

/* Nothing is given back unless all is this connection's. */
static int sb_coord_request_unroute(struct sb_coord *c, struct sb_coord_session *session,
                                    const struct sb_control_head *request,
                                    struct sb_coord_reply *reply)
{
    const struct sb_unroute_request *which = (const void *)request;
    const uint32_t *pair = (const uint32_t *)(const void *)(which + 1);
    (void)sb_coord_reply_body(reply, sizeof(*reply->head));
    for (int doing = 0; doing < 2; doing++) {
        for (uint32_t i = 0; i < which->count; i++) {
            struct sb_coord_route *route = sb_coord_table_object(&c->routes, pair[2 * i]);
            bool mine = route && route->gen == pair[2 * i + 1] && route->conn == session->conn;
            if (!mine && !doing)
                return sb_fail(SHMBUS_E_FOREIGN, "route %u/%u is none of this connection",
                               pair[2 * i], pair[2 * i + 1]);
            if (mine && doing)
                sb_coord_route_free(c, route);
        }
    }
    return 0;
}

static int sb_coord_request_map(struct sb_coord *c, struct sb_coord_session *session,
                                const struct sb_control_head *request, struct sb_coord_reply *reply)
{
    const struct sb_map_message *wanted = (const void *)request;
    struct sb_map_message *body = sb_coord_reply_body(reply, request->size);
    body->count = wanted->count;
    memcpy(body->item, wanted->item, wanted->count * sizeof(wanted->item[0]));
    for (uint32_t i = 0; i < body->count; i++) {
        struct sb_coord_fd fd;
        int ret = sb_coord_map_item(c, session->conn, &body->item[i], &fd);
        if (ret)
            return ret;
        if (body->item[i].found)
            sb_coord_reply_fd(reply, fd.fd, fd.owned);
    }
    return 0;
}

static int sb_coord_request_grow(struct sb_coord *c, struct sb_coord_session *session,
                                 const struct sb_control_head *request,
                                 struct sb_coord_reply *reply)
{
    const struct sb_grow_message *wanted = (const void *)request;
    struct sb_grow_message *body = sb_coord_reply_body(reply, sizeof(*body));
    int ret = sb_coord_conn_grow(c, session->conn, wanted->size);
    body->size = session->conn->heap_size;
    return ret;
}

static int sb_coord_request_disconnect(struct sb_coord *c, struct sb_coord_session *session,
                                       const struct sb_control_head *request,
                                       struct sb_coord_reply *reply)
{
    (void)request;
    (void)sb_coord_reply_body(reply, sizeof(*reply->head));
    sb_coord_conn_end(c, session->conn);
    return 0;
}

static int sb_coord_request_stats(struct sb_coord *c, struct sb_coord_session *session,
                                  const struct sb_control_head *request,
                                  struct sb_coord_reply *reply)
{
    (void)session;
    (void)request;
    sb_coord_stats_bus(c, sb_coord_reply_body(reply, sizeof(struct sb_bus_stats_reply)));
    return 0;
}

static int sb_coord_request_page(struct sb_coord *c, struct sb_coord_session *session,
                                 const struct sb_control_head *request,
                                 struct sb_coord_reply *reply)
{
    (void)session;
    uint32_t from = ((const struct sb_page_request *)(const void *)request)->from;
    struct sb_page_reply *body = sb_coord_reply_body(reply, sizeof(*body));
    if (request->type == SB_CONTROL_HANDLES)
        sb_coord_stats_handles(c, from, body);
    else
        sb_coord_stats_conns(c, from, body);
    return 0;
}

/* What a request needs. */
enum {
    SB_COORD_ANY = 0,
    SB_COORD_CONN = 1,     /* a connection, perhaps disconnected */
    SB_COORD_ATTACHED = 2, /* that is not disconnected */
    SB_COORD_ARMED = 3,    /* and whose heap is sealed */
};

static const struct {
    sb_coord_request_fn *run;
    uint32_t needs;
} sb_coord_requests[SB_CONTROL_TYPES] = {
    [SB_CONTROL_HELLO] = {sb_coord_request_hello, SB_COORD_ANY},
    [SB_CONTROL_ARMED] = {sb_coord_request_armed, SB_COORD_ATTACHED},
    [SB_CONTROL_SUBSCRIBE] = {sb_coord_request_subscribe, SB_COORD_ARMED},
    [SB_CONTROL_UNSUBSCRIBE] = {sb_coord_request_seat, SB_COORD_CONN},
    [SB_CONTROL_LEAVE] = {sb_coord_request_seat, SB_COORD_CONN},
    [SB_CONTROL_ROUTE] = {sb_coord_request_route, SB_COORD_ARMED},
    [SB_CONTROL_UNROUTE] = {sb_coord_request_unroute, SB_COORD_CONN},
    [SB_CONTROL_MAP] = {sb_coord_request_map, SB_COORD_CONN},
    [SB_CONTROL_GROW] = {sb_coord_request_grow, SB_COORD_ATTACHED},
    [SB_CONTROL_DISCONNECT] = {sb_coord_request_disconnect, SB_COORD_CONN},
    [SB_CONTROL_BUS_STATS] = {sb_coord_request_stats, SB_COORD_ANY},
    [SB_CONTROL_HANDLES] = {sb_coord_request_page, SB_COORD_ANY},
    [SB_CONTROL_CONNS] = {sb_coord_request_page, SB_COORD_ANY},
};

/* Whether the session is in a state for this request (order of contract O5). */
static int sb_coord_request_allowed(const struct sb_coord_session *session, uint32_t type)
{
    const struct sb_coord_conn *conn = session->conn;
    uint32_t needs = sb_coord_requests[type].needs;
    if (session->greeted == (type == SB_CONTROL_HELLO))
        return sb_fail(SHMBUS_E_INVALID, "hello is the first request of a session, and no other");
    if (needs >= SB_COORD_CONN && !conn)
        return sb_fail(SHMBUS_E_INVALID, "an observer can only ask for the figures of the bus");
    if (needs >= SB_COORD_ATTACHED && conn->state != SB_CONN_ATTACHED)
        return sb_fail(SHMBUS_E_DISCONNECTED, "the connection was disconnected");
    if (needs == SB_COORD_ARMED && !conn->armed)
        return sb_fail(SHMBUS_E_INVALID, "the heap of the connection must be armed first");
    return 0;
}

int sb_coord_request_run(struct sb_coord *c, struct sb_coord_session *session,
                         const struct sb_control_head *request, size_t len,
                         struct sb_coord_reply *reply)
{
    int ret = 0;
    if (!session->greeted && request->type == SB_CONTROL_HELLO)
        ret = sb_coord_hello_version(c, (const void *)request, len);
    if (ret == 0)
        ret = sb_control_parse_request(request, len);
    if (ret == 0)
        ret = sb_coord_request_allowed(session, request->type);
    if (ret == 0)
        ret = sb_coord_requests[request->type].run(c, session, request, reply);
    return ret;
}
