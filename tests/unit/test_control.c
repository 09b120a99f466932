/* SPDX-License-Identifier: Apache-2.0 */
/* The control messages: every real one is accepted, every contradiction refused, and what holds of
 * any bytes (unit/control_property.h) holds of millions of mutated ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "support/testbus.h"
#include "unit/control_property.h"

/* A message under construction. */
struct made {
    uint64_t words[512];
    size_t len;
};

static void *made_bytes(struct made *m)
{
    return m->words;
}

static void made_start(struct made *m, uint32_t type, size_t fixed)
{
    memset(m, 0, sizeof(*m));
    struct sb_control_head *head = made_bytes(m);
    head->type = type;
    head->id = 7;
    m->len = fixed ? fixed : sizeof(*head);
}

static void made_append(struct made *m, const void *bytes, size_t len)
{
    assert_true(m->len + len <= sizeof(m->words));
    memcpy((uint8_t *)m->words + m->len, bytes, len);
    m->len += len;
}

static void made_end(struct made *m)
{
    ((struct sb_control_head *)made_bytes(m))->size = (uint32_t)m->len;
}

/* count patterns of random bytes; returns how many bytes they take. */
static uint32_t made_patterns(struct made *m, uint64_t *random, uint32_t count)
{
    size_t from = m->len;
    uint64_t bytes[4] = {test_random(random), test_random(random)};
    for (uint32_t i = 0; i < count; i++) {
        uint16_t n = (uint16_t)(test_random(random) % sizeof(bytes));
        made_append(m, &n, sizeof(n));
        made_append(m, bytes, n);
    }
    return (uint32_t)(m->len - from);
}

static void made_map(struct made *m, uint64_t *random, uint32_t type, uint32_t count)
{
    made_start(m, type, sizeof(struct sb_map_message));
    ((struct sb_map_message *)made_bytes(m))->count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct sb_map_item item = {.kind = 1 + i % 5, .index = (uint32_t)test_random(random)};
        made_append(m, &item, sizeof(item));
    }
}

static const size_t request_sizes[SB_CONTROL_TYPES] = {
    [SB_CONTROL_HELLO] = sizeof(struct sb_hello_request),
    [SB_CONTROL_ARMED] = sizeof(struct sb_control_head),
    [SB_CONTROL_UNSUBSCRIBE] = sizeof(struct sb_seat_request),
    [SB_CONTROL_LEAVE] = sizeof(struct sb_seat_request),
    [SB_CONTROL_GROW] = sizeof(struct sb_grow_message),
    [SB_CONTROL_DISCONNECT] = sizeof(struct sb_control_head),
    [SB_CONTROL_BUS_STATS] = sizeof(struct sb_control_head),
    [SB_CONTROL_HANDLES] = sizeof(struct sb_page_request),
    [SB_CONTROL_CONNS] = sizeof(struct sb_page_request),
};

/* A request as a client sends it, with up to n of what it may have several of. */
static void made_request(struct made *m, uint64_t *random, uint32_t type, uint32_t n)
{
    made_start(m, type, request_sizes[type]);
    if (type == SB_CONTROL_SUBSCRIBE) {
        m->len = sizeof(struct sb_subscribe_request);
        uint32_t len = made_patterns(m, random, n);
        struct sb_subscribe_request *subscribe = made_bytes(m);
        subscribe->pattern_count = n;
        subscribe->patterns_len = len;
    } else if (type == SB_CONTROL_ROUTE) {
        m->len = sizeof(struct sb_route_request);
        made_append(m, "\1\2\3\4\5\6\7", n % 8);
        ((struct sb_route_request *)made_bytes(m))->topic_len = n % 8;
    } else if (type == SB_CONTROL_UNROUTE) {
        m->len = sizeof(struct sb_unroute_request) + (size_t)n * 8;
        ((struct sb_unroute_request *)made_bytes(m))->count = n;
    } else if (type == SB_CONTROL_MAP) {
        made_map(m, random, type, 1 + n);
    }
    made_end(m);
}

