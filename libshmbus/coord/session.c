/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "coord/conn.h"
#include "coord/log.h"
#include "coord/map.h"
#include "coord/reap.h"
#include "coord/request.h"

#define SB_COORD_ACCEPT_PAUSE (100 * SB_NS_PER_MS)
#define SB_COORD_PATIENCE (100 * SB_NS_PER_MS) /* for one full socket, at the end */

void sb_coord_session_close(struct sb_coord *c, struct sb_coord_session *session)
{
    sb_loop_remove(c->loop, session->watch);
    close(session->fd);
    if (session->next)
        session->next->prev = session->prev;
    if (session->prev)
        session->prev->next = session->next;
    else
        c->sessions = session->next;
    if (session->conn)
        sb_coord_conn_hangup(c, session->conn);
    free(session);
}

static void sb_coord_reply_close(struct sb_coord_reply *reply)
{
    for (unsigned i = 0; i < reply->fd_count; i++) {
        if (reply->owned[i])
            close(reply->fd[i]);
    }
    reply->fd_count = 0;
}

/* Makes the reply say that the request failed with the sentence of this thread. */
static void sb_coord_reply_fail(struct sb_coord_reply *reply, int status)
{
    const char *text = shmbus_errmsg();
    size_t len = strnlen(text, SB_CONTROL_SENTENCE);
    sb_coord_reply_close(reply);
    memcpy(reply->head + 1, text, len);
    reply->head->size = (uint32_t)(sizeof(*reply->head) + len);
    reply->head->status = status;
}

static int sb_coord_session_send(const struct sb_coord_session *session,
                                 const struct sb_coord_reply *reply)
{
    return sb_sock_send(session->fd, reply->head, reply->head->size, reply->fd, reply->fd_count,
                        SB_SOCK_NOW);
}

/* Answers one request; false when the client has to be hung up on. */
static bool sb_coord_session_answer(struct sb_coord *c, struct sb_coord_session *session,
                                    size_t len)
{
    const struct sb_control_head *request = (const void *)c->request;
    struct sb_coord_reply reply = {.head = (void *)c->reply};
    if (len < sizeof(*request))
        return false;
    *reply.head = (struct sb_control_head){.type = request->type, .id = request->id};
    int ret = sb_coord_request_run(c, session, request, len, &reply);
    if (ret)
        sb_coord_reply_fail(&reply, ret);
    ret = sb_coord_session_send(session, &reply);
    if (ret < 0 && reply.fd_count) {
        sb_coord_reply_fail(&reply, ret);
        ret = sb_coord_session_send(session, &reply);
    }
    sb_coord_reply_close(&reply);
    if (ret == SHMBUS_TIMEOUT)
        sb_coord_log(c, SHMBUS_LOG_WARNING, "process %d of user %u does not read its replies",
                     (int)session->peer.pid, (unsigned)session->peer.uid);
    return ret == 0;
}

static void sb_coord_session_ready(void *ctx, unsigned events)
{
    (void)events;
    struct sb_coord_session *session = ctx;
    struct sb_coord *c = session->coord;
    size_t len;
    int ret = sb_sock_recv(session->fd, c->request, sizeof(c->request), &len, NULL, 0, SB_SOCK_NOW);
    if (ret == SHMBUS_TIMEOUT)
        return;
    if (ret != 0 || !sb_coord_session_answer(c, session, len))
        sb_coord_session_close(c, session);
    sb_coord_reap_arena(c);
}

static int sb_coord_session_open(struct sb_coord *c, int fd)
{
    struct sb_coord_session *session = calloc(1, sizeof(*session));
    if (!session)
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a session");
    session->coord = c;
    session->fd = fd;
    int ret = sb_sock_peer(fd, &session->peer);
    if (ret == 0)
        ret = sb_loop_add(c->loop, fd, SB_LOOP_READ, sb_coord_session_ready, session,
                          &session->watch);
    if (ret) {
        free(session);
        return ret;
    }
    session->next = c->sessions;
    if (session->next)
        session->next->prev = session;
    c->sessions = session;
    return 0;
}

