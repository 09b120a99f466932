/* SPDX-License-Identifier: Apache-2.0 */
#include "common_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <shmbus/subscribe.h>

_Static_assert(SHMBUS_QUEUE_MAX == 1048576, "as parse_queue_len() says");

#define SECONDS_MAX 1e9 /* 31 years; as nanoseconds it can be added to any clock */

const char *parse_whole(const char *text, int64_t *number)
{
    if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
        return "a whole number is wanted";
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno == ERANGE)
        return "the number is too large";
    *number = value;
    return NULL;
}

const char *parse_positive(const char *text, int64_t *number)
{
    int64_t value;
    const char *wrong = parse_whole(text, &value);
    if (wrong != NULL)
        return wrong;
    if (value == 0)
        return "a number of at least 1 is wanted";
    *number = value;
    return NULL;
}

/* Digits with at most one point among them; what else strtod() takes is refused. */
static const char *parse_decimal(const char *text, double *number)
{
    size_t whole = strspn(text, "0123456789");
    size_t point = text[whole] == '.';
    size_t fraction = strspn(text + whole + point, "0123456789");
    if (whole + fraction == 0 || text[whole + point + fraction] != '\0')
        return "a decimal number such as 3 or 0.25 is wanted";
    *number = strtod(text, NULL);
    return NULL;
}

const char *parse_rate(const char *text, double *rate)
{
    double value;
    const char *wrong = parse_decimal(text, &value);
    if (wrong != NULL)
        return wrong;
    if (value < 1e-6 || value > 1e9)
        return "a rate of 0.000001 to 1000000000 a second is wanted";
    *rate = value;
    return NULL;
}

const char *parse_seconds(const char *text, int64_t *ns)
{
    double value;
    const char *wrong = parse_decimal(text, &value);
    if (wrong != NULL)
        return wrong;
    if (value > SECONDS_MAX)
        return "at most 1000000000 seconds can be waited for";
    *ns = (int64_t)(value * 1e9);
    return NULL;
}

const char *parse_size(const char *text, uint64_t *bytes)
{
    size_t digits = strspn(text, "0123456789");
    unsigned shift = 0;
    if (text[digits] != '\0') {
        static const char suffixes[] = "KMG";
        const char *suffix = strchr(suffixes, text[digits]);
        if (suffix == NULL || text[digits + 1] != '\0')
            digits = 0;
        else
            shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (digits == 0)
        return "a number of bytes is wanted, or of KiB, MiB or GiB with the suffix K, M or G";
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno == ERANGE || value > UINT64_MAX >> shift)
        return "the number is too large";
    *bytes = (uint64_t)value << shift;
    return NULL;
}

const char *parse_queue_len(const char *text, int64_t *messages)
{
    int64_t value;
    const char *wrong = parse_whole(text, &value);
    if (wrong != NULL)
        return wrong;
    if (value < 1 || value > SHMBUS_QUEUE_MAX)
        return "a queue holds 1 to 1048576 messages";
    *messages = value;
    return NULL;
}

const char *parse_full(const char *text, uint32_t *full)
{
    if (strcmp(text, "drop_oldest") == 0)
        *full = SHMBUS_DROP_OLDEST;
    else if (strcmp(text, "reject_newest") == 0)
        *full = SHMBUS_REJECT_NEWEST;
    else if (strcmp(text, "block") == 0)
        return "a full queue never blocks, because a slow reader would then stall every publisher; "
               "drop_oldest or reject_newest is wanted";
    else
        return "drop_oldest or reject_newest is wanted";
    return NULL;
}

const char *full_word(uint32_t full)
{
    return full == SHMBUS_REJECT_NEWEST ? "reject_newest" : "drop_oldest";
}