static void made_page(struct made *m, uint64_t *random, uint32_t type, uint32_t n)
{
    made_start(m, type, sizeof(struct sb_page_reply));
    for (uint32_t i = 0; i < n; i++) {
        struct sb_handle_entry handle = {0};
        struct sb_conn_entry conn = {.principal_len = i};
        size_t from = m->len;
        if (type == SB_CONTROL_HANDLES) {
            made_append(m, &handle, sizeof(handle));
            handle.patterns_len = made_patterns(m, random, i);
        } else {
            made_append(m, &conn, sizeof(conn));
            made_append(m, "someone", i % 8);
            conn.principal_len = i % 8;
        }
        m->len = (m->len + 7) & ~(size_t)7;
        handle.size = conn.size = (uint32_t)(m->len - from);
        if (type == SB_CONTROL_HANDLES)
            memcpy((uint8_t *)m->words + from, &handle, sizeof(handle));
        else
            memcpy((uint8_t *)m->words + from, &conn, sizeof(conn));
    }
    ((struct sb_page_reply *)made_bytes(m))->count = n;
}

static const size_t reply_sizes[SB_CONTROL_TYPES] = {
    [SB_CONTROL_HELLO] = sizeof(struct sb_hello_reply),
    [SB_CONTROL_ARMED] = sizeof(struct sb_control_head),
    [SB_CONTROL_SUBSCRIBE] = sizeof(struct sb_subscribe_reply),
    [SB_CONTROL_UNSUBSCRIBE] = sizeof(struct sb_control_head),
    [SB_CONTROL_LEAVE] = sizeof(struct sb_control_head),
    [SB_CONTROL_ROUTE] = sizeof(struct sb_route_reply),
    [SB_CONTROL_UNROUTE] = sizeof(struct sb_control_head),
    [SB_CONTROL_GROW] = sizeof(struct sb_grow_message),
    [SB_CONTROL_DISCONNECT] = sizeof(struct sb_control_head),
    [SB_CONTROL_BUS_STATS] = sizeof(struct sb_bus_stats_reply),
};

static void made_reply(struct made *m, uint64_t *random, uint32_t type, uint32_t n)
{
    if (type == SB_CONTROL_HANDLES || type == SB_CONTROL_CONNS)
        made_page(m, random, type, n);
    else if (type == SB_CONTROL_MAP || type == SB_CONTROL_HEAPS)
        made_map(m, random, type, 1 + n);
    else
        made_start(m, type, reply_sizes[type]);
    if (n == 3) {
        made_start(m, type, sizeof(struct sb_control_head));
        made_append(m, "no such thing", 13);
        ((struct sb_control_head *)made_bytes(m))->status = SHMBUS_E_INVALID;
    }
    made_end(m);
}

static void assert_holds(const char *broken, int round)
{
    if (broken)
        fail_msg("round %d: %s", round, broken);
}

static void test_real_messages_are_accepted(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct made m;
    for (uint32_t type = 1; type < SB_CONTROL_TYPES; type++) {
        for (uint32_t n = 0; n < 6; n++) {
            made_request(&m, &random, type, n);
            int ret = sb_control_parse_request(m.words, m.len);
            if (type == SB_CONTROL_HEAPS)
                assert_int_equal(ret, SHMBUS_E_INVALID); /* only ever pushed */
            else if (ret)
                fail_msg("request %u: %s", type, shmbus_errmsg());
            assert_holds(control_message_holds((uint8_t *)m.words, m.len), (int)type);
            made_reply(&m, &random, type, n);
            if (sb_control_parse_reply(m.words, m.len, type, 7))
                fail_msg("reply %u: %s", type, shmbus_errmsg());
            assert_holds(control_message_holds((uint8_t *)m.words, m.len), (int)type);
        }
    }
}

/* Entries come out as they went in. */
static void test_pages_are_walked_to_their_end(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct made m;
    for (uint32_t type = SB_CONTROL_HANDLES; type <= SB_CONTROL_CONNS; type++) {
        made_page(&m, &random, type, 5);
        made_end(&m);
        const struct sb_page_reply *page = made_bytes(&m);
        const void *entry;
        size_t at = 0;
        uint32_t n = 0;
        while (sb_control_next_entry(page, &at, &entry) == 1) {
            const struct sb_conn_entry *conn = entry;
            if (type == SB_CONTROL_CONNS)
                assert_int_equal(conn->principal_len, n);
            n++;
        }
        assert_int_equal(n, 5);
    }
}

