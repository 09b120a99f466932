/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/name.h"

#include <shmbus/error.h>

#define LONGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* N4 */
static void test_good_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "Z9", "0", "_x", "a.b-c_d", "a..", "x-", LONGEST};
    for (size_t i = 0; i < sb_array_len(good); i++)
        assert_int_equal(sb_name_check(good[i]), 0);
}

/* N4 */
static void test_bad_names_say_why(void **state)
{
    (void)state;
    static const struct {
        const char *name, *word;
    } bad[] = {
        {NULL, "NULL"},
        {"", "empty"},
        {".a", "start with ."},
        {"..", "start with ."},
        {"-a", "start with -"},
        {"a/b", "0x2f at offset 1"},
        {"a b", "0x20"},
        {"a\n", "0x0a"},
        {"\xc3\xa4", "0xc3 at offset 0"},
        {"a%sn", "0x25"},
        {LONGEST "0", "than 64"},
        {LONGEST "/", "0x2f at offset 64"},
    };
    for (size_t i = 0; i < sb_array_len(bad); i++) {
        assert_int_equal(sb_name_check(bad[i].name), SHMBUS_E_INVALID);
        assert_non_null(strstr(shmbus_errmsg(), bad[i].word));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_names),
        cmocka_unit_test(test_bad_names_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
