/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A publisher without a bus: a heap in any memory, and messages whose content tells whether they
 * are intact. Rings are those of support/ringkit.h.
 */
#ifndef TEST_HEAPKIT_H
#define TEST_HEAPKIT_H

#include "shm/heap.h"
#include "support/ringkit.h"

#define HEAPKIT_RINGS 16 /* at most, in a set */

struct heapkit {
    struct sb_heap heap; /* its callbacks' ctx is this struct */
    uint64_t seq;        /* of the last message */
    uint64_t sets;       /* that exist */
    int grow_fails;      /* what asking for memory returns, if not 0 */
};

/* The heap at base has size bytes now and may grow to limit, all of them mapped. 0 or
 * SHMBUS_E_NOMEM. */
int heapkit_init(struct heapkit *h, uint8_t *base, uint64_t size, uint64_t limit, uint32_t index);

/* Opens a lane that pushes to these targets. 0 or SHMBUS_E_NOMEM. */
int heapkit_lane(struct heapkit *h, struct sb_lane *lane, struct sb_target **targets,
                 uint32_t count);

/* From now on it pushes to these. 0 or SHMBUS_E_NOMEM, and nothing has changed. */
int heapkit_lane_set(struct heapkit *h, struct sb_lane *lane, struct sb_target **targets,
                     uint32_t count);

struct heapkit_result {
    uint64_t seq;
    uint64_t desc;
    uint32_t taken; /* by so many rings */
    uint64_t
        pos[HEAPKIT_RINGS]; /* where they have it, in the order of the set; UINT64_MAX: refused */
};

/* Publishes the next message, of size bytes of payload, as client/publisher.c does. 0 or what
 * sb_lane_open() says; then nothing has happened. */
int heapkit_publish(struct heapkit *h, struct sb_lane *lane, uint32_t size,
                    struct heapkit_result *result);

/* Whether desc names an intact message in the heap of limit bytes at base; which one. */
bool heapkit_intact(const uint8_t *base, uint64_t limit, uint64_t desc, uint64_t *seq);

#endif
