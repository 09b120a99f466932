/* SPDX-License-Identifier: Apache-2.0 */
/* The rules T1 to T5 of the contract, by example. What holds for all topics is in
 * test_topic_random.c. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <shmbus/topic.h>

#include "base/compiler.h"
#include "base/err.h"
#include "proto/topic.h"

#define LONG_16 "0123456789abcdef"
#define LONG_64 LONG_16 LONG_16 LONG_16 LONG_16
#define LONG_255 LONG_64 LONG_64 LONG_64 LONG_16 LONG_16 LONG_16 "0123456789abcde"

static const struct sb_wildcards *const W = &sb_wildcards_default;

static const char *text_as(struct shmbus_topic topic, int as)
{
    static char text[SHMBUS_TOPIC_TEXT_MAX + 1];
    size_t needed;
    if (shmbus_topic_format(topic, as, NULL, text, sizeof(text), &needed))
        fail_msg("%s", shmbus_errmsg());
    assert_int_equal(needed, strlen(text) + 1);
    return text;
}

static void assert_match(const char *pattern, const char *topic, int expected)
{
    int matches = -1;
    assert_int_equal(shmbus_topic_match(shmbus_text(pattern), shmbus_text(topic), NULL, &matches),
                     0);
    if (matches != expected)
        fail_msg("%s on %s gives %d", pattern, topic, matches);
}

static int compare(struct shmbus_topic a, struct shmbus_topic b)
{
    int order = 7;
    assert_int_equal(shmbus_topic_compare(a, b, &order), 0);
    return order;
}

static void test_T1_numbers_compare_by_value(void **state)
{
    (void)state;
    const struct shmbus_token one[] = {SHMBUS_NUM(1)};
    const struct shmbus_token one_real[] = {SHMBUS_REAL(1.0)};
    const struct shmbus_token one_string[] = {SHMBUS_STR("1")};
    const struct shmbus_token zero[] = {SHMBUS_NUM(0)};
    const struct shmbus_token minus_zero[] = {SHMBUS_REAL(-0.0)};
    assert_int_equal(compare(shmbus_tokens(one, 1), shmbus_tokens(one_real, 1)), 0);
    assert_int_equal(compare(shmbus_tokens(zero, 1), shmbus_tokens(minus_zero, 1)), 0);
    assert_int_equal(compare(shmbus_tokens(one, 1), shmbus_tokens(one_string, 1)), -1);
    assert_int_equal(compare(shmbus_text("=1.0"), shmbus_tokens(one, 1)), 0);
}

/* The struct of one encoded and decoded number. */
static struct shmbus_token delivered(struct shmbus_token token)
{
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len;
    _Alignas(8) char memory[256];
    struct shmbus_topic_view view;
    assert_int_equal(
        sb_topic_encode(shmbus_tokens(&token, 1), SB_TOPIC_CONCRETE, W, bytes, sizeof(bytes), &len),
        0);
    assert_int_equal(
        sb_topic_decode(bytes, len, SB_TOPIC_CONCRETE, W, memory, sizeof(memory), NULL, &view), 0);
    assert_int_equal(view.count, 1);
    return view.tokens[0];
}

static void test_T1_numbers_are_delivered_canonically(void **state)
{
    (void)state;
    static const int64_t integers[] = {0,
                                       1,
                                       -1,
                                       INT64_MAX,
                                       INT64_MIN,
                                       INT64_MIN + 1,
                                       (INT64_C(1) << 53) + 1,
                                       -(INT64_C(1) << 53) - 1};
    static const double reals[] = {0.5,      -0.1,  DBL_MAX, DBL_MIN,   5e-324,
                                   -DBL_MAX, 1e300, 0x1p63,  -0x1.1p63, 4503599627370495.5};
    for (size_t i = 0; i < sb_array_len(integers); i++) {
        struct shmbus_token token = delivered(shmbus_token_num(integers[i]));
        assert_int_equal(token.kind, SHMBUS_INT);
        assert_true(token.integer == integers[i]);
    }
    for (size_t i = 0; i < sb_array_len(reals); i++) {
        struct shmbus_token token = delivered(shmbus_token_real(reals[i]));
        assert_int_equal(token.kind, SHMBUS_DOUBLE);
        assert_true(token.real == reals[i]);
    }
    assert_int_equal(delivered(shmbus_token_real(1e15)).kind, SHMBUS_INT);
    assert_int_equal(delivered(shmbus_token_real(-0x1p63)).kind, SHMBUS_INT);
    struct shmbus_token zero = delivered(shmbus_token_real(-0.0));
    assert_int_equal(zero.kind, SHMBUS_INT);
    assert_int_equal(zero.integer, 0);
}

