/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file stats.h
 * What was offered, received and lost.
 *
 * Each call takes the size of the struct it fills, so that fields can be added.
 *
 * Figures are exact at rest, never decrease where they count events, and of closed handles stay
 * readable until the handle is freed.
 */
#ifndef SHMBUS_STATS_H
#define SHMBUS_STATS_H

#include <stddef.h>
#include <stdint.h>

#include <shmbus/connection.h>
#include <shmbus/error.h>
#include <shmbus/subscribe.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The books of one queue: offered = received + queued + dropped. */
struct shmbus_queue_stats {
    uint64_t offered;  /**< messages the bus tried to give it */
    uint64_t received; /**< messages that receives have returned */
    uint64_t queued;   /**< messages it holds */
    uint64_t dropped;  /**< messages it lost: pushed out, refused, or gone with their publisher */
    uint64_t queue_len;
    uint32_t full;     /**< SHMBUS_DROP_OLDEST or SHMBUS_REJECT_NEWEST */
    uint32_t reserved; /**< 0 */
};

/** The figures of a subscription. Never blocks. Returns 0 or SHMBUS_E_FORKED. */
SHMBUS_API int shmbus_sub_stats(const struct shmbus_sub *sub, struct shmbus_queue_stats *stats,
                                size_t size);

/** What the subscription has lost so far: shmbus_sub_stats()'s dropped. */
SHMBUS_API uint64_t shmbus_sub_dropped(const struct shmbus_sub *sub);

/** The figures of a connection, closed handles included. */
struct shmbus_conn_stats {
    uint64_t published;      /**< publishes that returned 0 */
    uint64_t publish_failed; /**< publishes that failed after their arguments were found good */
    uint64_t received;
    uint64_t dropped;
    uint64_t refused;       /**< pushes of its publishes that a full reject_newest queue refused */
    uint32_t subscriptions; /**< open ones */
    uint32_t routes;        /**< topics that it may publish without asking */
    uint64_t heap_size;     /**< bytes committed to its payloads */
    uint64_t heap_used;     /**< of these, bytes in blocks that are not free */
    uint64_t heap_limit;
};

/** The figures of this connection. Never blocks. Returns 0 or SHMBUS_E_FORKED. */
SHMBUS_API int shmbus_conn_stats(struct shmbus_conn *conn, struct shmbus_conn_stats *stats,
                                 size_t size);

/** The bus: its settings and its figures. */
struct shmbus_bus_stats {
    uint64_t queue_len; /**< the default of subscriptions */
    uint32_t full;      /**< likewise */
    uint32_t coordinator_pid;
    char s_wild[256]; /**< the wildcard for one token, NUL behind it */
    char m_wild[256]; /**< the wildcard for any number of tokens */
    uint32_t connections;
    uint32_t subscriptions;
    uint32_t routes;
    uint32_t retained;
    uint64_t retained_bytes;
    uint32_t retained_watches;
    uint32_t retained_views;
    uint32_t endpoints;
    uint64_t dropped; /**< of all handles, closed ones included */
    uint64_t publish_failed;
    uint64_t arena_size;
    uint64_t arena_used;
};

/** The figures of the bus. Blocks for the control timeout at most. Returns 0, SHMBUS_E_FORKED,
 *  SHMBUS_E_DISCONNECTED, SHMBUS_E_COORD. */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_bus_stats(struct shmbus_conn *conn,
                                                  struct shmbus_bus_stats *stats, size_t size);

/** One open handle of any connection. Strings are valid during the call that hands it out. */
struct shmbus_handle_info {
    const char *kind; /**< `subscription`, `retained_watch`, `retained_view` or `endpoint` */
    const char *const *patterns; /**< in text form */
    size_t pattern_count;
    const char *conn_id;
    uint32_t pid;
    const struct shmbus_queue_stats *queue;
};

/** One connection. Strings are valid during the call that hands it out. */
struct shmbus_conn_info {
    const char *conn_id;
    const char *principal;
    size_t principal_len;
    uint32_t pid;
    uint32_t uid;
    uint32_t gid;
    uint32_t subscriptions;
    uint32_t routes;
    uint64_t heap_size;
};

/**
 * Calls visit for each open handle of the bus; a visit that returns non-zero ends the listing, and
 * that value is returned. Blocks for the control timeout at most. Returns as shmbus_bus_stats().
 */
SHMBUS_API SHMBUS_MUST_CHECK int
shmbus_bus_handles(struct shmbus_conn *conn,
                   int (*visit)(const struct shmbus_handle_info *handle, void *arg), void *arg);

/** The same for the connections of the bus; observers are not among them. */
SHMBUS_API SHMBUS_MUST_CHECK int
shmbus_bus_connections(struct shmbus_conn *conn,
                       int (*visit)(const struct shmbus_conn_info *info, void *arg), void *arg);

/**
 * What the memory object of a bus holds while no coordinator serves it: settings, sizes, and the
 * connections and subscriptions that were open; what their queues hold is not known.
 *
 * @return 0, SHMBUS_E_INVALID, SHMBUS_E_NO_BUS, SHMBUS_E_DENIED, SHMBUS_E_VERSION, SHMBUS_E_SYSTEM.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_inspect(const char *name, struct shmbus_bus_stats *stats,
                                                size_t size);

#ifdef __cplusplus
}
#endif
#endif