static void sb_coord_session_resume(void *ctx)
{
    struct sb_coord *c = ctx;
    sb_loop_set(c->loop, c->listen_watch, SB_LOOP_READ);
}

/* Out of descriptors or memory: clients wait in the backlog for a while. */
static void sb_coord_session_pause(struct sb_coord *c)
{
    uint64_t timer;
    sb_coord_log(c, SHMBUS_LOG_WARNING, "cannot accept a client: %s", shmbus_errmsg());
    if (sb_loop_timer(c->loop, sb_clock_after(SB_COORD_ACCEPT_PAUSE), sb_coord_session_resume, c,
                      &timer) == 0)
        sb_loop_set(c->loop, c->listen_watch, 0);
}

static void sb_coord_session_accept(void *ctx, unsigned events)
{
    (void)events;
    struct sb_coord *c = ctx;
    int fd;
    int ret = sb_sock_accept(c->names.listener, &fd);
    if (ret == SHMBUS_EMPTY)
        return;
    if (ret == 0) {
        ret = sb_coord_session_open(c, fd);
        if (ret)
            close(fd);
    }
    if (ret)
        sb_coord_session_pause(c);
}

int sb_coord_session_listen(struct sb_coord *c)
{
    return sb_loop_add(c->loop, c->names.listener, SB_LOOP_READ, sb_coord_session_accept, c,
                       &c->listen_watch);
}

/* The connections of which a route leads, or led, to a ring where this one sits. */
static int sb_coord_session_sources(const struct sb_coord_conn *conn, struct sb_bitset *sources)
{
    int ret = 0;
    for (const struct sb_coord_seat *s = conn->seats; ret == 0 && s; s = s->next_of_conn)
        ret = sb_bitset_merge(sources, &s->ring->publishers);
    return ret;
}

/* Sends up to SB_CONTROL_FDS heaps from *from on; 0, or why the client gets no more. */
static int sb_coord_session_heaps(struct sb_coord *c, const struct sb_coord_session *session,
                                  const struct sb_bitset *sources, uint32_t *from, int64_t deadline)
{
    struct sb_coord_reply push = {.head = (void *)c->reply};
    struct sb_map_message *message = (void *)c->reply;
    int ret = 0;
    memset(message, 0, sizeof(*message));
    while (message->count < SB_CONTROL_FDS && *from != UINT32_MAX) {
        const struct sb_coord_conn *heap = sb_coord_table_object(&c->conns, *from);
        struct sb_map_item *item = &message->item[message->count];
        struct sb_coord_fd fd;
        *from = sb_bitset_next(sources, *from + 1);
        memset(item, 0, sizeof(*item));
        if (!heap || !heap->armed || sb_coord_map_heap(heap, item, &fd) != 0)
            continue;
        push.fd[push.fd_count] = fd.fd;
        push.owned[push.fd_count++] = fd.owned;
        message->count++;
    }
    message->head.type = SB_CONTROL_HEAPS;
    message->head.size = (uint32_t)(sizeof(*message) + message->count * sizeof(message->item[0]));
    if (message->count)
        ret = sb_sock_send(session->fd, message, message->head.size, push.fd, push.fd_count,
                           deadline);
    sb_coord_reply_close(&push);
    return ret;
}

void sb_coord_session_farewell(struct sb_coord *c, int64_t deadline)
{
    for (const struct sb_coord_session *s = c->sessions; s; s = s->next) {
        struct sb_bitset sources = {0};
        int64_t patience = sb_clock_after(SB_COORD_PATIENCE);
        if (!s->conn || sb_coord_session_sources(s->conn, &sources) != 0)
            continue;
        uint32_t from = sb_bitset_next(&sources, 0);
        while (from != UINT32_MAX &&
               sb_coord_session_heaps(c, s, &sources, &from,
                                      patience < deadline ? patience : deadline) == 0)
            continue;
        sb_bitset_deinit(&sources);
    }
}

void sb_coord_session_end(struct sb_coord *c)
{
    for (struct sb_coord_session *s = c->sessions, *next; s; s = next) {
        next = s->next;
        sb_loop_remove(c->loop, s->watch);
        close(s->fd);
        free(s);
    }
    c->sessions = NULL;
}
