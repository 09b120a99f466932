/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where received messages come from: every check of a received descriptor.
 *
 * A descriptor and the chunk that it names are the words of whoever may push to the ring. A message
 * is accepted only if
 *  - the heap belongs to a connection of that generation (the arena says so),
 *  - the block and the chunk lie inside what the coordinator has allocated of that heap, and the
 *    block's bitmap marks the chunk's start,
 *  - the chunk's route belongs to that connection, was not revoked, and its topic matches a pattern
 *    of this subscription,
 *  - its sequence is above that of the last message of that heap here: a connection's publishes are
 *    serialized, so anything else is another's chunk pushed again.
 * Everything else is skipped: it was never offered to this subscription. Topic and origin come from
 * the coordinator's records, never from the chunk.
 *
 * What is learnt of a heap (its mapping) and of a route (verdict, private copies of topic and
 * origin) is kept; what belongs to the dead is let go of when new heaps and routes come, and no
 * message is unreleased that could point to it.
 *
 * One thread at a time: the one that receives.
 */
#ifndef SB_CLIENT_SOURCE_H
#define SB_CLIENT_SOURCE_H

#include "client/client.h"

/* What is known of one route, in a chain of its hash bucket. */
struct sb_verdict {
    struct sb_verdict *next;
    const struct sb_route_rec *rec;
    uint32_t id;  /* as chunks name it */
    uint32_t gen; /* of rec */
    bool accepted;
    struct sb_delivered *delivered; /* NULL unless accepted */
};

#define SB_VERDICT_BUCKETS 64u

/* A block as far as it was found to lie in what is allocated of its heap. */
struct sb_extent {
    const uint64_t *starts; /* the block's bitmap */
    uint64_t units; /* a chunk's header fits at units below this, and they have start bits */
    uint64_t room;  /* bytes behind a header at unit 0 */
};

/* One connection's heap, as one subscription reads it. */
struct sb_source {
    /* The block and the route of the message accepted last. */
    uint64_t near_desc;    /* of unit 0 of the block */
    struct sb_extent near; /* units is 0 where nothing is near */
    const struct sb_delivered *near_delivered;
    const uint32_t *near_gen; /* in the route's record */
    uint32_t near_route;      /* as chunks name it */
    uint32_t near_route_gen;
    uint64_t last_seq;

    struct sb_source *next; /* of its hash bucket */
    uint32_t name;          /* sb_desc_source() */
    uint32_t gen;           /* of rec */
    const uint8_t *base;
    uint64_t size; /* allocated, when last looked at; what is mapped is at least that */
    const struct sb_conn_rec *rec;
    struct sb_mapping *mapping;
    uint32_t verdict_count;
    struct sb_verdict *verdicts[SB_VERDICT_BUCKETS];
};

#define SB_SOURCE_BUCKETS 64u

struct sb_source_table {
    struct sb_source none; /* never near */
    uint32_t refused;      /* requests for heaps that are not for this connection: they cost time */
    struct sb_source *bucket[SB_SOURCE_BUCKETS];
};

/* The sources of a new subscription; sb_recv_init() then sets sub->near. */
struct sb_source_table *sb_sources_new(void);
void sb_sources_free(struct shmbus_conn *conn, struct sb_source_table *sources);

/* An accepted message. */
struct sb_found {
    const struct sb_delivered *delivered;
    const struct sb_chunk *chunk;
    uint64_t extra;           /* bytes between header and payload */
    struct sb_source *source; /* whose last_seq becomes seq once the message is taken */
    uint64_t seq;
    uint64_t size;
};

/* Outcomes of a check. */
enum {
    SB_SOURCE_SKIP = 1, /* not a message for this subscription */
    SB_SOURCE_GONE = 2, /* its publisher and the coordinator have gone before it was mapped: lost */
};

/*
 * Checks desc, which is under a hold. 0 with *found, one of the outcomes above, or a failure
 * (SHMBUS_E_NOMEM, SHMBUS_E_LIMIT, SHMBUS_E_COORD, SHMBUS_E_SYSTEM) that leaves the message queued.
 * May make a request for the first message of a heap.
 */
int sb_source_check(struct shmbus_sub *sub, uint64_t desc, struct sb_found *found) SB_MUST_CHECK;

/* The chunk `at` bytes into the block that has the bitmap `starts`. */
SB_INLINE const struct sb_chunk *sb_source_chunk_at(const uint64_t *starts, uint64_t at)
{
    const uint8_t *block = (const uint8_t *)starts - offsetof(struct sb_block, starts);
    return (const struct sb_chunk *)(const void *)(block + at);
}

/*
 * What is checked of a chunk at a unit of a block: it is marked as a start, and header, extra and
 * payload end inside the block. Each word of the chunk is read once.
 */
SB_INLINE bool sb_source_chunk(const struct sb_extent *extent, uint64_t unit,
                               struct sb_found *found)
{
    if (sb_unlikely(unit >= extent->units))
        return false;
    const uint64_t *starts = extent->starts;
    /* Acquire: a chunk that is marked shows its header, also to whom another has named it (pairs
     * with sb_block_mark). */
    if (sb_unlikely(!(sb_load_acquire(&starts[unit / 64]) >> (unit % 64) & 1)))
        return false;
    uint64_t at = unit * SB_CHUNK_UNIT;
    const struct sb_chunk *chunk = sb_source_chunk_at(starts, at);
    uint64_t extra = sb_load_relaxed(&chunk->extra);
    uint64_t size = sb_load_relaxed(&chunk->size);
    if (sb_unlikely(at + extra + size > extent->room))
        return false;
    found->chunk = chunk;
    found->extra = extra;
    found->size = size;
    found->seq = sb_load_relaxed(&chunk->seq);
    return true;
}

/* sb_source_check() for a message of the block and the route that the last one of this source was
 * of; false: it is not, or is not acceptable. */
SB_INLINE bool sb_source_check_near(struct sb_source *source, uint64_t desc, struct sb_found *found)
{
    /* Another block's descriptors differ by more than a block has units. */
    if (!sb_source_chunk(&source->near, desc - source->near_desc, found))
        return false;
    found->source = source;
    found->delivered = source->near_delivered;
    return sb_likely(sb_load_relaxed(&found->chunk->route) == source->near_route) &&
           sb_likely(found->seq > source->last_seq) &&
           sb_likely(sb_load_acquire(source->near_gen) == source->near_route_gen);
}

#endif