static void test_T2_wildcards_match(void **state)
{
    (void)state;
    assert_match("a/#", "a", 1);
    assert_match("a/#", "a/b/c", 1);
    assert_match("a/#", "b", 0);
    assert_match("#", "a/b", 1);
    assert_match("#", "\\e", 1);
    assert_match("a/+", "a", 0);
    assert_match("a/+", "a/", 1);
    assert_match("a/+", "a/=1", 1);
    assert_match("a/+", "a/b/c", 0);
    assert_match("+/b/#", "a/b", 1);
    assert_match("+/b/#", "b", 0);
    assert_match("a/+/c", "a/b/c", 1);
    assert_match("a/+/c", "a/b/d", 0);
    assert_match("=1/x", "=1.0/x", 1);
    assert_match("=1", "1", 0);
    assert_match("a", "a\\x00b", 0);
    assert_match("a\\x00", "a\\x00", 1);
    assert_match("a", "ab", 0);
}

static void test_T2_wildcards_can_be_chosen(void **state)
{
    (void)state;
    const struct shmbus_wildcards chosen = {"*", "**"};
    int matches = 0;
    assert_int_equal(
        shmbus_topic_match(shmbus_text("a/*/**"), shmbus_text("a/+"), &chosen, &matches), 0);
    assert_int_equal(matches, 1);
    assert_int_equal(shmbus_topic_match(shmbus_text("a/#"), shmbus_text("a/b"), &chosen, &matches),
                     0);
    assert_int_equal(matches, 0);
}

static void test_T2_wildcards_are_two_writable_strings(void **state)
{
    (void)state;
    static const struct {
        const char *s, *m;
        bool good;
    } cases[] = {
        {"+", "#", true},           {"*", "**", true},    {"any", "all", true},
        {"→", "⇒", true},           {"a=", "#", true},    {"+", "+", false},
        {"", "#", false},           {"+", "", false},     {"a/b", "#", false},
        {"=1", "#", false},         {"\\", "#", false},   {" ", "#", false},
        {"+", "\n", false},         {"+", "\xff", false}, {LONG_255, "#", true},
        {LONG_255 "0", "#", false},
    };
    for (size_t i = 0; i < sb_array_len(cases); i++) {
        struct sb_wildcards w;
        sb_fail(0, "%s", "");
        int rc =
            sb_wildcards_init(&w, cases[i].s, strlen(cases[i].s), cases[i].m, strlen(cases[i].m));
        if (rc != (cases[i].good ? 0 : SHMBUS_E_INVALID))
            fail_msg("%s %s: %d", cases[i].s, cases[i].m, rc);
        assert_true(cases[i].good || strstr(shmbus_errmsg(), "wildcard"));
    }
}

static void test_T3_wildcards_stand_for_themselves_in_topics(void **state)
{
    (void)state;
    assert_match("a/+", "a/+", 1);
    assert_match("a/\\+", "a/+", 1);
    assert_match("a/\\+", "a/b", 0);
    assert_match("\\#", "#/a", 0);
    assert_match("\\#/+", "#/a", 1);
    assert_string_equal(text_as(shmbus_text("a/+/#/b"), SHMBUS_AS_TOPIC), "a/\\x2b/\\x23/b");
    assert_string_equal(text_as(shmbus_text("a/+/#"), SHMBUS_AS_PATTERN), "a/+/#");
    assert_string_equal(text_as(shmbus_text("a/\\+/#"), SHMBUS_AS_PATTERN), "a/\\x2b/#");
}

