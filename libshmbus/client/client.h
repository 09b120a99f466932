/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the client share: a connection and what it owns.
 *
 * Locks: `lock` serializes publishes and guards everything marked (lock); `control` serializes
 * requests to the coordinator and guards everything marked (control); `list` is held for a few
 * instructions only and guards what is marked (list). They are taken in this order: any of them
 * may be skipped, none taken while a later one is held. Receiving takes none on its fast path.
 *
 * Lifetime: a connection is referenced by its user and by each handle; a subscription stays, freed,
 * until its last message is released. shmbus_conn_free() drops the user's reference; the last one
 * unmaps.
 */
#ifndef SB_CLIENT_CLIENT_H
#define SB_CLIENT_CLIENT_H

#include <stdbool.h>

#include <shmbus/connection.h>
#include <shmbus/publish.h>
#include <shmbus/subscribe.h>

#include "client/mapping.h"
#include "os/fork.h"
#include "os/futex.h"
#include "proto/control.h"
#include "proto/topic.h"
#include "shm/layout.h"
#include "shm/region.h"
#include "shm/seat.h"

struct sb_publishing; /* client/publishing.h: heap, routes and rings of a connection */

enum sb_magic {
    SB_MAGIC_CONN = 0x636f6e6e,
    SB_MAGIC_PUBLISHER = 0x7075626c,
    SB_MAGIC_SUB = 0x73756273,
};

struct shmbus_conn {
    struct sb_lock lock; /* first: the connection's address is its lock's */
    uint32_t magic;
    uint32_t fork_id;      /* os/fork.h */
    uint32_t disconnected; /* atomic: set for good by shmbus_disconnect() */
    uint32_t refs;         /* atomic */
    struct sb_lock control;
    struct sb_lock list;

    struct sb_region arena; /* mapped at its limit: read through sb_conn_arena() */
    const struct sb_arena_header *header;
    const struct sb_conn_rec *rec;
    uint32_t index;
    uint32_t gen;
    struct sb_inbox *inbox; /* mapped at its limit; rec->inbox_size says what is allocated */
    uint8_t *heap;          /* likewise, writable; NULL for observers */
    struct sb_bell *bell;   /* of its unshared rings */
    struct sb_mapping *bell_mapping;
    struct sb_publishing *publishing;
    struct sb_wildcards wildcards;

    int sock;         /* (control) */
    uint32_t last_id; /* (control) */
    uint8_t *buffer;  /* (control) SB_CONTROL_MAX bytes for what is received */
    int64_t control_timeout;
    uint64_t heap_limit, inbox_limit;
    struct sb_mappings mappings;                                  /* (control) */
    struct sb_mapping arena_mapping, heap_mapping, inbox_mapping; /* never in the cache */
    char id[37];
    char *principal;
    size_t principal_len;
    char name[SB_NAME_MAX + 1];
    bool observer;

    struct shmbus_sub *subs;    /* (list) open and closed ones, until released */
    struct shmbus_sub *leaving; /* (list) freed ones that are to LEAVE */
    bool lingers;               /* (list) on the list of sb_linger(), with the next one */
    struct shmbus_conn *next_lingering;
    uint64_t closed_received, closed_dropped; /* (list) totals of those that are not in subs */
};

/* A connection's or handle's fork_id is this process's: it was not inherited through a fork. */
#define sb_conn_forked(conn) (!sb_fork_mine((conn)->fork_id))

/* connect.c */
void sb_conn_ref(struct shmbus_conn *conn);
void sb_conn_unref(struct shmbus_conn *conn);
/* 0, or SHMBUS_E_INVALID (NULL, not a connection), SHMBUS_E_FORKED, SHMBUS_E_DISCONNECTED (also
 * when the bus has stopped), with the sentence. */
int sb_conn_check(const struct shmbus_conn *conn);
/* Likewise, but one that is disconnected will do. */
int sb_conn_mine(const struct shmbus_conn *conn);

/* The arena as far as it is allocated now. */
SB_INLINE struct sb_region sb_conn_arena(const struct shmbus_conn *conn)
{
    struct sb_region arena = conn->arena;
    uint64_t size = sb_load_acquire(&conn->header->size);
    if (size < arena.size)
        arena.size = size;
    return arena;
}

/* request.c: one control round trip within the control timeout. Sets id, size and status of the
 * request's head. `reply` (8-byte aligned) takes the reply of a request that was granted, untouched
 * otherwise. Returns 0, the status of the reply with its sentence, SHMBUS_E_COORD when the
 * coordinator is away or late, SHMBUS_E_DISCONNECTED when the bus has ended, SHMBUS_E_FORKED,
 * SHMBUS_E_LIMIT, SHMBUS_E_NOMEM, SHMBUS_E_SYSTEM. Takes `control`. */
int sb_request(struct shmbus_conn *conn, void *request, size_t size, void *reply, size_t reply_cap);

/* client/source.h: heaps this reader receives from, with verdicts. */
struct sb_source;
struct sb_source_table;

struct shmbus_sub {
    uint32_t magic;
    uint32_t fork_id;
    struct shmbus_conn *conn;
    uint32_t seat_index, seat_gen;
    uint32_t ring_index, ring_gen;
    const struct sb_seat_rec *rec;
    const struct sb_ring_rec *ring_rec;
    struct sb_mapping *ring_mapping;
    struct sb_mapping *bell_mapping;

    /* What receiving needs, copied from the records (fixed while the seat lives). */
    struct sb_reader reader; /* its cursor is the receiving thread's */
    struct sb_bell *bell;
    uint32_t full; /* enum sb_full */
    uint32_t why;  /* atomic: enum sb_reason, the first one stays */
    struct sb_books_seen seen;

    /* The receiving thread's. */
    const struct sb_slot *slot;      /* at the cursor */
    const struct sb_slot *slot_stop; /* where the quick path must not go on */
    uint64_t slot_seq;               /* which seq the slot has when the next message is there */
    uint64_t *hold_first;            /* of the seat */
    uint64_t lost_told;              /* see sb_recv_lost() */
    uint32_t hold_left[SB_HELD_MAX]; /* atomic: messages unreleased under hold i of a batch */
    uint32_t pause_ns;               /* how long to keep away from a busy ring; 0: it is not */
    uint32_t spin_ns;                /* how long to look before sleeping */
    uint32_t in_hand;                /* messages filled in by the receive that is under way */
    struct sb_source_table *sources;
    struct sb_source *near; /* of the message accepted last */

    /* The control side. */
    struct shmbus_sub *next; /* (list) in conn->subs or conn->leaving */
    size_t pattern_count;
    struct shmbus_topic_view **patterns; /* as their user gave them */
};

/* subscription.c: whether it may be used here: 0, SHMBUS_E_INVALID (NULL, not a subscription),
 * SHMBUS_E_FORKED, with the sentence. */
int sb_sub_mine(const struct shmbus_sub *sub);
/* Why it is closed now: the arena's and the connection's word, kept once seen. */
uint32_t sb_sub_reason(const struct shmbus_sub *sub);

/* delivered.c: private copies of a route's topic and a connection's origin, made from the
 * coordinator's records, that received messages point to. NULL with a sentence on failure. */
struct sb_delivered {
    struct shmbus_topic_view topic;
    struct shmbus_origin origin;
};
struct sb_delivered *sb_delivered_new(const struct shmbus_conn *conn,
                                      const struct sb_route_rec *route,
                                      const struct sb_conn_rec *publisher);
void sb_delivered_free(struct sb_delivered *delivered);

#endif
