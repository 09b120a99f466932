/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file subscribe.h
 * Receiving what others publish.
 *
 * A subscription is one bounded queue with one or several patterns. Publishers never wait for it:
 * when it is full, `drop_oldest` lets go of its oldest message, `reject_newest` refuses the newest.
 * Every loss is counted. For each subscription, at rest:
 *
 *     offered = received + queued + dropped
 *
 * Threads: one thread at a time receives from a subscription; everything else may be called from
 * any thread at any time, including shmbus_release() of its messages.
 */
#ifndef SHMBUS_SUBSCRIBE_H
#define SHMBUS_SUBSCRIBE_H

#include <stddef.h>
#include <stdint.h>

#include <shmbus/connection.h>
#include <shmbus/error.h>
#include <shmbus/topic.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A subscription; opaque. */
struct shmbus_sub;

/** What a full queue does. */
enum {
    SHMBUS_FULL_DEFAULT = 0,  /**< as the bus is configured (`drop_oldest` unless changed) */
    SHMBUS_DROP_OLDEST = 1,   /**< the oldest message gives way to the newest */
    SHMBUS_REJECT_NEWEST = 2, /**< the newest message is refused, and its publisher told */
};

/** For queue_len: as the bus is configured (10 unless changed). */
#define SHMBUS_QUEUE_DEFAULT INT64_MIN

/** The longest queue. */
#define SHMBUS_QUEUE_MAX (INT64_C(1) << 20)

/** The most patterns of one subscription. */
#define SHMBUS_PATTERNS_MAX 64

/** The most messages of one subscription that may be unreleased at once. */
#define SHMBUS_HELD_MAX 64

/** How to subscribe. Start from SHMBUS_SUBSCRIBE_OPTIONS_INIT, so later fields get defaults. */
struct shmbus_subscribe_options {
    size_t size;       /**< sizeof(struct shmbus_subscribe_options) */
    int64_t queue_len; /**< messages the queue holds, 1..SHMBUS_QUEUE_MAX; or
                            SHMBUS_QUEUE_DEFAULT */
    uint32_t full;     /**< SHMBUS_FULL_DEFAULT, SHMBUS_DROP_OLDEST or SHMBUS_REJECT_NEWEST */
    uint32_t flags;    /**< 0 */
};

#define SHMBUS_SUBSCRIBE_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(struct shmbus_subscribe_options), SHMBUS_QUEUE_DEFAULT, SHMBUS_FULL_DEFAULT, 0      \
    }

/**
 * One received message. Everything it points to is read-only and valid until it is released, also
 * when its subscription or connection has been freed. The size of this struct is frozen.
 */
struct shmbus_message {
    const struct shmbus_topic_view *topic; /**< its topic, in the bus's record */
    const struct shmbus_origin *origin;    /**< who published it, in the bus's record */
    const void *payload;                   /**< the bytes, in the publisher's memory */
    size_t size;                           /**< how many */
    uint64_t seq;                          /**< the publishing connection's sequence number */
    uint64_t time_ns;                      /**< the publisher's time stamp; 0 without */
    uint64_t lost_before;   /**< messages that this handle has lost since the previous one */
    uint8_t encoding;       /**< SHMBUS_BYTES …: the publisher's word */
    uint8_t clock;          /**< SHMBUS_CLOCK_… of time_ns: likewise */
    uint16_t reserved0;     /**< 0 */
    uint32_t flags;         /**< 0 */
    uint64_t reserved[5];   /**< 0 */
    uint64_t *hold_at;      /**< private */
    uint64_t hold;          /**< private */
    struct shmbus_sub *sub; /**< private; NULL once released */
};

#ifndef __cplusplus
_Static_assert(sizeof(struct shmbus_message) == 128, "frozen");
#endif

/**
 * Subscribes to one pattern. Every publish that starts after it has returned is delivered, or
 * counted as dropped.
 *
 * @param pattern `+` matches one token, `#` as the last token any number
 * @param options NULL for the defaults
 * @param sub     out: the subscription; free it with shmbus_sub_free()
 * @return 0, SHMBUS_E_INVALID (pattern, options), SHMBUS_E_DENIED, SHMBUS_E_DISCONNECTED,
 *         SHMBUS_E_LIMIT, SHMBUS_E_FORKED, SHMBUS_E_COORD, SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM.
 *         Blocks for the control timeout at most.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_subscribe(struct shmbus_conn *conn,
                                                  struct shmbus_topic pattern,
                                                  const struct shmbus_subscribe_options *options,
                                                  struct shmbus_sub **sub);

/**
 * Subscribes to 1..SHMBUS_PATTERNS_MAX patterns on one queue. A message that matches several
 * arrives once. All else as shmbus_subscribe().
 */