static void test_T3_literal_is_no_part_of_identity(void **state)
{
    (void)state;
    const struct shmbus_token plain[] = {SHMBUS_STR("cfg"), SHMBUS_STR("+")};
    const struct shmbus_token literal[] = {SHMBUS_LIT("cfg"), SHMBUS_LIT("+")};
    uint8_t a[SB_TOPIC_MAX], b[SB_TOPIC_MAX];
    size_t a_len, b_len;
    assert_int_equal(
        sb_topic_encode(shmbus_tokens(plain, 2), SB_TOPIC_CONCRETE, W, a, sizeof(a), &a_len), 0);
    assert_int_equal(
        sb_topic_encode(shmbus_tokens(literal, 2), SB_TOPIC_STRICT, W, b, sizeof(b), &b_len), 0);
    assert_int_equal(a_len, b_len);
    assert_memory_equal(a, b, a_len);
    assert_int_equal(shmbus_topic_validate(shmbus_tokens(plain, 2), SHMBUS_AS_CONCRETE, NULL),
                     SHMBUS_E_INVALID);
}

static void test_T3_a_handles_pattern_is_kept_as_given(void **state)
{
    (void)state;
    const struct shmbus_token given[] = {SHMBUS_LIT("a"), SHMBUS_LIT("+"), SHMBUS_STR("+"),
                                         SHMBUS_REAL(2.0), SHMBUS_STR("#")};
    _Alignas(8) char memory[1024];
    struct shmbus_topic_view view;
    size_t needed;
    struct shmbus_topic topic = shmbus_tokens(given, 5);
    assert_int_equal(sb_topic_copy(topic, W, NULL, 0, &needed, &view), 0);
    assert_int_equal(sb_topic_copy(topic, W, memory, needed - 1, NULL, &view), SHMBUS_E_LIMIT);
    assert_int_equal(sb_topic_copy(topic, W, memory, needed, NULL, &view), 0);
    assert_int_equal(view.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(view.tokens[i].kind, given[i].kind);
        assert_int_equal(view.tokens[i].literal, given[i].literal);
        assert_int_equal(view.tokens[i].len, given[i].len);
        if (given[i].kind == SHMBUS_STRING)
            assert_string_equal(view.tokens[i].str, given[i].str);
    }
    assert_true(view.tokens[3].real == 2.0);
    assert_string_equal(view.text, "a/\\x2b/+/=2/#");

    topic = shmbus_text("\\a/\\+/=2.0/+");
    assert_int_equal(sb_topic_copy(topic, W, memory, sizeof(memory), NULL, &view), 0);
    assert_string_equal(view.text, "\\a/\\+/=2.0/+");
    assert_int_equal(view.text_len, strlen(view.text));
    assert_int_equal(view.tokens[0].literal, 1);
    assert_int_equal(view.tokens[1].literal, 1);
    assert_int_equal(view.tokens[2].kind, SHMBUS_DOUBLE);
    assert_int_equal(view.tokens[3].literal, 0);
}

