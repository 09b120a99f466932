/* SPDX-License-Identifier: Apache-2.0 */
/* The pure functions of <shmbus/topic.h>. */
#include "base/err.h"
#include "proto/topic.h"

static int use_wildcards(const struct shmbus_wildcards *given, struct sb_wildcards *w)
{
    const char *s = given && given->s_wild ? given->s_wild : "+";
    const char *m = given && given->m_wild ? given->m_wild : "#";
    return sb_wildcards_init(w, s, strlen(s), m, strlen(m));
}

static int encode(struct shmbus_topic topic, int as, const struct shmbus_wildcards *wildcards,
                  uint8_t out[SB_TOPIC_MAX], size_t *len, struct sb_wildcards *w)
{
    if (as < SHMBUS_AS_TOPIC || as > SHMBUS_AS_CONCRETE)
        return sb_fail(SHMBUS_E_INVALID,
                       "a topic is checked as SHMBUS_AS_TOPIC, SHMBUS_AS_PATTERN or "
                       "SHMBUS_AS_CONCRETE, and not as %d",
                       as);
    int rc = use_wildcards(wildcards, w);
    if (rc)
        return rc;
    return sb_topic_encode(topic, (enum sb_topic_as)as, w, out, SB_TOPIC_MAX, len);
}

int shmbus_topic_validate(struct shmbus_topic topic, int as,
                          const struct shmbus_wildcards *wildcards)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    struct sb_wildcards w;
    return encode(topic, as, wildcards, bytes, &len, &w);
}

int shmbus_topic_format(struct shmbus_topic topic, int as, const struct shmbus_wildcards *wildcards,
                        char *buffer, size_t size, size_t *needed)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    struct sb_wildcards w;
    int rc = encode(topic, as, wildcards, bytes, &len, &w);
    if (rc)
        return rc;
    return sb_topic_format(bytes, len, &w, buffer, size, needed);
}

int shmbus_topic_match(struct shmbus_topic pattern, struct shmbus_topic topic,
                       const struct shmbus_wildcards *wildcards, int *matches)
{
    uint8_t a[SB_TOPIC_MAX], b[SB_TOPIC_MAX];
    size_t a_len, b_len;
    struct sb_wildcards w;
    int rc = encode(pattern, SHMBUS_AS_PATTERN, wildcards, a, &a_len, &w);
    if (rc)
        return rc;
    rc = sb_topic_encode(topic, SB_TOPIC_CONCRETE, &w, b, sizeof(b), &b_len);
    if (rc)
        return rc;
    *matches = sb_topic_match(a, a_len, b, b_len);
    return 0;
}

int shmbus_topic_compare(struct shmbus_topic a, struct shmbus_topic b, int *order)
{
    uint8_t first[SB_TOPIC_MAX], second[SB_TOPIC_MAX];
    size_t first_len, second_len;
    struct sb_wildcards w;
    int rc = encode(a, SHMBUS_AS_TOPIC, NULL, first, &first_len, &w);
    if (rc)
        return rc;
    rc = sb_topic_encode(b, SB_TOPIC_CONCRETE, &w, second, sizeof(second), &second_len);
    if (rc)
        return rc;
    int compared = sb_topic_compare(first, first_len, second, second_len);
    *order = (compared > 0) - (compared < 0);
    return 0;
}
