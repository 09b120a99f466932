/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file topic.h
 * Topics and patterns.
 *
 * A topic is a list of 1..32 tokens. A token is a string of 0..255 bytes, any bytes, or a number: a
 * 64-bit integer or a finite double. Numbers compare by value (1 = 1.0); 1 and "1" differ.
 *
 * A pattern is a topic in which two tokens act as wildcards: `+` matches exactly one token, `#`, as
 * the last token, any number of them: `a/#` matches `a`, `#` matches everything, `a/+` does not
 * match `a`. A bus can choose two other strings. A token marked literal never acts as a wildcard.
 *
 * A topic is given as tokens or as text:
 *
 *     static const struct shmbus_token port[] = {SHMBUS_STR("net"), SHMBUS_NUM(5)};
 *     shmbus_publish(conn, shmbus_tokens(port, 2), …);
 *     shmbus_publish(conn, shmbus_text("net/=5"), …);
 *
 * Text form: tokens joined by `/`; an empty token is nothing between two slashes. `\` makes the
 * next character ordinary, `\xHH` is the byte HH, and a token with an escape is literal. `=1`,
 * `=2.5`, `=-1e-9` are numbers; a string that starts with `=` is written `\=…`. The one empty token
 * is `\e`, as the whole text. Text that the library writes holds no space, no control character
 * and only valid UTF-8, and reads back the same, as a topic and as a pattern.
 *
 * All functions here are pure: they need no bus, never block, and may be called from any thread.
 */
#ifndef SHMBUS_TOPIC_H
#define SHMBUS_TOPIC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <shmbus/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The most tokens of a topic, the most bytes of a string token. */
#define SHMBUS_TOPIC_TOKENS_MAX 32
#define SHMBUS_TOKEN_BYTES_MAX 255

/** The longest text form that the library writes, its NUL not counted. */
#define SHMBUS_TOPIC_TEXT_MAX (SHMBUS_TOPIC_TOKENS_MAX * (4 * SHMBUS_TOKEN_BYTES_MAX + 1) - 1)

/** What a token is. */
enum { SHMBUS_STRING = 0, SHMBUS_INT = 1, SHMBUS_DOUBLE = 2 };

/** One token of a topic or pattern. */
struct shmbus_token {
    uint8_t kind;    /**< SHMBUS_STRING, SHMBUS_INT or SHMBUS_DOUBLE */
    uint8_t literal; /**< 1: never a wildcard */
    uint16_t unused; /**< 0 */
    uint32_t len;    /**< bytes of str */
    const char *str; /**< the bytes of a SHMBUS_STRING; in what the library gives, a NUL follows */
    int64_t integer; /**< the value of a SHMBUS_INT */
    double real;     /**< the value of a SHMBUS_DOUBLE */
};

/* Initialisers, also of static arrays. The string is a string literal and may hold any bytes. */

/** A string token; acts as a wildcard where it is one. */
#define SHMBUS_STR(string)                                                                         \
    {                                                                                              \
        SHMBUS_STRING, 0, 0, sizeof("" string) - 1, string, 0, 0.0                                 \
    }
/** A string token that never acts as a wildcard. */
#define SHMBUS_LIT(string)                                                                         \
    {                                                                                              \
        SHMBUS_STRING, 1, 0, sizeof("" string) - 1, string, 0, 0.0                                 \
    }
/** An integer token; does not compile with a floating value, which would lose its fraction. */
#define SHMBUS_NUM(value)                                                                          \
    {                                                                                              \
        SHMBUS_INT, 0, 0, 0, NULL, (value) | INT64_C(0), 0.0                                       \
    }
/** A floating token. */
#define SHMBUS_REAL(value)                                                                         \
    {                                                                                              \
        SHMBUS_DOUBLE, 0, 0, 0, NULL, 0, (value)                                                   \
    }

/** A string token of len bytes at run time. The bytes are not copied. */
static inline struct shmbus_token shmbus_token_bytes(const void *bytes, size_t len)
{
    struct shmbus_token token = SHMBUS_STR("");
    token.str = (const char *)bytes;
    token.len = len < UINT32_MAX ? (uint32_t)len : UINT32_MAX;
    return token;
}

/** A string token of a NUL-terminated string at run time. The bytes are not copied. */
static inline struct shmbus_token shmbus_token_str(const char *string)
{
    return shmbus_token_bytes(string, strlen(string));
}

/** An integer token at run time. */
static inline struct shmbus_token shmbus_token_num(int64_t value)
{
    struct shmbus_token token = SHMBUS_NUM(value);
    return token;
}

/** A floating token at run time. */
static inline struct shmbus_token shmbus_token_real(double value)
{
    struct shmbus_token token = SHMBUS_REAL(value);
    return token;
}

/** The token, marked literal: it never acts as a wildcard. */
static inline struct shmbus_token shmbus_token_literal(struct shmbus_token token)
{
    token.literal = 1;
    return token;
}

/** A topic or pattern as it is handed to a call: exactly one of text and tokens is set. */
struct shmbus_topic {
    const char *text;                  /**< its text form, NUL-terminated, or NULL */
    const struct shmbus_token *tokens; /**< its tokens, or NULL */
    size_t count;                      /**< how many tokens; 0 with text */
};

/** A topic or pattern by its text form, which is not copied. */
static inline struct shmbus_topic shmbus_text(const char *text)
{
    struct shmbus_topic topic = {text, NULL, 0};
    return topic;
}

/** A topic or pattern by its tokens, which are not copied. */
static inline struct shmbus_topic shmbus_tokens(const struct shmbus_token *tokens, size_t count)
{
    struct shmbus_topic topic = {NULL, tokens, count};
    return topic;
}

/**
 * A topic or pattern as the library hands it out, in all its forms. Numbers of delivered topics are
 * canonical (an integer where integral and in the range of int64_t), and nothing is marked literal.
 */
struct shmbus_topic_view {
    const struct shmbus_token *tokens;
    size_t count;
    const char *text; /**< NUL-terminated */
    size_t text_len;
    const void *encoded; /**< bytes that are equal if the topics are, and sort as topics do */
    size_t encoded_len;
};

/** The wildcards of a bus. In place of a pointer to it, NULL stands for `+` and `#`. */
struct shmbus_wildcards {
    const char *s_wild; /**< for exactly one token, 1..255 bytes; NULL: `+` */
    const char *m_wild; /**< for any number of tokens, likewise; NULL: `#` */
};