/* One byte more, one less, and a length that lies, of every type both ways. */
static void test_lengths_that_lie_are_refused(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct made m;
    for (uint32_t type = 1; type < SB_CONTROL_HEAPS; type++) {
        for (int delta = -1; delta <= 1; delta += 2) {
            made_request(&m, &random, type, 2);
            struct sb_control_head *head = made_bytes(&m);
            size_t wrong = m.len + (size_t)delta;
            assert_true(control_refused(sb_control_parse_request(m.words, wrong)));
            head->size = (uint32_t)wrong;
            assert_true(control_refused(sb_control_parse_request(m.words, m.len)));
            assert_true(control_refused(sb_control_parse_request(m.words, wrong)));
        }
    }
}

static void test_counts_that_overflow_are_refused(void **state)
{
    (void)state;
    static const uint32_t counts[] = {0x10000001, 0x20000000, 0x80000000, 0xffffffff, 65};
    uint64_t random = test_seed();
    struct made m;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        made_request(&m, &random, SB_CONTROL_UNROUTE, 1);
        ((struct sb_unroute_request *)made_bytes(&m))->count = counts[i];
        assert_true(control_refused(sb_control_parse_request(m.words, m.len)));
        made_request(&m, &random, SB_CONTROL_MAP, 0);
        ((struct sb_map_message *)made_bytes(&m))->count = counts[i];
        assert_true(control_refused(sb_control_parse_request(m.words, m.len)));
        made_request(&m, &random, SB_CONTROL_SUBSCRIBE, 1);
        ((struct sb_subscribe_request *)made_bytes(&m))->patterns_len = counts[i];
        assert_true(control_refused(sb_control_parse_request(m.words, m.len)));
    }
    made_request(&m, &random, SB_CONTROL_ARMED, 0);
    ((struct sb_control_head *)made_bytes(&m))->status = -1;
    assert_true(control_refused(sb_control_parse_request(m.words, m.len)));
    ((struct sb_control_head *)made_bytes(&m))->status = 1;
    assert_true(control_refused(sb_control_parse_reply(m.words, m.len, SB_CONTROL_ARMED, 7)));
}

/* Changes a few bytes or words, or cuts the end off. */
static size_t mutate(uint64_t *random, struct made *m)
{
    uint8_t *bytes = made_bytes(m);
    size_t len = m->len;
    for (uint64_t n = 1 + test_random(random) % 3; n > 0; n--) {
        size_t at = test_random(random) % len;
        uint64_t how = test_random(random) % 4;
        if (how == 0)
            bytes[at] = (uint8_t)test_random(random);
        else if (how == 1)
            bytes[at] ^= (uint8_t)(1u << test_random(random) % 8);
        else if (how == 2)
            m->words[at / 8] = test_random(random) >> test_random(random) % 64;
        else
            len = at + 1;
    }
    return len;
}

static void test_any_bytes_are_refused_or_hold(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct made m;
    int accepted = 0, rounds = test_light() ? 30000 : 600000;
    uint8_t data[1 + sizeof(m.words)];
    for (int i = 0; i < rounds; i++) {
        uint32_t type = 1 + (uint32_t)test_random(&random) % (SB_CONTROL_TYPES - 1);
        if (i % 2)
            made_request(&m, &random, type, (uint32_t)test_random(&random) % 4);
        else
            made_reply(&m, &random, type, (uint32_t)test_random(&random) % 5);
        size_t len = mutate(&random, &m);
        data[0] = (uint8_t)test_random(&random);
        memcpy(data + 1, m.words, len);
        accepted += sb_control_parse_request(m.words, len) == 0;
        assert_holds(control_property(data, len + 1), i);
    }
    assert_in_range(accepted, rounds / 50, rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_messages_are_accepted),
        cmocka_unit_test(test_pages_are_walked_to_their_end),
        cmocka_unit_test(test_lengths_that_lie_are_refused),
        cmocka_unit_test(test_counts_that_overflow_are_refused),
        cmocka_unit_test(test_any_bytes_are_refused_or_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
