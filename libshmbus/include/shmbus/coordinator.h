/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file coordinator.h
 * Running a bus: the coordinator, as a thread of this process. shmbusd is a small program around
 * these two calls.
 */
#ifndef SHMBUS_COORDINATOR_H
#define SHMBUS_COORDINATOR_H

#include <stddef.h>
#include <stdint.h>

#include <shmbus/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A running coordinator; opaque. */
struct shmbus_coordinator;

/** How much a coordinator tells its log function. */
enum { SHMBUS_LOG_ERROR = 0, SHMBUS_LOG_WARNING = 1, SHMBUS_LOG_INFO = 2, SHMBUS_LOG_DEBUG = 3 };

/** How to run a bus. Start from SHMBUS_COORDINATOR_OPTIONS_INIT. */
struct shmbus_coordinator_options {
    size_t size;             /**< sizeof(struct shmbus_coordinator_options) */
    int64_t queue_len;       /**< default queue of subscriptions: 0..2^20; 10 */
    uint32_t full;           /**< default policy: SHMBUS_DROP_OLDEST (1) or SHMBUS_REJECT_NEWEST */
    uint32_t flags;          /**< 0 */
    const char *s_wild;      /**< wildcard for one token, 1..255 bytes; "+" */
    const char *m_wild;      /**< wildcard for any number of tokens; "#" */
    uint32_t mode;           /**< who may connect: permission bits of the socket; 0600 */
    uint32_t gid;            /**< group of the socket; UINT32_MAX keeps the process's */
    uint64_t arena_limit;    /**< bytes the arena may grow to; 1 GiB */
    uint64_t heap_limit;     /**< bytes each connection may have in flight; 64 MiB */
    const char *runtime_dir; /**< where the socket goes; NULL: /run/shmbus for root, else
                                  $XDG_RUNTIME_DIR/shmbus */
    void (*log)(int level, const char *line, void *arg); /**< NULL: nothing is said. Called in
                                  the coordinator's thread; must not call into the library */
    void *log_arg;
};

#define SHMBUS_COORDINATOR_OPTIONS_INIT                                                            \
    {                                                                                              \
        sizeof(struct shmbus_coordinator_options), 10, 1, 0, "+", "#", 0600, UINT32_MAX,           \
            UINT64_C(1) << 30, UINT64_C(64) << 20, NULL, NULL, NULL                                \
    }

/**
 * Starts a coordinator for the bus name in a thread of its own (all signals blocked in it). When it
 * returns 0, clients can attach. Leftovers of a dead coordinator of the same user are taken over.
 *
 * @param options NULL for the defaults
 * @param coordinator out: end it with shmbus_coordinator_stop()
 * @return 0, SHMBUS_E_INVALID (name, options), SHMBUS_E_BUS_EXISTS (the message names the pid),
 *         SHMBUS_E_DENIED (leftovers of another user: the message names owner and file),
 *         SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM. Thread-safe; does not block for long.
 */
SHMBUS_API SHMBUS_MUST_CHECK int
shmbus_coordinator_start(const char *name, const struct shmbus_coordinator_options *options,
                         struct shmbus_coordinator **coordinator);

/**
 * Ends the bus and releases the coordinator: every handle closes with `bus_stopped`, what is queued
 * can still be received, and nothing is left in /dev/shm or the runtime directory. NULL is nothing
 * to do. Blocks for a second at most.
 */
SHMBUS_API void shmbus_coordinator_stop(struct shmbus_coordinator *coordinator);

#ifdef __cplusplus
}
#endif
#endif