/** What a topic is checked as. */
enum {
    SHMBUS_AS_TOPIC = 0,   /**< publish, retain, unretain: a wildcard stands for itself */
    SHMBUS_AS_PATTERN = 1, /**< subscribe, watch, view: wildcards act */
    SHMBUS_AS_CONCRETE = 2 /**< bind, call, get: a wildcard not marked literal is refused */
};

/**
 * Whether a call would take this topic.
 *
 * @param as        SHMBUS_AS_TOPIC, SHMBUS_AS_PATTERN or SHMBUS_AS_CONCRETE
 * @param wildcards NULL for `+` and `#`
 * @return 0 or SHMBUS_E_INVALID; shmbus_errmsg() names the token and the rule it breaks
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_topic_validate(struct shmbus_topic topic, int as,
                                                       const struct shmbus_wildcards *wildcards);

/**
 * Writes the text form of a topic, with its NUL, into buffer. SHMBUS_TOPIC_TEXT_MAX + 1 bytes are
 * always enough.
 *
 * @param as        whether wildcards act (SHMBUS_AS_PATTERN) or are written as literals
 * @param wildcards NULL for `+` and `#`
 * @param size      of buffer; with 0 nothing is written, 0 is returned and buffer may be NULL
 * @param needed    out, may be NULL: the bytes of the text and its NUL; set also where
 *                  SHMBUS_E_LIMIT is returned
 * @return 0, SHMBUS_E_INVALID (as shmbus_topic_validate()), SHMBUS_E_LIMIT (size is too small)
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_topic_format(struct shmbus_topic topic, int as,
                                                     const struct shmbus_wildcards *wildcards,
                                                     char *buffer, size_t size, size_t *needed);

/**
 * Whether pattern matches topic. Wildcards in topic stand for themselves.
 *
 * @param wildcards NULL for `+` and `#`
 * @param matches   out: 1 or 0
 * @return 0 or SHMBUS_E_INVALID
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_topic_match(struct shmbus_topic pattern,
                                                    struct shmbus_topic topic,
                                                    const struct shmbus_wildcards *wildcards,
                                                    int *matches);

/**
 * The order of snapshots and listings: token by token, numbers before strings, numbers by value,
 * strings bytewise, a prefix first. Literal marks play no part.
 *
 * @param order out: -1, 0 or 1 as a is before, the same as, or after b
 * @return 0 or SHMBUS_E_INVALID
 */
SHMBUS_API SHMBUS_MUST_CHECK int shmbus_topic_compare(struct shmbus_topic a, struct shmbus_topic b,
                                                      int *order);

#ifdef __cplusplus
}
#endif
#endif