static void test_T4_text_is_read_and_written(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a", "a"},
        {"a/b", "a/b"},
        {"/", "/"},
        {"a/", "a/"},
        {"//a", "//a"},
        {"\\e", "\\e"},
        {"\\a", "a"},
        {"a\\/b", "a\\/b"},
        {"\\\\", "\\\\"},
        {"\\x2f\\x5C", "\\/\\\\"},
        {"\\=1", "\\=1"},
        {"a=1", "a=1"},
        {"=1", "=1"},
        {"=007", "=7"},
        {"=-0", "=0"},
        {"=-0.0", "=0"},
        {"=1.0", "=1"},
        {"=2.5", "=2.5"},
        {"=1e3", "=1000"},
        {"=1E+3", "=1000"},
        {"=0.1", "=0.1"},
        {"=5e-324", "=5e-324"},
        {"=9223372036854775807", "=9223372036854775807"},
        {"=-9223372036854775808", "=-9223372036854775808"},
        {"=9223372036854775808", "=9.223372036854776e+18"},
        {"=0.30000000000000004", "=0.30000000000000004"},
        {"a b", "a\\x20b"},
        {"a\tb\x7f", "a\\x09b\\x7f"},
        {"\\x00", "\\x00"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xff\xc3", "\\xff\\xc3"},
        {"\xc0\x80", "\\xc0\\x80"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
        {"\xf0\x9f\x9a\x80", "\xf0\x9f\x9a\x80"},
        {"\xc2\x9b", "\\xc2\\x9b"},
        {"\xe2\x80\x83", "\\xe2\\x80\\x83"},
        {"++", "++"},
    };
    for (size_t i = 0; i < sb_array_len(cases); i++) {
        assert_string_equal(text_as(shmbus_text(cases[i].in), SHMBUS_AS_TOPIC), cases[i].out);
        assert_string_equal(text_as(shmbus_text(cases[i].in), SHMBUS_AS_PATTERN), cases[i].out);
        assert_int_equal(compare(shmbus_text(cases[i].in), shmbus_text(cases[i].out)), 0);
    }
}

static void test_T4_format_says_what_it_needs(void **state)
{
    (void)state;
    char text[8] = "zzzzzzz";
    size_t needed = 0;
    assert_int_equal(
        shmbus_topic_format(shmbus_text("ab/cd"), SHMBUS_AS_TOPIC, NULL, NULL, 0, &needed), 0);
    assert_int_equal(needed, 6);
    needed = 0;
    assert_int_equal(
        shmbus_topic_format(shmbus_text("ab/cd"), SHMBUS_AS_TOPIC, NULL, text, 5, &needed),
        SHMBUS_E_LIMIT);
    assert_int_equal(needed, 6);
    assert_int_equal(text[5], 'z');
    assert_int_equal(
        shmbus_topic_format(shmbus_text("ab/cd"), SHMBUS_AS_TOPIC, NULL, text, 6, NULL), 0);
    assert_string_equal(text, "ab/cd");
}

static void test_T4_chosen_wildcards_are_hidden(void **state)
{
    (void)state;
    const struct shmbus_wildcards chosen = {"→", "all"};
    char text[64];
    assert_int_equal(shmbus_topic_format(shmbus_text("→/all/+"), SHMBUS_AS_TOPIC, &chosen, text,
                                         sizeof(text), NULL),
                     0);
    assert_string_equal(text, "\\xe2\\x86\\x92/\\x61ll/+");
    assert_int_equal(shmbus_topic_format(shmbus_text("→/+/all"), SHMBUS_AS_PATTERN, &chosen, text,
                                         sizeof(text), NULL),
                     0);
    assert_string_equal(text, "→/+/all");
}

static void test_T5_order(void **state)
{
    (void)state;
    static const char *const sorted[] = {
        "=-1e300",
        "=-9223372036854775808",
        "=-9007199254740993",
        "=-9007199254740992",
        "=-1",
        "=-0.5",
        "=0",
        "=5e-324",
        "=0.5",
        "=1",
        "=1/=0",
        "=1/a",
        "=2",
        "=9007199254740992",
        "=9007199254740993",
        "=9007199254740994",
        "=9223372036854775807",
        "=9223372036854775808",
        "=1e300",
        "\\e",
        "/",
        "\\x00",
        "\\x00\\x00",
        "\\x00\\xff",
        "\\x01",
        "1",
        "a",
        "a/=1",
        "a/",
        "a/a",
        "a\\x00",
        "a\\x00/a",
        "ab",
        "b",
        "\\xff",
    };
    for (size_t i = 0; i < sb_array_len(sorted); i++)
        for (size_t j = 0; j < sb_array_len(sorted); j++)
            if (compare(shmbus_text(sorted[i]), shmbus_text(sorted[j])) != (i > j) - (i < j))
                fail_msg("%s and %s", sorted[i], sorted[j]);
}

/* A failing call, and what its sentence has to name: the token and the rule. */
static void assert_refused(struct shmbus_topic topic, int as, const char *token, const char *rule)
{
    sb_fail(0, "%s", "");
    int rc = shmbus_topic_validate(topic, as, NULL);
    if (rc != SHMBUS_E_INVALID || !strstr(shmbus_errmsg(), token) || !strstr(shmbus_errmsg(), rule))
        fail_msg("%d %s (wanted: %s, %s)", rc, shmbus_errmsg(), token, rule);
}

static void test_T1_T2_T3_bad_tokens_are_named(void **state)
{
    (void)state;
    const struct {
        struct shmbus_token token[3];
        size_t count;
        int as;
        const char *where, *rule;
    } cases[] = {
        {{SHMBUS_STR("a"), SHMBUS_STR(LONG_255 "0")},
         2,
         SHMBUS_AS_TOPIC,
         "token 2 (0123456789abcdef",
         "has 256 bytes; a token has at most 255"},
        {{SHMBUS_REAL(NAN)}, 1, SHMBUS_AS_TOPIC, "token 1 (=", "not finite"},
        {{SHMBUS_STR("a"), SHMBUS_REAL(INFINITY)},
         2,
         SHMBUS_AS_PATTERN,
         "token 2 (=inf)",
         "not finite"},
        {{SHMBUS_REAL(-INFINITY)}, 1, SHMBUS_AS_CONCRETE, "token 1 (=-inf)", "not finite"},
        {{SHMBUS_STR("#"), SHMBUS_STR("a")}, 2, SHMBUS_AS_PATTERN, "token 1 (#)", "last token"},
        {{SHMBUS_STR("#"), SHMBUS_STR("#")}, 2, SHMBUS_AS_PATTERN, "token 1 (#)", "last token"},
        {{SHMBUS_STR("a"), SHMBUS_STR("+")},
         2,
         SHMBUS_AS_CONCRETE,
         "token 2 (+)",
         "must be a concrete topic; mark the token literal (in text: \\x2b)"},
        {{SHMBUS_STR("#")}, 1, SHMBUS_AS_CONCRETE, "token 1 (#)", "must be a concrete topic"},
        {{{7, 0, 0, 0, NULL, 0, 0.0}}, 1, SHMBUS_AS_TOPIC, "token 1", "unknown kind 7"},
        {{{SHMBUS_STRING, 0, 0, 3, NULL, 0, 0.0}}, 1, SHMBUS_AS_TOPIC, "token 1", "is NULL"},
    };
    for (size_t i = 0; i < sb_array_len(cases); i++)
        assert_refused(shmbus_tokens(cases[i].token, cases[i].count), cases[i].as, cases[i].where,
                       cases[i].rule);
}

static void test_T1_bad_lists_are_named(void **state)
{
    (void)state;
    struct shmbus_token many[SHMBUS_TOPIC_TOKENS_MAX + 1];
    for (size_t i = 0; i < sb_array_len(many); i++)
        many[i] = shmbus_token_str("t");
    int rc =
        shmbus_topic_validate(shmbus_tokens(many, SHMBUS_TOPIC_TOKENS_MAX), SHMBUS_AS_TOPIC, NULL);
    assert_int_equal(rc, 0);
    assert_refused(shmbus_tokens(many, sb_array_len(many)), SHMBUS_AS_TOPIC, "token 33 (t)",
                   "at most 32 tokens");
    assert_refused(shmbus_text("////////////////////////////////x"), SHMBUS_AS_PATTERN,
                   "token 33 (x)", "at most 32 tokens");
    assert_refused(shmbus_tokens(many, 0), SHMBUS_AS_TOPIC, "no tokens", "1 to 32");
    assert_refused(shmbus_tokens(NULL, 0), SHMBUS_AS_TOPIC, "no tokens", "1 to 32");
    assert_refused(shmbus_tokens(NULL, 2), SHMBUS_AS_TOPIC, "2 tokens", "NULL");
    struct shmbus_topic both = {"a", many, 1};
    assert_refused(both, SHMBUS_AS_TOPIC, "as text and as tokens", "shmbus_text()");
    assert_refused(shmbus_text("a"), 3, "not as 3", "SHMBUS_AS_PATTERN");
}

static void test_T4_bad_text_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *rule;
    } cases[] = {
        {"", "empty", "\\e"},
        {"a/b\\", "token 2 (b\\)", "backslash"},
        {"\\x", "token 1 (\\x)", "two hex digits"},
        {"a/\\x2", "token 2 (\\x2)", "two hex digits"},
        {"\\x2/b", "token 1 (\\x2)", "two hex digits"},
        {"\\xg1", "token 1 (\\xg1)", "two hex digits"},
        {"\\x1G", "token 1 (\\x1G)", "two hex digits"},
        {"a/\\e", "token 2 (\\e)", "only as the whole text"},
        {"\\e/a", "token 1 (\\e)", "only as the whole text"},
        {"a\\e", "token 1 (a\\e)", "only as the whole text"},
        {"=", "token 1 (=)", "no number"},
        {"a/=b", "token 2 (=b)", "no number"},
        {"=1x", "token 1 (=1x)", "no number"},
        {"= 1", "token 1 (= 1)", "no number"},
        {"=+1", "token 1 (=+1)", "no number"},
        {"=0x10", "token 1 (=0x10)", "no number"},
        {"=.5", "token 1 (=.5)", "no number"},
        {"=5.", "token 1 (=5.)", "no number"},
        {"=1,5", "token 1 (=1,5)", "no number"},
        {"=1e", "token 1 (=1e)", "no number"},
        {"=nan", "token 1 (=nan)", "no number"},
        {"=-inf", "token 1 (=-inf)", "no number"},
        {"=\\x31", "token 1 (=\\x31)", "no number"},
        {"=1e999", "token 1 (=1e999)", "beyond the range"},
        {"a\n\\x", "token 1 (a\\x0a\\x)", "two hex digits"},
        {LONG_255 "0", "token 1 (0123456789abcdef", "has 256 bytes"},
    };
    for (size_t i = 0; i < sb_array_len(cases); i++)
        assert_refused(shmbus_text(cases[i].text), SHMBUS_AS_TOPIC, cases[i].where, cases[i].rule);
    assert_refused(shmbus_text("a/#/b"), SHMBUS_AS_PATTERN, "token 2 (#)", "last token");
    assert_refused(shmbus_text("a/+"), SHMBUS_AS_CONCRETE, "token 2 (+)", "concrete topic");
}

