/* SPDX-License-Identifier: Apache-2.0 */
/*
 * O5, P6, N3, N4, T1: what breaks a rule is refused with the documented code and one sentence that
 * names it, leaves the out-parameters alone, and has changed nothing: the figures of the bus stay
 * as they were, and the next publish arrives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/testbus.h"

#define MIB ((size_t)1 << 20)

static struct test_bus bus;
static struct shmbus_conn *conn, *other;
static struct shmbus_sub *sub;
static struct shmbus_publisher *publisher;
static struct shmbus_bus_stats figures;
static uint64_t published;

/*
 * What a refusal is.
 */

/* Marks the sentence, so that one from before is not taken for the refusal's. */
static void forget(void)
{
    struct shmbus_publisher *none;
    assert_int_equal(shmbus_prepare(NULL, shmbus_text("stale"), NULL, &none), SHMBUS_E_INVALID);
    assert_string_equal(shmbus_errmsg(), "the connection is NULL");
}

static void check_refusal(int got, int want, const char *names, const char *what, int line)
{
    const char *said = shmbus_errmsg();
    const char *wrong = got != want                               ? "another code"
                        : strlen(said) < 10                       ? "no sentence"
                        : strchr(said, '\n')                      ? "more than one line"
                        : !strcmp(said, "the connection is NULL") ? "no sentence of its own"
                        : strstr(said, names) == NULL             ? "a sentence that lacks it"
                                                                  : NULL;
    if (wrong)
        fail_msg("line %d: %s: %s: %d (wanted %d, \"%s\"): %s", line, what, wrong, got, want, names,
                 said);
}

/* call fails with that code and a sentence that contains names. */
#define REFUSED(call, code, names)                                                                 \
    do {                                                                                           \
        forget();                                                                                  \
        int got_ = (call);                                                                         \
        check_refusal(got_, code, names, #call, __LINE__);                                         \
    } while (0)

#define INVALID(call, names) REFUSED(call, SHMBUS_E_INVALID, names)

/* For out-parameters: a place that nothing may be stored to. */
static uint64_t pristine[64];

#define UNTOUCHED ((void *)pristine)

static void assert_untouched(void)
{
    static const uint64_t zeros[64];
    assert_memory_equal(pristine, zeros, sizeof(zeros));
}

static void assert_figures(const struct shmbus_bus_stats *now, const struct shmbus_bus_stats *then)
{
    assert_int_equal(now->connections, then->connections);
    assert_int_equal(now->subscriptions, then->subscriptions);
    assert_int_equal(now->routes, then->routes);
    assert_int_equal(now->dropped, then->dropped);
    assert_int_equal(now->publish_failed, then->publish_failed);
    assert_int_equal(now->arena_used, then->arena_used);
}

/* A publish arrives, by either way. */
static void assert_alive(void)
{
    struct shmbus_message m;
    struct shmbus_delivery delivery;
    for (int i = 0; i < 2; i++) {
        uint64_t n = ++published;
        int ret = i ? shmbus_publisher_publish(publisher, &n, sizeof(n), NULL, &delivery)
                    : shmbus_publish(conn, shmbus_text("good"), &n, sizeof(n), NULL, &delivery);
        assert_int_equal(ret, 0);
        assert_int_equal(delivery.matched, 1);
        assert_int_equal(delivery.seq, n);
        assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), 0);
        assert_memory_equal(m.payload, &n, sizeof(n));
        shmbus_release(&m);
    }
    assert_int_equal(shmbus_recv(sub, &m, 0), SHMBUS_EMPTY);
    struct shmbus_conn_stats stats;
    assert_int_equal(shmbus_conn_stats(conn, &stats, sizeof(stats)), 0);
    assert_int_equal(stats.published, published);
    assert_int_equal(stats.publish_failed, 0);
    assert_int_equal(test_books(sub).received, published);
}

