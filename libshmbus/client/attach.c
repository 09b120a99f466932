/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake: HELLO, descriptors, checks, mappings, ARMED.
 *
 * The coordinator is trusted with what it says (it is the bus), but a mistake, or a file that
 * somebody else owns, must not become a fault later on: sizes, seals and owners are checked before
 * anything is mapped, and the layout before anything is read.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <uuid/uuid.h>

#include "base/err.h"
#include "client/arena_file.h"
#include "client/attach.h"
#include "client/locate.h"
#include "client/publishing.h"
#include "client/request.h"
#include "os/map.h"
#include "os/memfd.h"

/* The descriptors of a HELLO's reply, in their order. */
enum { SB_HELLO_ARENA, SB_HELLO_HEAP, SB_HELLO_INBOX, SB_HELLO_FDS };

static int sb_attach_nonsense(const struct shmbus_conn *conn, const char *what)
{
    return sb_fail(SHMBUS_E_COORD, "bus %s: the coordinator's welcome makes no sense: %s",
                   conn->name, what);
}

/* A file that speaks for the bus is the coordinator's, root's or one's own. */
static int sb_attach_check_owner(const struct shmbus_conn *conn, int fd,
                                 const struct sb_sock_peer *peer, struct stat *st)
{
    if (fstat(fd, st) < 0)
        return sb_fail_errno("bus %s: looking at a received descriptor failed", conn->name);
    if (!sb_locate_trusts(st->st_uid, peer))
        return sb_fail(SHMBUS_E_DENIED, "bus %s: uid %u serves it with memory of uid %u",
                       conn->name, peer->uid, st->st_uid);
    return 0;
}

static int sb_attach_map(struct sb_mapping *mapping, int fd, uint64_t size, bool writable)
{
    void *base;
    int ret = sb_map(fd, size, writable, &base);
    if (ret == 0) {
        mapping->base = base;
        mapping->size = size;
    }
    return ret;
}

static int sb_attach_arena(struct shmbus_conn *conn, const struct sb_hello_reply *reply, int fd,
                           const struct sb_sock_peer *peer)
{
    struct stat st;
    int ret = sb_attach_check_owner(conn, fd, peer, &st);
    if (ret)
        return ret;
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < SB_ARENA_FIRST)
        return sb_attach_nonsense(conn, "its arena is no memory object");
    ret = sb_attach_map(&conn->arena_mapping, fd, reply->arena_limit, false);
    if (ret)
        return ret;
    const struct sb_arena_header *header = (const void *)conn->arena_mapping.base;
    ret = sb_arena_header_check(header, conn->name);
    if (ret)
        return ret;
    if (sb_load_acquire(&header->size) > (uint64_t)st.st_size ||
        header->limit != reply->arena_limit)
        return sb_attach_nonsense(conn, "its arena contradicts itself");
    conn->arena = (struct sb_region){conn->arena_mapping.base, conn->arena_mapping.size};
    conn->header = header;
    return sb_wildcards_init(&conn->wildcards, header->s_wild, header->s_wild_len, header->m_wild,
                             header->m_wild_len);
}

/* Finds the connection's record and copies what is said to the application. */
static int sb_attach_record(struct shmbus_conn *conn, const struct sb_hello_reply *reply)
{
    struct sb_region arena = sb_conn_arena(conn);
    const struct sb_conn_rec *rec =
        sb_table_at(arena, &conn->header->conns, reply->conn, sizeof(*rec));
    if (rec == NULL || sb_load_acquire(&rec->gen) != reply->gen)
        return sb_attach_nonsense(conn, "there is no record of this connection");
    size_t len = rec->principal_len;
    const char *principal = sb_arena_at(arena, rec->principal, len);
    if (principal == NULL)
        return sb_attach_nonsense(conn, "its principal lies outside of the arena");
    conn->principal = malloc(len + 1);
    if (conn->principal == NULL)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a connection to bus %s", conn->name);
    memcpy(conn->principal, principal, len);
    conn->principal[len] = '\0';
    conn->principal_len = len;
    uuid_unparse_lower(rec->id, conn->id);
    conn->rec = rec;
    conn->index = reply->conn;
    conn->gen = reply->gen;
    return 0;
}

/* The heap is not sealed yet: it becomes read-only for everybody else once it is mapped. */
static int sb_attach_heap(struct shmbus_conn *conn, const struct sb_hello_reply *reply, int fd,
                          const struct sb_sock_peer *peer)
{
    struct stat st;
    int ret = sb_attach_check_owner(conn, fd, peer, &st);
    if (ret == 0)
        ret = sb_memfd_check(fd, reply->heap_limit, 0);
    if (ret == 0)
        ret = sb_attach_map(&conn->heap_mapping, fd, reply->heap_limit, true);
    if (ret)
        return ret;
    struct sb_control_head armed = {.type = SB_CONTROL_ARMED}, granted;
    ret = sb_request_held(conn, &armed, sizeof(armed), &granted, sizeof(granted), NULL);
    if (ret == 0)
        ret = sb_memfd_check(fd, reply->heap_limit, SB_MEMFD_SEALS_HEAP);
    if (ret)
        return ret;
    conn->heap = conn->heap_mapping.base;
    conn->heap_limit = reply->heap_limit;
    return 0;
}