static void test_encoded_limits(void **state)
{
    (void)state;
    struct shmbus_token zeros[SHMBUS_TOPIC_TOKENS_MAX];
    static const char nothing[SHMBUS_TOKEN_BYTES_MAX];
    for (size_t i = 0; i < sb_array_len(zeros); i++)
        zeros[i] = shmbus_token_bytes(nothing, sizeof(nothing));
    uint8_t bytes[SB_TOPIC_MAX];
    size_t len = 0;
    struct shmbus_topic topic = shmbus_tokens(zeros, sb_array_len(zeros));
    assert_int_equal(sb_topic_encode(topic, SB_TOPIC_PATTERN, W, bytes, sizeof(bytes) - 1, &len),
                     SHMBUS_E_LIMIT);
    assert_int_equal(len, 0);
    assert_int_equal(sb_topic_encode(topic, SB_TOPIC_PATTERN, W, bytes, sizeof(bytes), &len), 0);
    assert_int_equal(len, SB_TOPIC_MAX);
    assert_int_equal(sb_topic_check(bytes, len, false), 0);
    size_t needed;
    assert_int_equal(sb_topic_format(bytes, len, W, NULL, 0, &needed), 0);
    assert_int_equal(needed, SHMBUS_TOPIC_TEXT_MAX + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_T1_numbers_compare_by_value),
        cmocka_unit_test(test_T1_numbers_are_delivered_canonically),
        cmocka_unit_test(test_T2_wildcards_match),
        cmocka_unit_test(test_T2_wildcards_can_be_chosen),
        cmocka_unit_test(test_T2_wildcards_are_two_writable_strings),
        cmocka_unit_test(test_T3_wildcards_stand_for_themselves_in_topics),
        cmocka_unit_test(test_T3_literal_is_no_part_of_identity),
        cmocka_unit_test(test_T3_a_handles_pattern_is_kept_as_given),
        cmocka_unit_test(test_T4_text_is_read_and_written),
        cmocka_unit_test(test_T4_format_says_what_it_needs),
        cmocka_unit_test(test_T4_chosen_wildcards_are_hidden),
        cmocka_unit_test(test_T5_order),
        cmocka_unit_test(test_T1_T2_T3_bad_tokens_are_named),
        cmocka_unit_test(test_T1_bad_lists_are_named),
        cmocka_unit_test(test_T4_bad_text_is_named),
        cmocka_unit_test(test_encoded_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
