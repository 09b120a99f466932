/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers' side of tries. Nothing here trusts the arena: a pin may break at any moment, and
 * then every word may be anything. So each offset is checked, each loop is bounded, each access is
 * a single atomic load, and depth is limited by stacks of fixed size.
 */
#include "shm/trie_node.h"

#define CHECK_EVERY 256u /* steps between looks at the pin */

bool sb_trie_split(struct sb_trie_path *path, const uint8_t *key, size_t len)
{
    const uint8_t *at = key;
    unsigned n = 0;
    for (;;) {
        const uint8_t *bytes;
        size_t token_len;
        int type = sb_topic_next(&at, key + len, &bytes, &token_len);
        if (type <= 0) {
            path->count = n;
            return type == 0 && n > 0;
        }
        if (n == SB_TOPIC_TOKENS_MAX || token_len > SB_TOKEN_MAX)
            return false;
        path->token[n++] = (struct sb_trie_token){bytes, (uint32_t)token_len, type};
    }
}

/* Folds the 128-bit product: each bit of both factors reaches all bits of the result. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint32_t sb_trie_hash(uint32_t seed, uint32_t parent, const struct sb_trie_token *token)
{
    /* Odd constants without structure: fractional digits of the square roots of 2 and 3. */
    uint64_t h = mix(((uint64_t)seed << 32 | parent) ^ 0x6a09e667f3bcc909ull,
                     token->len ^ 0xbb67ae8584caa73bull);
    for (size_t i = 0; i < token->len; i += 8)
        h = mix(h ^ sb_arena_word(token->bytes + i, token->len - i), 0xbb67ae8584caa73bull);
    return (uint32_t)(h ^ h >> 32);
}

int sb_trie_query_init(struct sb_trie_query *q, const struct sb_trie_reader *r)
{
    /* Pairs with the release store of the table in trie.c: what is in it is complete. */
    struct sb_trie_table table = sb_trie_table_of(sb_load_acquire(&r->root->table));
    q->arena = r->arena;
    q->pin = r->pin;
    q->slots = sb_arena_at(r->arena, table.offset, ((uint64_t)table.mask + 1) * 4);
    q->seed = table.seed;
    q->mask = table.mask;
    q->steps = 0;
    return q->slots != NULL ? 0 : SB_TRIE_TORN;
}

/* Counts a step; false when it makes no sense to go on. */
static bool step(struct sb_trie_query *q)
{
    return ++q->steps % CHECK_EVERY != 0 || q->pin == NULL || !sb_epoch_is_broken(q->pin);
}

/* A node, its token not yet checked, or NULL. */
static const struct sb_trie_node *node_at(const struct sb_trie_query *q, uint32_t ref)
{
    return ref == 0 ? NULL
                    : sb_arena_at(q->arena, sb_trie_offset(ref), sizeof(struct sb_trie_node));
}

/* A node's token of this length, or NULL. */
static const uint64_t *token_at(struct sb_region arena, const struct sb_trie_node *node, size_t len)
{
    uint64_t offset = (uint64_t)((const uint8_t *)node->token - arena.base);
    return sb_arena_at(arena, offset, sb_arena_string_size(len));
}

static bool is_child(const struct sb_trie_query *q, const struct sb_trie_node *node,
                     uint32_t parent, const struct sb_trie_token *token)
{
    if (sb_load_relaxed(&node->parent) != parent || sb_load_relaxed(&node->token_len) != token->len)
        return false;
    const uint64_t *bytes = token_at(q->arena, node, token->len);
    return bytes != NULL && sb_arena_string_equal(bytes, token->bytes, token->len);
}

int sb_trie_child(struct sb_trie_query *q, uint32_t parent, const struct sb_trie_token *token,
                  uint32_t *ref)
{
    uint32_t hash = sb_trie_hash(q->seed, parent, token);
    for (uint64_t i = 0; i <= q->mask; i++) {
        /* Pairs with the release store of the slot: the node's fixed fields are there. */
        uint32_t slot = sb_load_acquire(&q->slots[(hash + i) & q->mask]);
        if (slot == SB_TRIE_EMPTY)
            break;
        if (!step(q))
            return SB_TRIE_TORN;
        if (slot == SB_TRIE_STALE || (slot ^ hash) > SB_TRIE_REF_MAX)
            continue;
        const struct sb_trie_node *node = node_at(q, slot & SB_TRIE_REF_MAX);
        if (node == NULL)
            return SB_TRIE_TORN;
        if (is_child(q, node, parent, token)) {
            *ref = slot & SB_TRIE_REF_MAX;
            return 0;
        }
    }
    return SB_TRIE_ABSENT;
}

