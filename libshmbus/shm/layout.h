/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every structure that two processes touch.
 *
 * Each region is written by one party (see docs/ARCHITECTURE.md), and where several parties share
 * a region, each cache line has one writer; the comments name writer and readers. Fields are plain
 * fixed-width integers, accessed through base/atomic.h where another party may change them.
 * Whatever another user's process can write is copied once into a local, checked, and then used.
 *
 * Regions:
 *   arena        POSIX shm object; the coordinator writes, all others map it read-only
 *   heap         memfd of a connection; its owner writes, receivers map it read-only
 *   inbox        memfd of a connection; its owner writes, its publishers map it read-only
 *   ring segment memfd of a subscribing user; publishers with a route write, readers read-only
 *   bell segment memfd of a subscribing user; publishers and readers write
 */
#ifndef SB_SHM_LAYOUT_H
#define SB_SHM_LAYOUT_H

#include <assert.h>

#include "base/atomic.h"
#include "proto/name.h"
#include "shm/trie.h"

#define SB_LAYOUT_MAGIC 0x3173756d627368ull /* "shbmus1" */
#define SB_LAYOUT_VERSION 1u

#define SB_HELD_MAX 64          /* holds of a seat, and messages in one batch */
#define SB_QUEUE_MAX (1u << 20) /* longest ring */
#define SB_PATTERNS_MAX 64      /* of one subscription */
#define SB_CONNS_MAX 65535u     /* a heap is named by 16 bits of a descriptor */
#define SB_NONE UINT32_MAX      /* "no index" in u32 index fields */

/*
 * Tables of the arena.
 *
 * A table is an array of records that never move: chunk k of its directory holds first << k
 * records. The coordinator adds chunks; a record below `count` is always mapped.
 */
#define SB_TABLE_CHUNKS 24
#define SB_TABLE_FIRST 16u /* records in the first chunk of every table */

struct sb_table {
    uint32_t record_size;
    uint32_t count; /* atomic, release: records that exist (highest index ever used, plus one) */
    uint64_t chunk[SB_TABLE_CHUNKS]; /* arena offsets; written before count covers them */
};
static_assert(sizeof(struct sb_table) == 200, "layout");

/* Where a table keeps record i: which chunk of the directory, and how far in it. */
SB_INLINE unsigned sb_table_place(uint32_t i, uint32_t *in_chunk)
{
    unsigned k = (unsigned)(31 - __builtin_clz(i / SB_TABLE_FIRST + 1));
    *in_chunk = i - SB_TABLE_FIRST * ((1u << k) - 1);
    return k;
}

/* Record i of a table, for readers; NULL beyond its end or where the arena is not mapped. */
SB_INLINE const void *sb_table_at(struct sb_region arena, const struct sb_table *table, uint32_t i,
                                  uint32_t record_size)
{
    if (i >= sb_load_acquire(&table->count))
        return NULL;
    uint32_t in_chunk;
    unsigned k = sb_table_place(i, &in_chunk);
    if (k >= SB_TABLE_CHUNKS)
        return NULL;
    uint64_t offset = sb_load_relaxed(&table->chunk[k]) + (uint64_t)in_chunk * record_size;
    return sb_arena_at(arena, offset, record_size);
}

enum sb_bus_state { SB_BUS_RUNNING = 1, SB_BUS_STOPPED = 2 };

/* Why a handle closed; 0 while it is open. The public words are in client/why.c. */
enum sb_reason {
    SB_REASON_NONE = 0,
    SB_REASON_UNSUBSCRIBED = 1,
    SB_REASON_DISCONNECTED = 2,
    SB_REASON_BUS_STOPPED = 3,
    SB_REASON_REVOKED = 4,
};

enum sb_full { SB_DROP_OLDEST = 1, SB_REJECT_NEWEST = 2 };

/* The arena's first page. The coordinator writes; everybody reads. */
struct sb_arena_header {
    /* Fixed before magic is stored, last, with release. */
    uint64_t magic;
    uint32_t version;
    uint32_t fingerprint; /* of this file's sizes and offsets: sb_layout_fingerprint() */
    uint8_t bus_id[16];   /* UUID of this run of the bus */
    uint64_t limit;       /* bytes that clients map */
    uint32_t coordinator_pid;
    uint32_t coordinator_uid;
    uint64_t coordinator_start; /* its start time, /proc/PID/stat field 22 */
    uint64_t heap_limit;
    uint32_t queue_len; /* defaults of subscriptions */
    uint32_t full;      /* enum sb_full */
    uint16_t s_wild_len;
    uint16_t m_wild_len;
    char s_wild[256];
    char m_wild[256];
    char name[SB_NAME_MAX + 1];
    char socket_path[108 + 1]; /* where the coordinator listens */
    uint8_t pad0[6];

