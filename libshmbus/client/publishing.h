/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The publishing side of a connection: its heap, its routes, the rings that they lead to.
 *
 * Everything here is guarded by the connection's `lock`; counters marked atomic are read without
 * it. Failed publishes are counted in the inbox, where the coordinator sees them. Only the
 * connection itself writes its heap (shm/heap.h); rings and bells are shared with other publishers
 * (shm/ring.h, shm/bell.h).
 *
 * A route is brought up to date when the routing epoch has moved on since it was last looked at:
 * the coordinator advances the epoch after it has rewritten routes and before it acknowledges what
 * made it do so, hence a publish that starts after a subscribe has returned finds the new ring.
 */
#ifndef SB_CLIENT_PUBLISHING_H
#define SB_CLIENT_PUBLISHING_H

#include "client/client.h"
#include "shm/heap.h"

/* Routing epochs that never come, and differ. */
#define SB_EPOCH_NONE UINT64_MAX
#define SB_EPOCH_NEVER (UINT64_MAX - 1)

struct sb_route {
    struct sb_route *next; /* of its hash bucket */
    const struct sb_route_rec *rec;
    uint32_t index, gen;
    uint32_t id;       /* as chunks name it */
    uint64_t epoch;    /* the routing epoch as of which set is right; 0: never */
    uint64_t quick;    /* the same if it leads to one ring, else SB_EPOCH_NONE */
    uint64_t set_word; /* of rec, which set was made from */
    struct sb_lane lane;
    uint64_t hash;
    uint32_t topic_len;
    uint8_t topic[];
};

/* A ring that this connection pushes to: a target, and what keeps it mapped. */
struct sb_outlet {
    struct sb_target target;
    struct sb_outlet *next; /* of its hash bucket */
    uint32_t refs;          /* of sets */
    uint64_t epoch;         /* as of which its seats are right */
    struct sb_mapping *ring_mapping, *bell_mapping;
};

#define SB_OUTLET_BUCKETS 256u

struct sb_publishing {
    struct shmbus_conn *conn;
    struct sb_heap heap;
    const uint64_t *epoch; /* the routing epoch, in the arena; no_epoch once disconnected */
    uint64_t no_epoch;     /* SB_EPOCH_NEVER, which no route has */
    uint64_t seq;          /* atomic: of the last publish: how many there were */
    uint64_t refused;      /* atomic: pushes that full rings refused */
    uint64_t payload_max;
    struct sb_route **routes; /* hash buckets, a power of two */
    uint32_t route_buckets;
    uint32_t route_count;         /* atomic */
    struct sb_target_set *recent; /* the set made last: routes of one epoch often share one */
    struct sb_outlet *outlets[SB_OUTLET_BUCKETS];
};

int sb_publishing_new(struct shmbus_conn *conn, struct sb_publishing **publishing);
void sb_publishing_free(struct sb_publishing *publishing);

/* From now on every publish looks whether the connection is disconnected. Takes `lock`. */
void sb_publishing_disconnect(struct sb_publishing *publishing);

/* Finds the route of an encoded topic or asks for it. 0, SHMBUS_E_DENIED, SHMBUS_E_LIMIT,
 * SHMBUS_E_COORD, … Blocks for the control timeout at most. */
int sb_route_get(struct sb_publishing *p, const uint8_t *topic, size_t len,
                 struct sb_route **route) SB_MUST_CHECK;

/* Brings a route up to date with the routing epoch; maps what is new before anything is pushed. */
int sb_route_sync(struct sb_publishing *p, struct sb_route *route) SB_MUST_CHECK;

/* A set without rings or with these; a reference is the caller's. The positive outcome
 * SB_OUTLETS_GONE says that one of them has gone meanwhile: read the route again. */
enum { SB_OUTLETS_GONE = 1 };
int sb_outlets_set(struct sb_publishing *p, const uint32_t *rings, uint32_t count,
                   struct sb_target_set **set) SB_MUST_CHECK;

/* sb_heap_refresh_fn and sb_heap_unref_fn; ctx is the struct sb_publishing. */
int sb_outlets_refresh(void *ctx, struct sb_target *target);
void sb_outlets_unref(void *ctx, struct sb_target_set *set);

#endif
