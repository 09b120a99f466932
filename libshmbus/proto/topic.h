/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics and patterns as bytes (contract T1 to T5).
 *
 * Encoded, a token is its type byte and
 *
 *     SB_TOKEN_NUMBER  10 bytes, see proto/topic_number.h
 *     SB_TOKEN_STRING  its bytes, each 00 written 00 FF, then 00
 *     SB_TOKEN_SINGLE  nothing: the wildcard for one token
 *     SB_TOKEN_MULTI   nothing: the wildcard for any number of tokens, only at the end
 *
 * and a topic is its tokens one after the other. Every topic has one encoding: equality is equality
 * of bytes, and memcmp (then the shorter first) is the order T5. Wildcards exist in patterns only;
 * a literal mark is not encoded, since a string in a pattern is literal.
 *
 * Everything here is pure, allocates nothing, never blocks and may be called from any thread. Where
 * bytes are called *checked*, sb_topic_check() or sb_topic_encode() has approved them and nobody
 * changes them; on other bytes the functions stay within bounds and end, and their result means
 * nothing.
 */
#ifndef SB_PROTO_TOPIC_H
#define SB_PROTO_TOPIC_H

#include <stdbool.h>
#include <string.h>

#include <shmbus/topic.h>

#include "base/compiler.h"
#include "proto/topic_number.h"

#define SB_TOPIC_TOKENS_MAX SHMBUS_TOPIC_TOKENS_MAX
#define SB_TOKEN_BYTES_MAX SHMBUS_TOKEN_BYTES_MAX

/* The longest encoded token and topic; a buffer of SB_TOPIC_MAX always suffices. */
#define SB_TOKEN_MAX (1 + 2 * SB_TOKEN_BYTES_MAX + 1)
#define SB_TOPIC_MAX (SB_TOPIC_TOKENS_MAX * SB_TOKEN_MAX)

/* The first byte of an encoded token. */
enum {
    SB_TOKEN_NUMBER = 1,
    SB_TOKEN_STRING = 2,
    SB_TOKEN_SINGLE = 3,
    SB_TOKEN_MULTI = 4,
};

/* What a topic is encoded as: SHMBUS_AS_… by internal names. */
enum sb_topic_as {
    SB_TOPIC_CONCRETE = SHMBUS_AS_TOPIC,  /* wildcards stand for themselves */
    SB_TOPIC_PATTERN = SHMBUS_AS_PATTERN, /* wildcards act unless they are literal */
    SB_TOPIC_STRICT = SHMBUS_AS_CONCRETE, /* wildcards are refused unless they are literal */
};

/* The two strings that act as wildcards in the patterns of a bus. */
struct sb_wildcards {
    uint16_t s_len;
    uint16_t m_len;
    char s[SB_TOKEN_BYTES_MAX]; /* matches one token */
    char m[SB_TOKEN_BYTES_MAX]; /* matches any number of tokens */
};

/* `+` and `#`. */
extern const struct sb_wildcards sb_wildcards_default;

/*
 * Sets the wildcards of a bus: two different strings of 1..255 bytes that in text form need no
 * escape (a token with an escape is literal, so another wildcard could not be written).
 * Returns 0 or SHMBUS_E_INVALID, with *w untouched.
 */
SB_MUST_CHECK int sb_wildcards_init(struct sb_wildcards *w, const char *s, size_t s_len,
                                    const char *m, size_t m_len);

/*
 * Encodes a topic given as text or tokens.
 *
 * out  capacity bytes; untouched beyond what is needed, of no meaning after a failure
 * len  out: the bytes used
 *
 * Returns 0; SHMBUS_E_INVALID where a rule is broken: the message names token and rule;
 * SHMBUS_E_LIMIT if capacity is too small, which SB_TOPIC_MAX never is.
 */
SB_MUST_CHECK int sb_topic_encode(struct shmbus_topic topic, enum sb_topic_as as,
                                  const struct sb_wildcards *w, uint8_t *out, size_t capacity,
                                  size_t *len);

/*
 * Whether bytes from elsewhere are the encoding of a topic or, with allow_wildcards, of a pattern.
 * The bytes must be the caller's own copy: checking what somebody may change checks nothing.
 * Returns 0 or SHMBUS_E_INVALID.
 */
SB_MUST_CHECK int sb_topic_check(const uint8_t *bytes, size_t len, bool allow_wildcards);

