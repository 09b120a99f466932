/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of tries. It reads its own memory plainly or relaxed; whatever it stores where
 * a reader can be, it stores atomically: also into fresh nodes, since a reader whose pin was broken
 * may still be looking at what the memory was before.
 */
#include "shm/trie.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/slab.h"
#include "shm/trie_node.h"

#define TABLE_LOG2_MIN 6u
/* A chain of this many slots has, at half load and by chance, a probability of about e^-49. */
#define CHAIN_MAX 256u

static struct sb_trie_node *node_of(const struct sb_trie *t, uint32_t ref)
{
    return (struct sb_trie_node *)(void *)(t->base + sb_trie_offset(ref));
}

static size_t node_size(size_t token_len)
{
    return sizeof(struct sb_trie_node) + sb_arena_string_size(token_len);
}

static uint32_t *table_slots(const struct sb_trie *t, const struct sb_trie_table *table)
{
    return (uint32_t *)(void *)(t->base + table->offset);
}

static uint64_t table_size(const struct sb_trie_table *table)
{
    return ((uint64_t)table->mask + 1) * 4;
}

static struct sb_trie_table table_now(const struct sb_trie *t)
{
    return sb_trie_table_of(sb_load_relaxed(&t->root->table));
}

/* Enough for readers, who can see it: keys that collide cannot be chosen before it is. */
static uint32_t new_seed(void)
{
    return (uint32_t)(((uint64_t)sb_clock_ns() * 0x6a09e667f3bcc909ull) >> 40);
}

static bool is_full(const struct sb_trie_table *table, uint64_t used)
{
    return used * 2 > (uint64_t)table->mask + 1;
}

/* The size of a new table for so many nodes: a quarter of them fits in before it is full again. */
static unsigned table_log2(uint64_t nodes)
{
    unsigned log2 = TABLE_LOG2_MIN;
    while (nodes * 8 > (uint64_t)3 << log2)
        log2++;
    return log2;
}

/* Stores a node into the first slot that takes it; returns how many slots lie before that. */
static uint32_t slot_put(uint32_t *slots, uint32_t mask, uint32_t ref, uint32_t hash,
                         uint32_t *stale)
{
    uint32_t i = 0;
    uint32_t old;
    while ((old = sb_load_relaxed(&slots[(hash + i) & mask])) > SB_TRIE_STALE)
        i++;
    *stale -= old == SB_TRIE_STALE;
    /* The node's fields first; pairs with the load in sb_trie_child. */
    sb_store_release(&slots[(hash + i) & mask], sb_trie_slot(ref, hash));
    return i;
}

/*
 * Makes a node's slot stale. Where the chain ends behind it, it and the stale ones before it become
 * empty: no node further on was ever reached through them.
 */
static void slot_remove(struct sb_trie *t, uint32_t ref, uint32_t hash)
{
    struct sb_trie_table table = table_now(t);
    uint32_t *slots = table_slots(t, &table);
    uint32_t i = hash;
    while (sb_load_relaxed(&slots[i & table.mask]) != sb_trie_slot(ref, hash))
        i++;
    sb_store_relaxed(&slots[i & table.mask], SB_TRIE_STALE);
    t->live--;
    t->stale++;
    if (sb_load_relaxed(&slots[(i + 1) & table.mask]) != SB_TRIE_EMPTY)
        return;
    for (; sb_load_relaxed(&slots[i & table.mask]) == SB_TRIE_STALE; i--) {
        sb_store_relaxed(&slots[i & table.mask], SB_TRIE_EMPTY);
        t->stale--;
    }
}

static uint32_t node_hash(uint32_t seed, const struct sb_trie_node *node)
{
    struct sb_trie_token token = {(const uint8_t *)node->token, node->token_len, 0};
    return sb_trie_hash(seed, node->parent, &token);
}

/* Fills an empty table with the nodes of the old one, whose hashes change if the seed does. */
static void table_refill(struct sb_trie *t, const struct sb_trie_table *from,
                         const struct sb_trie_table *to)
{
    const uint32_t *old = table_slots(t, from);
    uint32_t *slots = table_slots(t, to);
    uint32_t none = 0;
    for (uint64_t i = 0; i <= to->mask; i++)
        sb_store_relaxed(&slots[i], SB_TRIE_EMPTY);
    for (uint64_t i = 0; i <= from->mask; i++) {
        uint32_t ahead = sb_load_relaxed(&old[(i + 8) & from->mask]) & SB_TRIE_REF_MAX;
        __builtin_prefetch(node_of(t, ahead));
        uint32_t ref = sb_load_relaxed(&old[i]) & SB_TRIE_REF_MAX;
        if (ref <= SB_TRIE_STALE)
            continue;
        struct sb_trie_node *node = node_of(t, ref);
        if (from->seed != to->seed)
            sb_store_relaxed(&node->hash, node_hash(to->seed, node));
        slot_put(slots, to->mask, ref, node->hash, &none);
    }
}

