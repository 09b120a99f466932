/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/topic_text.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "proto/topic_number.h"

/* As much of a token as an error message shows. */
#define SHOWN_MAX 48

void sb_sink_init(struct sb_sink *sink, char *buf, size_t size)
{
    *sink = (struct sb_sink){.buf = buf, .size = size};
}

void sb_sink_put(struct sb_sink *sink, const char *bytes, size_t len)
{
    if (sink->written == sink->len && len < sink->size - sink->written) {
        memcpy(sink->buf + sink->written, bytes, len);
        sink->written += len;
    }
    sink->len += len;
}

bool sb_sink_end(struct sb_sink *sink)
{
    if (sink->size)
        sink->buf[sink->written] = '\0';
    return sink->size && sink->written == sink->len;
}

static void put_hex(struct sb_sink *sink, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    char text[4] = {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    sb_sink_put(sink, text, sizeof(text));
}

/* The length of the valid UTF-8 sequence at s, and its code point; 0 if there is none. */
static size_t utf8_at(const unsigned char *s, size_t len, uint32_t *code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (n == 0 || n > len || s[0] > 0xf4)
        return 0;
    uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *code = c;
    return n;
}

/* Whether a code point is neither a space of any kind nor a control character. */
static bool is_visible(uint32_t c)
{
    if (c < 0x80)
        return c > 0x20 && c != 0x7f;
    bool control = c < 0xa0;
    bool space = c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
                 c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
    return !control && !space;
}

/* How many bytes at s are one visible character; 0 if they have to be written as \xHH. */
static size_t visible_at(const char *s, size_t len)
{
    uint32_t code;
    size_t n = utf8_at((const unsigned char *)s, len, &code);
    return n && is_visible(code) ? n : 0;
}

static void put_string(struct sb_sink *sink, const char *s, size_t len, bool hide)
{
    for (size_t i = 0; i < len;) {
        size_t n = i == 0 && hide ? 0 : visible_at(s + i, len - i);
        if (n == 0)
            put_hex(sink, (unsigned char)s[i]);
        else if (s[i] == '/' || s[i] == '\\' || (s[i] == '=' && i == 0))
            sb_sink_put(sink, (char[]){'\\', s[i]}, 2);
        else
            sb_sink_put(sink, s + i, n);
        i += n ? n : 1;
    }
}

void sb_text_put_token(struct sb_sink *sink, const struct shmbus_token *token, bool hide)
{
    if (token->kind == SHMBUS_STRING) {
        put_string(sink, token->str, token->len, hide);
        return;
    }
    char number[SB_NUMBER_TEXT_MAX + 1] = "=";
    size_t len = sb_number_format(token, number + 1);
    sb_sink_put(sink, number, len + 1);
}

void sb_text_put_raw(struct sb_sink *sink, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = text[i] == ' ' ? 1 : visible_at(text + i, len - i);
        if (n)
            sb_sink_put(sink, text + i, n);
        else
            put_hex(sink, (unsigned char)text[i]);
        i += n ? n : 1;
    }
}

int sb_text_start(struct sb_text_reader *reader, const char *text)
{
    if (*text == '\0')
        return sb_fail(SHMBUS_E_INVALID,
                       "the text of the topic is empty; a topic has 1 to %d tokens, and the one "
                       "empty token is written \\e",
                       SHMBUS_TOPIC_TOKENS_MAX);
    reader->at = text;
    reader->index = 0;
    return 0;
}

/* "token N (as it stands in the text) <rule>" */
SB_COLD static int fail_token(const struct sb_text_reader *reader, const char *rule)
{
    char shown[SHOWN_MAX];
    struct sb_sink sink;
    sb_sink_init(&sink, shown, sizeof(shown));
    sb_text_put_raw(&sink, reader->token, reader->token_len);
    bool all = sb_sink_end(&sink);
    return sb_fail(SHMBUS_E_INVALID, "token %u (%s%s) %s", reader->index, shown, all ? "" : "…",
                   rule);
}

/* The end of the token at text: an unescaped slash or the NUL. */
static const char *token_end(const char *text)
{
    while (*text && *text != '/')
        text += text[0] == '\\' && text[1] ? 2 : 1;
    return text;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Reads what follows a backslash at *at. */
static int read_escape(const struct sb_text_reader *reader, const char **at, const char *end,
                       char *byte)
{
    if (*at == end)
        return fail_token(reader, "ends in a backslash that makes nothing ordinary; a backslash "
                                  "itself is written \\\\");
    char c = *(*at)++;
    if (c == 'e')
        return fail_token(reader, "holds \\e, which is the empty token and allowed only as the "
                                  "whole text; elsewhere an empty token is nothing between two "
                                  "slashes");
    if (c == 'x') {
        int high = end - *at >= 2 ? hex_value((*at)[0]) : -1;
        int low = high >= 0 ? hex_value((*at)[1]) : -1;
        if (low < 0)
            return fail_token(reader, "holds \\x without two hex digits; the byte 2b is written "
                                      "\\x2b");
        c = (char)(high << 4 | low);
        *at += 2;
    }
    *byte = c;
    return 0;
}

static int read_string(struct sb_text_reader *reader, struct shmbus_token *token)
{
    const char *at = reader->token;
    const char *end = at + reader->token_len;
    size_t len = 0;
    if (!memchr(at, '\\', reader->token_len)) {
        *token = shmbus_token_bytes(at, reader->token_len);
        return 1;
    }
    while (at < end) {
        char byte = *at++;
        if (byte == '\\') {
            int rc = read_escape(reader, &at, end, &byte);
            if (rc)
                return rc;
        }
        if (len < sizeof(reader->bytes))
            reader->bytes[len] = byte;
        len++;
    }
    *token = shmbus_token_literal(shmbus_token_bytes(reader->bytes, len));
    return 1;
}

static int read_number(struct sb_text_reader *reader, struct shmbus_token *token)
{
    if (!sb_number_parse(reader->token + 1, reader->token_len - 1, token))
        return fail_token(reader, "starts with = but is no number such as =1, =-2.5 or =1e9; a "
                                  "string that starts with = is written \\=");
    if (token->kind == SHMBUS_DOUBLE && !isfinite(token->real))
        return fail_token(reader, "is beyond the range of a double; a number is a 64-bit integer "
                                  "or a finite double");
    return 1;
}

int sb_text_read(struct sb_text_reader *reader, struct shmbus_token *token)
{
    if (!reader->at)
        return 0;
    const char *end = token_end(reader->at);
    reader->token = reader->at;
    reader->token_len = (size_t)(end - reader->at);
    reader->at = *end ? end + 1 : NULL;
    reader->index++;
    bool whole = reader->index == 1 && !reader->at;
    if (whole && reader->token_len == 2 && !memcmp(reader->token, "\\e", 2)) {
        *token = shmbus_token_literal(shmbus_token_bytes(reader->bytes, 0));
        return 1;
    }
    return *reader->token == '=' ? read_number(reader, token) : read_string(reader, token);
}
