/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of the control socket.
 *
 * One SOCK_SEQPACKET message is one request or one reply: a struct sb_control_head, then the body
 * of its type, then, where the body says so, bytes of variable length; descriptors ride along. Both
 * ends run on one machine with one byte order. A request has a reply of the same type and id; a
 * reply whose status is negative carries the sentence for shmbus_errmsg() instead of a body.
 *
 * Nothing here does I/O. Whatever arrives goes through sb_control_parse() first, which checks head,
 * type, length and counts; after that fixed fields can be read in place. Indices and permissions
 * are for the receiver to check.
 */
#ifndef SB_PROTO_CONTROL_H
#define SB_PROTO_CONTROL_H

#include "base/compiler.h"

#define SB_CONTROL_VERSION 1u
#define SB_CONTROL_MAX (68u * 1024u) /* bytes of one message: 64 KiB of patterns, framed */
#define SB_CONTROL_FDS 64u           /* descriptors in one message */
#define SB_CONTROL_SENTENCE 512u     /* longest error text */

enum sb_control_type {
    SB_CONTROL_HELLO = 1, /* first; reply carries arena, heap and inbox (observers: arena) */
    SB_CONTROL_ARMED,     /* the heap is mapped writable: seal it */
    SB_CONTROL_SUBSCRIBE,
    SB_CONTROL_UNSUBSCRIBE, /* no more pushes; the seat stays */
    SB_CONTROL_LEAVE,       /* the seat's handle is freed and its last message released */
    SB_CONTROL_ROUTE,       /* the right to publish a topic */
    SB_CONTROL_UNROUTE,     /* gives routes back, once nothing of them is queued */
    SB_CONTROL_MAP,         /* descriptors for what records name */
    SB_CONTROL_GROW,        /* allocate more of the heap */
    SB_CONTROL_DISCONNECT,
    SB_CONTROL_BUS_STATS,
    SB_CONTROL_HANDLES, /* a page of open handles */
    SB_CONTROL_CONNS,   /* a page of connections */
    SB_CONTROL_HEAPS,   /* pushed by a stopping coordinator: heaps that queues may still need */
    SB_CONTROL_TYPES    /* one more than the last */
};

struct sb_control_head {
    uint32_t type;
    uint32_t id;    /* chosen by the client; 0 for what is pushed */
    uint32_t size;  /* of the whole message */
    int32_t status; /* requests: 0; replies: 0 or a SHMBUS_E_ code */
};

/* HELLO */
struct sb_hello_request {
    struct sb_control_head head;
    uint32_t version;     /* SB_CONTROL_VERSION */
    uint32_t layout;      /* SB_LAYOUT_VERSION */
    uint32_t fingerprint; /* sb_layout_fingerprint() */
    uint32_t observer;    /* 1: wants figures only */
};

struct sb_hello_reply {
    struct sb_control_head head;
    uint32_t conn; /* index, SB_NONE for observers */
    uint32_t gen;
    uint64_t arena_limit;
    uint64_t heap_limit;
    uint64_t inbox_limit;
    uint32_t bell_segment; /* the bell of this connection's unshared rings */
    uint32_t bell;
};

/* SUBSCRIBE: followed by pattern_count times {u16 length, encoded bytes}. */
struct sb_subscribe_request {
    struct sb_control_head head;
    int64_t queue_len; /* INT64_MIN: the bus's default */
    uint32_t full;     /* 0: the bus's default, else enum sb_full */
    uint32_t pattern_count;
    uint32_t patterns_len; /* bytes that follow */
    uint32_t flags;        /* 0 */
};

struct sb_subscribe_reply {
    struct sb_control_head head;
    uint32_t seat;
    uint32_t seat_gen;
    uint32_t ring;
    uint32_t ring_gen;
};

/* UNSUBSCRIBE, LEAVE */
struct sb_seat_request {
    struct sb_control_head head;
    uint32_t seat;
    uint32_t seat_gen;
};

/* ROUTE: followed by the encoded topic. */
struct sb_route_request {
    struct sb_control_head head;
    uint32_t topic_len;
    uint32_t flags; /* 0 */
};

