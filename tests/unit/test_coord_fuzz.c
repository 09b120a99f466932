/* SPDX-License-Identifier: Apache-2.0 */
/* Random and mutated control messages never crash or confuse the coordinator. */
#include "coord_peer.h"

#include "support/testbus.h"

/* A message of a real client. */
static size_t fuzz_valid(uint64_t *random, const struct peer *p, uint64_t *buf)
{
    struct sb_control_head *head = (void *)buf;
    uint32_t type = 1 + (uint32_t)(test_random(random) % (SB_CONTROL_TYPES - 1));
    uint32_t n = (uint32_t)test_random(random) % 4;
    size_t len = sizeof(*head);
    memset(buf, 0, 512);
    if (type == SB_CONTROL_SUBSCRIBE) {
        struct sb_subscribe_request *m = (void *)buf;
        m->queue_len = test_random(random) % 4;
        m->full = n;
        m->pattern_count = 1 + n;
        for (uint32_t i = 0; i <= n; i++)
            m->patterns_len = (uint32_t)peer_pattern((uint8_t *)(m + 1), m->patterns_len,
                                                     i % 2 ? "a/+/#" : "b/=1");
        len = sizeof(*m) + m->patterns_len;
    } else if (type == SB_CONTROL_ROUTE) {
        struct sb_route_request *m = (void *)buf;
        size_t topic;
        assert_int_equal(sb_topic_encode(shmbus_text(n % 2 ? "a/b/c" : "b/=1"), SB_TOPIC_CONCRETE,
                                         &sb_wildcards_default, (uint8_t *)(m + 1), 256, &topic),
                         0);
        m->topic_len = (uint32_t)topic;
        len = sizeof(*m) + topic;
    } else if (type == SB_CONTROL_MAP) {
        struct sb_map_message *m = (void *)buf;
        m->count = 1 + n;
        for (uint32_t i = 0; i < m->count; i++)
            m->item[i] = (struct sb_map_item){.kind = 1 + (uint32_t)test_random(random) % 5,
                                              .index = (uint32_t)test_random(random) % 4,
                                              .gen = (uint32_t)test_random(random) % 4};
        len = sizeof(*m) + m->count * sizeof(m->item[0]);
    } else if (type == SB_CONTROL_UNROUTE) {
        struct sb_unroute_request *m = (void *)buf;
        uint32_t *pair = (void *)(m + 1);
        m->count = n;
        for (uint32_t i = 0; i < 2 * n; i++)
            pair[i] = (uint32_t)test_random(random) % 3;
        len = sizeof(*m) + n * 8;
    } else if (type == SB_CONTROL_HELLO) {
        struct sb_hello_request *m = (void *)buf;
        m->version = SB_CONTROL_VERSION;
        m->layout = SB_LAYOUT_VERSION;
        m->fingerprint = sb_layout_fingerprint();
        m->observer = n % 2;
        len = sizeof(*m);
    } else if (type == SB_CONTROL_UNSUBSCRIBE || type == SB_CONTROL_LEAVE) {
        struct sb_seat_request *m = (void *)buf;
        m->seat = (uint32_t)test_random(random) % 6;
        m->seat_gen = m->seat < sb_load_acquire(&peer_header(p)->seats.count)
                          ? peer_seat_rec(p, m->seat)->gen
                          : 1;
        len = sizeof(*m);
    } else if (type == SB_CONTROL_GROW || type == SB_CONTROL_HANDLES || type == SB_CONTROL_CONNS) {
        ((struct sb_grow_message *)(void *)buf)->size = test_random(random) % 300000;
        len = sizeof(struct sb_grow_message);
    }
    *head = (struct sb_control_head){type, (uint32_t)test_random(random), (uint32_t)len, 0};
    return len;
}

static size_t fuzz_mutate(uint64_t *random, uint8_t *bytes, size_t len)
{
    uint64_t how = test_random(random) % 4;
    for (uint64_t i = test_random(random) % 4; how < 2 && i > 0; i--)
        bytes[test_random(random) % len] = (uint8_t)test_random(random);
    if (how == 1)
        len = 1 + test_random(random) % len;
    if (how == 3)
        bytes[test_random(random) % len] ^= (uint8_t)(1u << test_random(random) % 8);
    if (test_random(random) % 2 && len >= 12) {
        uint32_t size = (uint32_t)len;
        memcpy(bytes + 8, &size, 4);
    }
    return len;
}

static void fuzz_attach(struct peer *p, const struct bus *bus)
{
    peer_attach(p, bus);
    struct sb_route_reply route;
    struct sb_subscribe_reply seat;
    assert_int_equal(peer_route(p, "a/b/c", &route), 0);
    assert_int_equal(peer_subscribe(p, "a/#", 4, SB_DROP_OLDEST, &seat), 0);
}

static void test_any_message_is_survived(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p, sane;
    uint64_t random = test_seed();
    uint64_t buf[1024];
    bus_prepare(&bus, "fuzz");
    bus_start(&bus);
    fuzz_attach(&p, &bus);
    fuzz_attach(&sane, &bus);
    int rounds = test_light() ? 10000 : 40000;
    for (int i = 0; i < rounds; i++) {
        size_t len = fuzz_valid(&random, &p, buf);
        if (test_random(&random) % 2)
            len = fuzz_mutate(&random, (uint8_t *)buf, len);
        bool died = peer_exchange(&p, buf, len) != 0;
        if (!died && peer_reply(&p)->status < 0)
            assert_true(p.reply_len <= sizeof(struct sb_control_head) + SB_CONTROL_SENTENCE);
        if (died || test_random(&random) % 200 == 0) {
            peer_close(&p);
            fuzz_attach(&p, &bus);
        }
        if (test_random(&random) % 100 == 0) /* what it may write, it scribbles over */
            for (int k = 0; k < 4096; k += 8)
                memcpy(p.inbox + k, &random, 8);
    }
    peer_close(&p);
    struct sb_route_reply route;
    assert_int_equal(peer_route(&sane, "a/x", &route), 0);
    assert_int_equal(peer_stats(&sane).connections > 0, 1);
    peer_close(&sane);
    bus_stop(&bus);
}

/* The first message of a session can be anything as well. */
static void test_any_first_message_is_survived(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p, sane;
    uint64_t random = test_seed();
    uint64_t buf[1024];
    bus_prepare(&bus, "first");
    bus_start(&bus);
    fuzz_attach(&sane, &bus);
    for (int i = 0; i < 1000; i++) {
        size_t len = fuzz_valid(&random, &sane, buf);
        if (i % 2)
            len = fuzz_mutate(&random, (uint8_t *)buf, len);
        peer_connect(&p, &bus);
        (void)peer_exchange(&p, buf, len);
        peer_close(&p);
    }
    int64_t deadline = sb_clock_after(PEER_WAIT);
    while (peer_stats(&sane).connections != 1)
        assert_true(sb_clock_ns() < deadline);
    peer_close(&sane);
    bus_stop(&bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_message_is_survived),
        cmocka_unit_test(test_any_first_message_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
