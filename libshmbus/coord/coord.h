/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The coordinator: what its files share.
 *
 * One thread runs everything here; there are no locks. Each object of the bus (connection, route,
 * ring, seat, segment) is a record in the arena, which others read, and a struct here, which nobody
 * else can see: decisions are taken from the struct, never from what others could have written.
 *
 *   session.c   sockets: who speaks, requests and replies
 *   conn.c      connections: heap, inbox, their end
 *   segment.c   the memory of rings and bells, one user's at a time
 *   route.c     topics, routes and the interned sets of rings (ringset.c)
 *   sub.c       subscriptions: rings, seats, patterns
 *   map.c       who may map what
 *   reap.c      the dead: when heaps, routes and records can go
 *   stats.c     figures
 */
#ifndef SB_COORD_COORD_H
#define SB_COORD_COORD_H

#include <stdbool.h>
#include <sys/types.h>

#include <shmbus/coordinator.h>

#include "coord/arena.h"
#include "coord/bitset.h"
#include "coord/ids.h"
#include "coord/names.h"
#include "os/loop.h"
#include "os/sock.h"
#include "proto/control.h"
#include "proto/topic.h"
#include "shm/bell.h"
#include "shm/ring.h"
#include "shm/seat.h"
#include "shm/trie.h"

/* Quotas. */
#define SB_COORD_ROUTES_MAX 65536u /* of a connection */
#define SB_COORD_INBOX_LIMIT (UINT64_C(16) << 20)
#define SB_COORD_SEATS_MAX                                                                         \
    ((uint32_t)((SB_COORD_INBOX_LIMIT - sizeof(struct sb_inbox)) / sizeof(struct sb_seat)))
#define SB_COORD_HEAP_SIZE (UINT64_C(64) << 10) /* at first */
#define SB_COORD_RING_BYTES (UINT64_C(1) << 30) /* ring memory of a user's subscriptions */
#define SB_COORD_RECORDS_MAX (1u << 24)         /* rings, seats, segments of the bus */

struct sb_coord;
struct sb_coord_session;
struct sb_coord_user;

/* A segment of rings or bells of one subscribing user. */
struct sb_coord_segment {
    struct sb_coord_segment *next; /* of its user */
    struct sb_coord_user *user;
    struct sb_coord_ring *rings; /* all, in use or free (SB_SEGMENT_RINGS) */
    uint32_t index, gen;
    uint32_t kind;  /* enum sb_segment_kind */
    uint32_t used;  /* rings or bells in use */
    uint64_t taken; /* rings: bytes given out so far; bells: bit i: bell i is in use */
    int fd;
    uint8_t *base;
    uint64_t size;
    struct sb_coord_ring *bell_ring[64]; /* whose bell it is; NULL: a connection's */
    struct sb_coord_conn *bell_conn[64];
};

struct sb_coord_user {
    struct sb_coord_user *next;
    uid_t uid;
    uint64_t ring_bytes;
    struct sb_coord_segment *segments;
};

struct sb_coord_bell {
    struct sb_coord_segment *segment;
    uint32_t index;
};

/* A ring. Its memory is type-stable: seq and tail go on when the ring is used again. */
struct sb_coord_ring {
    struct sb_coord_ring *next_in_segment;
    struct sb_coord_segment *segment;
    uint64_t offset;
    struct sb_ring_view view;
    uint32_t index, gen; /* of its record; gen is odd while in use */
    uint32_t full;       /* enum sb_full */
    bool listed;         /* route sets and the pattern trie may name it */
    struct sb_coord_bell bell;
    struct sb_coord_seat *seats;
    uint32_t seat_count;
    uint32_t open_count;         /* seats that are not closed */
    struct sb_bitset publishers; /* connections of which a route has listed it */
    uint8_t *patterns;           /* {u16 length, bytes} each, sorted, none twice */
    uint32_t patterns_len;
    uint32_t pattern_count;
    uint64_t patterns_at;              /* their copy in the arena */
    struct sb_coord_ring *next_closed; /* rings whose sets could not yet be rewritten */
};