struct sb_route_reply {
    struct sb_control_head head;
    uint32_t route;
    uint32_t gen;
};

/* UNROUTE: followed by count times {u32 route, u32 gen}. */
struct sb_unroute_request {
    struct sb_control_head head;
    uint32_t count;
    uint32_t pad;
};

/* MAP: what may be asked for, each only where a route or a seat of this connection leads to it. */
enum sb_map_kind {
    SB_MAP_RINGS_WRITE = 1, /* a ring segment: some route of this connection lists a ring in it */
    SB_MAP_RINGS_READ,      /* a ring segment: a seat of this connection lies at a ring in it */
    SB_MAP_BELLS,           /* a bell segment: of such a ring, or this connection's own */
    SB_MAP_INBOX,           /* a connection's inbox: it has a seat at such a ring; read-only */
    SB_MAP_HEAP, /* a connection's heap: it has routes to a ring of this one; read-only */
    SB_MAP_KINDS
};

struct sb_map_item {
    uint32_t kind;  /* enum sb_map_kind */
    uint32_t index; /* of the segment or connection */
    uint32_t gen;   /* its generation, as its record says */
    uint32_t found; /* reply: 1, and its descriptor rides along; 0: gone, or not for you */
    uint64_t size;  /* reply: bytes to map */
};

struct sb_map_message { /* request and reply */
    struct sb_control_head head;
    uint32_t count; /* 1..SB_CONTROL_FDS; descriptors in the order of the found items */
    uint32_t pad;
    struct sb_map_item item[];
};

/* GROW */
struct sb_grow_message { /* request: bytes wanted; reply: bytes allocated now */
    struct sb_control_head head;
    uint64_t size;
};

/* BUS_STATS reply */
struct sb_bus_stats_reply {
    struct sb_control_head head;
    uint32_t connections;
    uint32_t subscriptions;
    uint32_t routes;
    uint32_t retained;
    uint32_t watches;
    uint32_t views;
    uint32_t endpoints;
    uint32_t pad;
    uint64_t retained_bytes;
    uint64_t dropped;
    uint64_t publish_failed;
};

/* HANDLES, CONNS: a page that starts at index `from`. */
struct sb_page_request {
    struct sb_control_head head;
    uint32_t from;
    uint32_t pad;
};

/* Followed by count records; next: where the next page starts, UINT32_MAX after the last. */
struct sb_page_reply {
    struct sb_control_head head;
    uint32_t next;
    uint32_t count;
};

/* Followed by pattern_count times {u16 length, encoded bytes}, padded to a multiple of 8. */
struct sb_handle_entry {
    uint32_t size; /* of the entry with all that follows */
    uint32_t kind; /* 1: subscription */
    uint8_t conn_id[16];
    uint32_t pid;
    uint32_t full;
    uint64_t queue_len;
    uint64_t offered, received, queued, dropped;
    uint32_t pattern_count;
    uint32_t patterns_len;
};

/* Followed by principal_len bytes, padded to a multiple of 8. */
struct sb_conn_entry {
    uint32_t size;
    uint32_t pid;
    uint8_t conn_id[16];
    uint32_t uid, gid;
    uint32_t subscriptions, routes;
    uint64_t heap_size;
    uint32_t principal_len;
    uint32_t pad;
};

/* Whether bytes are a well-formed request (reply: the mirror of it); a negative SHMBUS_E_INVALID
 * with a sentence else. buf must be aligned to 8 bytes. Pure. */
int sb_control_parse_request(const void *buf, size_t len);
int sb_control_parse_reply(const void *buf, size_t len, uint32_t type, uint32_t id);

/* The bounds-checked walk over {u16 length, bytes} lists: 1 with the next pattern, 0 at the end,
 * SHMBUS_E_INVALID when the list is malformed. *at starts at 0. */
int sb_control_next_pattern(const uint8_t *list, size_t len, size_t *at, const uint8_t **pattern,
                            size_t *pattern_len);

/* The same over the entries of a page reply whose head was parsed. *at starts at 0. */
int sb_control_next_entry(const struct sb_page_reply *page, size_t *at, const void **entry);

#endif
