/* SPDX-License-Identifier: Apache-2.0 */
/* From encoded topics back to text and tokens. */
#include "base/err.h"
#include "proto/topic.h"
#include "proto/topic_encode.h"
#include "proto/topic_text.h"

SB_COLD static int fail_unchecked(void)
{
    return sb_fail(SHMBUS_E_INVALID, "the bytes are no encoded topic");
}

static int put_text(struct sb_sink *sink, const uint8_t *bytes, size_t len,
                    const struct sb_wildcards *w)
{
    const uint8_t *at = bytes;
    const uint8_t *end = bytes + len;
    const uint8_t *encoded;
    size_t encoded_len;
    int type;
    while ((type = sb_topic_next(&at, end, &encoded, &encoded_len)) > 0) {
        struct shmbus_token token;
        char string[SB_TOKEN_BYTES_MAX];
        if (encoded != bytes)
            sb_sink_put(sink, "/", 1);
        if (type == SB_TOKEN_SINGLE)
            sb_sink_put(sink, w->s, w->s_len);
        else if (type == SB_TOKEN_MULTI)
            sb_sink_put(sink, w->m, w->m_len);
        else if (sb_topic_token(encoded, encoded_len, &token, string))
            sb_text_put_token(sink, &token, sb_topic_token_type(&token, w) > SB_TOKEN_STRING);
        else
            return fail_unchecked();
    }
    if (type < 0 || len == 0)
        return fail_unchecked();
    if (sink->len == 0)
        sb_sink_put(sink, "\\e", 2);
    return 0;
}

int sb_topic_format(const uint8_t *bytes, size_t len, const struct sb_wildcards *w, char *buf,
                    size_t size, size_t *needed)
{
    struct sb_sink sink;
    sb_sink_init(&sink, buf, size);
    int rc = put_text(&sink, bytes, len, w);
    if (rc)
        return rc;
    if (needed)
        *needed = sink.len + 1;
    if (!sb_sink_end(&sink) && size)
        return sb_fail(SHMBUS_E_LIMIT, "the topic's text needs %zu bytes, and there are %zu",
                       sink.len + 1, size);
    return 0;
}

/* What a view needs, and where its parts lie in the memory: tokens, strings, text, encoded. */
struct layout {
    size_t count;
    size_t strings; /* offset */
    size_t text;    /* offset */
    size_t text_len;
    size_t encoded; /* offset */
    size_t size;
};

/* given: the text to keep, or NULL to make one. */
static int plan(const uint8_t *bytes, size_t len, const struct sb_wildcards *w, const char *given,
                struct layout *layout)
{
    const uint8_t *at = bytes;
    const uint8_t *encoded;
    size_t encoded_len, text_size;
    size_t strings = 0;
    int type;
    layout->count = 0;
    while ((type = sb_topic_next(&at, bytes + len, &encoded, &encoded_len)) > 0) {
        layout->count++;
        if (type == SB_TOKEN_STRING)
            strings += encoded_len - 1; /* at least the string and its NUL */
        else if (type != SB_TOKEN_NUMBER)
            strings += (type == SB_TOKEN_SINGLE ? w->s_len : w->m_len) + 1u;
    }
    if (given) {
        text_size = strlen(given) + 1;
    } else {
        int rc = sb_topic_format(bytes, len, w, NULL, 0, &text_size);
        if (rc)
            return rc;
    }
    layout->strings = layout->count * sizeof(struct shmbus_token);
    layout->text = layout->strings + strings;
    layout->text_len = text_size - 1;
    layout->encoded = layout->text + text_size;
    layout->size = layout->encoded + len;
    return 0;
}

/* Decodes all tokens; strings takes their bytes, each with a NUL behind. The bytes are checked. */
static void fill_tokens(const uint8_t *bytes, size_t len, bool pattern,
                        const struct sb_wildcards *w, struct shmbus_token *tokens, char *strings)
{
    const uint8_t *at = bytes;
    const uint8_t *encoded;
    size_t encoded_len;
    int type;
    for (; (type = sb_topic_next(&at, bytes + len, &encoded, &encoded_len)) > 0; tokens++) {
        struct shmbus_token token = SHMBUS_STR("");
        char string[SB_TOKEN_BYTES_MAX];
        if (type == SB_TOKEN_SINGLE)
            token = shmbus_token_bytes(w->s, w->s_len);
        else if (type == SB_TOKEN_MULTI)
            token = shmbus_token_bytes(w->m, w->m_len);
        else if (sb_topic_token(encoded, encoded_len, &token, string))
            token.literal = pattern && sb_topic_token_type(&token, w) > SB_TOKEN_STRING;
        if (type != SB_TOKEN_NUMBER) {
            memcpy(strings, token.str, token.len);
            token.str = strings;
            strings += token.len;
            *strings++ = '\0';
        }
        *tokens = token;
    }
}

/* sb_topic_decode() of checked bytes. */
static int fill_view(const uint8_t *bytes, size_t len, bool pattern, const struct sb_wildcards *w,
                     const char *given, void *memory, size_t size, size_t *needed,
                     struct shmbus_topic_view *view)
{
    struct layout layout;
    int rc = plan(bytes, len, w, given, &layout);
    if (rc)
        return rc;
    if (needed)
        *needed = layout.size;
    if (size == 0)
        return 0;
    if (size < layout.size)
        return sb_fail(SHMBUS_E_LIMIT, "a view of the topic needs %zu bytes, and there are %zu",
                       layout.size, size);
    char *base = memory;
    char *text = base + layout.text;
    struct shmbus_token *tokens = memory;
    fill_tokens(bytes, len, pattern, w, tokens, base + layout.strings);
    memcpy(base + layout.encoded, bytes, len);
    if (given) {
        memcpy(text, given, layout.text_len + 1);
    } else {
        rc = sb_topic_format(bytes, len, w, text, layout.text_len + 1, NULL);
        if (rc)
            return rc;
    }
    *view = (struct shmbus_topic_view){tokens,          layout.count,          text,
                                       layout.text_len, base + layout.encoded, len};
    return 0;
}

int sb_topic_decode(const uint8_t *bytes, size_t len, enum sb_topic_as as,
                    const struct sb_wildcards *w, void *memory, size_t size, size_t *needed,
                    struct shmbus_topic_view *view)
{
    bool pattern = as == SB_TOPIC_PATTERN;
    int rc = sb_topic_check(bytes, len, pattern);
    if (rc)
        return rc;
    return fill_view(bytes, len, pattern, w, NULL, memory, size, needed, view);
}

int sb_topic_copy(struct shmbus_topic pattern, const struct sb_wildcards *w, void *memory,
                  size_t size, size_t *needed, struct shmbus_topic_view *view)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    int rc = sb_topic_encode(pattern, SB_TOPIC_PATTERN, w, bytes, sizeof(bytes), &len);
    if (rc)
        return rc;
    rc = fill_view(bytes, len, true, w, pattern.text, memory, size, needed, view);
    if (rc || size == 0)
        return rc;
    struct sb_topic_reader reader;
    struct shmbus_token given;
    struct shmbus_token *token = memory;
    rc = sb_topic_read_start(&reader, pattern);
    for (; rc == 0 && sb_topic_read(&reader, &given) > 0; token++) {
        given.str = token->str;
        *token = given;
    }
    return rc;
}
