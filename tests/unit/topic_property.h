/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds of any bytes taken as an encoded topic, as text, or as two topics. One property for
 * the unit test, which feeds it random topics, and the fuzz target, which feeds it anything.
 *
 * Each function returns NULL, or the condition that does not hold.
 */
#ifndef TEST_TOPIC_PROPERTY_H
#define TEST_TOPIC_PROPERTY_H

#include <stdlib.h>
#include <string.h>

#include "proto/topic.h"
#include "unit/topic_oracle.h"

#define TOPIC_HOLDS(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return #condition;                                                                     \
    } while (0)

static inline void topic_free_memory(void **memory)
{
    free(*memory);
}

/* Whether topic is encoded as these bytes. */
static inline bool topic_encodes_to(struct shmbus_topic topic, enum sb_topic_as as,
                                    const struct sb_wildcards *w, const void *bytes, size_t len)
{
    uint8_t out[SB_TOPIC_MAX];
    size_t out_len;
    return sb_topic_encode(topic, as, w, out, sizeof(out), &out_len) == 0 && out_len == len &&
           !memcmp(out, bytes, len);
}

static inline bool topic_is_plain_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= 0x20 || text[i] == 0x7f)
            return false;
    return len > 0 && strlen(text) == len;
}

/* Tokens and text of valid bytes lead back to the same bytes. */
static inline const char *topic_decoded_holds(const uint8_t *bytes, size_t len, enum sb_topic_as as,
                                              const struct sb_wildcards *w)
{
    struct shmbus_topic_view view;
    size_t needed;
    TOPIC_HOLDS(sb_topic_decode(bytes, len, as, w, NULL, 0, &needed, &view) == 0);
    SB_CLEANUP(topic_free_memory) void *memory = malloc(needed);
    TOPIC_HOLDS(sb_topic_decode(bytes, len, as, w, memory, needed - 1, NULL, &view) ==
                SHMBUS_E_LIMIT);
    TOPIC_HOLDS(sb_topic_decode(bytes, len, as, w, memory, needed, NULL, &view) == 0);
    TOPIC_HOLDS(view.encoded_len == len && !memcmp(view.encoded, bytes, len));
    TOPIC_HOLDS(topic_is_plain_text(view.text, view.text_len));
    TOPIC_HOLDS(topic_encodes_to(shmbus_tokens(view.tokens, view.count), as, w, bytes, len));
    TOPIC_HOLDS(topic_encodes_to(shmbus_text(view.text), as, w, bytes, len));
    if (as == SB_TOPIC_PATTERN)
        return NULL;
    for (size_t i = 0; i < view.count; i++)
        TOPIC_HOLDS(!view.tokens[i].literal);
    TOPIC_HOLDS(topic_encodes_to(shmbus_text(view.text), SB_TOPIC_STRICT, w, bytes, len));
    TOPIC_HOLDS(topic_encodes_to(shmbus_text(view.text), SB_TOPIC_PATTERN, w, bytes, len));
    return NULL;
}

/* Any bytes are refused or are the only encoding of what they decode to. */
static inline const char *topic_encoded_holds(const uint8_t *bytes, size_t len,
                                              const struct sb_wildcards *w)
{
    const uint8_t *at = bytes;
    const uint8_t *token;
    size_t token_len;
    size_t steps = 0;
    int type;
    while ((type = sb_topic_next(&at, bytes + len, &token, &token_len)) > 0) {
        TOPIC_HOLDS(type == token[0] && at == token + token_len && at <= bytes + len);
        steps++;
    }
    bool concrete = sb_topic_check(bytes, len, false) == 0;
    bool pattern = sb_topic_check(bytes, len, true) == 0;
    TOPIC_HOLDS(pattern || !concrete);
    if (!pattern) {
        struct shmbus_topic_view view;
        TOPIC_HOLDS(sb_topic_decode(bytes, len, SB_TOPIC_PATTERN, w, NULL, 0, NULL, &view) ==
                    SHMBUS_E_INVALID);
        return NULL;
    }
    TOPIC_HOLDS(type == 0 && steps >= 1 && steps <= SHMBUS_TOPIC_TOKENS_MAX);
    const char *broken = topic_decoded_holds(bytes, len, SB_TOPIC_PATTERN, w);
    if (!broken && concrete)
        broken = topic_decoded_holds(bytes, len, SB_TOPIC_CONCRETE, w);
    return broken;
}

/* A pattern is kept as it was given. */
static inline const char *topic_copied_holds(const char *text, const struct sb_wildcards *w,
                                             const uint8_t *bytes, size_t len)
{
    struct shmbus_topic_view view;
    size_t needed;
    TOPIC_HOLDS(sb_topic_copy(shmbus_text(text), w, NULL, 0, &needed, &view) == 0);
    SB_CLEANUP(topic_free_memory) void *memory = malloc(needed);
    TOPIC_HOLDS(sb_topic_copy(shmbus_text(text), w, memory, needed, NULL, &view) == 0);
    TOPIC_HOLDS(!strcmp(view.text, text) && view.text_len == strlen(text));
    TOPIC_HOLDS(view.encoded_len == len && !memcmp(view.encoded, bytes, len));
    TOPIC_HOLDS(
        topic_encodes_to(shmbus_tokens(view.tokens, view.count), SB_TOPIC_PATTERN, w, bytes, len));
    return NULL;
}