static int sb_attach_inbox(struct shmbus_conn *conn, const struct sb_hello_reply *reply, int fd,
                           const struct sb_sock_peer *peer)
{
    struct stat st;
    int ret = sb_attach_check_owner(conn, fd, peer, &st);
    if (ret == 0)
        ret = sb_memfd_check(fd, reply->inbox_limit, SB_MEMFD_SEALS_SIZE);
    if (ret == 0)
        ret = sb_attach_map(&conn->inbox_mapping, fd, reply->inbox_limit, true);
    if (ret)
        return ret;
    if (sb_load_acquire(&conn->rec->inbox_size) > reply->inbox_limit ||
        reply->inbox_limit < sizeof(struct sb_inbox))
        return sb_attach_nonsense(conn, "its inbox has no such size");
    conn->inbox = (void *)conn->inbox_mapping.base;
    conn->inbox_limit = reply->inbox_limit;
    sb_store_release(&conn->inbox->gen, conn->gen);
    return 0;
}

/* Everything but what needs requests of its own; the caller holds `control`. */
static int sb_attach_hello(struct shmbus_conn *conn, const struct sb_sock_peer *peer,
                           struct sb_hello_reply *reply)
{
    SB_CLEANUP(sb_sock_fds_close) struct sb_sock_fds fds;
    struct sb_hello_request hello = {.head.type = SB_CONTROL_HELLO,
                                     .version = SB_CONTROL_VERSION,
                                     .layout = SB_LAYOUT_VERSION,
                                     .fingerprint = sb_layout_fingerprint(),
                                     .observer = conn->observer};
    fds.n = 0;
    int ret = sb_request_held(conn, &hello, sizeof(hello), reply, sizeof(*reply), &fds);
    if (ret)
        return ret;
    if (fds.n != (conn->observer ? SB_HELLO_HEAP : SB_HELLO_FDS))
        return sb_attach_nonsense(conn, "descriptors are missing");
    ret = sb_attach_arena(conn, reply, fds.fd[SB_HELLO_ARENA], peer);
    if (ret || conn->observer)
        return ret;
    ret = sb_attach_record(conn, reply);
    if (ret == 0)
        ret = sb_attach_inbox(conn, reply, fds.fd[SB_HELLO_INBOX], peer);
    if (ret == 0)
        ret = sb_attach_heap(conn, reply, fds.fd[SB_HELLO_HEAP], peer);
    return ret;
}

static int sb_attach_bell(struct shmbus_conn *conn, const struct sb_hello_reply *reply)
{
    const struct sb_segment_rec *segment = sb_table_at(sb_conn_arena(conn), &conn->header->segments,
                                                       reply->bell_segment, sizeof(*segment));
    if (segment == NULL)
        return sb_attach_nonsense(conn, "there is no record of its bell");
    struct sb_mapping_want want = {SB_MAP_BELLS, reply->bell_segment,
                                   sb_load_acquire(&segment->gen), NULL};
    int ret = sb_mapping_get(conn, &want, 1);
    if (ret)
        return ret;
    conn->bell_mapping = want.mapping;
    if (want.mapping == NULL || reply->bell >= want.mapping->size / sizeof(struct sb_bell))
        return sb_attach_nonsense(conn, "its bell cannot be mapped");
    conn->bell = (struct sb_bell *)(void *)want.mapping->base + reply->bell;
    return 0;
}

int sb_attach(struct shmbus_conn *conn, const struct sb_sock_peer *peer)
{
    struct sb_hello_reply reply;
    sb_lock_acquire(&conn->control);
    int ret = sb_attach_hello(conn, peer, &reply);
    sb_lock_release(&conn->control);
    if (ret || conn->observer)
        return ret;
    ret = sb_attach_bell(conn, &reply);
    return ret ? ret : sb_publishing_new(conn, &conn->publishing);
}

void sb_attach_undo(struct shmbus_conn *conn)
{
    if (conn->publishing)
        sb_publishing_free(conn->publishing);
    conn->publishing = NULL;
    sb_mappings_free(conn);
    conn->bell_mapping = NULL;
    sb_unmap(conn->heap_mapping.base, conn->heap_mapping.size);
    sb_unmap(conn->inbox_mapping.base, conn->inbox_mapping.size);
    sb_unmap(conn->arena_mapping.base, conn->arena_mapping.size);
    conn->arena_mapping.base = conn->heap_mapping.base = conn->inbox_mapping.base = NULL;
    conn->header = NULL;
    free(conn->principal);
    conn->principal = NULL;
}
