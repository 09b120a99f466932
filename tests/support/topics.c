/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/topics.h"

static struct test_topic encoded(const char *text, enum sb_topic_as as)
{
    struct test_topic t;
    assert_int_equal(sb_topic_encode(shmbus_text(text), as, &sb_wildcards_default, t.bytes,
                                     sizeof(t.bytes), &t.len),
                     0);
    return t;
}

struct test_topic test_topic(const char *text)
{
    return encoded(text, SB_TOPIC_CONCRETE);
}

struct test_topic test_pattern(const char *text)
{
    return encoded(text, SB_TOPIC_PATTERN);
}

/* Tokens of all kinds and of lengths around the borders of words. */
static struct test_topic random_token(void)
{
    static const char *const text[] = {"a",      "b",       "ab",       "\\x00", "\\x00\\x00a",
                                       "sensor", "sensors", "sensors1", "=1",    "=-2.5"};
    if (rand() % 50 != 0)
        return test_topic(text[(unsigned)rand() % sb_array_len(text)]);
    char longest[256] = "";
    memset(longest, 'x', 254 + (size_t)rand() % 2);
    return test_topic(longest);
}

void test_topic_random(struct test_topic *t, unsigned most, bool wildcards)
{
    unsigned count = 1 + (unsigned)rand() % most;
    t->len = 0;
    for (unsigned i = 0; i < count; i++) {
        int kind = wildcards ? rand() % 8 : 7;
        if (kind < 2) {
            t->bytes[t->len++] = SB_TOKEN_SINGLE;
        } else if (kind == 2 && i == count - 1) {
            t->bytes[t->len++] = SB_TOKEN_MULTI;
        } else {
            struct test_topic token = random_token();
            if (t->len + token.len > sizeof(t->bytes) - 2)
                return;
            memcpy(t->bytes + t->len, token.bytes, token.len);
            t->len += token.len;
        }
    }
}