static int setup(void **state)
{
    (void)state;
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    options.heap_limit = 8 * MIB;
    test_bus_start(&bus, &options);
    conn = test_connect(&bus);
    other = test_connect(&bus);
    sub = test_subscribe(other, "good", 0, 0);
    assert_int_equal(shmbus_prepare(conn, shmbus_text("good"), NULL, &publisher), 0);
    published = 0;
    assert_alive();
    figures = test_bus_figures(&bus);
    return 0;
}

/* Ends every test: nothing has changed. */
static int teardown(void **state)
{
    (void)state;
    assert_untouched();
    struct shmbus_bus_stats now = test_bus_figures(&bus);
    assert_figures(&now, &figures);
    assert_alive();
    shmbus_publisher_free(publisher);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    shmbus_conn_free(other);
    test_bus_stop(&bus);
    return 0;
}

/*
 * Names and options.
 */

#define TEN "0123456789"

static void test_N4_bus_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
    } bad[] = {
        {NULL, "NULL"},
        {"", "empty"},
        {".hidden", ".hidden"},
        {"-f", "-f"},
        {"..", ".."},
        {"a/b", "0x2f at offset 1"},
        {"../x", "0x2f at offset 2"},
        {"a b", "0x20"},
        {"line\nbreak", "0x0a"},
        {"caf\xc3\xa9", "0xc3 at offset 3"},
        {TEN TEN TEN TEN TEN TEN "12345", "64"},
    };
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    options.runtime_dir = bus.dir;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        INVALID(shmbus_connect(bad[i].name, NULL, UNTOUCHED), bad[i].says);
        INVALID(shmbus_inspect(bad[i].name, UNTOUCHED, sizeof(struct shmbus_bus_stats)),
                bad[i].says);
        INVALID(shmbus_coordinator_start(bad[i].name, &options, UNTOUCHED), bad[i].says);
    }
    /* The longest is fine, and nobody there. */
    REFUSED(shmbus_connect(TEN TEN TEN TEN TEN TEN "1234", NULL, UNTOUCHED), SHMBUS_E_NO_BUS,
            TEN TEN);
}

static void test_N3_no_such_bus(void **state)
{
    (void)state;
    struct shmbus_connect_options options = SHMBUS_CONNECT_OPTIONS_INIT;
    REFUSED(shmbus_connect("nobody.here", NULL, UNTOUCHED), SHMBUS_E_NO_BUS, "nobody.here");
    REFUSED(shmbus_inspect("nobody.here", UNTOUCHED, sizeof(struct shmbus_bus_stats)),
            SHMBUS_E_NO_BUS, "nobody.here");
    options.wait_ns = 30000000;
    int64_t start = test_now_ns();
    REFUSED(shmbus_connect("nobody.here", &options, UNTOUCHED), SHMBUS_E_NO_BUS, "nobody.here");
    assert_true(test_now_ns() - start >= options.wait_ns);
}

static void test_N4_a_name_that_is_taken(void **state)
{
    (void)state;
    char pid[32];
    snprintf(pid, sizeof(pid), "%ld", (long)bus.coordinator.pid);
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    options.runtime_dir = bus.dir;
    REFUSED(shmbus_coordinator_start(bus.name, &options, UNTOUCHED), SHMBUS_E_BUS_EXISTS, pid);
    REFUSED(shmbus_coordinator_start(bus.name, &options, UNTOUCHED), SHMBUS_E_BUS_EXISTS, bus.name);
}

static void test_connect_options(void **state)
{
    (void)state;
    const struct shmbus_connect_options good = SHMBUS_CONNECT_OPTIONS_INIT;
    struct shmbus_connect_options bad = good;
    INVALID(shmbus_connect(bus.name, NULL, NULL), "NULL");
    bad.size = 0;
    INVALID(shmbus_connect(bus.name, &bad, UNTOUCHED), "size 0");
    bad = good;
    bad.wait_ns = -2;
    INVALID(shmbus_connect(bus.name, &bad, UNTOUCHED), "wait_ns -2");
    bad = good;
    bad.control_timeout_ns = 0;
    INVALID(shmbus_connect(bus.name, &bad, UNTOUCHED), "control_timeout_ns 0");
    bad = good;
    bad.flags = 2;
    INVALID(shmbus_connect(bus.name, &bad, UNTOUCHED), "0x2");
    bad = good;
    bad.reserved = 1;
    INVALID(shmbus_connect(bus.name, &bad, UNTOUCHED), "reserved");
}

