/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a trie looks like in the arena: for trie.c and trie_match.c only.
 *
 * A ref is an arena offset / 16; 0 is none. Nodes hang in two structures. One open-addressing hash
 * table per trie finds the child of a node by its token: linear probing over slots of 32 bits, a
 * node's ref and four bits of its hash, which spare nearly all looks at wrong nodes; at most half
 * of the slots are in use, stale ones included. And the children of a node form a list that is
 * entered at its head and whose removed members keep their `next`, so that a reader who stands on
 * one goes on to everything that was behind it and is still there.
 *
 * A slot that was ever used stays non-empty while a key further on can depend on it; a table never
 * changes its size, but is replaced: the root's one word names table, size and seed together. A
 * reader stays with the table it began with, in which all keys that were there then have their
 * place: what it misses was put during its query.
 */
#ifndef SB_SHM_TRIE_NODE_H
#define SB_SHM_TRIE_NODE_H

#include "proto/topic.h"
#include "shm/trie.h"

/* Coordinator writes; readers of the trie read. A multiple of 16, from the slab. */
struct sb_trie_node {
    uint64_t value;       /* atomic, release; 0: no key ends here */
    uint32_t parent;      /* fixed */
    uint32_t hash;        /* the writer's: sb_trie_hash() with the table's seed */
    uint32_t first_child; /* atomic, release */
    uint32_t next;        /* atomic, release: sibling; kept when the node is unlinked */
    uint32_t prev;        /* the writer's */
    uint16_t token_len;   /* fixed */
    uint16_t wild;        /* atomic, release: which wildcards are among the children */
    uint64_t token[];     /* fixed: its bytes, type byte included, see shm/region.h */
};
static_assert(sizeof(struct sb_trie_node) == 32, "layout");
static_assert(offsetof(struct sb_trie_node, parent) == 8, "layout");
static_assert(offsetof(struct sb_trie_node, first_child) == 16, "layout");
static_assert(offsetof(struct sb_trie_node, next) == 20, "layout");
static_assert(offsetof(struct sb_trie_node, token_len) == 28, "layout");
static_assert(offsetof(struct sb_trie_node, wild) == 30, "layout");

#define SB_TRIE_SINGLE 1u /* bits of `wild` */
#define SB_TRIE_MULTI 2u

SB_INLINE uint64_t sb_trie_offset(uint32_t ref)
{
    return (uint64_t)ref * 16;
}

/* Slots: a node's hash above, its ref below. Offset 16 lies in the arena's header. */
#define SB_TRIE_REF_BITS 28u
#define SB_TRIE_REF_MAX ((1u << SB_TRIE_REF_BITS) - 1)
#define SB_TRIE_EMPTY 0u
#define SB_TRIE_STALE 1u

SB_INLINE uint32_t sb_trie_slot(uint32_t ref, uint32_t hash)
{
    return (hash & ~SB_TRIE_REF_MAX) | ref;
}

/* The root's word: the table's ref 32 bits, seed 24, log2 of its slots 8. */
SB_INLINE uint64_t sb_trie_table_word(uint32_t ref, uint32_t seed, unsigned log2)
{
    return (uint64_t)ref << 32 | (uint64_t)seed << 8 | log2;
}

/* The parts of the root's word. */
struct sb_trie_table {
    uint64_t offset;
    uint32_t seed;
    uint32_t mask; /* slots - 1 */
};

/* Sizes beyond 2^28, which no writer makes, become 1. */
SB_INLINE struct sb_trie_table sb_trie_table_of(uint64_t word)
{
    unsigned log2 = word & 0xff;
    struct sb_trie_table table = {
        .offset = sb_trie_offset((uint32_t)(word >> 32)),
        .seed = (uint32_t)word >> 8,
        .mask = log2 <= SB_TRIE_REF_BITS ? (1u << log2) - 1 : 0,
    };
    return table;
}

/* A key split into its tokens. */
struct sb_trie_token {
    const uint8_t *bytes;
    uint32_t len;
    int type; /* SB_TOKEN_… */
};

struct sb_trie_path {
    unsigned count;
    struct sb_trie_token token[SB_TOPIC_TOKENS_MAX];
};

/* False if the bytes are no key. */
bool sb_trie_split(struct sb_trie_path *path, const uint8_t *key, size_t len);

/* Where the search for a child begins: the low 28 bits; the upper four go to the slot. */
uint32_t sb_trie_hash(uint32_t seed, uint32_t parent, const struct sb_trie_token *token);

/* A query while it runs. */
struct sb_trie_query {
    struct sb_region arena;
    const struct sb_epoch_pin *pin;
    const uint32_t *slots;
    uint32_t seed;
    uint32_t mask;
    uint64_t steps;
};

/* 0 or SB_TRIE_TORN. */
int sb_trie_query_init(struct sb_trie_query *q, const struct sb_trie_reader *r) SB_MUST_CHECK;

/* The child of `parent` by its token. 0, SB_TRIE_ABSENT or _TORN. */
int sb_trie_child(struct sb_trie_query *q, uint32_t parent, const struct sb_trie_token *token,
                  uint32_t *ref) SB_MUST_CHECK;

#endif
