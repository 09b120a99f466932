/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file publish.h
 * Publishing facts.
 *
 * A publish writes the payload once into the connection's own shared memory and pushes a word to
 * every queue that matches the topic. It never waits for a receiver: a full queue drops its oldest
 * message or refuses the newest, as its owner has chosen.
 */
#ifndef SHMBUS_PUBLISH_H
#define SHMBUS_PUBLISH_H

#include <stddef.h>
#include <stdint.h>

#include <shmbus/connection.h>
#include <shmbus/error.h>
#include <shmbus/topic.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A topic prepared for publishing; opaque. */
struct shmbus_publisher;

/** What a payload is, for whoever reads it. The bus itself never looks. */
enum {
    SHMBUS_BYTES = 0, /**< no more is known (default) */
    SHMBUS_UTF8 = 1,
    SHMBUS_JSON = 2,
    SHMBUS_CBOR = 3,
    SHMBUS_MSGPACK = 4,
    SHMBUS_PROTOBUF = 5
};

/** Which clock the time stamp of a message was read from. */
enum { SHMBUS_CLOCK_NONE = 0, SHMBUS_CLOCK_REALTIME = 1, SHMBUS_CLOCK_MONOTONIC = 2 };

/** How to publish. Start from SHMBUS_PUBLISH_OPTIONS_INIT, so that later fields get defaults. */
struct shmbus_publish_options {
    size_t size;       /**< sizeof(struct shmbus_publish_options) */
    uint32_t encoding; /**< SHMBUS_BYTES … SHMBUS_PROTOBUF */
    uint32_t clock;    /**< SHMBUS_CLOCK_…: which clock's time messages carry */
};

#define SHMBUS_PUBLISH_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct shmbus_publish_options), SHMBUS_BYTES, SHMBUS_CLOCK_NONE                     \
    }

/** What became of one publish. */
struct shmbus_delivery {
    uint32_t matched;     /**< queues that match the topic (a shared queue counts once) */
    uint32_t refused;     /**< of these, full `reject_newest` ones that refused it */
    uint64_t seq;         /**< its sequence number: one more with each publish of the connection */
    uint64_t reserved[2]; /**< 0 */
};

/**
 * Publishes size bytes of payload under topic. When it returns 0, the message is in every matching
 * queue that could take it; that nobody listens is success. On failure it reached nobody. The
 * payload is copied and may be reused at once. A wildcard token in topic stands for itself.
 *
 * @param payload  may be NULL if size is 0
 * @param options  NULL for the defaults
 * @param delivery out, may be NULL
 * @return 0, SHMBUS_E_INVALID (topic, options, payload too large), SHMBUS_E_DENIED,
 *         SHMBUS_E_DISCONNECTED, SHMBUS_E_LIMIT (heap full, routes), SHMBUS_E_FORKED,
 *         SHMBUS_E_COORD, SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM.
 *
 * Thread-safe; publishes of one connection are serialized. Blocks (for the control timeout at most)
 * only at the connection's first publish of a topic, the first after a subscription has changed,
 * and when its heap has to grow.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_publish(struct shmbus_conn *conn, struct shmbus_topic topic,
                                                const void *payload, size_t size,
                                                const struct shmbus_publish_options *options,
                                                struct shmbus_delivery *delivery);

/**
 * Prepares topic for publishing: what a first publish would have to ask the coordinator is asked
 * now, and later publishes skip the look-up of the topic.
 *
 * @param options NULL for the defaults; they hold for all publishes by this handle
 * @param publisher out: the handle; free it with shmbus_publisher_free()
 * @return as shmbus_publish(). Thread-safe; blocks for the control timeout at most.
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_prepare(struct shmbus_conn *conn, struct shmbus_topic topic,
                                                const struct shmbus_publish_options *options,
                                                struct shmbus_publisher **publisher);

/**
 * Publishes by a prepared handle; options NULL are those it was prepared with. All else as in
 * shmbus_publish(). This is the fast path: while nothing changes and nobody sleeps it makes no
 * system call and takes no lock but the connection's own.
 */
SHMBUS_API SHMBUS_MUST_CHECK int
shmbus_publisher_publish(struct shmbus_publisher *publisher, const void *payload, size_t size,
                         const struct shmbus_publish_options *options,
                         struct shmbus_delivery *delivery);

/** Releases the handle. What it published is still delivered. NULL is nothing to do. */
SHMBUS_API void shmbus_publisher_free(struct shmbus_publisher *publisher);

#ifdef __cplusplus
}
#endif
#endif