int sb_trie_find(const struct sb_trie_reader *r, const uint8_t *key, size_t len, uint64_t *value,
                 uint32_t *node)
{
    struct sb_trie_query q;
    struct sb_trie_path path;
    if (!sb_trie_split(&path, key, len))
        return SB_TRIE_ABSENT;
    int rc = sb_trie_query_init(&q, r);
    uint32_t ref = sb_load_relaxed(&r->root->top);
    for (unsigned i = 0; rc == 0 && i < path.count; i++)
        rc = sb_trie_child(&q, ref, &path.token[i], &ref);
    if (rc != 0)
        return rc;
    const struct sb_trie_node *found = node_at(&q, ref);
    if (found == NULL)
        return SB_TRIE_TORN;
    uint64_t v = sb_load_acquire(&found->value); /* pairs with the store in sb_trie_put */
    if (v == 0)
        return SB_TRIE_ABSENT;
    *value = v;
    if (node != NULL)
        *node = ref;
    return 0;
}

/* What a match works with. */
struct match {
    struct sb_trie_query query;
    struct sb_trie_path path;
    sb_trie_visit *visit;
    void *ctx;
    uint64_t budget; /* nodes that can still be visited: as many as fit in the arena */
};

/* The bytes come checked; others have no tokens, and so match nothing. */
static int match_init(struct match *m, const struct sb_trie_reader *r, const uint8_t *key,
                      size_t len, sb_trie_visit *visit, void *ctx)
{
    if (!sb_trie_split(&m->path, key, len))
        return SB_TRIE_ABSENT;
    m->visit = visit;
    m->ctx = ctx;
    m->budget = r->arena.size / sizeof(struct sb_trie_node);
    return sb_trie_query_init(&m->query, r);
}

/* Comes to a node, once in a match: NULL if this is no node, or makes no sense any more. */
static const struct sb_trie_node *enter(struct match *m, uint32_t ref)
{
    if (m->budget == 0 || !step(&m->query))
        return NULL;
    m->budget--;
    return node_at(&m->query, ref);
}

/* Hands out the key that ends at a node, if one does. 0 or SB_TRIE_STOPPED. */
static int report(const struct match *m, const struct sb_trie_node *node, uint32_t ref)
{
    uint64_t value = sb_load_acquire(&node->value); /* pairs with the store in sb_trie_put */
    return value == 0 || m->visit(m->ctx, value, ref) ? 0 : SB_TRIE_STOPPED;
}

/* A node of a pattern trie and how many tokens of the key led to it. */
struct place {
    uint32_t ref;
    uint32_t depth;
};

/* Every node leaves at most one place behind for later at its depth, and the last two. */
struct places {
    unsigned count;
    struct place place[SB_TOPIC_TOKENS_MAX + 2];
};

/* Notes the child by this token, if there is one, to be visited. 0 or SB_TRIE_TORN. */
static int push_child(struct match *m, struct places *todo, struct place from,
                      const struct sb_trie_token *token)
{
    uint32_t child;
    int rc = sb_trie_child(&m->query, from.ref, token, &child);
    if (rc == 0)
        todo->place[todo->count++] = (struct place){child, from.depth + 1};
    return rc == SB_TRIE_ABSENT ? 0 : rc;
}

static const struct sb_trie_token single = {(const uint8_t[]){SB_TOKEN_SINGLE}, 1, SB_TOKEN_SINGLE};
static const struct sb_trie_token multi = {(const uint8_t[]){SB_TOKEN_MULTI}, 1, SB_TOKEN_MULTI};

/* A pattern that ends in the wildcard for any number of tokens, after those that led here. */
static int report_multi(struct match *m, uint32_t parent)
{
    uint32_t ref;
    int rc = sb_trie_child(&m->query, parent, &multi, &ref);
    if (rc != 0)
        return rc == SB_TRIE_ABSENT ? 0 : rc;
    const struct sb_trie_node *node = node_at(&m->query, ref);
    return node == NULL ? SB_TRIE_TORN : report(m, node, ref);
}

static int visit_pattern_node(struct match *m, struct places *todo, struct place at)
{
    const struct sb_trie_node *node = enter(m, at.ref);
    if (node == NULL)
        return SB_TRIE_TORN;
    uint16_t wild = sb_load_acquire(&node->wild); /* pairs with the store in node_link */
    int rc = wild & SB_TRIE_MULTI ? report_multi(m, at.ref) : 0;
    if (rc != 0)
        return rc;
    if (at.depth == m->path.count)
        return report(m, node, at.ref);
    rc = wild & SB_TRIE_SINGLE ? push_child(m, todo, at, &single) : 0;
    return rc == 0 ? push_child(m, todo, at, &m->path.token[at.depth]) : rc;
}