    /* Rarely written. */
    uint64_t size;  /* atomic, release: bytes of the file that are allocated */
    uint64_t used;  /* atomic: bytes of live objects */
    uint32_t state; /* atomic: enum sb_bus_state */
    uint32_t pad1;
    uint64_t pad2[5];

    /* Hot: read by every publish. Advanced, with release, after routes or seats have changed and
     * before the change is acknowledged. */
    uint64_t epoch;
    uint64_t pad3[7];

    /* Reclamation of arena memory (shm/epoch.h): read by readers of tries. */
    struct sb_epoch_root reclaim;
    uint64_t pad4[6];

    struct sb_table conns;
    struct sb_table routes;
    struct sb_table rings;
    struct sb_table seats;
    struct sb_table segments;

    struct sb_trie_root patterns; /* of subscriptions: pattern -> private value */
    struct sb_trie_root topics;   /* of routes: topic -> private value */
};
static_assert(offsetof(struct sb_arena_header, size) == 768, "layout");
static_assert(offsetof(struct sb_arena_header, epoch) == 832, "layout");
static_assert(offsetof(struct sb_arena_header, reclaim) == 896, "layout");
static_assert(offsetof(struct sb_arena_header, conns) == 960, "layout");
static_assert(offsetof(struct sb_arena_header, patterns) == 1960, "layout");
static_assert(sizeof(struct sb_arena_header) == 1992, "layout");

#define SB_ARENA_FIRST 4096u /* the header's page; objects lie behind it */

/*
 * A connection and its heap; index = heap number in descriptors. Index 0 is the bus itself.
 * Coordinator writes; all read.
 */
enum sb_conn_state {
    SB_CONN_FREE = 0,
    SB_CONN_ATTACHED = 1,
    SB_CONN_DISCONNECTED = 2, /* no routes any more; its process lives and may drain its queues */
    SB_CONN_DEAD = 3,         /* its process has ended; its heap stays while messages are queued */
};

struct sb_conn_rec {
    uint32_t gen;   /* atomic: grows by one with each reuse; its low 8 bits are in descriptors */
    uint32_t state; /* atomic: enum sb_conn_state */
    uint8_t id[16];
    uint32_t pid;
    uint32_t uid;
    uint32_t gid;
    uint32_t principal_len;
    uint64_t principal;  /* arena offset */
    uint64_t heap_size;  /* atomic, release: bytes of the heap that are allocated */
    uint64_t inbox_size; /* atomic, release: the same of the inbox */
    uint64_t heap_limit; /* bytes of the memfd, allocated or not */
    uint64_t inbox_limit;
    uint64_t start_time;                               /* of the process, /proc/PID/stat field 22 */
    uint64_t heap_dev, heap_ino, inbox_dev, inbox_ino; /* for the successor of a coordinator */
    uint64_t pad;
};
static_assert(sizeof(struct sb_conn_rec) == 128, "layout");

/*
 * A route: the right of one connection to publish one topic, and the rings that match it.
 * Coordinator writes; its connection and all receivers read.
 *
 * `set` names an immutable array of ring indices in the arena and a version that grows with each
 * change; a reader copies the array and then checks that the word is still the same.
 */
enum sb_route_state {
    SB_ROUTE_FREE = 0,
    SB_ROUTE_LIVE = 1,
    SB_ROUTE_DEAD = 2,    /* its connection has ended: what is queued is delivered */
    SB_ROUTE_REVOKED = 3, /* what is queued is ignored: its generation changes with it */
};

struct sb_route_rec {
    uint32_t gen;   /* atomic: grows with each reuse; its low 8 bits are in chunk headers */
    uint32_t state; /* atomic: enum sb_route_state */
    uint32_t conn;  /* index; fixed while gen is */
    uint32_t topic_len;
    uint64_t topic; /* arena offset of the encoded topic; fixed while gen is */
    uint64_t set;   /* atomic: sb_set_word() */
    uint64_t pad[4];
};
static_assert(sizeof(struct sb_route_rec) == 64, "layout");

/* An interned set of rings, immutable once a route names it. Offset is a multiple of 16. */
struct sb_ring_set {
    uint32_t count;
    uint32_t ring[]; /* ascending indices */
};

/* The word in sb_route_rec.set: the set's arena offset / 16, and a version. 0 offset: no rings. */
SB_INLINE uint64_t sb_set_word(uint64_t offset, uint32_t version)
{
    return (offset / 16) << 32 | version;
}

