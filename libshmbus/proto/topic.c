/* SPDX-License-Identifier: Apache-2.0 */
/* Encoded topics: wildcards, checking, matching, order. */
#include "proto/topic.h"

#include "base/err.h"
#include "proto/topic_text.h"

const struct sb_wildcards sb_wildcards_default = {1, 1, "+", "#"};

static int check_wildcard(const char *what, const char *string, size_t len)
{
    if (len < 1 || len > SB_TOKEN_BYTES_MAX)
        return sb_fail(SHMBUS_E_INVALID,
                       "the wildcard for %s has %zu bytes; it is a string of 1 to %d", what, len,
                       SB_TOKEN_BYTES_MAX);
    char text[4 * SB_TOKEN_BYTES_MAX + 1];
    struct shmbus_token token = shmbus_token_bytes(string, len);
    struct sb_sink sink;
    sb_sink_init(&sink, text, sizeof(text));
    sb_text_put_token(&sink, &token, false);
    sb_sink_end(&sink);
    if (sink.len != len)
        return sb_fail(SHMBUS_E_INVALID,
                       "the wildcard for %s is written %.48s, and escapes make a token literal; "
                       "choose one without /, \\, spaces, control characters and a leading =",
                       what, text);
    return 0;
}

int sb_wildcards_init(struct sb_wildcards *w, const char *s, size_t s_len, const char *m,
                      size_t m_len)
{
    int rc = check_wildcard("one token", s, s_len);
    if (rc == 0)
        rc = check_wildcard("any number of tokens", m, m_len);
    if (rc)
        return rc;
    if (s_len == m_len && !memcmp(s, m, s_len))
        return sb_fail(SHMBUS_E_INVALID,
                       "%.*s is given as the wildcard for one token and for any number of tokens; "
                       "choose two different strings",
                       (int)s_len, s);
    struct sb_wildcards made = {.s_len = (uint16_t)s_len, .m_len = (uint16_t)m_len};
    memcpy(made.s, s, s_len);
    memcpy(made.m, m, m_len);
    *w = made;
    return 0;
}

static bool is_string(const struct shmbus_token *token, const char *s, size_t len)
{
    return token->len == len && !memcmp(token->str, s, len);
}

int sb_topic_token_type(const struct shmbus_token *token, const struct sb_wildcards *w)
{
    if (token->kind != SHMBUS_STRING)
        return SB_TOKEN_NUMBER;
    if (token->literal)
        return SB_TOKEN_STRING;
    if (is_string(token, w->s, w->s_len))
        return SB_TOKEN_SINGLE;
    return is_string(token, w->m, w->m_len) ? SB_TOKEN_MULTI : SB_TOKEN_STRING;
}

bool sb_topic_token(const uint8_t *encoded, size_t len, struct shmbus_token *token,
                    char bytes[SB_TOKEN_BYTES_MAX])
{
    if (encoded[0] == SB_TOKEN_NUMBER)
        return sb_number_get(encoded + 1, token);
    if (encoded[0] != SB_TOKEN_STRING)
        return false;
    size_t n = 0;
    for (size_t i = 1; i < len - 1; i++) {
        if (n == SB_TOKEN_BYTES_MAX)
            return false;
        bytes[n++] = (char)encoded[i];
        i += encoded[i] == 0; /* the FF of an escaped 00 */
    }
    *token = shmbus_token_bytes(bytes, n);
    return true;
}

int sb_topic_check(const uint8_t *bytes, size_t len, bool allow_wildcards)
{
    const uint8_t *at = bytes;
    const uint8_t *end = bytes + len;
    const uint8_t *encoded;
    size_t encoded_len;
    unsigned count = 0;
    int type;
    while ((type = sb_topic_next(&at, end, &encoded, &encoded_len)) > 0) {
        struct shmbus_token token;
        char string[SB_TOKEN_BYTES_MAX];
        if (++count > SB_TOPIC_TOKENS_MAX)
            return sb_fail(SHMBUS_E_INVALID, "an encoded topic has more than %d tokens",
                           SB_TOPIC_TOKENS_MAX);
        bool wildcard = type == SB_TOKEN_SINGLE || type == SB_TOKEN_MULTI;
        if (wildcard && !allow_wildcards)
            return sb_fail(SHMBUS_E_INVALID,
                           "token %u of an encoded topic is a wildcard; only patterns have them",
                           count);
        if (type == SB_TOKEN_MULTI && at != end)
            return sb_fail(SHMBUS_E_INVALID,
                           "token %u of an encoded pattern is the wildcard for any number of "
                           "tokens, which can only be the last",
                           count);
        if (!wildcard && !sb_topic_token(encoded, encoded_len, &token, string))
            return sb_fail(SHMBUS_E_INVALID,
                           "token %u of an encoded topic is neither a number in its only form nor "
                           "a string of at most %d bytes",
                           count, SB_TOKEN_BYTES_MAX);
    }
    if (type < 0 || count == 0)
        return sb_fail(SHMBUS_E_INVALID, "what follows token %u of an encoded topic is no token",
                       count);
    return 0;
}

/*
 * The bytes of a pattern's token are looked for at the topic's position without looking for the
 * end of the topic's token: that they are found and no FF follows (which would make the string's
 * terminator an escaped 00) means that the tokens are equal.
 */
bool sb_topic_match(const uint8_t *pattern, size_t pattern_len, const uint8_t *topic,
                    size_t topic_len)
{
    const uint8_t *pattern_end = pattern + pattern_len;
    const uint8_t *topic_end = topic + topic_len;
    const uint8_t *token, *other;
    size_t len, other_len;
    int type;
    while ((type = sb_topic_next(&pattern, pattern_end, &token, &len)) > 0) {
        if (type == SB_TOKEN_MULTI)
            return true;
        if (type == SB_TOKEN_SINGLE) {
            if (sb_topic_next(&topic, topic_end, &other, &other_len) <= 0)
                return false;
            continue;
        }
        if ((size_t)(topic_end - topic) < len || memcmp(topic, token, len))
            return false;
        topic += len;
        if (type == SB_TOKEN_STRING && topic < topic_end && *topic == 0xff)
            return false;
    }
    return type == 0 && topic == topic_end;
}

int sb_topic_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    if (order)
        return order;
    return (a_len > b_len) - (a_len < b_len);
}