int sb_trie_match_patterns(const struct sb_trie_reader *r, const uint8_t *key, size_t len,
                           sb_trie_visit *visit, void *ctx)
{
    struct match m;
    int rc = match_init(&m, r, key, len, visit, ctx);
    if (rc != 0)
        return rc == SB_TRIE_ABSENT ? 0 : rc;
    struct places todo = {.count = 1};
    todo.place[0] = (struct place){sb_load_relaxed(&r->root->top), 0};
    while (rc == 0 && todo.count > 0) {
        struct place at = todo.place[--todo.count];
        rc = visit_pattern_node(&m, &todo, at);
    }
    return rc;
}

/* Whether the children at this depth are taken all, or only the one with the pattern's token. */
static bool takes_all(const struct match *m, unsigned depth, unsigned multi_at)
{
    return depth >= multi_at || m->path.token[depth].type == SB_TOKEN_SINGLE;
}

/*
 * Comes to a node of a topic trie at some depth: reports it if the pattern ends there, and finds
 * the first of its children that the pattern lets through; 0 if none.
 */
static int visit_topic_node(struct match *m, uint32_t ref, unsigned depth, unsigned multi_at,
                            uint32_t *first)
{
    const struct sb_trie_node *node = enter(m, ref);
    if (node == NULL)
        return SB_TRIE_TORN;
    *first = 0;
    if (depth >= multi_at || depth == m->path.count) {
        int rc = report(m, node, ref);
        if (rc != 0 || (depth == m->path.count && depth < multi_at))
            return rc;
    }
    if (takes_all(m, depth, multi_at)) {
        *first = sb_load_acquire(&node->first_child); /* pairs with node_link */
        return 0;
    }
    int rc = sb_trie_child(&m->query, ref, &m->path.token[depth], first);
    return rc == SB_TRIE_ABSENT ? 0 : rc;
}

int sb_trie_match_topics(const struct sb_trie_reader *r, const uint8_t *pattern, size_t len,
                         sb_trie_visit *visit, void *ctx)
{
    struct match m;
    int rc = match_init(&m, r, pattern, len, visit, ctx);
    if (rc != 0)
        return rc == SB_TRIE_ABSENT ? 0 : rc;
    unsigned last = m.path.count - 1;
    unsigned multi_at = m.path.token[last].type == SB_TOKEN_MULTI ? last : UINT32_MAX;
    uint32_t next[SB_TOPIC_TOKENS_MAX + 1]; /* at each depth, the child to visit next */
    unsigned depth = 0;
    rc = visit_topic_node(&m, sb_load_relaxed(&r->root->top), 0, multi_at, &next[0]);
    while (rc == 0) {
        uint32_t ref = next[depth];
        if (ref == 0) {
            if (depth == 0)
                return 0;
            depth--;
            continue;
        }
        const struct sb_trie_node *node = node_at(&m.query, ref);
        if (node == NULL || depth == SB_TOPIC_TOKENS_MAX)
            return SB_TRIE_TORN;
        next[depth] = takes_all(&m, depth, multi_at) ? sb_load_acquire(&node->next) : 0;
        depth++;
        rc = visit_topic_node(&m, ref, depth, multi_at, &next[depth]);
    }
    return rc;
}

int sb_trie_key(const struct sb_trie_reader *r, uint32_t ref, uint8_t *buf, size_t capacity,
                size_t *len)
{
    const struct sb_trie_query q = {.arena = r->arena};
    const struct sb_trie_node *node[SB_TOPIC_TOKENS_MAX];
    uint32_t top = sb_load_relaxed(&r->root->top);
    unsigned n = 0;
    for (; ref != top; n++) {
        if (n == SB_TOPIC_TOKENS_MAX || (node[n] = node_at(&q, ref)) == NULL)
            return SB_TRIE_TORN;
        ref = sb_load_relaxed(&node[n]->parent);
    }
    size_t used = 0;
    while (n-- > 0) {
        size_t token_len = sb_load_relaxed(&node[n]->token_len);
        const uint64_t *token = token_at(r->arena, node[n], token_len);
        if (token == NULL || token_len > capacity - used)
            return SB_TRIE_TORN;
        sb_arena_string_load(buf + used, token, token_len);
        used += token_len;
    }
    *len = used;
    return 0;
}