static void test_P6_coordinator_options(void **state)
{
    (void)state;
    struct shmbus_coordinator_options good = SHMBUS_COORDINATOR_OPTIONS_INIT, bad;
    char name[80];
    snprintf(name, sizeof(name), "%s-second", bus.name);
    good.runtime_dir = bus.dir;
#define COORDINATOR(field, value, says)                                                            \
    bad = good;                                                                                    \
    bad.field = value;                                                                             \
    INVALID(shmbus_coordinator_start(name, &bad, UNTOUCHED), says)
    COORDINATOR(size, 8, "8 bytes");
    COORDINATOR(queue_len, -1, "queue_len -1");
    COORDINATOR(queue_len, SHMBUS_QUEUE_MAX + 1, "queue_len 1048577");
    COORDINATOR(full, 0, "full 0");
    COORDINATOR(full, 3, "full 3");
    COORDINATOR(flags, 1, "0x1");
    COORDINATOR(s_wild, NULL, "s_wild");
    COORDINATOR(s_wild, "#", "#");
    COORDINATOR(m_wild, "", "wildcard");
    COORDINATOR(mode, 0400, "0400");
    COORDINATOR(mode, 04777, "04777");
    COORDINATOR(heap_limit, 0, "heap");
    COORDINATOR(arena_limit, 1, "arena");
    COORDINATOR(runtime_dir, "/" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN, "/" TEN);
#undef COORDINATOR
    INVALID(shmbus_coordinator_start(name, &good, NULL), "handle");
}

static int subscribe(int64_t queue_len, uint32_t full, uint32_t flags)
{
    struct shmbus_subscribe_options options = SHMBUS_SUBSCRIBE_OPTIONS_INIT;
    options.queue_len = queue_len;
    options.full = full;
    options.flags = flags;
    return shmbus_subscribe(conn, shmbus_text("good"), &options, UNTOUCHED);
}

static void test_P6_queues(void **state)
{
    (void)state;
    INVALID(subscribe(-1, 0, 0), "queue_len -1");
    INVALID(subscribe(0, 0, 0), "queue_len 0");
    INVALID(subscribe(SHMBUS_QUEUE_MAX + 1, 0, 0), "queue_len 1048577");
    INVALID(subscribe(INT64_MAX, 0, 0), "queue_len 9223372036854775807");
    /* What would block. The sentence says why not. */
    INVALID(subscribe(10, 3, 0), "full 3");
    INVALID(subscribe(10, 3, 0), "stop every publisher");
    INVALID(subscribe(10, UINT32_MAX, 0), "full 4294967295");
    INVALID(subscribe(10, 0, 1), "0x1");
    struct {
        struct shmbus_subscribe_options known;
        uint64_t unknown;
    } newer = {SHMBUS_SUBSCRIBE_OPTIONS_INIT, 1};
    newer.known.size = sizeof(newer);
    INVALID(shmbus_subscribe(conn, shmbus_text("good"), &newer.known, UNTOUCHED), "newer library");
    newer.known.size = 4;
    INVALID(shmbus_subscribe(conn, shmbus_text("good"), &newer.known, UNTOUCHED), "size 4");
}

/*
 * Topics.
 */

/* As a topic, in every call that takes one. */
static void bad_topic(struct shmbus_topic topic, const char *says)
{
    INVALID(shmbus_publish(conn, topic, "x", 1, NULL, UNTOUCHED), says);
    INVALID(shmbus_prepare(conn, topic, NULL, UNTOUCHED), says);
    INVALID(shmbus_subscribe(conn, topic, NULL, UNTOUCHED), says);
    struct shmbus_topic two[] = {shmbus_text("fine"), topic};
    INVALID(shmbus_subscribe_many(conn, two, 2, NULL, UNTOUCHED), says);
    INVALID(shmbus_subscribe_many(conn, two, 2, NULL, UNTOUCHED), "pattern 2 of 2");
}

