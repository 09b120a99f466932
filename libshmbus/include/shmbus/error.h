/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file error.h
 * Return codes and messages.
 *
 * Every function that can fail returns an int: 0 is done, a negative SHMBUS_E_… code is a failure
 * that changed nothing, and a positive code is an outcome that is no failure but that the caller
 * has to handle. Each failure also leaves one sentence for a person, see shmbus_errmsg().
 */
#ifndef SHMBUS_ERROR_H
#define SHMBUS_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SHMBUS_API __attribute__((visibility("default")))
#define SHMBUS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define SHMBUS_API
#define SHMBUS_MUST_CHECK
#endif

/**
 * Failures. Nothing has changed when one of these is returned; only a request that the coordinator
 * did not answer in time (SHMBUS_E_COORD) may still take effect. Codes may be added: an unknown
 * negative one has failed, an unknown positive one is an outcome.
 */
enum {
    SHMBUS_E_INVALID = -1,      /**< an argument breaks a rule; the message names it */
    SHMBUS_E_DENIED = -2,       /**< the authoriser or the file permissions say no */
    SHMBUS_E_DISCONNECTED = -3, /**< the connection was disconnected, or its bus has ended */
    SHMBUS_E_BOUND = -4,        /**< the topic already has an endpoint */
    SHMBUS_E_LIMIT = -5,        /**< a limit is reached; the message names it and the usage */
    SHMBUS_E_NO_BUS = -6,       /**< no coordinator serves this name */
    SHMBUS_E_BUS_EXISTS = -7,   /**< the name already has a live coordinator */
    SHMBUS_E_VERSION = -8,      /**< the two sides speak different versions */
    SHMBUS_E_FOREIGN = -9,      /**< the handle belongs to another connection or kind */
    SHMBUS_E_FORKED = -10,      /**< the handle was made before a fork, in the parent */
    SHMBUS_E_COORD = -11,       /**< the coordinator is away, or did not answer in time */
    SHMBUS_E_NOMEM = -12,       /**< memory ran out */
    SHMBUS_E_SYSTEM = -13       /**< a system call failed; the message names it and errno */
};

/** Outcomes that are no failure. */
enum {
    SHMBUS_OK = 0,
    SHMBUS_EMPTY = 1,       /**< nothing is queued, and the call was told not to wait */
    SHMBUS_TIMEOUT = 2,     /**< the time to wait is over */
    SHMBUS_CLOSED = 3,      /**< the handle is closed and drained; its why says the reason */
    SHMBUS_INTERRUPTED = 4, /**< a signal handler ended the wait */
    SHMBUS_DONE = 5,        /**< the request was already complete */
    SHMBUS_TOO_SMALL = 6    /**< the buffer is too small for the next message, which stays queued */
};

/**
 * The sentence that the last failure in this thread left: what was asked, what was wrong with it,
 * what would be right. Never NULL; empty before the first failure. Valid until the next failing
 * call in this thread. Thread-safe; not async-signal-safe; never blocks.
 */
SHMBUS_API const char *shmbus_errmsg(void);

/**
 * errno of the last SHMBUS_E_SYSTEM or SHMBUS_E_NOMEM in this thread, 0 before the first and where
 * no system call was to blame.
 * Thread-safe.
 */
SHMBUS_API int shmbus_errsys(void);

/**
 * The field's short word for a code, such as "invalid" or "timeout"; "unknown" for others.
 * A static string. Thread- and async-signal-safe; never blocks.
 */
SHMBUS_API const char *shmbus_strerror(int code);

#ifdef __cplusplus
}
#endif
#endif