SHMBUS_API SHMBUS_MUST_CHECK int
shmbus_subscribe_many(struct shmbus_conn *conn, const struct shmbus_topic *patterns, size_t count,
                      const struct shmbus_subscribe_options *options, struct shmbus_sub **sub);

/**
 * Receives the next message as a view into its publisher's memory: nothing is copied. Release it
 * with shmbus_release(), in any order; at most SHMBUS_HELD_MAX may be unreleased at once.
 *
 * @param timeout_ns 0: do not wait; SHMBUS_FOREVER; else nanoseconds to wait at most
 * @param message    out, untouched unless 0 is returned
 * @return 0; SHMBUS_EMPTY (did not wait), SHMBUS_TIMEOUT, SHMBUS_CLOSED (and drained; see
 *         shmbus_sub_why()), SHMBUS_INTERRUPTED (a signal handler ran); SHMBUS_E_INVALID,
 *         SHMBUS_E_LIMIT (too many unreleased), SHMBUS_E_FORKED, SHMBUS_E_COORD, SHMBUS_E_NOMEM,
 *         SHMBUS_E_SYSTEM.
 *
 * The first message from a publisher costs one bounded request to the coordinator, also where it
 * is told not to wait; SHMBUS_E_COORD says that the coordinator is away, and the message stays
 * queued.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_recv(struct shmbus_sub *sub, struct shmbus_message *message,
                                             int64_t timeout_ns);

/**
 * shmbus_recv() with an absolute deadline, CLOCK_MONOTONIC in nanoseconds; SHMBUS_FOREVER waits
 * without a limit. A deadline that has passed returns what is there, else SHMBUS_TIMEOUT.
 */
SHMBUS_API SHMBUS_MUST_CHECK int
shmbus_recv_until(struct shmbus_sub *sub, struct shmbus_message *message, int64_t deadline_ns);

/**
 * Receives the next message with its payload copied into buffer; message->payload points there.
 * There is nothing to release; topic and origin are valid until the next receive of this
 * subscription. If the payload is larger than capacity, SHMBUS_TOO_SMALL is returned, *needed says
 * how large it is, and the message stays queued (a later call may meet another one: the queue may
 * have let go of it). All else as shmbus_recv(). needed may be NULL.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_recv_copy(struct shmbus_sub *sub,
                                                  struct shmbus_message *message, void *buffer,
                                                  size_t capacity, size_t *needed,
                                                  int64_t timeout_ns);

/**
 * Receives 1..max messages that are there (max at most SHMBUS_HELD_MAX); waits only for the first.
 *
 * @param count out: how many
 * @return as shmbus_recv(). Each message is released on its own.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_recv_many(struct shmbus_sub *sub,
                                                  struct shmbus_message *messages, size_t max,
                                                  size_t *count, int64_t timeout_ns);

/**
 * Gives a received message back; its publisher may then reuse the memory. Idempotent. Never blocks.
 */
SHMBUS_API void shmbus_release(struct shmbus_message *message);

/**
 * Ends the subscription: a publish that starts after it has returned is neither delivered nor
 * counted; what is queued can still be received, then every receive says SHMBUS_CLOSED. Idempotent.
 *
 * @return 0, SHMBUS_E_FOREIGN (sub is of another connection; nothing changes), SHMBUS_E_FORKED,
 *         SHMBUS_E_COORD. Blocks for the control timeout at most.
 */
SHMBUS_API int shmbus_unsubscribe(struct shmbus_conn *conn, struct shmbus_sub *sub);

/** Ends the subscription where that is due and releases it. NULL is nothing to do. */
SHMBUS_API void shmbus_sub_free(struct shmbus_sub *sub);

/**
 * Why the subscription is closed: "" while it is open, then the first reason for good, such as
 * `unsubscribed`, `disconnected` or `bus_stopped`. A static string. Never blocks.
 */
SHMBUS_API const char *shmbus_sub_why(const struct shmbus_sub *sub);

/** How many patterns it has. */
SHMBUS_API size_t shmbus_sub_patterns(const struct shmbus_sub *sub);

/** Its i-th pattern in text form, as it was given; NULL beyond the last. Valid as long as sub. */
SHMBUS_API const char *shmbus_sub_pattern(const struct shmbus_sub *sub, size_t i);

#ifdef __cplusplus
}
#endif
#endif