static void bad_token(struct shmbus_token token, const char *says)
{
    struct shmbus_token tokens[] = {SHMBUS_STR("fine"), SHMBUS_NUM(3), token};
    bad_topic(shmbus_tokens(tokens, 3), says);
    bad_topic(shmbus_tokens(tokens, 3), "token 3");
}

static void test_T1_topics(void **state)
{
    (void)state;
    char long_token[257];
    memset(long_token, 'x', 256);
    long_token[256] = '\0';
    struct shmbus_token token = SHMBUS_STR("fine"), many[33];
    for (int i = 0; i < 33; i++)
        many[i] = token;

    bad_topic(shmbus_tokens(many, 0), "no tokens");
    bad_topic(shmbus_tokens(NULL, 2), "NULL");
    bad_topic(shmbus_tokens(many, 33), "token 33");
    bad_topic(shmbus_text("1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/"
                          "28/29/30/31/32/33"),
              "at most 32");
    struct shmbus_topic both = shmbus_text("fine");
    both.tokens = many;
    both.count = 1;
    bad_topic(both, "both");

    bad_token(shmbus_token_real(NAN), "not finite");
    bad_token(shmbus_token_real(INFINITY), "not finite");
    bad_token(shmbus_token_real(-INFINITY), "not finite");
    bad_token(shmbus_token_bytes(long_token, 256), "256 bytes");
    bad_token(shmbus_token_bytes(NULL, 5), "NULL");
    token.kind = 3;
    bad_token(token, "unknown kind 3");

    bad_topic(shmbus_text(NULL), "no tokens");
    bad_topic(shmbus_text(""), "empty");
    bad_topic(shmbus_text(long_token), "256 bytes");
    bad_topic(shmbus_text("fine/\\"), "token 2");
    bad_topic(shmbus_text("fine/\\xg0"), "token 2");
    bad_topic(shmbus_text("a/\\e"), "token 2");
    bad_topic(shmbus_text("a/=one"), "=one");
    bad_topic(shmbus_text("=1e999/a"), "=1e999");
}

static void test_T2_patterns(void **state)
{
    (void)state;
    static const char *const bad[] = {"a/#/b", "#/b", "#/#", "a/#/+"};
    for (size_t i = 0; i < 4; i++)
        INVALID(shmbus_subscribe(conn, shmbus_text(bad[i]), NULL, UNTOUCHED), "(#)");
    struct shmbus_topic patterns[SHMBUS_PATTERNS_MAX + 1];
    for (int i = 0; i <= SHMBUS_PATTERNS_MAX; i++)
        patterns[i] = shmbus_text("good");
    INVALID(shmbus_subscribe_many(conn, patterns, 0, NULL, UNTOUCHED), "0 patterns");
    INVALID(shmbus_subscribe_many(conn, patterns, SHMBUS_PATTERNS_MAX + 1, NULL, UNTOUCHED),
            "65 patterns");
    INVALID(shmbus_subscribe_many(conn, NULL, 1, NULL, UNTOUCHED), "patterns");
    INVALID(shmbus_subscribe(conn, shmbus_text("good"), NULL, NULL), "NULL");

    /* Together more than 64 KiB. */
    char bytes[SHMBUS_TOKEN_BYTES_MAX];
    memset(bytes, 'x', sizeof(bytes));
    struct shmbus_token tokens[5];
    for (int i = 0; i < 5; i++)
        tokens[i] = shmbus_token_bytes(bytes, sizeof(bytes));
    for (int i = 0; i < SHMBUS_PATTERNS_MAX; i++)
        patterns[i] = shmbus_tokens(tokens, 5);
    INVALID(shmbus_subscribe_many(conn, patterns, SHMBUS_PATTERNS_MAX, NULL, UNTOUCHED), "65536");
}

/*
 * Payloads.
 */