/* Replaces the table by one of 2^log2 slots. Failures of sb_slab_alloc. */
static int table_rebuild(struct sb_trie *t, unsigned log2, uint32_t seed)
{
    struct sb_trie_table old = table_now(t);
    uint64_t offset;
    int rc = sb_slab_alloc(t->slab, (uint64_t)4 << log2, &offset);
    if (rc < 0)
        return rc;
    uint64_t word = sb_trie_table_word((uint32_t)(offset / 16), seed, log2);
    struct sb_trie_table table = sb_trie_table_of(word);
    table_refill(t, &old, &table);
    /* The table's content first; pairs with the load in sb_trie_query_init. */
    sb_store_release(&t->root->table, word);
    t->stale = 0;
    sb_slab_retire(t->slab, old.offset, table_size(&old));
    return 0;
}

/* Makes room for n more nodes. */
static int table_reserve(struct sb_trie *t, unsigned n)
{
    struct sb_trie_table table = table_now(t);
    if (!is_full(&table, (uint64_t)t->live + t->stale + n))
        return 0;
    unsigned log2 = table_log2((uint64_t)t->live + n);
    if (log2 > SB_TRIE_REF_BITS)
        return sb_fail(SHMBUS_E_LIMIT, "%u tokens in all topics; no more fit", t->live);
    return table_rebuild(t, log2, table.seed);
}

/* Gives memory back when an eighth of the table is enough. A larger table than needed is no error,
 * so that a failure is none either. */
static void table_shrink(struct sb_trie *t)
{
    struct sb_trie_table table = table_now(t);
    unsigned log2 = table_log2(t->live);
    if ((uint64_t)t->live * 8 < (uint64_t)table.mask + 1 && (1u << log2) <= table.mask)
        (void)!table_rebuild(t, log2, table.seed);
}

static int node_alloc(struct sb_trie *t, const struct sb_trie_token *token, uint32_t *ref)
{
    uint64_t offset;
    size_t size = node_size(token->len);
    int rc = sb_slab_alloc(t->slab, size, &offset);
    if (rc < 0)
        return rc;
    if (offset / 16 > SB_TRIE_REF_MAX) {
        sb_slab_free(t->slab, offset, size);
        return sb_fail(SHMBUS_E_LIMIT, "topics fill the first 4 GiB of the arena; no more fit");
    }
    struct sb_trie_node *node = node_of(t, (uint32_t)(offset / 16));
    sb_store_relaxed(&node->value, 0);
    sb_store_relaxed(&node->first_child, 0);
    sb_store_relaxed(&node->wild, 0);
    sb_store_relaxed(&node->token_len, (uint16_t)token->len);
    sb_arena_string_store(node->token, token->bytes, token->len);
    *ref = (uint32_t)(offset / 16);
    return 0;
}

static uint16_t wild_bit(const struct sb_trie_node *node)
{
    uint8_t type = node->token_len == 1 ? *(const uint8_t *)node->token : 0;
    return type == SB_TOKEN_SINGLE ? SB_TRIE_SINGLE : type == SB_TOKEN_MULTI ? SB_TRIE_MULTI : 0;
}

/* Puts a fresh node below its parent; returns the length of its chain in the table. */
static uint32_t node_link(struct sb_trie *t, uint32_t parent_ref, uint32_t ref)
{
    struct sb_trie_node *parent = node_of(t, parent_ref);
    struct sb_trie_node *node = node_of(t, ref);
    struct sb_trie_table table = table_now(t);
    sb_store_relaxed(&node->parent, parent_ref);
    sb_store_relaxed(&node->hash, node_hash(table.seed, node));
    sb_store_relaxed(&node->prev, 0);
    sb_store_relaxed(&node->next, parent->first_child);
    if (node->next != 0)
        sb_store_relaxed(&node_of(t, node->next)->prev, ref);
    uint32_t chain = slot_put(table_slots(t, &table), table.mask, ref, node->hash, &t->stale);
    t->live++;
    sb_store_relaxed(&t->root->nodes, t->live);
    /* Both pair with the loads of visit_pattern_node and visit_topic_node: the node is complete. */
    sb_store_release(&parent->first_child, ref);
    sb_store_release(&parent->wild, parent->wild | wild_bit(node));
    return chain;
}

/* Takes a node without children out and retires it; its own `next` stays for who stands on it. */
static void node_unlink(struct sb_trie *t, uint32_t ref)
{
    struct sb_trie_node *node = node_of(t, ref);
    struct sb_trie_node *parent = node_of(t, node->parent);
    sb_store_relaxed(&parent->wild, parent->wild & ~wild_bit(node));
    slot_remove(t, ref, node->hash);
    sb_store_relaxed(&t->root->nodes, t->live);
    /* Release: whoever comes past to the next node must find it complete. */
    if (node->prev == 0)
        sb_store_release(&parent->first_child, node->next);
    else
        sb_store_release(&node_of(t, node->prev)->next, node->next);
    if (node->next != 0)
        sb_store_relaxed(&node_of(t, node->next)->prev, node->prev);
    sb_slab_retire(t->slab, sb_trie_offset(ref), node_size(node->token_len));
}

