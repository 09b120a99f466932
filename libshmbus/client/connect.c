/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a connection: made by shmbus_connect(), ended by shmbus_disconnect(), released when
 * its user, its handles and their messages have let go of it.
 *
 * The socket stays open as long as the object: what is queued is still received after a disconnect,
 * which may need the heap of a publisher that was not met before. The last one to let go may be
 * shmbus_release(), so taking apart waits for nobody.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/attach.h"
#include "client/locate.h"
#include "client/options.h"
#include "client/publishing.h"
#include "client/request.h"
#include "client/subscription.h"

#define SB_CONNECT_PAUSE_MIN 1  /* ms between looks for a bus that is not there yet */
#define SB_CONNECT_PAUSE_MAX 50 /* grows up to here */

void sb_conn_ref(struct shmbus_conn *conn)
{
    sb_add_relaxed(&conn->refs, 1);
}

/* Nobody uses the connection any more. */
static void sb_conn_destroy(struct shmbus_conn *conn)
{
    if (conn->sock >= 0)
        close(conn->sock);
    sb_attach_undo(conn);
    free(conn->buffer);
    conn->magic = 0;
    free(conn);
}

void sb_conn_unref(struct shmbus_conn *conn)
{
    /* Acquire: what others did before they let go is done; release: for whoever is last. */
    if (sb_sub_acq_rel(&conn->refs, 1) == 1)
        sb_conn_destroy(conn);
}

int sb_conn_mine(const struct shmbus_conn *conn)
{
    if (conn == NULL)
        return sb_fail(SHMBUS_E_INVALID, "the connection is NULL");
    if (conn->magic != SB_MAGIC_CONN)
        return sb_fail(SHMBUS_E_INVALID, "this is no connection, or it was freed");
    if (sb_conn_forked(conn))
        return sb_fail(
            SHMBUS_E_FORKED,
            "the connection to bus %s was made before a fork, by the parent: connect anew",
            conn->name);
    return 0;
}

/* Of a connection of this process. */
static bool sb_conn_ended(const struct shmbus_conn *conn)
{
    return sb_load_acquire(&conn->disconnected) ||
           sb_load_acquire(&conn->header->state) == SB_BUS_STOPPED;
}

int sb_conn_check(const struct shmbus_conn *conn)
{
    int ret = sb_conn_mine(conn);
    if (ret)
        return ret;
    if (sb_load_acquire(&conn->disconnected))
        return sb_fail(SHMBUS_E_DISCONNECTED, "the connection to bus %s was disconnected",
                       conn->name);
    if (sb_conn_ended(conn))
        return sb_fail(SHMBUS_E_DISCONNECTED, "the bus %s has ended", conn->name);
    return 0;
}

static int sb_connect_options(const struct shmbus_connect_options *given,
                              struct shmbus_connect_options *options)
{
    int ret = given ? sb_options_read(options, sizeof(*options), given, "connect") : 0;
    if (ret)
        return ret;
    if (options->wait_ns < 0 && options->wait_ns != SHMBUS_FOREVER)
        return sb_fail(SHMBUS_E_INVALID,
                       "wait_ns %lld: 0 does not wait, SHMBUS_FOREVER waits without a limit, other "
                       "times are positive",
                       (long long)options->wait_ns);
    if (options->control_timeout_ns <= 0)
        return sb_fail(SHMBUS_E_INVALID, "control_timeout_ns %lld: it has to be positive",
                       (long long)options->control_timeout_ns);
    if (options->flags & ~SHMBUS_CONNECT_OBSERVER || options->reserved)
        return sb_fail(SHMBUS_E_INVALID,
                       "connect flags %#x: SHMBUS_CONNECT_OBSERVER is the only one, and reserved "
                       "is 0",
                       options->flags);
    return 0;
}

static int sb_conn_new(const char *name, const struct shmbus_connect_options *options,
                       struct shmbus_conn **made)
{
    struct shmbus_conn *conn = calloc(1, sizeof(*conn));
    uint8_t *buffer = conn ? malloc(SB_CONTROL_MAX) : NULL;
    if (buffer == NULL) {
        free(conn);
        return sb_fail(SHMBUS_E_NOMEM, "no memory for a connection to bus %s", name);
    }
    conn->magic = SB_MAGIC_CONN;
    conn->refs = 1;
    conn->buffer = buffer;
    conn->sock = -1;
    conn->index = SB_NONE;
    conn->control_timeout = options->control_timeout_ns;
    conn->observer = options->flags & SHMBUS_CONNECT_OBSERVER;
    memcpy(conn->name, name, strlen(name));
    int ret = sb_fork_arm(&conn->fork_id);
    if (ret) {
        sb_conn_destroy(conn);
        return ret;
    }
    *made = conn;
    return 0;
}