/* The largest payload, as the refusal of a larger one tells. */
static size_t largest(void)
{
    forget();
    int ret = shmbus_publisher_publish(publisher, "x", SIZE_MAX, NULL, NULL);
    assert_int_equal(ret, SHMBUS_E_INVALID);
    const char *most = strstr(shmbus_errmsg(), "at most ");
    assert_non_null(most);
    return strtoull(most + strlen("at most "), NULL, 10);
}

static void test_payloads(void **state)
{
    (void)state;
    size_t most = largest();
    assert_in_range(most, MIB, 8 * MIB - 1);
    char *payload = calloc(1, most + 1);
    assert_non_null(payload);
    const size_t sizes[] = {most + 1,     8 * MIB,       (size_t)1 << 32, ((size_t)1 << 32) + 1,
                            SIZE_MAX / 2, SIZE_MAX - 64, SIZE_MAX - 31,   SIZE_MAX - 8,
                            SIZE_MAX - 1, SIZE_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char says[32];
        snprintf(says, sizeof(says), "%zu bytes", sizes[i]);
        INVALID(shmbus_publisher_publish(publisher, payload, sizes[i], NULL, UNTOUCHED), says);
        INVALID(shmbus_publish(conn, shmbus_text("good"), payload, sizes[i], NULL, UNTOUCHED),
                says);
        /* Nor does it make a route. */
        INVALID(shmbus_publish(conn, shmbus_text("new"), payload, sizes[i], NULL, UNTOUCHED), says);
        INVALID(shmbus_publisher_publish(publisher, NULL, sizes[i], NULL, UNTOUCHED), "NULL");
        INVALID(shmbus_publish(conn, shmbus_text("new"), NULL, sizes[i], NULL, UNTOUCHED), "NULL");
    }
    INVALID(shmbus_publisher_publish(publisher, NULL, 1, NULL, UNTOUCHED), "NULL");
    INVALID(shmbus_publish(conn, shmbus_text("new"), NULL, 1, NULL, UNTOUCHED), "NULL");
    /* Exactly that much is fine. */
    struct shmbus_message m;
    memset(payload, 7, most);
    assert_int_equal(shmbus_publisher_publish(publisher, payload, most, NULL, NULL), 0);
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), 0);
    assert_int_equal(m.size, most);
    assert_memory_equal(m.payload, payload, most);
    shmbus_release(&m);
    published++;
    free(payload);
}

static void test_publish_options(void **state)
{
    (void)state;
    const struct shmbus_publish_options good = SHMBUS_PUBLISH_OPTIONS_INIT;
    struct shmbus_publish_options bad[3] = {good, good, good};
    static const char *const says[] = {"0 bytes", "encoding 6", "clock 3"};
    bad[0].size = 0;
    bad[1].encoding = SHMBUS_PROTOBUF + 1;
    bad[2].clock = SHMBUS_CLOCK_MONOTONIC + 1;
    for (int i = 0; i < 3; i++) {
        struct shmbus_topic topic = shmbus_text("new");
        INVALID(shmbus_publish(conn, topic, "x", 1, &bad[i], UNTOUCHED), says[i]);
        INVALID(shmbus_publisher_publish(publisher, "x", 1, &bad[i], UNTOUCHED), says[i]);
        INVALID(shmbus_prepare(conn, topic, &bad[i], UNTOUCHED), says[i]);
    }
    INVALID(shmbus_prepare(conn, shmbus_text("new"), NULL, NULL), "NULL");
}

/*
 * Receiving.
 */

static void test_receive_arguments(void **state)
{
    (void)state;
    struct shmbus_message m[2];
    memset(m, 0, sizeof(m));
    INVALID(shmbus_recv(sub, UNTOUCHED, -2), "-2");
    INVALID(shmbus_recv(sub, UNTOUCHED, INT64_MIN), "-9223372036854775808");
    INVALID(shmbus_recv_many(sub, m, 0, UNTOUCHED, 0), "0 messages");
    INVALID(shmbus_recv_many(sub, m, SHMBUS_HELD_MAX + 1, UNTOUCHED, 0), "65 messages");
    INVALID(shmbus_recv_many(sub, m, 1, UNTOUCHED, -5), "-5");
    INVALID(shmbus_recv_copy(sub, m, NULL, 1, UNTOUCHED, 0), "NULL");
    INVALID(shmbus_recv_copy(sub, m, m, 1, UNTOUCHED, -2), "-2");
    INVALID(shmbus_sub_stats(sub, NULL, 8), "place");
    INVALID(shmbus_sub_stats(sub, UNTOUCHED, 0), "place");
    INVALID(shmbus_conn_stats(conn, UNTOUCHED, 0), "place");
    INVALID(shmbus_bus_stats(conn, UNTOUCHED, 0), "place");
}

