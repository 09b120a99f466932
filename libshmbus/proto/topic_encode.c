/* SPDX-License-Identifier: Apache-2.0 */
/* From what a user gives, text or tokens, to encoded topics. */
#include "proto/topic_encode.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"

/* As much of a token as an error message shows. */
#define SHOWN_MAX 48

int sb_topic_read_start(struct sb_topic_reader *reader, struct shmbus_topic topic)
{
    reader->tokens = topic.tokens;
    reader->count = topic.count;
    reader->index = 0;
    reader->is_text = topic.text;
    if (topic.text && (topic.tokens || topic.count))
        return sb_fail(SHMBUS_E_INVALID,
                       "the topic is given both as text and as tokens; make it with shmbus_text() "
                       "or with shmbus_tokens()");
    if (topic.text)
        return sb_text_start(&reader->text, topic.text);
    if (topic.count == 0)
        return sb_fail(SHMBUS_E_INVALID, "the topic has no tokens; it needs 1 to %d",
                       SB_TOPIC_TOKENS_MAX);
    if (!topic.tokens)
        return sb_fail(SHMBUS_E_INVALID,
                       "the topic has %zu tokens, and the pointer to them is NULL", topic.count);
    return 0;
}

/* Puts the text form of a token into out, cut where it is long; returns out. */
SB_COLD static const char *show(const struct shmbus_token *token, bool hide, char out[SHOWN_MAX])
{
    static const char cut[] = "…";
    struct shmbus_token start = *token;
    if (start.kind == SHMBUS_STRING && start.len > SB_TOKEN_BYTES_MAX)
        start.len = SB_TOKEN_BYTES_MAX;
    struct sb_sink sink;
    sb_sink_init(&sink, out, SHOWN_MAX - sizeof(cut));
    sb_text_put_token(&sink, &start, hide);
    if (!sb_sink_end(&sink))
        memcpy(out + sink.written, cut, sizeof(cut));
    return out;
}

/* "token N (in text form) <rule>" */
SB_COLD SB_PRINTF(3, 4) static int fail_token(const struct sb_topic_reader *reader,
                                              const struct shmbus_token *token, const char *fmt,
                                              ...)
{
    char shown[SHOWN_MAX];
    char rule[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(rule, sizeof(rule), fmt, args);
    va_end(args);
    return sb_fail(SHMBUS_E_INVALID, "token %u (%s) %s", reader->index, show(token, false, shown),
                   rule);
}

/* The rules that a token keeps by itself. */
static int check_token(const struct sb_topic_reader *reader, const struct shmbus_token *token)
{
    if (token->kind > SHMBUS_DOUBLE)
        return sb_fail(SHMBUS_E_INVALID,
                       "token %u has the unknown kind %d; a token is SHMBUS_STRING, SHMBUS_INT or "
                       "SHMBUS_DOUBLE",
                       reader->index, token->kind);
    if (token->kind == SHMBUS_STRING && !token->str && token->len)
        return sb_fail(SHMBUS_E_INVALID,
                       "token %u has %u bytes, and the pointer to them is NULL; give the bytes, or "
                       "length 0 for the empty token",
                       reader->index, token->len);
    if (reader->index > SB_TOPIC_TOKENS_MAX)
        return fail_token(reader, token, "is one too many; a topic has at most %d tokens",
                          SB_TOPIC_TOKENS_MAX);
    if (token->kind == SHMBUS_STRING && token->len > SB_TOKEN_BYTES_MAX)
        return fail_token(reader, token, "has %u bytes; a token has at most %d", token->len,
                          SB_TOKEN_BYTES_MAX);
    if (token->kind == SHMBUS_DOUBLE && !isfinite(token->real))
        return fail_token(reader, token,
                          "is not finite; a number is a 64-bit integer or a finite double");
    return 0;
}

int sb_topic_read(struct sb_topic_reader *reader, struct shmbus_token *token)
{
    if (reader->is_text) {
        int rc = sb_text_read(&reader->text, token);
        if (rc <= 0)
            return rc;
    } else {
        if (reader->index == reader->count)
            return 0;
        *token = reader->tokens[reader->index];
        if (token->kind == SHMBUS_STRING && !token->str && token->len == 0)
            token->str = "";
    }
    reader->index++;
    int rc = check_token(reader, token);
    return rc ? rc : 1;
}

/* The type of a token, where it is allowed in a topic that is encoded as `as`. */
static int allowed_type(const struct sb_topic_reader *reader, const struct shmbus_token *token,
                        enum sb_topic_as as, const struct sb_wildcards *w)
{
    int type = sb_topic_token_type(token, w);
    if (type != SB_TOKEN_SINGLE && type != SB_TOKEN_MULTI)
        return type;
    if (as == SB_TOPIC_CONCRETE)
        return SB_TOKEN_STRING;
    if (as == SB_TOPIC_STRICT) {
        char shown[SHOWN_MAX];
        return fail_token(reader, token,
                          "is a wildcard, and this must be a concrete topic; mark the token "
                          "literal (in text: %s) if it stands for itself",
                          show(token, true, shown));
    }
    return type;
}

/* Encodes one token, at most SB_TOKEN_MAX bytes; returns its length. */
static size_t put_token(const struct shmbus_token *token, int type, uint8_t *out)
{
    uint8_t *at = out;
    *at++ = (uint8_t)type;
    if (type == SB_TOKEN_NUMBER) {
        sb_number_put(token, at);
        at += SB_NUMBER_LEN;
    } else if (type == SB_TOKEN_STRING) {
        for (uint32_t i = 0; i < token->len; i++) {
            *at++ = (uint8_t)token->str[i];
            if (token->str[i] == 0)
                *at++ = 0xff;
        }
        *at++ = 0;
    }
    return (size_t)(at - out);
}

int sb_topic_encode(struct shmbus_topic topic, enum sb_topic_as as, const struct sb_wildcards *w,
                    uint8_t *out, size_t capacity, size_t *len)
{
    struct sb_topic_reader reader;
    struct shmbus_token token;
    uint8_t encoded[SB_TOKEN_MAX];
    size_t used = 0;
    int last = 0;
    int rc = sb_topic_read_start(&reader, topic);
    if (rc)
        return rc;
    while ((rc = sb_topic_read(&reader, &token)) > 0) {
        if (last == SB_TOKEN_MULTI)
            return sb_fail(SHMBUS_E_INVALID,
                           "token %u (%.*s) matches any number of tokens and can only be the last "
                           "token of a pattern; end there, or mark it literal",
                           reader.index - 1, w->m_len, w->m);
        last = allowed_type(&reader, &token, as, w);
        if (last < 0)
            return last;
        /* Where the longest token would fit, it is written in place. */
        bool roomy = capacity - used >= SB_TOKEN_MAX;
        size_t n = put_token(&token, last, roomy ? out + used : encoded);
        if (n > capacity - used)
            return sb_fail(SHMBUS_E_LIMIT,
                           "the encoded topic needs more than the %zu bytes there "
                           "are",
                           capacity);
        if (!roomy)
            memcpy(out + used, encoded, n);
        used += n;
    }
    if (rc == 0)
        *len = used;
    return rc;
}