int sb_trie_init(struct sb_trie *t, struct sb_trie_root *root, uint8_t *base, struct sb_slab *slab)
{
    struct sb_trie made = {.root = root, .base = base, .slab = slab};
    const struct sb_trie_token empty = {(const uint8_t *)"", 0, 0};
    uint64_t offset;
    int rc = sb_slab_alloc(slab, (uint64_t)4 << TABLE_LOG2_MIN, &offset);
    if (rc < 0)
        return rc;
    uint64_t word = sb_trie_table_word((uint32_t)(offset / 16), new_seed(), TABLE_LOG2_MIN);
    struct sb_trie_table table = sb_trie_table_of(word);
    rc = node_alloc(&made, &empty, &root->top);
    if (rc < 0) {
        sb_slab_free(slab, offset, table_size(&table));
        return rc;
    }
    for (uint32_t i = 0; i <= table.mask; i++)
        sb_store_relaxed(&table_slots(&made, &table)[i], SB_TRIE_EMPTY);
    sb_store_relaxed(&root->nodes, 0);
    sb_store_release(&root->table, word);
    *t = made;
    return 0;
}

/* The refs of a key's nodes as far as they exist, the top first; returns how many tokens. */
static unsigned walk(const struct sb_trie *t, const struct sb_trie_path *path,
                     uint32_t refs[SB_TOPIC_TOKENS_MAX + 1])
{
    struct sb_trie_reader reader = sb_trie_writer_view(t);
    struct sb_trie_query q;
    refs[0] = t->root->top;
    unsigned n = 0;
    if (sb_trie_query_init(&q, &reader) == 0)
        while (n < path->count && sb_trie_child(&q, refs[n], &path->token[n], &refs[n + 1]) == 0)
            n++;
    return n;
}

/* Adds the nodes that a key lacks from the given depth on. All of them, or none. */
static int extend(struct sb_trie *t, const struct sb_trie_path *path, unsigned depth,
                  uint32_t refs[SB_TOPIC_TOKENS_MAX + 1])
{
    int rc = table_reserve(t, path->count - depth);
    unsigned made = depth;
    for (; rc == 0 && made < path->count; made += rc == 0)
        rc = node_alloc(t, &path->token[made], &refs[made + 1]);
    if (rc < 0) {
        for (; made > depth; made--)
            sb_slab_free(t->slab, sb_trie_offset(refs[made]), node_size(path->token[made - 1].len));
        return rc;
    }
    uint32_t longest = 0;
    for (unsigned i = depth; i < path->count; i++) {
        uint32_t chain = node_link(t, refs[i], refs[i + 1]);
        longest = chain > longest ? chain : longest;
    }
    /* Somebody chose topics that collide. With another seed they do not; without memory for a new
     * table this one is still right. */
    struct sb_trie_table table = table_now(t);
    if (longest > CHAIN_MAX)
        (void)!table_rebuild(t, sb_log2_ceil((uint64_t)table.mask + 1), new_seed());
    return 0;
}

int sb_trie_put(struct sb_trie *t, const uint8_t *key, size_t len, uint64_t value, uint32_t *node)
{
    struct sb_trie_path path;
    uint32_t refs[SB_TOPIC_TOKENS_MAX + 1];
    assert(value != 0);
    if (!sb_trie_split(&path, key, len))
        return sb_fail(SHMBUS_E_INVALID, "%zu bytes that are no encoded topic", len);
    unsigned depth = walk(t, &path, refs);
    int rc = depth < path.count ? extend(t, &path, depth, refs) : 0;
    if (rc < 0)
        return rc;
    /* From here on the key is there; what the value stands for first. Pairs with the readers'. */
    sb_store_release(&node_of(t, refs[path.count])->value, value);
    if (node != NULL)
        *node = refs[path.count];
    return 0;
}

uint64_t sb_trie_remove(struct sb_trie *t, const uint8_t *key, size_t len)
{
    struct sb_trie_path path;
    uint32_t refs[SB_TOPIC_TOKENS_MAX + 1];
    if (!sb_trie_split(&path, key, len) || walk(t, &path, refs) < path.count)
        return 0;
    struct sb_trie_node *node = node_of(t, refs[path.count]);
    uint64_t value = node->value;
    sb_store_relaxed(&node->value, 0);
    for (unsigned depth = path.count; depth > 0; depth--) {
        node = node_of(t, refs[depth]);
        if (node->value != 0 || node->first_child != 0)
            break;
        node_unlink(t, refs[depth]);
    }
    table_shrink(t);
    return value;
}

struct sb_trie_reader sb_trie_writer_view(const struct sb_trie *t)
{
    struct sb_trie_reader r = {.arena = {t->base, sb_slab_size(t->slab)}, .root = t->root};
    return r;
}
