/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the coordinator that speaks raw control messages, and a bus with a private runtime
 * directory, for the tests of coord/. Not a client: it maps what it is given and looks.
 */
#ifndef COORD_PEER_H
#define COORD_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <shmbus/coordinator.h>

#include "base/clock.h"
#include "os/sock.h"
#include "proto/control.h"
#include "proto/topic.h"
#include "shm/layout.h"
#include "shm/ring.h"

#define PEER_WAIT (5 * SB_NS_PER_S)

/* A bus of its own. */
struct bus {
    struct shmbus_coordinator *coordinator;
    struct shmbus_coordinator_options options;
    char name[SB_NAME_MAX + 1];
    char dir[64];
    char socket[160];
    char arena[160];
};

static inline void bus_prepare(struct bus *bus, const char *what)
{
    memset(bus, 0, sizeof(*bus));
    bus->options = (struct shmbus_coordinator_options)SHMBUS_COORDINATOR_OPTIONS_INIT;
    strcpy(bus->dir, "/tmp/shmbus-test-XXXXXX");
    assert_non_null(mkdtemp(bus->dir));
    bus->options.runtime_dir = bus->dir;
    snprintf(bus->name, sizeof(bus->name), "test-%s-%d", what, (int)getpid());
    snprintf(bus->socket, sizeof(bus->socket), "%s/%s.sock", bus->dir, bus->name);
    snprintf(bus->arena, sizeof(bus->arena), "/dev/shm/shmbus.%s", bus->name);
}

static inline void bus_start(struct bus *bus)
{
    int ret = shmbus_coordinator_start(bus->name, &bus->options, &bus->coordinator);
    if (ret)
        fail_msg("start: %s", shmbus_errmsg());
}

/* Stops it; nothing may be left. */
static inline void bus_stop(struct bus *bus)
{
    char lock[200];
    shmbus_coordinator_stop(bus->coordinator);
    snprintf(lock, sizeof(lock), "%s.lock", bus->arena);
    assert_int_not_equal(access(bus->arena, F_OK), 0);
    assert_int_not_equal(access(lock, F_OK), 0);
    assert_int_equal(rmdir(bus->dir), 0);
}

/* A client. */
struct peer {
    int sock;
    uint32_t id;
    uint32_t conn, gen;
    int arena_fd, heap_fd, inbox_fd;
    uint8_t *arena, *heap, *inbox;
    uint64_t arena_limit, heap_limit, inbox_limit;
    struct sb_hello_reply hello;
    struct sb_sock_fds fds; /* of the last reply */
    uint64_t reply[SB_CONTROL_MAX / 8];
    size_t reply_len;
};

/* Sends bytes as they are and waits for the reply, of any kind. 0, or what the socket said. */
static inline int peer_exchange(struct peer *p, const void *bytes, size_t len)
{
    int ret = sb_sock_send(p->sock, bytes, len, NULL, 0, sb_clock_after(PEER_WAIT));
    if (ret)
        return ret;
    sb_sock_fds_close(&p->fds);
    p->fds.n = 0;
    return sb_sock_recv(p->sock, p->reply, sizeof(p->reply), &p->reply_len, &p->fds, SB_CONTROL_FDS,
                        sb_clock_after(PEER_WAIT));
}

static inline const struct sb_control_head *peer_reply(const struct peer *p)
{
    return (const void *)p->reply;
}

/* A request with its tail; the reply's status, its sentence in peer_sentence(). */
static inline int peer_request(struct peer *p, uint32_t type, const void *fixed, size_t fixed_len,
                               const void *tail, size_t tail_len)
{
    uint64_t buf[SB_CONTROL_MAX / 8];
    struct sb_control_head *head = (void *)buf;
    assert_true(fixed_len + tail_len <= sizeof(buf));
    memcpy(buf, fixed, fixed_len);
    if (tail_len)
        memcpy((uint8_t *)buf + fixed_len, tail, tail_len);
    *head = (struct sb_control_head){type, ++p->id, (uint32_t)(fixed_len + tail_len), 0};
    assert_int_equal(peer_exchange(p, buf, head->size), 0);
    assert_int_equal(sb_control_parse_reply(p->reply, p->reply_len, type, p->id), 0);
    return peer_reply(p)->status;
}

