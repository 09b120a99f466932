/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/topic_number.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGN_BIT (UINT64_C(1) << 63)

/* Integers up to 2^53 are doubles. */
#define DOUBLE_BITS 53

static void put_parts(double below, uint16_t rest, uint8_t out[SB_NUMBER_LEN])
{
    uint64_t bits;
    memcpy(&bits, &below, sizeof(bits));
    bits = bits & SIGN_BIT ? ~bits : bits | SIGN_BIT;
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(bits >> (56 - 8 * i));
    out[8] = (uint8_t)(rest >> 8);
    out[9] = (uint8_t)rest;
}

static double get_parts(const uint8_t in[SB_NUMBER_LEN], uint16_t *rest)
{
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | in[i];
    bits = bits & SIGN_BIT ? bits & ~SIGN_BIT : ~bits;
    *rest = (uint16_t)(in[8] << 8 | in[9]);
    double below;
    memcpy(&below, &bits, sizeof(below));
    return below;
}

static void put_int(int64_t value, uint8_t out[SB_NUMBER_LEN])
{
    uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
    int64_t rest = 0; /* mask of the bits that a double of this size has no room for */
    if (size >> DOUBLE_BITS)
        rest = (INT64_C(1) << (64 - DOUBLE_BITS - __builtin_clzll(size))) - 1;
    put_parts((double)(value & ~rest), (uint16_t)(value & rest), out);
}

static bool fits_int(double value)
{
    return value >= -0x1p63 && value < 0x1p63 && value == (double)(int64_t)value;
}

void sb_number_put(const struct shmbus_token *token, uint8_t out[SB_NUMBER_LEN])
{
    if (token->kind == SHMBUS_INT)
        put_int(token->integer, out);
    else
        put_parts(token->real + 0.0, 0, out); /* -0 + 0 is 0 */
}

bool sb_number_get(const uint8_t in[SB_NUMBER_LEN], struct shmbus_token *token)
{
    uint16_t rest;
    double below = get_parts(in, &rest);
    if (!isfinite(below))
        return false;
    if (!fits_int(below)) {
        if (rest)
            return false;
        *token = shmbus_token_real(below);
        return true;
    }
    int64_t value;
    uint8_t canonical[SB_NUMBER_LEN];
    if (__builtin_add_overflow((int64_t)below, rest, &value))
        return false;
    put_int(value, canonical);
    if (memcmp(canonical, in, SB_NUMBER_LEN))
        return false;
    *token = shmbus_token_num(value);
    return true;
}

static const char *skip_digits(const char *at)
{
    while (*at >= '0' && *at <= '9')
        at++;
    return at;
}

/* Whether the NUL-terminated text is a number as sb_number_parse() says; *whole: only digits. */
static bool is_number(const char *text, bool *whole)
{
    const char *at = text + (*text == '-');
    const char *digits = at;
    at = skip_digits(at);
    if (at == digits)
        return false;
    *whole = *at == '\0';
    if (*at == '.') {
        digits = ++at;
        at = skip_digits(at);
        if (at == digits)
            return false;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        digits = at;
        at = skip_digits(at);
        if (at == digits)
            return false;
    }
    return *at == '\0';
}

/*
 * Decimal points depend on the thread's locale, so it is changed for the conversion. Asking for all
 * of the C locale gives a static object: nothing is allocated, and nothing has to be freed.
 */
static locale_t use_c_locale(void)
{
    return uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));
}

bool sb_number_parse(const char *text, size_t len, struct shmbus_token *token)
{
    char copy[SHMBUS_TOKEN_BYTES_MAX + 1];
    if (len >= sizeof(copy) || memchr(text, '\0', len))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    bool whole = false;
    if (!is_number(copy, &whole))
        return false;
    if (whole) {
        errno = 0;
        int64_t value = strtoll(copy, NULL, 10);
        if (errno == 0) {
            *token = shmbus_token_num(value);
            return true;
        }
    }
    locale_t old = use_c_locale();
    *token = shmbus_token_real(strtod(copy, NULL));
    uselocale(old);
    return true;
}

size_t sb_number_format(const struct shmbus_token *token, char out[SB_NUMBER_TEXT_MAX])
{
    if (token->kind == SHMBUS_INT)
        return (size_t)snprintf(out, SB_NUMBER_TEXT_MAX, "%" PRId64, token->integer);
    locale_t old = use_c_locale();
    /* 15 digits survive in a normal double, so no shorter text is lost by starting there. */
    int digits = fabs(token->real) < DBL_MIN ? 1 : DBL_DIG;
    int len;
    do {
        len = snprintf(out, SB_NUMBER_TEXT_MAX, "%.*g", digits, token->real);
    } while (strtod(out, NULL) != token->real && ++digits <= DBL_DECIMAL_DIG);
    uselocale(old);
    return (size_t)len;
}