SB_INLINE uint64_t sb_set_offset(uint64_t word)
{
    return (word >> 32) * 16;
}

/* A route as chunk headers name it: 24 bits of index, 8 of generation. */
#define SB_ROUTES_MAX (1u << 24)

SB_INLINE uint32_t sb_route_id(uint32_t index, uint32_t gen)
{
    return index << 8 | (gen & 0xff);
}

/* A ring: where it lies and who sits at it. Coordinator writes; all read. */
struct sb_ring_rec {
    uint32_t gen;      /* atomic: odd while the ring is in use */
    uint32_t segment;  /* index of its ring segment */
    uint64_t offset;   /* of its struct sb_ring in the segment */
    uint32_t capacity; /* slots: 1..SB_QUEUE_MAX */
    uint32_t full;     /* enum sb_full */
    uint32_t bell_segment;
    uint32_t bell;  /* index of a struct sb_bell in that segment */
    uint32_t seats; /* atomic: first seat, SB_NONE if none */
    uint32_t wakes; /* most sleepers that one push has to wake */
    uint64_t pad[3];
};
static_assert(sizeof(struct sb_ring_rec) == 64, "layout");

/*
 * A reader's place at a ring. Coordinator writes; publishers and the reader read.
 * A seat that is announced but whose start is still 0 pins everything.
 */
struct sb_seat_rec {
    uint32_t gen;    /* atomic: odd while the seat is in use */
    uint32_t conn;   /* whose inbox holds the struct sb_seat */
    uint64_t offset; /* of it in the inbox */
    uint32_t ring;   /* index */
    uint32_t next;   /* atomic: next seat of the ring, SB_NONE at the end */
    uint64_t start;  /* atomic: first position that belongs to the seat */
    uint64_t end;    /* atomic: first position that no longer does; SB_OPEN_END while open */
    uint32_t reason; /* atomic, release, stored after end: enum sb_reason */
    uint32_t pattern_count;
    uint64_t patterns; /* arena offset: pattern_count times {u16 length, encoded bytes} */
    uint32_t patterns_len;
    uint32_t closing;       /* atomic, before the tail that becomes end is read: 1 */
    uint64_t rejected_base; /* of the ring's count when the seat was taken */
    uint64_t serial;        /* grows with every subscription of the bus */
    uint64_t rejected_end;  /* atomic, stored before end: the ring's count then */
    uint64_t pad[5];
};
static_assert(sizeof(struct sb_seat_rec) == 128, "layout");

#define SB_OPEN_END UINT64_MAX

/* A memfd of rings or of bells. Coordinator writes; all read. */
enum sb_segment_kind { SB_SEGMENT_RINGS = 1, SB_SEGMENT_BELLS = 2 };

struct sb_segment_rec {
    uint32_t gen;  /* atomic: odd while in use */
    uint32_t kind; /* enum sb_segment_kind */
    uint64_t size;
    uint32_t uid; /* the subscribing user */
    uint32_t pad0;
    uint64_t dev, ino;
    uint64_t pad[3];
};
static_assert(sizeof(struct sb_segment_rec) == 64, "layout");

/*
 * The ring (shm/ring.h).
 */
struct sb_slot {
    uint64_t seq;  /* one more than the lap of the last write; 0: never written */
    uint64_t desc; /* what was written */
} __attribute__((aligned(16)));

struct sb_ring {
    /* Publishers; the coordinator helps. */
    uint64_t tail; /* atomic: next position to write, or a little behind it */
    uint64_t pad0[7];
    /* Publishers, when they refuse; readers and the coordinator read. */
    uint64_t rejected; /* atomic: messages that a full reject_newest ring refused */
    uint32_t flags;    /* atomic: SB_RING_… */
    uint32_t pad1;
    uint64_t pad2[6];
    struct sb_slot slot[];
};
static_assert(sizeof(struct sb_ring) == 128, "layout");

#define SB_RING_TOMBSTONED 1u /* an owner has taken chunks back */
#define SB_RING_SPOILED 2u    /* a slot held what no push can have written */

#define SB_RING_SEGMENT_SIZE 65536u /* or one ring, if that is larger */

/* The bytes that a ring of this capacity takes in its segment. */
SB_INLINE uint64_t sb_ring_bytes(uint32_t capacity)
{
    return (sizeof(struct sb_ring) + capacity * sizeof(struct sb_slot) + 63) & ~UINT64_C(63);
}

/*
 * A position is lap | index, the index taking `bits` bits. Comparing positions compares
 * lap | index; counting takes the linear number lap * capacity + index.
 */