static inline const char *peer_sentence(struct peer *p)
{
    uint8_t *text = (uint8_t *)p->reply + sizeof(struct sb_control_head);
    text[p->reply_len - sizeof(struct sb_control_head)] = 0;
    return (const char *)text;
}

static inline int peer_head(struct peer *p, uint32_t type)
{
    struct sb_control_head head = {0};
    return peer_request(p, type, &head, sizeof(head), NULL, 0);
}

static inline void *peer_map(int fd, uint64_t size, int prot)
{
    void *base = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    return base;
}

static inline void peer_connect(struct peer *p, const struct bus *bus)
{
    memset(p, 0, sizeof(*p));
    assert_int_equal(sb_sock_connect(bus->socket, sb_clock_after(PEER_WAIT), &p->sock), 0);
}

static inline int peer_hello(struct peer *p, uint32_t observer)
{
    struct sb_hello_request hello = {.version = SB_CONTROL_VERSION,
                                     .layout = SB_LAYOUT_VERSION,
                                     .fingerprint = sb_layout_fingerprint(),
                                     .observer = observer};
    int ret = peer_request(p, SB_CONTROL_HELLO, &hello, sizeof(hello), NULL, 0);
    if (ret)
        return ret;
    memcpy(&p->hello, p->reply, sizeof(p->hello));
    p->conn = p->hello.conn;
    p->gen = p->hello.gen;
    p->arena_limit = p->hello.arena_limit;
    p->heap_limit = p->hello.heap_limit;
    p->inbox_limit = p->hello.inbox_limit;
    assert_int_equal(p->fds.n, observer ? 1 : 3);
    p->arena_fd = sb_sock_fds_take(&p->fds, 0);
    p->arena = peer_map(p->arena_fd, p->arena_limit, PROT_READ);
    if (observer)
        return 0;
    p->heap_fd = sb_sock_fds_take(&p->fds, 1);
    p->inbox_fd = sb_sock_fds_take(&p->fds, 2);
    p->heap = peer_map(p->heap_fd, p->heap_limit, PROT_READ | PROT_WRITE);
    p->inbox = peer_map(p->inbox_fd, p->inbox_limit, PROT_READ | PROT_WRITE);
    return 0;
}

/* Connects, attaches and arms. */
static inline void peer_attach(struct peer *p, const struct bus *bus)
{
    peer_connect(p, bus);
    if (peer_hello(p, 0) != 0)
        fail_msg("hello: %s", peer_sentence(p));
    assert_int_equal(peer_head(p, SB_CONTROL_ARMED), 0);
}

static inline void peer_unmap(struct peer *p)
{
    sb_sock_fds_close(&p->fds);
    p->fds.n = 0;
    if (p->arena) {
        munmap(p->arena, p->arena_limit);
        close(p->arena_fd);
    }
    if (p->heap) {
        munmap(p->heap, p->heap_limit);
        munmap(p->inbox, p->inbox_limit);
        close(p->heap_fd);
        close(p->inbox_fd);
    }
}

static inline void peer_close(struct peer *p)
{
    peer_unmap(p);
    close(p->sock);
}

static inline const struct sb_arena_header *peer_header(const struct peer *p)
{
    return (const void *)p->arena;
}

static inline const void *peer_record(const struct peer *p, const struct sb_table *table,
                                      uint32_t index, uint32_t size)
{
    struct sb_region arena = {p->arena, sb_load_acquire(&peer_header(p)->size)};
    const void *record = sb_table_at(arena, table, index, size);
    assert_non_null(record);
    return record;
}

static inline const struct sb_route_rec *peer_route_rec(const struct peer *p, uint32_t index)
{
    return peer_record(p, &peer_header(p)->routes, index, sizeof(struct sb_route_rec));
}

static inline const struct sb_seat_rec *peer_seat_rec(const struct peer *p, uint32_t index)
{
    return peer_record(p, &peer_header(p)->seats, index, sizeof(struct sb_seat_rec));
}

static inline const struct sb_ring_rec *peer_ring_rec(const struct peer *p, uint32_t index)
{
    return peer_record(p, &peer_header(p)->rings, index, sizeof(struct sb_ring_rec));
}

static inline const struct sb_conn_rec *peer_conn_rec(const struct peer *p, uint32_t index)
{
    return peer_record(p, &peer_header(p)->conns, index, sizeof(struct sb_conn_rec));
}