struct sb_coord_seat {
    struct sb_coord_seat *next_in_ring;
    struct sb_coord_seat *next_of_conn;
    struct sb_coord_conn *conn;
    struct sb_coord_ring *ring;
    uint32_t index, gen;
    uint32_t slot;   /* its place in the inbox */
    uint32_t reason; /* enum sb_reason */
    uint64_t start, end;
    struct sb_books_seen seen;
};

/* An interned set of rings, the same bytes in the arena. */
struct sb_coord_set {
    struct sb_coord_set *next;  /* in its bucket */
    struct sb_coord_set *after; /* this rewriting makes this set into that one */
    uint64_t rewriting;         /* which one: sb_coord.rewriting */
    uint64_t offset;
    uint32_t refs;
    uint32_t hash;
    uint32_t count;
    uint32_t ring[];
};

/* A topic that somebody has a route for. */
struct sb_coord_topic {
    struct sb_coord_route *routes;
    struct sb_coord_set *set;   /* NULL: no rings */
    struct sb_coord_set *after; /* while a rewriting is prepared */
    uint64_t rewriting;         /* the last one that has touched it */
    uint64_t at;                /* arena offset of the encoded topic */
    uint32_t len;
    uint32_t id;
};

struct sb_coord_route {
    struct sb_coord_route *next_of_topic, *prev_of_topic;
    struct sb_coord_route *next_of_conn, *prev_of_conn;
    struct sb_coord_conn *conn;
    struct sb_coord_topic *topic;
    uint32_t index, gen;
    bool live;
};

/* A pattern and the rings that have it. */
struct sb_coord_pattern {
    struct sb_coord_ring **ring;
    uint32_t count, room;
    uint32_t id;
};

/* A ring that messages of a dead connection may still be in. */
struct sb_coord_passing {
    uint32_t ring, gen;
    uint64_t tail; /* noted after the end */
};

struct sb_coord_conn {
    struct sb_coord *coord;
    struct sb_coord_session *session; /* NULL after a hang-up */
    struct sb_coord_conn *next_gone;  /* in sb_coord.gone */
    struct sb_coord_user *user;
    struct sb_coord_seat *seats;
    struct sb_coord_route *routes;
    struct sb_coord_passing *passing; /* rings to wait for; NULL before they were noted */
    uint64_t watch;                   /* of the pidfd, in the loop; 0: none */
    struct sb_inbox *inbox;
    struct sb_bitset slots; /* of the inbox */
    struct sb_coord_bell bell;
    size_t passing_count;
    uint32_t index, gen;
    uint32_t state; /* enum sb_conn_state */
    uint32_t seat_count, open_count, unshared_count, route_count;
    int heap_fd, inbox_fd, pidfd;
    uint64_t heap_size, inbox_size;
    uint64_t publish_failed; /* the most that was seen in its inbox */
    pid_t pid;
    uid_t uid;
    bool armed; /* the heap is sealed: others may have it */
    bool gone;  /* only its messages are left */
    bool noted; /* passing is complete */
};

struct sb_coord {
    struct sb_coord_options {
        char name[SB_NAME_MAX + 1];
        uint32_t queue_len, full, mode;
        gid_t gid;
        uint64_t arena_limit, heap_limit;
        struct sb_wildcards wildcards;
        char *runtime_dir;
        void (*log)(int level, const char *line, void *arg);
        void *log_arg;
    } options;
    struct sb_coord_names names;
    struct sb_coord_arena arena;
    struct sb_coord_table conns, routes, rings, seats, segments;
    struct sb_trie patterns, topics;
    struct sb_coord_ids pattern_ids, topic_ids; /* what the tries' values name */
    struct sb_coord_set **set_buckets;
    uint32_t set_bucket_count, set_count;
    uint64_t rewriting;
    struct sb_coord_user *users;
    struct sb_coord_session *sessions;
    struct sb_coord_conn *gone;
    struct sb_coord_ring *closed_rings;
    uint64_t serial;       /* of subscriptions */
    uint64_t gone_dropped; /* of seats that are gone */
    uint64_t gone_failed;  /* publishes, of connections that are gone */
    struct sb_loop *loop;
    uint64_t listen_watch;
    uint64_t reap_timer; /* 0: nothing to look for */
    int64_t reap_pause;  /* ns from one look to the next */
    uint64_t request[SB_CONTROL_MAX / 8];
    uint64_t reply[SB_CONTROL_MAX / 8];
};

#endif