/*
 * The bell (shm/bell.h). Publishers and readers write.
 */
struct sb_bell {
    uint32_t word; /* atomic: {n: 30, A: 1, S: 1} */
    uint32_t pad[15];
};
static_assert(sizeof(struct sb_bell) == 64, "layout");

#define SB_BELL_SEGMENT_SIZE 4096u /* 64 bells */

/*
 * The inbox. Its connection writes; its publishers and the coordinator read.
 */
#define SB_PINS 14 /* trie readers of one connection at a time */

struct sb_inbox {
    uint64_t gen;            /* of the connection, as it knows itself */
    uint64_t publish_failed; /* atomic: after their arguments were found good */
    uint64_t pin[SB_PINS];   /* atomic: shm/epoch.h */
};
static_assert(sizeof(struct sb_inbox) == 128, "layout");

/* One reader's place. Positions as in its ring. */
struct sb_seat {
    uint64_t cursor;   /* atomic: next position to read */
    uint64_t taken;    /* atomic: messages the cursor was moved over to return them */
    uint64_t returned; /* atomic: messages that receives have returned */
    uint64_t skipped;  /* atomic: pushes that do not belong here */
    uint64_t holds;    /* atomic: hold[] entries ever used: publishers look at these only */
    uint64_t hold[SB_HELD_MAX]; /* atomic: sb_hold_word(), 0: none */
    uint64_t pad[3];
};
static_assert(sizeof(struct sb_seat) == 576, "layout");

/* A hold: count positions from pos on are being read. */
SB_INLINE uint64_t sb_hold_word(uint64_t pos, uint32_t count)
{
    return pos << 8 | count;
}

SB_INLINE uint32_t sb_hold_count(uint64_t hold)
{
    return hold & 0xff;
}

#define SB_INBOX_SIZE 16384u /* allocated at first; doubles */

/*
 * The heap. Its connection writes; receivers read, and trust nothing.
 *
 * Blocks lie at multiples of 256 bytes; a block begins with its header, whose bitmap marks where
 * chunks start, in units of 16 bytes from the block's start.
 */
#define SB_BLOCK_UNIT 256u
#define SB_CHUNK_UNIT 16u
#define SB_BLOCK_MAX 16384u /* of blocks that hold several chunks */

struct sb_block {
    uint32_t size; /* bytes, header included */
    uint32_t pad;
    uint64_t pad1;
    uint64_t starts[16]; /* atomic: bit i: a chunk starts at i * 16; they cover SB_BLOCK_MAX */
};
static_assert(sizeof(struct sb_block) == 144, "layout");
static_assert(16 * 64 * SB_CHUNK_UNIT == SB_BLOCK_MAX, "layout");

struct sb_chunk {
    uint32_t route;  /* sb_route_id() */
    uint32_t origin; /* 0: the connection's own */
    uint16_t tags;   /* the public numbers of encoding and, above, of the clock of `time` */
    uint16_t extra;  /* bytes of the extra area */
    uint32_t size;   /* bytes of payload, behind the extra area */
    uint64_t seq;    /* of the connection, over all topics */
    uint64_t time;   /* ns; 0 without a clock */
};
static_assert(sizeof(struct sb_chunk) == 32, "layout");

/*
 * Descriptors: heap 16 bits, its generation 8, block / 256 28, chunk in the block / 16 12.
 */
#define SB_DESC_NONE 0ull
#define SB_DESC_TOMBSTONE 1ull

SB_INLINE uint64_t sb_desc(uint32_t heap, uint32_t gen, uint64_t block, uint32_t chunk)
{
    return (uint64_t)heap << 48 | (uint64_t)(gen & 0xff) << 40 | (block / SB_BLOCK_UNIT) << 12 |
           chunk / SB_CHUNK_UNIT;
}

/* Heap and generation together: what names a mapped heap. */
SB_INLINE uint32_t sb_desc_source(uint64_t desc)
{
    return (uint32_t)(desc >> 40);
}

SB_INLINE uint32_t sb_desc_heap(uint64_t desc)
{
    return (uint32_t)(desc >> 48);
}

SB_INLINE uint64_t sb_desc_block(uint64_t desc)
{
    return (desc >> 12 & 0xfffffff) * SB_BLOCK_UNIT;
}

SB_INLINE uint32_t sb_desc_chunk(uint64_t desc)
{
    return (uint32_t)(desc & 0xfff) * SB_CHUNK_UNIT;
}

/* A number that differs between builds whose layouts differ; both ends compare it at attach. */
uint32_t sb_layout_fingerprint(void);

#endif