static inline const struct sb_segment_rec *peer_segment_rec(const struct peer *p, uint32_t index)
{
    return peer_record(p, &peer_header(p)->segments, index, sizeof(struct sb_segment_rec));
}

/* Whether a route's set lists the ring now. */
static inline int peer_route_lists(const struct peer *p, uint32_t route, uint32_t ring)
{
    uint64_t at = sb_set_offset(sb_load_acquire(&peer_route_rec(p, route)->set));
    const struct sb_ring_set *set = (const void *)(p->arena + at);
    for (uint32_t i = 0; at != 0 && i < set->count; i++) {
        if (set->ring[i] == ring)
            return 1;
    }
    return 0;
}

/* Appends a pattern in text form to a list of {u16 length, bytes}; the new length. */
static inline size_t peer_pattern(uint8_t *list, size_t at, const char *text)
{
    size_t len;
    assert_int_equal(sb_topic_encode(shmbus_text(text), SB_TOPIC_PATTERN, &sb_wildcards_default,
                                     list + at + 2, SB_TOPIC_MAX, &len),
                     0);
    uint16_t n = (uint16_t)len;
    memcpy(list + at, &n, 2);
    return at + 2 + len;
}

/* Subscribes to already encoded patterns. */
static inline int peer_subscribe_list(struct peer *p, const uint8_t *list, size_t len,
                                      uint32_t count, int64_t queue_len, uint32_t full,
                                      struct sb_subscribe_reply *seat)
{
    struct sb_subscribe_request request = {.queue_len = queue_len,
                                           .full = full,
                                           .pattern_count = count,
                                           .patterns_len = (uint32_t)len};
    memset(seat, 0xff, sizeof(*seat));
    int ret = peer_request(p, SB_CONTROL_SUBSCRIBE, &request, sizeof(request), list, len);
    if (ret == 0)
        memcpy(seat, p->reply, sizeof(*seat));
    return ret;
}

static inline int peer_subscribe(struct peer *p, const char *pattern, int64_t queue_len,
                                 uint32_t full, struct sb_subscribe_reply *seat)
{
    uint8_t list[SB_TOPIC_MAX + 2];
    size_t len = peer_pattern(list, 0, pattern);
    return peer_subscribe_list(p, list, len, 1, queue_len, full, seat);
}

static inline int peer_seat(struct peer *p, uint32_t type, const struct sb_subscribe_reply *seat)
{
    struct sb_seat_request request = {.seat = seat->seat, .seat_gen = seat->seat_gen};
    return peer_request(p, type, &request, sizeof(request), NULL, 0);
}

static inline int peer_route(struct peer *p, const char *topic, struct sb_route_reply *route)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    assert_int_equal(sb_topic_encode(shmbus_text(topic), SB_TOPIC_CONCRETE, &sb_wildcards_default,
                                     bytes, sizeof(bytes), &len),
                     0);
    struct sb_route_request request = {.topic_len = (uint32_t)len};
    memset(route, 0xff, sizeof(*route));
    int ret = peer_request(p, SB_CONTROL_ROUTE, &request, sizeof(request), bytes, len);
    if (ret == 0)
        memcpy(route, p->reply, sizeof(*route));
    return ret;
}

/* Asks for one descriptor; -1 where it is not for this peer. */
static inline int peer_ask(struct peer *p, uint32_t kind, uint32_t index, uint32_t gen,
                           uint64_t *size)
{
    struct sb_map_message request = {.count = 1};
    struct sb_map_item item = {.kind = kind, .index = index, .gen = gen};
    assert_int_equal(
        peer_request(p, SB_CONTROL_MAP, &request, sizeof(request), &item, sizeof(item)), 0);
    const struct sb_map_message *reply = (const void *)p->reply;
    assert_int_equal(p->fds.n, reply->item[0].found);
    if (size)
        *size = reply->item[0].size;
    if (!reply->item[0].found)
        return -1;
    return sb_sock_fds_take(&p->fds, 0);
}

static inline struct sb_bus_stats_reply peer_stats(struct peer *p)
{
    struct sb_bus_stats_reply stats;
    assert_int_equal(peer_head(p, SB_CONTROL_BUS_STATS), 0);
    memcpy(&stats, p->reply, sizeof(stats));
    return stats;
}

#endif
