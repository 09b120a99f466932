/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/conn.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uuid/uuid.h>

#include "base/bits.h"
#include "base/err.h"
#include "coord/log.h"
#include "coord/reap.h"
#include "coord/route.h"
#include "coord/segment.h"
#include "coord/session.h"
#include "coord/stats.h"
#include "coord/sub.h"
#include "os/map.h"
#include "os/memfd.h"
#include "os/pidfd.h"

/* The process of the connection has ended: whatever it held is nobody's. */
static void sb_coord_conn_died(void *ctx, unsigned events);

/* The default principal: the user's name, else the decimal uid. */
static void sb_coord_conn_principal(uid_t uid, char name[256])
{
    char buf[4096];
    struct passwd entry, *found = NULL;
    if (getpwuid_r(uid, &entry, buf, sizeof(buf), &found) == 0 && found &&
        strlen(found->pw_name) < 256)
        snprintf(name, 256, "%s", found->pw_name);
    else
        snprintf(name, 256, "%u", (unsigned)uid);
}

/* A descriptor that tells the end of the process that connected. */
static int sb_coord_conn_pidfd(int sock, const struct sb_sock_peer *peer, int *pidfd)
{
    int ret = sb_sock_peer_pidfd(sock, pidfd);
    if (ret != SHMBUS_EMPTY)
        return ret;
    if (peer->pid <= 0)
        return sb_fail(SHMBUS_E_SYSTEM, "the coordinator cannot see the connecting process, so it "
                                        "could not notice its end: share a pid namespace, or use "
                                        "Linux 6.5");
    ret = sb_pidfd_open(peer->pid, pidfd);
    if (ret == SHMBUS_DONE)
        return sb_fail(SHMBUS_E_SYSTEM, "the connecting process %d has ended", (int)peer->pid);
    return ret;
}

/* A sparse memory file of limit bytes, the first size of them allocated. */
static int sb_coord_conn_memory(const char *name, uint64_t limit, uint64_t size, int *fd,
                                struct sb_file_id *id)
{
    int ret = sb_memfd_create(name, limit, fd);
    if (ret == 0)
        ret = sb_memfd_commit(*fd, 0, size);
    if (ret == 0)
        ret = sb_memfd_identity(*fd, id);
    return ret;
}

static int sb_coord_conn_memories(struct sb_coord *c, struct sb_coord_conn *conn,
                                  struct sb_conn_rec *rec)
{
    struct sb_file_id heap, inbox;
    void *base = NULL;
    conn->heap_size = SB_COORD_HEAP_SIZE;
    conn->inbox_size = SB_INBOX_SIZE;
    int ret = sb_coord_conn_memory("shmbus-heap", c->options.heap_limit, conn->heap_size,
                                   &conn->heap_fd, &heap);
    if (ret == 0)
        ret = sb_coord_conn_memory("shmbus-inbox", SB_COORD_INBOX_LIMIT, conn->inbox_size,
                                   &conn->inbox_fd, &inbox);
    if (ret == 0)
        ret = sb_memfd_seal(conn->inbox_fd);
    if (ret == 0)
        ret = sb_map(conn->inbox_fd, SB_COORD_INBOX_LIMIT, true, &base);
    if (ret)
        return ret;
    conn->inbox = base;
    rec->heap_dev = heap.dev;
    rec->heap_ino = heap.ino;
    rec->inbox_dev = inbox.dev;
    rec->inbox_ino = inbox.ino;
    rec->heap_limit = c->options.heap_limit;
    rec->inbox_limit = SB_COORD_INBOX_LIMIT;
    sb_store_release(&rec->heap_size, conn->heap_size);
    sb_store_release(&rec->inbox_size, conn->inbox_size);
    return 0;
}

/* What needs no record: descriptors, the watch of the process, account and bell of the user. */
static int sb_coord_conn_watch(struct sb_coord *c, struct sb_coord_conn *conn, int sock,
                               const struct sb_sock_peer *peer)
{
    conn->user = sb_coord_user_find(c, conn->uid);
    if (!conn->user)
        return SHMBUS_E_NOMEM;
    int ret = sb_coord_conn_pidfd(sock, peer, &conn->pidfd);
    if (ret)
        return ret;
    conn->coord = c;
    ret = sb_loop_add(c->loop, conn->pidfd, SB_LOOP_READ, sb_coord_conn_died, conn, &conn->watch);
    if (ret)
        return ret;
    return sb_coord_bell_take(c, conn->user, NULL, conn, &conn->bell);
}