/* Any text is refused, or read as topics that hold. */
static inline const char *topic_text_holds(const char *text, const struct sb_wildcards *w)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    const char *broken = NULL;
    struct shmbus_topic topic = shmbus_text(text);
    bool read = sb_topic_encode(topic, SB_TOPIC_CONCRETE, w, bytes, sizeof(bytes), &len) == 0;
    if (read) {
        TOPIC_HOLDS(sb_topic_check(bytes, len, false) == 0);
        broken = topic_encoded_holds(bytes, len, w);
    }
    bool strict = sb_topic_encode(topic, SB_TOPIC_STRICT, w, bytes, sizeof(bytes), &len) == 0;
    if (strict) {
        TOPIC_HOLDS(topic_encodes_to(topic, SB_TOPIC_CONCRETE, w, bytes, len));
        TOPIC_HOLDS(topic_encodes_to(topic, SB_TOPIC_PATTERN, w, bytes, len));
    }
    bool pattern = sb_topic_encode(topic, SB_TOPIC_PATTERN, w, bytes, sizeof(bytes), &len) == 0;
    TOPIC_HOLDS(read || (!strict && !pattern));
    if (broken || !pattern)
        return broken;
    TOPIC_HOLDS(sb_topic_check(bytes, len, true) == 0);
    broken = topic_encoded_holds(bytes, len, w);
    return broken ? broken : topic_copied_holds(text, w, bytes, len);
}

/* Of any two encoded topics the match and the order are what the oracle says of their tokens. */
static inline const char *topic_pair_holds(const uint8_t *a, size_t a_len, const uint8_t *b,
                                           size_t b_len, const struct sb_wildcards *w)
{
    struct shmbus_topic_view left, right;
    size_t left_size, right_size;
    bool matches = sb_topic_match(a, a_len, b, b_len);
    int order = sb_topic_compare(a, a_len, b, b_len);
    if (sb_topic_decode(a, a_len, SB_TOPIC_PATTERN, w, NULL, 0, &left_size, &left) ||
        sb_topic_decode(b, b_len, SB_TOPIC_CONCRETE, w, NULL, 0, &right_size, &right))
        return NULL;
    SB_CLEANUP(topic_free_memory) void *left_memory = malloc(left_size);
    SB_CLEANUP(topic_free_memory) void *right_memory = malloc(right_size);
    TOPIC_HOLDS(
        !sb_topic_decode(a, a_len, SB_TOPIC_PATTERN, w, left_memory, left_size, NULL, &left));
    TOPIC_HOLDS(
        !sb_topic_decode(b, b_len, SB_TOPIC_CONCRETE, w, right_memory, right_size, NULL, &right));
    TOPIC_HOLDS(matches == oracle_match(left.tokens, left.count, right.tokens, right.count, w));
    if (sb_topic_check(a, a_len, false))
        return NULL;
    int expected = oracle_order(left.tokens, left.count, right.tokens, right.count);
    TOPIC_HOLDS((order > 0) - (order < 0) == expected);
    TOPIC_HOLDS(matches == (expected == 0));
    return NULL;
}

/* All of it, of data: a byte that chooses wildcards, a byte that says where two topics part, and
 * their bytes, which are also taken as text up to a NUL. */
static inline const char *topic_property(const uint8_t *data, size_t size)
{
    static const char *const wildcards[][2] = {{"+", "#"}, {"*", "**"}, {"→", "a"}, {"#", "+"}};
    struct sb_wildcards w;
    if (size < 2)
        return NULL;
    const char *const *chosen = wildcards[data[0] % sb_array_len(wildcards)];
    TOPIC_HOLDS(!sb_wildcards_init(&w, chosen[0], strlen(chosen[0]), chosen[1], strlen(chosen[1])));
    const uint8_t *bytes = data + 2;
    size_t len = size - 2;
    size_t half = len ? data[1] % len : 0;

    SB_CLEANUP(topic_free_memory) void *copy = malloc(len + 1);
    char *text = copy;
    memcpy(text, bytes, len);
    text[len] = '\0';
    const char *broken = topic_text_holds(text, &w);
    if (!broken)
        broken = topic_encoded_holds(bytes, len, &w);
    if (!broken)
        broken = topic_pair_holds(bytes, half, bytes + half, len - half, &w);

    uint8_t a[SB_TOPIC_MAX], b[SB_TOPIC_MAX];
    size_t a_len, b_len;
    struct shmbus_topic second = shmbus_text(text + half);
    if (!broken && !sb_topic_encode(second, SB_TOPIC_CONCRETE, &w, b, sizeof(b), &b_len)) {
        text[half] = '\0';
        if (!sb_topic_encode(shmbus_text(text), SB_TOPIC_PATTERN, &w, a, sizeof(a), &a_len))
            broken = topic_pair_holds(a, a_len, b, b_len, &w);
    }
    return broken;
}

#endif
