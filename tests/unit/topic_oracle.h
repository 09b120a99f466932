/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics, matched and ordered as the contract words it (T2, T5), over tokens and without regard to
 * speed: what proto/topic and the tries are compared with. Shares no code with them. And random
 * topics and patterns that are likely to meet.
 */
#ifndef TEST_TOPIC_ORACLE_H
#define TEST_TOPIC_ORACLE_H

#include <float.h>
#include <stdbool.h>
#include <string.h>

#include <shmbus/topic.h>

#include "base/compiler.h"
#include "proto/topic.h"

/* A long double holds every int64_t and every double. */
_Static_assert(LDBL_MANT_DIG >= 64, "the oracle needs an exact type");

static inline int oracle_order_tokens(const struct shmbus_token *a, const struct shmbus_token *b)
{
    bool a_string = a->kind == SHMBUS_STRING;
    bool b_string = b->kind == SHMBUS_STRING;
    if (a_string != b_string)
        return a_string - b_string;
    if (!a_string) {
        long double x = a->kind == SHMBUS_INT ? (long double)a->integer : a->real;
        long double y = b->kind == SHMBUS_INT ? (long double)b->integer : b->real;
        return (x > y) - (x < y);
    }
    for (uint32_t i = 0; i < a->len && i < b->len; i++) {
        unsigned char x = (unsigned char)a->str[i];
        unsigned char y = (unsigned char)b->str[i];
        if (x != y)
            return (x > y) - (x < y);
    }
    return (a->len > b->len) - (a->len < b->len);
}

/* -1, 0 or 1: the order T5 of two concrete topics. */
static inline int oracle_order(const struct shmbus_token *a, size_t a_count,
                               const struct shmbus_token *b, size_t b_count)
{
    for (size_t i = 0; i < a_count && i < b_count; i++) {
        int order = oracle_order_tokens(&a[i], &b[i]);
        if (order)
            return order;
    }
    return (a_count > b_count) - (a_count < b_count);
}

static inline bool oracle_is(const struct shmbus_token *token, const char *wildcard, size_t len)
{
    return token->kind == SHMBUS_STRING && !token->literal && token->len == len &&
           !memcmp(token->str, wildcard, len);
}

/* Whether a pattern matches a concrete topic. */
static inline bool oracle_match(const struct shmbus_token *pattern, size_t pattern_count,
                                const struct shmbus_token *topic, size_t topic_count,
                                const struct sb_wildcards *w)
{
    if (pattern_count == 0)
        return topic_count == 0;
    if (oracle_is(pattern, w->m, w->m_len)) {
        for (size_t n = 0; n <= topic_count; n++)
            if (oracle_match(pattern + 1, pattern_count - 1, topic + n, topic_count - n, w))
                return true;
        return false;
    }
    if (topic_count == 0)
        return false;
    if (!oracle_is(pattern, w->s, w->s_len) && oracle_order_tokens(pattern, topic))
        return false;
    return oracle_match(pattern + 1, pattern_count - 1, topic + 1, topic_count - 1, w);
}

/* Random numbers: xorshift64*; the state must not be 0. */
static inline uint64_t oracle_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Below n, which is not 0. */
static inline unsigned oracle_below(uint64_t *state, unsigned n)
{
    return (unsigned)((oracle_random(state) >> 32) % n);
}

/* A topic or pattern with the memory of its strings. */
struct oracle_topic {
    struct shmbus_token tokens[SHMBUS_TOPIC_TOKENS_MAX];
    size_t count;
    char bytes[SHMBUS_TOPIC_TOKENS_MAX][4];
};

static inline struct shmbus_topic oracle_as_topic(const struct oracle_topic *topic)
{
    return shmbus_tokens(topic->tokens, topic->count);
}

static inline struct shmbus_token oracle_random_number(uint64_t *state)
{
    static const double reals[] = {0.0,     -0.0,  0.5,    -0.5,    0x1p53,   -0x1p53, 0x1p63,
                                   -0x1p63, 1e300, -1e300, DBL_MAX, -DBL_MAX, 5e-324,  0x1p64};
    int64_t integer = (int64_t)(oracle_random(state) >> oracle_below(state, 64));
    uint64_t bits = oracle_random(state);
    double real;
    switch (oracle_below(state, 6)) {
    case 0:
        return shmbus_token_real(reals[oracle_below(state, sb_array_len(reals))]);
    case 1:
        memcpy(&real, &bits, sizeof(real));
        return shmbus_token_real(__builtin_isfinite(real) ? real : 0.25);
    case 2: /* near the largest integers and where doubles lose their last bits */
        integer = (INT64_C(1) << (53 + oracle_below(state, 10))) - 3 + oracle_below(state, 7);
        return shmbus_token_num(oracle_below(state, 2) ? integer : -integer);
    case 3:
        return shmbus_token_num(oracle_below(state, 2) ? integer : -integer);
    case 4:
        return shmbus_token_real((double)integer);
    default:
        return shmbus_token_num((int64_t)oracle_below(state, 5) - 2);
    }
}

/* A string of few bytes of few kinds, at bytes. */
static inline struct shmbus_token oracle_random_string(uint64_t *state, char bytes[4])
{
    static const char alphabet[] = "aab+#\0\x01\xff\xc3\xa9/\\= x";
    unsigned len = oracle_below(state, 8) ? oracle_below(state, 3) : oracle_below(state, 5);
    for (unsigned i = 0; i < len; i++)
        bytes[i] = alphabet[oracle_below(state, sizeof(alphabet) - 1)];
    return shmbus_token_bytes(bytes, len);
}

/* A topic of 1..max_tokens tokens, none literal; `+` and `#` stand for themselves. */
static inline void oracle_random_topic(uint64_t *state, struct oracle_topic *topic, unsigned max)
{
    topic->count = 1 + oracle_below(state, max);
    for (size_t i = 0; i < topic->count; i++)
        topic->tokens[i] = oracle_below(state, 4) == 0
                               ? oracle_random_number(state)
                               : oracle_random_string(state, topic->bytes[i]);
}

/*
 * A pattern that often matches topic: some tokens changed, some of them wildcards, perhaps a `#` in
 * place of the end. Points into topic, to w and to its own memory.
 */
static inline void oracle_random_pattern(uint64_t *state, const struct oracle_topic *topic,
                                         const struct sb_wildcards *w, struct oracle_topic *pattern)
{
    pattern->count = topic->count;
    for (size_t i = 0; i < topic->count; i++) {
        unsigned change = oracle_below(state, 12);
        pattern->tokens[i] = topic->tokens[i];
        pattern->tokens[i].literal = 1;
        if (change < 4)
            pattern->tokens[i] = shmbus_token_bytes(w->s, w->s_len);
        else if (change == 4)
            pattern->tokens[i] =
                shmbus_token_literal(oracle_random_string(state, pattern->bytes[i]));
        else if (change == 5)
            pattern->tokens[i] = oracle_random_number(state);
    }
    unsigned ending = oracle_below(state, 4);
    if (ending == 0)
        pattern->count = 1 + oracle_below(state, (unsigned)topic->count);
    if (ending <= 1)
        pattern->tokens[pattern->count - 1] = shmbus_token_bytes(w->m, w->m_len);
    else if (ending == 2 && pattern->count < SHMBUS_TOPIC_TOKENS_MAX)
        pattern->tokens[pattern->count++] = shmbus_token_bytes(w->m, w->m_len);
}

#endif