static bool sb_connect_hung_up(const struct shmbus_conn *conn)
{
    struct pollfd sock = {.fd = conn->sock};
    return poll(&sock, 1, 0) > 0 && sock.revents & POLLHUP;
}

/* One attempt; afterwards the connection is attached, or as it was. SHMBUS_CLOSED: somebody was
 * there, and hung up instead of answering. */
static int sb_connect_once(struct shmbus_conn *conn)
{
    struct sb_sock_peer peer;
    int ret = sb_locate(conn->name, sb_clock_after(conn->control_timeout), &conn->sock, &peer);
    if (ret)
        return ret;
    ret = sb_attach(conn, &peer);
    if (ret) {
        if (ret == SHMBUS_E_COORD && sb_connect_hung_up(conn))
            ret = SHMBUS_CLOSED;
        sb_attach_undo(conn);
        close(conn->sock);
        conn->sock = -1;
    }
    return ret;
}

/* Attempts until the deadline as long as nobody is there, or somebody who is just leaving. */
static int sb_connect_wait(struct shmbus_conn *conn, int64_t deadline)
{
    int pause = SB_CONNECT_PAUSE_MIN;
    int ret = sb_connect_once(conn);
    /* The listener of a process that was killed can outlive it for a moment (the kernel closes what
     * an io_uring holds later): the next look tells whether anybody is there. */
    if (ret == SHMBUS_CLOSED)
        ret = sb_connect_once(conn);
    for (;; ret = sb_connect_once(conn)) {
        if (ret == SHMBUS_CLOSED)
            ret = SHMBUS_E_COORD;
        if (ret != SHMBUS_E_NO_BUS && ret != SHMBUS_E_COORD)
            return ret;
        int64_t left = deadline == SB_NEVER ? SB_NEVER : deadline - sb_clock_ns();
        if (left <= 0)
            return ret;
        int64_t left_ms = left / SB_NS_PER_MS + 1;
        poll(NULL, 0, left_ms < pause ? (int)left_ms : pause);
        pause = pause * 2 < SB_CONNECT_PAUSE_MAX ? pause * 2 : SB_CONNECT_PAUSE_MAX;
    }
}

int shmbus_connect(const char *name, const struct shmbus_connect_options *given,
                   struct shmbus_conn **out)
{
    struct shmbus_connect_options options = SHMBUS_CONNECT_OPTIONS_INIT;
    int ret = sb_name_check(name);
    if (ret == 0)
        ret = sb_connect_options(given, &options);
    if (ret)
        return ret;
    if (out == NULL)
        return sb_fail(SHMBUS_E_INVALID, "there is no place to put the connection: conn is NULL");
    sb_linger_sweep();
    int64_t deadline =
        options.wait_ns == SHMBUS_FOREVER ? SB_NEVER : sb_clock_after(options.wait_ns);
    struct shmbus_conn *conn = NULL;
    ret = sb_conn_new(name, &options, &conn);
    if (ret)
        return ret;
    ret = sb_connect_wait(conn, deadline);
    if (ret) {
        sb_conn_destroy(conn);
        return ret;
    }
    *out = conn;
    return 0;
}

int shmbus_disconnect(struct shmbus_conn *conn)
{
    int ret = sb_conn_mine(conn);
    if (ret)
        return ret;
    if (sb_exchange_acq_rel(&conn->disconnected, 1u))
        return 0;
    if (conn->observer)
        return 0; /* it has nothing that could be ended */
    sb_publishing_disconnect(conn->publishing);
    struct sb_control_head request = {.type = SB_CONTROL_DISCONNECT}, reply;
    if (sb_request(conn, &request, sizeof(request), &reply, sizeof(reply)))
        sb_sub_close_all(conn, SB_REASON_DISCONNECTED); /* nobody else is there to do it */
    return 0;
}

int shmbus_is_disconnected(const struct shmbus_conn *conn)
{
    return conn == NULL || sb_conn_forked(conn) || sb_conn_ended(conn);
}

void shmbus_conn_free(struct shmbus_conn *conn)
{
    if (conn == NULL || sb_conn_forked(conn))
        return; /* in a forked child everything is the parent's */
    if (shmbus_disconnect(conn))
        return;
    sb_sub_leave_all(conn, false);
    sb_linger(conn);
    sb_conn_unref(conn);
    sb_linger_sweep();
}

const char *shmbus_conn_id(const struct shmbus_conn *conn)
{
    return conn->id;
}

const char *shmbus_principal(const struct shmbus_conn *conn, size_t *len)
{
    if (len)
        *len = conn->principal_len;
    return conn->principal ? conn->principal : "";
}

const char *shmbus_bus_name(const struct shmbus_conn *conn)
{
    return conn->name;
}