static int sb_coord_conn_describe(struct sb_coord *c, struct sb_coord_conn *conn,
                                  const struct sb_sock_peer *peer, struct sb_conn_rec *rec)
{
    char principal[256];
    uint64_t at, start = 0;
    sb_coord_conn_principal(peer->uid, principal);
    int ret = sb_coord_arena_copy(&c->arena, principal, strlen(principal), &at);
    if (ret)
        return ret;
    if (peer->pid > 0 && sb_pidfd_start_time(peer->pid, &start) != 0)
        start = 0;
    uuid_generate_random(rec->id);
    rec->pid = (uint32_t)peer->pid;
    rec->uid = peer->uid;
    rec->gid = peer->gid;
    rec->principal = at;
    rec->principal_len = (uint32_t)strlen(principal);
    rec->start_time = start;
    conn->state = SB_CONN_ATTACHED;
    sb_store_release(&rec->state, SB_CONN_ATTACHED); /* the fields above are complete */
    return 0;
}

/* Descriptors run out in many places; the client is told which limit it was. */
static int sb_coord_conn_explain(const struct sb_coord *c, int ret)
{
    int cause = ret == SHMBUS_E_SYSTEM ? shmbus_errsys() : 0;
    if (cause != EMFILE && cause != ENFILE)
        return ret;
    return sb_fail(SHMBUS_E_LIMIT,
                   "the coordinator has no descriptors left for another connection beside %u "
                   "(four each): raise its limit of open files",
                   c->conns.used - 1);
}

int sb_coord_conn_attach(struct sb_coord *c, struct sb_coord_session *session, int sock,
                         const struct sb_sock_peer *peer, struct sb_coord_conn **made)
{
    struct sb_coord_conn *conn = calloc(1, sizeof(*conn));
    if (!conn)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a connection");
    conn->heap_fd = conn->inbox_fd = conn->pidfd = -1;
    conn->pid = peer->pid;
    conn->uid = peer->uid;
    int ret = sb_coord_table_take(&c->conns, conn, &conn->index);
    if (ret) {
        free(conn);
        return ret;
    }
    struct sb_conn_rec *rec = sb_coord_table_record(&c->conns, conn->index);
    conn->gen = rec->gen;
    ret = sb_coord_conn_watch(c, conn, sock, peer);
    if (ret == 0)
        ret = sb_coord_conn_memories(c, conn, rec);
    if (ret == 0)
        ret = sb_coord_conn_describe(c, conn, peer, rec);
    if (ret) {
        ret = sb_coord_conn_explain(c, ret);
        sb_coord_conn_free(c, conn);
        return ret;
    }
    conn->session = session;
    sb_coord_log(c, SHMBUS_LOG_DEBUG, "connection %u: process %d of user %u attached", conn->index,
                 (int)conn->pid, (unsigned)conn->uid);
    *made = conn;
    return 0;
}

int sb_coord_conn_arm(struct sb_coord_conn *conn)
{
    if (conn->armed)
        return sb_fail(SHMBUS_E_INVALID, "the heap of this connection is armed already");
    int ret = sb_memfd_seal_heap(conn->heap_fd);
    if (ret == 0)
        conn->armed = true;
    return ret;
}

int sb_coord_conn_grow(struct sb_coord *c, struct sb_coord_conn *conn, uint64_t size)
{
    if (size > c->options.heap_limit)
        return sb_fail(SHMBUS_E_LIMIT,
                       "a heap of %" PRIu64 " bytes: the bus allows %" PRIu64
                       " to each connection, and this one has %" PRIu64,
                       size, c->options.heap_limit, conn->heap_size);
    size = sb_align_up(size, (uint64_t)sysconf(_SC_PAGESIZE));
    if (size <= conn->heap_size)
        return 0;
    int ret = sb_memfd_commit(conn->heap_fd, conn->heap_size, size);
    if (ret)
        return ret;
    struct sb_conn_rec *rec = sb_coord_table_record(&c->conns, conn->index);
    conn->heap_size = size;
    sb_store_release(&rec->heap_size, size); /* allocated before anybody may touch it */
    return 0;
}

static void sb_coord_conn_set_state(struct sb_coord *c, struct sb_coord_conn *conn, uint32_t state)
{
    struct sb_conn_rec *rec = sb_coord_table_record(&c->conns, conn->index);
    conn->state = state;
    sb_store_release(&rec->state, state);
}

void sb_coord_conn_end(struct sb_coord *c, struct sb_coord_conn *conn)
{
    if (conn->state != SB_CONN_ATTACHED)
        return;
    sb_coord_route_end(c, conn);
    sb_coord_conn_set_state(c, conn, SB_CONN_DISCONNECTED);
    sb_coord_sub_advance(c);
    for (struct sb_coord_seat *seat = conn->seats; seat; seat = seat->next_of_conn)
        sb_coord_sub_close(c, seat, SB_REASON_DISCONNECTED);
}

/* Nobody will read or publish with it any more: only its messages are waited for. */
static void sb_coord_conn_settle(struct sb_coord *c, struct sb_coord_conn *conn)
{
    if (conn->gone || conn->session || conn->seat_count || conn->state == SB_CONN_ATTACHED)
        return;
    conn->gone = true;
    sb_coord_conn_set_state(c, conn, SB_CONN_DEAD);
    sb_coord_reap_conn(c, conn);
}

