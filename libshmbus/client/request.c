/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trips on the control socket.
 *
 * Who: one thread at a time, the holder of `control`. Requests are answered in order, but a reply
 * may come after its request has timed out: replies are matched by id, and what answers nothing
 * that is under way is taken care of (sb_request_stray) and not taken for an answer.
 */
#include "client/request.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/client.h"

/* The coordinator has hung up. */
static int sb_request_lost(const struct shmbus_conn *conn)
{
    if (conn->header && sb_load_acquire(&conn->header->state) == SB_BUS_STOPPED)
        return sb_fail(SHMBUS_E_DISCONNECTED, "the bus %s has ended", conn->name);
    return sb_fail(SHMBUS_E_COORD, "the coordinator of bus %s is away", conn->name);
}

static int sb_request_late(const struct shmbus_conn *conn)
{
    return sb_fail(SHMBUS_E_COORD, "the coordinator of bus %s did not answer within %lld ms",
                   conn->name, (long long)(conn->control_timeout / SB_NS_PER_MS));
}

static void sb_request_stamp(struct shmbus_conn *conn, struct sb_control_head *head, size_t size)
{
    if (++conn->last_id == 0) /* of what is pushed */
        conn->last_id = 1;
    head->id = conn->last_id;
    head->size = (uint32_t)size;
    head->status = 0;
}

void sb_request_post(struct shmbus_conn *conn, void *request, size_t size)
{
    sb_request_stamp(conn, request, size);
    int ret = sb_sock_send(conn->sock, request, size, NULL, 0, SB_SOCK_NOW);
    (void)ret; /* gone, or so busy that it will look at this connection when its process ends */
}

/* A subscription was granted after its request had timed out: nobody has its handle. */
static void sb_request_give_back(struct shmbus_conn *conn, const struct sb_subscribe_reply *reply)
{
    struct sb_seat_request leave = {
        .head.type = SB_CONTROL_LEAVE, .seat = reply->seat, .seat_gen = reply->seat_gen};
    sb_request_post(conn, &leave, sizeof(leave));
}

/* The message of len bytes in the buffer answers nothing that is under way. */
static void sb_request_stray(struct shmbus_conn *conn, size_t len, struct sb_sock_fds *fds)
{
    const void *message = conn->buffer;
    const struct sb_control_head *head = message;
    if (len < sizeof(*head) || sb_control_parse_reply(message, len, head->type, head->id) != 0)
        return;
    if (head->type == SB_CONTROL_HEAPS && head->id == 0 && head->status == 0)
        sb_mappings_keep(conn, message, fds);
    else if (head->type == SB_CONTROL_SUBSCRIBE && head->status == 0)
        sb_request_give_back(conn, message);
}

/* Takes in what a coordinator that has hung up had pushed before: heaps that queues need. */
static void sb_request_drain(struct shmbus_conn *conn)
{
    struct sb_sock_fds fds;
    size_t len;
    while (sb_sock_recv(conn->sock, conn->buffer, SB_CONTROL_MAX, &len, &fds, SB_CONTROL_FDS,
                        SB_SOCK_NOW) == 0) {
        sb_request_stray(conn, len, &fds);
        sb_sock_fds_close(&fds);
    }
}

/* Waits for the reply to `asked` and leaves it in the buffer; its descriptors in fds. */
static int sb_request_await(struct shmbus_conn *conn, const struct sb_control_head *asked,
                            struct sb_sock_fds *fds, int64_t deadline)
{
    const struct sb_control_head *head = (const void *)conn->buffer;
    for (;;) {
        size_t len;
        int ret = sb_sock_recv(conn->sock, conn->buffer, SB_CONTROL_MAX, &len, fds, SB_CONTROL_FDS,
                               deadline);
        if (ret == SHMBUS_TIMEOUT)
            return sb_request_late(conn);
        if (ret == SHMBUS_CLOSED)
            return sb_request_lost(conn);
        if (ret)
            return ret;
        if (len >= sizeof(*head) && head->id == asked->id) {
            ret = sb_control_parse_reply(conn->buffer, len, asked->type, asked->id);
            if (ret)
                sb_sock_fds_close(fds);
            return ret ? sb_fail_prefix(SHMBUS_E_COORD, "bus %s", conn->name) : 0;
        }
        sb_request_stray(conn, len, fds);
        sb_sock_fds_close(fds);
    }
}

/* Judges the reply in the buffer. */
static int sb_request_verdict(struct shmbus_conn *conn, void *reply, size_t reply_cap)
{
    const struct sb_control_head *head = (const void *)conn->buffer;
    if (head->status < 0)
        return sb_fail(head->status, "%.*s", (int)(head->size - sizeof(*head)),
                       (const char *)(head + 1));
    if (head->size > reply_cap)
        return sb_fail(SHMBUS_E_COORD, "bus %s: a reply of %u bytes where at most %zu can be",
                       conn->name, head->size, reply_cap);
    memcpy(reply, head, head->size);
    return 0;
}

int sb_request_held(struct shmbus_conn *conn, void *request, size_t size, void *reply,
                    size_t reply_cap, struct sb_sock_fds *fds)
{
    struct sb_sock_fds unwanted;
    struct sb_sock_fds *came = fds ? fds : &unwanted;
    int64_t deadline = sb_clock_after(conn->control_timeout);
    sb_request_stamp(conn, request, size);
    came->n = 0;
    int ret = sb_sock_send(conn->sock, request, size, NULL, 0, deadline);
    if (ret == SHMBUS_TIMEOUT)
        return sb_request_late(conn);
    if (ret == SHMBUS_CLOSED) {
        sb_request_drain(conn);
        return sb_request_lost(conn);
    }
    if (ret)
        return ret;
    ret = sb_request_await(conn, request, came, deadline);
    if (ret)
        return ret;
    ret = sb_request_verdict(conn, reply, reply_cap);
    if (ret || fds == NULL)
        sb_sock_fds_close(came);
    return ret;
}

int sb_request(struct shmbus_conn *conn, void *request, size_t size, void *reply, size_t reply_cap)
{
    sb_lock_acquire(&conn->control);
    int ret = sb_request_held(conn, request, size, reply, reply_cap, NULL);
    sb_lock_release(&conn->control);
    return ret;
}