/*
 * Handles.
 */

static void test_no_handles(void **state)
{
    (void)state;
    struct shmbus_topic topic = shmbus_text("good");
    /* One of them sees the mark that forget() leaves. */
    assert_int_equal(shmbus_publish(NULL, topic, "x", 1, NULL, UNTOUCHED), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_subscribe(NULL, topic, NULL, UNTOUCHED), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_disconnect(NULL), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_conn_stats(NULL, UNTOUCHED, 8), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_bus_stats(NULL, UNTOUCHED, 8), SHMBUS_E_INVALID);
    assert_string_equal(shmbus_errmsg(), "the connection is NULL");
    INVALID(shmbus_publisher_publish(NULL, "x", 1, NULL, UNTOUCHED), "publisher");
    INVALID(shmbus_recv(NULL, UNTOUCHED, 0), "subscription");
    INVALID(shmbus_recv_until(NULL, UNTOUCHED, 0), "subscription");
    INVALID(shmbus_recv_many(NULL, UNTOUCHED, 1, UNTOUCHED, 0), "subscription");
    INVALID(shmbus_recv_copy(NULL, UNTOUCHED, NULL, 0, UNTOUCHED, 0), "subscription");
    INVALID(shmbus_unsubscribe(conn, NULL), "subscription");
    INVALID(shmbus_sub_stats(NULL, UNTOUCHED, 8), "subscription");
    /* Of another kind. */
    INVALID(shmbus_publish((void *)sub, topic, "x", 1, NULL, UNTOUCHED), "no connection");
    INVALID(shmbus_recv((void *)conn, UNTOUCHED, 0), "no subscription");
    INVALID(shmbus_unsubscribe(conn, (void *)other), "no subscription");
    INVALID(shmbus_publisher_publish((void *)sub, "x", 1, NULL, UNTOUCHED), "no publisher");
    shmbus_sub_free(NULL);
    shmbus_conn_free(NULL);
    shmbus_publisher_free(NULL);
    shmbus_coordinator_stop(NULL);
}

static void test_C3_foreign_handles(void **state)
{
    (void)state;
    REFUSED(shmbus_unsubscribe(conn, sub), SHMBUS_E_FOREIGN, "another connection");
    assert_string_equal(shmbus_sub_why(sub), "");
}

/* O5: disconnected is reported first, then invalid, then denied. */
static void test_O5_disconnected_comes_first(void **state)
{
    (void)state;
    struct shmbus_topic bad = shmbus_text("");
    struct shmbus_conn *ended = test_connect(&bus);
    struct shmbus_sub *closed = test_subscribe(ended, "bye", 0, 0);
    struct shmbus_publisher *late;
    assert_int_equal(shmbus_prepare(ended, shmbus_text("bye"), NULL, &late), 0);
    assert_int_equal(shmbus_disconnect(ended), 0);
#define GONE(call) REFUSED(call, SHMBUS_E_DISCONNECTED, bus.name)
    GONE(shmbus_publish(ended, bad, NULL, 5, NULL, UNTOUCHED));
    GONE(shmbus_publish(ended, shmbus_text("bye"), "x", 1, NULL, UNTOUCHED));
    GONE(shmbus_publisher_publish(late, NULL, SIZE_MAX, NULL, UNTOUCHED));
    GONE(shmbus_publisher_publish(late, "x", SIZE_MAX, NULL, UNTOUCHED));
    GONE(shmbus_publisher_publish(late, "x", 1, NULL, UNTOUCHED));
    GONE(shmbus_prepare(ended, bad, NULL, UNTOUCHED));
    GONE(shmbus_subscribe(ended, bad, NULL, UNTOUCHED));
    GONE(shmbus_subscribe_many(ended, NULL, 0, NULL, UNTOUCHED));
    GONE(shmbus_bus_stats(ended, UNTOUCHED, sizeof(struct shmbus_bus_stats)));
#undef GONE
    /* A connection that was freed leaves its handles closed. */
    shmbus_conn_free(ended);
    assert_int_equal(shmbus_recv(closed, UNTOUCHED, SHMBUS_FOREVER), SHMBUS_CLOSED);
    assert_string_equal(shmbus_sub_why(closed), "disconnected");
    REFUSED(shmbus_unsubscribe(conn, closed), SHMBUS_E_FOREIGN, "another connection");
    REFUSED(shmbus_publisher_publish(late, "x", 1, NULL, UNTOUCHED), SHMBUS_E_DISCONNECTED,
            "disconnected");
    shmbus_publisher_free(late);
    shmbus_sub_free(closed);
    figures.arena_used = test_bus_figures(&bus).arena_used; /* kept for the next connection */
}