void sb_coord_conn_hangup(struct sb_coord *c, struct sb_coord_conn *conn)
{
    conn->session = NULL;
    sb_coord_conn_end(c, conn);
    sb_coord_conn_settle(c, conn);
}

/* Bells that the dead process may have left silent between a push and its ringing. */
static void sb_coord_conn_ring(struct sb_coord *c, const struct sb_coord_conn *conn)
{
    sb_fence_full(); /* what it pushed before the look at S; pairs with sb_bell_announce */
    for (uint32_t i = sb_coord_table_next(&c->rings, 0); i != SB_NONE;
         i = sb_coord_table_next(&c->rings, i + 1)) {
        const struct sb_coord_ring *ring = c->rings.object[i];
        if (ring->seats && sb_bitset_has(&ring->publishers, conn->index))
            sb_bell_ring(sb_coord_bell_at(&ring->bell), INT32_MAX);
    }
}

static void sb_coord_conn_died(void *ctx, unsigned events)
{
    (void)events;
    struct sb_coord_conn *conn = ctx;
    struct sb_coord *c = conn->coord;
    sb_loop_remove(c->loop, conn->watch);
    conn->watch = 0;
    sb_coord_conn_ring(c, conn);
    if (conn->session)
        sb_coord_session_close(c, conn->session);
    while (conn->seats)
        sb_coord_sub_leave(c, conn->seats);
    sb_coord_conn_settle(c, conn);
    sb_coord_log(c, SHMBUS_LOG_DEBUG, "connection %u: process %d has ended", conn->index,
                 (int)conn->pid);
}

/* Takes it out of the sets of publishers, so that its index can be another's. */
static void sb_coord_conn_forget(struct sb_coord *c, const struct sb_coord_conn *conn)
{
    for (uint32_t i = sb_coord_table_next(&c->rings, 0); i != SB_NONE;
         i = sb_coord_table_next(&c->rings, i + 1)) {
        struct sb_coord_ring *ring = c->rings.object[i];
        sb_bitset_drop(&ring->publishers, conn->index);
    }
}

/* What nobody else sees of it. */
static void sb_coord_conn_release(struct sb_coord_conn *conn)
{
    const int fds[] = {conn->heap_fd, conn->inbox_fd, conn->pidfd};
    for (size_t i = 0; i < sb_array_len(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    sb_unmap(conn->inbox, SB_COORD_INBOX_LIMIT);
    sb_bitset_deinit(&conn->slots);
    free(conn->passing);
    free(conn);
}

void sb_coord_conn_free(struct sb_coord *c, struct sb_coord_conn *conn)
{
    struct sb_conn_rec *rec = sb_coord_table_record(&c->conns, conn->index);
    while (conn->routes)
        sb_coord_route_free(c, conn->routes);
    sb_coord_conn_forget(c, conn);
    sb_coord_stats_add(&c->gone_failed, sb_coord_stats_failed(conn));
    sb_store_release(&rec->state, SB_CONN_FREE);
    sb_store_release(&rec->gen, conn->gen + 1);
    /* A reader that sees a field of the record's next use sees this generation, too. */
    sb_fence_release();
    sb_coord_arena_retire_copy(&c->arena, rec->principal, rec->principal_len);
    rec->principal = 0;
    rec->principal_len = 0;
    if (conn->bell.segment)
        sb_coord_bell_give(c, &conn->bell);
    sb_loop_remove(c->loop, conn->watch);
    sb_coord_table_give(&c->conns, conn->index);
    sb_coord_conn_release(conn);
}

void sb_coord_conn_close(struct sb_coord *c)
{
    for (uint32_t i = sb_coord_table_next(&c->conns, 0); i != SB_NONE;
         i = sb_coord_table_next(&c->conns, i + 1)) {
        struct sb_coord_conn *conn = c->conns.object[i];
        for (struct sb_coord_seat *seat = conn->seats, *next; seat; seat = next) {
            next = seat->next_of_conn;
            free(seat);
        }
        for (struct sb_coord_route *route = conn->routes, *next; route; route = next) {
            next = route->next_of_conn;
            free(route);
        }
        sb_loop_remove(c->loop, conn->watch);
        sb_coord_conn_release(conn);
    }
}

size_t sb_coord_conn_pins(struct sb_coord *c, const uint64_t ***pins)
{
    const uint64_t **list = malloc(((size_t)c->conns.used + 1) * SB_PINS * sizeof(*list));
    size_t n = 0;
    if (!list)
        return SIZE_MAX;
    for (uint32_t i = sb_coord_table_next(&c->conns, 1); i != SB_NONE;
         i = sb_coord_table_next(&c->conns, i + 1)) {
        const struct sb_coord_conn *conn = c->conns.object[i];
        for (size_t k = 0; !conn->gone && k < SB_PINS; k++)
            list[n++] = &conn->inbox->pin[k];
    }
    *pins = list;
    return n;
}
