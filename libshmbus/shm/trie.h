/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tries over encoded topics (proto/topic.h), a token an edge, in the arena: pattern tries (stored
 * wildcards, concrete queries) and topic tries (concrete keys, queries with wildcards).
 *
 * Who: one writer, the coordinator, and any number of readers in any process that maps the arena
 * read-only. Readers take no lock and allocate nothing; they pin an epoch (shm/epoch.h) around
 * each query and drop its results if the pin was broken. The writer may call the readers'
 * functions itself, without a pin. A reader may die or stop anywhere.
 *
 * A key is in the trie from the store of its value to the store of 0 (linearisation points of put
 * and remove). A query is not one cut: it reports every key that was there during the whole query,
 * no key that was not there at any moment of it, and none twice.
 *
 * Progress: the writer never waits. find is bounded by the key and the table; a match visits each
 * node at most once, so that it is bounded by the nodes that fit in the arena, and looks now and
 * then whether its pin is broken.
 */
#ifndef SB_SHM_TRIE_H
#define SB_SHM_TRIE_H

#include "shm/epoch.h"
#include "shm/region.h"

struct sb_slab;

/* In the arena's header. Coordinator writes; readers of the trie read. */
struct sb_trie_root {
    uint64_t table; /* atomic, release: sb_trie_table_word() of the hash table of all nodes */
    uint32_t top;   /* ref of the node of the empty key; fixed */
    uint32_t nodes; /* atomic: nodes below it */
};
static_assert(sizeof(struct sb_trie_root) == 16, "layout");
static_assert(offsetof(struct sb_trie_root, top) == 8, "layout");
static_assert(offsetof(struct sb_trie_root, nodes) == 12, "layout");

/* Outcomes, no failures. */
enum {
    SB_TRIE_ABSENT = 1,  /* no such key */
    SB_TRIE_STOPPED = 2, /* the visit function ended the query */
    /* The arena does not look as it should: the pin is broken, or the region was taken before the
     * arena grew. Unpin, read the arena's size again, start again. */
    SB_TRIE_TORN = 3,
};

/*
 * The writer's side, in private memory.
 */
struct sb_trie {
    struct sb_trie_root *root;
    uint8_t *base; /* of the arena; never moves */
    struct sb_slab *slab;
    uint32_t live;  /* slots of the table that hold a node */
    uint32_t stale; /* slots that held one */
};

/* An empty trie at *root, in the arena at base that slab manages. Failures of sb_slab_alloc. */
int sb_trie_init(struct sb_trie *t, struct sb_trie_root *root, uint8_t *base,
                 struct sb_slab *slab) SB_MUST_CHECK;

/*
 * Gives a checked key a value, which is not 0, in place of the one it may have. *node (may be
 * NULL) becomes the key's node, which stays the same until the key is removed. SHMBUS_E_INVALID if
 * the bytes are no key; SHMBUS_E_LIMIT, SHMBUS_E_NOMEM and other failures of sb_slab_alloc.
 */
int sb_trie_put(struct sb_trie *t, const uint8_t *key, size_t len, uint64_t value,
                uint32_t *node) SB_MUST_CHECK;

/*
 * Removes a key and returns its value, 0 if it was not there. What no key needs any more is
 * retired (sb_slab_retire). Never fails.
 */
uint64_t sb_trie_remove(struct sb_trie *t, const uint8_t *key, size_t len);

/*
 * The readers' side.
 */
struct sb_trie_reader {
    struct sb_region arena; /* its size as read after pinning */
    const struct sb_trie_root *root;
    const struct sb_epoch_pin *pin; /* NULL: the caller is the writer */
};

/* What the writer itself reads through, until its next put. */
struct sb_trie_reader sb_trie_writer_view(const struct sb_trie *t);

/* The value and, if node is not NULL, the node of a checked key. 0, SB_TRIE_ABSENT or _TORN. */
int sb_trie_find(const struct sb_trie_reader *r, const uint8_t *key, size_t len, uint64_t *value,
                 uint32_t *node) SB_MUST_CHECK;

/*
 * Is given each key that a query finds, in no order: its value and node. Runs under the pin: what
 * it gets may be garbage until unpin says otherwise, so it collects and checks, and calls nothing
 * of the user's. May end the query by returning false.
 */
typedef bool sb_trie_visit(void *ctx, uint64_t value, uint32_t node);

/* All stored patterns that match a checked concrete key. 0, SB_TRIE_STOPPED or _TORN. */
int sb_trie_match_patterns(const struct sb_trie_reader *r, const uint8_t *key, size_t len,
                           sb_trie_visit *visit, void *ctx) SB_MUST_CHECK;

/* All stored concrete keys that a checked pattern matches. 0, SB_TRIE_STOPPED or _TORN. */
int sb_trie_match_topics(const struct sb_trie_reader *r, const uint8_t *pattern, size_t len,
                         sb_trie_visit *visit, void *ctx) SB_MUST_CHECK;

/*
 * Writes the key of a node that this pin has found to buf, and its length to *len. 0, or
 * SB_TRIE_TORN, also if it is longer than capacity, which it never is with SB_TOPIC_MAX.
 */
int sb_trie_key(const struct sb_trie_reader *r, uint32_t node, uint8_t *buf, size_t capacity,
                size_t *len) SB_MUST_CHECK;

#endif
