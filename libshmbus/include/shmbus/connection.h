/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file connection.h
 * Attaching to a bus.
 *
 * A connection is the right to use one bus. It owns the memory that its publishes are written to
 * and its side of every queue it reads. It ends with shmbus_disconnect(), with its process, or
 * with its bus.
 *
 * Threads: unless a function says otherwise, it may be called from any thread at any time, except
 * that a handle must not be used by one thread while another frees it.
 *
 * Fork: handles do not cross a fork. In the child every call on them returns SHMBUS_E_FORKED and
 * the parent is unharmed; the child may connect anew.
 */
#ifndef SHMBUS_CONNECTION_H
#define SHMBUS_CONNECTION_H

#include <stddef.h>
#include <stdint.h>

#include <shmbus/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A connection to a bus; opaque. */
struct shmbus_conn;

/** For timeouts: wait without a limit. */
#define SHMBUS_FOREVER INT64_C(-1)

/** Only the figures of the bus may be asked for; such a connection is not counted among them. */
#define SHMBUS_CONNECT_OBSERVER 1u

/** How to connect. Start from SHMBUS_CONNECT_OPTIONS_INIT, so that later fields get defaults. */
struct shmbus_connect_options {
    size_t size;                /**< sizeof(struct shmbus_connect_options) */
    int64_t wait_ns;            /**< how long to wait for the bus to appear: 0 (default) fails at
                                     once, SHMBUS_FOREVER waits without a limit */
    int64_t control_timeout_ns; /**< how long a request to the coordinator may take; default 5 s */
    uint32_t flags;             /**< SHMBUS_CONNECT_… */
    uint32_t reserved;          /**< 0 */
};

#define SHMBUS_CONNECT_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct shmbus_connect_options), 0, INT64_C(5000000000), 0, 0                        \
    }

/**
 * Connects to the bus called name: 1..64 of A–Z a–z 0–9 . _ -, not starting with . or -.
 *
 * The coordinator is looked for in $SHMBUS_RUNTIME_DIR, /run/shmbus, $XDG_RUNTIME_DIR/shmbus, and
 * where the bus's memory object says.
 *
 * @param options NULL for the defaults
 * @param conn    out: the connection; end it with shmbus_disconnect() or shmbus_conn_free()
 * @return 0, SHMBUS_E_INVALID (name, options), SHMBUS_E_NO_BUS, SHMBUS_E_DENIED, SHMBUS_E_VERSION,
 *         SHMBUS_E_LIMIT (connections, descriptors), SHMBUS_E_COORD, SHMBUS_E_NOMEM,
 *         SHMBUS_E_SYSTEM. Blocks for wait_ns and the control timeout at most.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_connect(const char *name,
                                                const struct shmbus_connect_options *options,
                                                struct shmbus_conn **conn);

/**
 * Ends the connection: its handles close with the reason `disconnected`, nothing more is admitted
 * to them, and what is queued can still be received. What it has published is still delivered.
 * Idempotent. Blocked receivers of its handles wake at once. Where the coordinator is away, the
 * connection is closed on this side and 0 is returned.
 *
 * @return 0 or SHMBUS_E_FORKED. Blocks for the control timeout at most.
 */
SHMBUS_API int shmbus_disconnect(struct shmbus_conn *conn);

/** 1 once the connection was disconnected or its bus has ended, else 0. Never blocks. */
SHMBUS_API int shmbus_is_disconnected(const struct shmbus_conn *conn);

/**
 * Disconnects where that is still due, and releases the connection. Its handles stay valid, closed,
 * until they are freed, and messages until they are released. NULL is nothing to do.
 */
SHMBUS_API void shmbus_conn_free(struct shmbus_conn *conn);

/** The connection's id, a UUID in text form. Valid as long as the connection. Never blocks. */
SHMBUS_API const char *shmbus_conn_id(const struct shmbus_conn *conn);

/**
 * The principal that the bus knows this connection as: bytes, and a NUL behind them. Valid as long
 * as the connection. len: out, may be NULL.
 */
SHMBUS_API const char *shmbus_principal(const struct shmbus_conn *conn, size_t *len);

/** The name of the bus. Valid as long as the connection. */
SHMBUS_API const char *shmbus_bus_name(const struct shmbus_conn *conn);

/**
 * Where a message comes from, as the bus knows it; nothing here is the publisher's word. Made by
 * the library only; fields may be appended, so never copy it by value.
 */
struct shmbus_origin {
    const char *kind;      /**< `local`, or `bus` for what the bus itself says */
    const char *conn_id;   /**< the publishing connection's UUID */
    const char *principal; /**< 0..255 bytes; principal_len counts them, a NUL follows */
    size_t principal_len;
    uint32_t uid; /**< the publisher's user, as the coordinator sees it */
    uint32_t gid;
    uint32_t pid;          /**< 0 where the coordinator cannot see it */
    const char *link_id;   /**< NULL unless the connection decorates its origin */
    const char *peer_node; /**< likewise */
    const char *peer_sid;  /**< likewise */
    int64_t generation;    /**< likewise, 0 if absent */
};

#ifdef __cplusplus
}
#endif
#endif