/*
 * Steps over the encoded token at *at: moves *at behind it, sets *token to it (type byte included)
 * and *len to its length. Equal tokens are equal in these bytes.
 *
 * Returns its type SB_TOKEN_…; 0 at end; -1 where the bytes are no token, with nothing changed.
 * Never reads outside *at..end. It does not look into numbers, at the length of strings, or at what
 * follows a SB_TOKEN_MULTI.
 */
SB_INLINE int sb_topic_next(const uint8_t **at, const uint8_t *end, const uint8_t **token,
                            size_t *len)
{
    const uint8_t *p = *at;
    size_t left = (size_t)(end - p);
    size_t n = 1;
    if (left == 0)
        return 0;
    uint8_t type = *p;
    if (type == SB_TOKEN_STRING) {
        const uint8_t *zero = p;
        do {
            zero = (const uint8_t *)memchr(zero + 1, 0, (size_t)(end - zero - 1));
            if (!zero)
                return -1;
            n = (size_t)(zero - p) + 1;
        } while (n < left && zero[1] == 0xff && ++zero);
    } else if (type == SB_TOKEN_NUMBER) {
        n = 1 + SB_NUMBER_LEN;
        if (left < n)
            return -1;
    } else if (type != SB_TOKEN_SINGLE && type != SB_TOKEN_MULTI) {
        return -1;
    }
    *token = p;
    *len = n;
    *at = p + n;
    return type;
}

/*
 * Decodes one number or string token that sb_topic_next() has stepped over. A string is written to
 * bytes, which token->str then points to; no NUL follows.
 * False if it is a wildcard, a number that nothing is encoded as, or a string that is too long.
 */
bool sb_topic_token(const uint8_t *encoded, size_t len, struct shmbus_token *token,
                    char bytes[SB_TOKEN_BYTES_MAX]);

/* The type that a token has in a pattern: SB_TOKEN_…; a literal is no wildcard. */
int sb_topic_token_type(const struct shmbus_token *token, const struct sb_wildcards *w);

/* Whether the pattern matches the topic; both encoded and checked. Linear in the longer one. */
bool sb_topic_match(const uint8_t *pattern, size_t pattern_len, const uint8_t *topic,
                    size_t topic_len);

/* The order T5 of two encoded and checked topics or patterns: below, at or above 0. */
int sb_topic_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);

/*
 * Writes the text form of an encoded topic or pattern, NUL included, as far as size allows. It
 * reads back (by sb_topic_encode with the same wildcards) as the same bytes; topics without
 * wildcards do so both as a topic and as a pattern.
 *
 * buf     may be NULL if size is 0, which asks for *needed only
 * needed  out, may be NULL: bytes of text and NUL; set where 0 or SHMBUS_E_LIMIT is returned
 *
 * Returns 0; SHMBUS_E_INVALID, of unchecked bytes; SHMBUS_E_LIMIT if size is neither 0 nor enough.
 */
SB_MUST_CHECK int sb_topic_format(const uint8_t *bytes, size_t len, const struct sb_wildcards *w,
                                  char *buf, size_t size, size_t *needed);

/*
 * Puts a view of an encoded topic into the caller's memory: tokens, strings, text and a copy of the
 * encoded bytes. The view points only there, and lives as long as it.
 *
 * bytes     need not be checked, but must be the caller's own copy
 * as        SB_TOPIC_PATTERN: wildcards are allowed, and strings that equal one are marked literal;
 *           else: wildcards are refused, and nothing is marked
 * memory    size bytes, aligned as a pointer; may be NULL if size is 0, to ask for *needed only
 * needed    out, may be NULL: bytes of memory needed; set where 0 or SHMBUS_E_LIMIT is returned
 * view      out; untouched where size is 0 or the call fails
 *
 * Returns 0, SHMBUS_E_INVALID, or SHMBUS_E_LIMIT if size is neither 0 nor enough.
 */
SB_MUST_CHECK int sb_topic_decode(const uint8_t *bytes, size_t len, enum sb_topic_as as,
                                  const struct sb_wildcards *w, void *memory, size_t size,
                                  size_t *needed, struct shmbus_topic_view *view);

/*
 * Puts a pattern into the caller's memory as its user gave it: his literal marks, his kinds of
 * numbers and, if he gave text, his text. All else as sb_topic_decode(); the encoded bytes are
 * those of sb_topic_encode() as SB_TOPIC_PATTERN. Uses 16 KiB of stack.
 */
SB_MUST_CHECK int sb_topic_copy(struct shmbus_topic pattern, const struct sb_wildcards *w,
                                void *memory, size_t size, size_t *needed,
                                struct shmbus_topic_view *view);

#endif