static void test_O5_invalid_comes_before_denied(void **state)
{
    (void)state;
    struct shmbus_connect_options options = SHMBUS_CONNECT_OPTIONS_INIT;
    struct shmbus_topic good = shmbus_text("good"), bad = shmbus_text("");
    struct shmbus_conn *observer;
    options.flags = SHMBUS_CONNECT_OBSERVER;
    assert_int_equal(shmbus_connect(bus.name, &options, &observer), 0);
    INVALID(shmbus_publish(observer, bad, "x", 1, NULL, UNTOUCHED), "empty");
    INVALID(shmbus_publish(observer, good, NULL, 1, NULL, UNTOUCHED), "NULL");
    INVALID(shmbus_prepare(observer, bad, NULL, UNTOUCHED), "empty");
    INVALID(shmbus_subscribe(observer, bad, NULL, UNTOUCHED), "empty");
    INVALID(shmbus_subscribe_many(observer, &good, 0, NULL, UNTOUCHED), "0 patterns");
    REFUSED(shmbus_publish(observer, good, "x", 1, NULL, UNTOUCHED), SHMBUS_E_DENIED, "observer");
    REFUSED(shmbus_prepare(observer, good, NULL, UNTOUCHED), SHMBUS_E_DENIED, "observer");
    REFUSED(shmbus_subscribe(observer, good, NULL, UNTOUCHED), SHMBUS_E_DENIED, "observer");
    shmbus_conn_free(observer);
}

/* A limit comes last: of two things wrong, the argument is named. */
static void test_O5_invalid_comes_before_limits(void **state)
{
    (void)state;
    struct shmbus_message held[SHMBUS_HELD_MAX];
    for (int i = 0; i < SHMBUS_HELD_MAX; i++) {
        assert_int_equal(shmbus_publisher_publish(publisher, "x", 1, NULL, NULL), 0);
        assert_int_equal(shmbus_recv(sub, &held[i], 0), 0);
        published++;
    }
    INVALID(shmbus_recv(sub, UNTOUCHED, -2), "-2");
    REFUSED(shmbus_recv(sub, UNTOUCHED, 0), SHMBUS_E_LIMIT, "64 messages");
    for (int i = 0; i < SHMBUS_HELD_MAX; i++)
        shmbus_release(&held[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_N4_bus_names),
        TEST(test_N3_no_such_bus),
        TEST(test_N4_a_name_that_is_taken),
        TEST(test_connect_options),
        TEST(test_P6_coordinator_options),
        TEST(test_P6_queues),
        TEST(test_T1_topics),
        TEST(test_T2_patterns),
        TEST(test_payloads),
        TEST(test_publish_options),
        TEST(test_receive_arguments),
        TEST(test_no_handles),
        TEST(test_C3_foreign_handles),
        TEST(test_O5_disconnected_comes_first),
        TEST(test_O5_invalid_comes_before_denied),
        TEST(test_O5_invalid_comes_before_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
