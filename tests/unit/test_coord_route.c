/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribing and routing: what the arena says against a naive matcher; joining, closing, leaving.
 */
#include "coord_peer.h"

#include "support/testbus.h"

static void test_subscribe_is_checked(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    struct sb_subscribe_reply seat;
    uint8_t list[65 * 8];
    bus_prepare(&bus, "check");
    bus_start(&bus);
    peer_attach(&p, &bus);
    assert_int_equal(peer_subscribe(&p, "a", 0, 0, &seat), SHMBUS_E_INVALID);
    assert_non_null(strstr(peer_sentence(&p), "queue_len 0"));
    assert_int_equal(peer_subscribe(&p, "a", -1, 0, &seat), SHMBUS_E_INVALID);
    assert_int_equal(peer_subscribe(&p, "a", SB_QUEUE_MAX + 1ll, 0, &seat), SHMBUS_E_INVALID);
    assert_int_equal(peer_subscribe(&p, "a", 1, 3, &seat), SHMBUS_E_INVALID);
    assert_non_null(strstr(peer_sentence(&p), "never blocks"));
    size_t len = 0;
    for (int i = 0; i < 65; i++)
        len = peer_pattern(list, len, "abc");
    assert_int_equal(peer_subscribe_list(&p, list, len, 65, 1, 0, &seat), SHMBUS_E_INVALID);
    assert_int_equal(peer_subscribe_list(&p, list, 0, 0, 1, 0, &seat), SHMBUS_E_INVALID);
    assert_int_equal(peer_subscribe_list(&p, list, 14, 3, 1, 0, &seat), SHMBUS_E_INVALID);
    assert_int_equal(peer_subscribe_list(&p, list, 14, 1, 1, 0, &seat), SHMBUS_E_INVALID);
    assert_int_equal(peer_subscribe_list(&p, list, 13, 2, 1, 0, &seat), SHMBUS_E_INVALID);
    list[2] = 99; /* no token */
    assert_int_equal(peer_subscribe_list(&p, list, 7, 1, 1, 0, &seat), SHMBUS_E_INVALID);
    assert_int_equal(peer_stats(&p).subscriptions, 0);
    assert_int_equal(peer_subscribe(&p, "a", INT64_MIN, 0, &seat), 0);
    assert_int_equal(peer_ring_rec(&p, seat.ring)->capacity, 10);
    assert_int_equal(peer_ring_rec(&p, seat.ring)->full, SB_DROP_OLDEST);
    struct sb_route_reply route;
    struct sb_route_request request = {.topic_len = 1};
    assert_int_equal(peer_request(&p, SB_CONTROL_ROUTE, &request, sizeof(request), "\3", 1),
                     SHMBUS_E_INVALID); /* a wildcard */
    assert_int_equal(peer_route(&p, "+", &route), 0);
    peer_close(&p);
    bus_stop(&bus);
}

static void test_equal_patterns_share_a_ring(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p, q;
    struct sb_subscribe_reply a, b, c, d, e;
    uint8_t list[64];
    bus_prepare(&bus, "shared");
    bus_start(&bus);
    peer_attach(&p, &bus);
    peer_attach(&q, &bus);
    size_t len = peer_pattern(list, peer_pattern(list, 0, "x/+"), "a");
    assert_int_equal(peer_subscribe_list(&p, list, len, 2, 7, SB_DROP_OLDEST, &a), 0);
    len = peer_pattern(list, peer_pattern(list, peer_pattern(list, 0, "a"), "x/+"), "a");
    assert_int_equal(peer_subscribe_list(&q, list, len, 3, 7, SB_DROP_OLDEST, &b), 0);
    assert_int_equal(a.ring, b.ring);
    assert_int_not_equal(a.seat, b.seat);
    const struct sb_ring_rec *rec = peer_ring_rec(&p, a.ring);
    assert_int_equal(rec->gen, a.ring_gen);
    assert_int_equal(rec->seats, b.seat);
    assert_int_equal(peer_seat_rec(&p, b.seat)->next, a.seat);
    assert_int_equal(peer_seat_rec(&p, b.seat)->conn, q.conn);
    assert_int_equal(peer_seat_rec(&p, b.seat)->pattern_count, 2);
    assert_true(rec->wakes >= 2);
    /* Another length, one pattern fewer, or reject_newest: rings of their own. */
    assert_int_equal(peer_subscribe_list(&q, list, len, 3, 8, SB_DROP_OLDEST, &c), 0);
    assert_int_equal(peer_subscribe(&q, "a", 7, SB_DROP_OLDEST, &d), 0);
    assert_int_equal(peer_subscribe_list(&q, list, len, 3, 7, SB_REJECT_NEWEST, &e), 0);
    assert_true(c.ring != a.ring && d.ring != a.ring && e.ring != a.ring);
    assert_int_equal(peer_ring_rec(&p, e.ring)->bell_segment, q.hello.bell_segment);
    assert_int_equal(peer_ring_rec(&p, e.ring)->bell, q.hello.bell);
    /* One closes: the other goes on. Both leave: the ring goes. */
    assert_int_equal(peer_seat(&p, SB_CONTROL_UNSUBSCRIBE, &a), 0);
    assert_int_equal(peer_seat_rec(&p, a.seat)->reason, SB_REASON_UNSUBSCRIBED);
    assert_int_equal(peer_seat_rec(&p, b.seat)->reason, SB_REASON_NONE);
    assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &a), 0);
    assert_int_equal(rec->seats, b.seat);
    assert_int_equal(peer_seat_rec(&p, b.seat)->next, SB_NONE);
    assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &a), SHMBUS_E_FOREIGN);
    assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &b), SHMBUS_E_FOREIGN);
    assert_int_equal(peer_seat(&q, SB_CONTROL_LEAVE, &b), 0);
    assert_int_equal(rec->gen, a.ring_gen + 1);
    peer_close(&p);
    peer_close(&q);
    bus_stop(&bus);
}

static void test_the_epoch_moves_before_the_reply(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    struct sb_subscribe_reply seat;
    struct sb_route_reply route;
    bus_prepare(&bus, "epoch");
    bus_start(&bus);
    peer_attach(&p, &bus);
    assert_int_equal(peer_route(&p, "t/1", &route), 0);
    assert_int_equal(sb_set_offset(peer_route_rec(&p, route.route)->set), 0);
    uint64_t epoch = peer_header(&p)->epoch;
    assert_int_equal(peer_subscribe(&p, "t/+", 4, SB_DROP_OLDEST, &seat), 0);
    assert_true(peer_header(&p)->epoch > epoch);
    assert_true(peer_route_lists(&p, route.route, seat.ring));
    epoch = peer_header(&p)->epoch;
    assert_int_equal(peer_seat(&p, SB_CONTROL_UNSUBSCRIBE, &seat), 0);
    assert_true(peer_header(&p)->epoch > epoch);
    assert_false(peer_route_lists(&p, route.route, seat.ring));
    peer_close(&p);
    bus_stop(&bus);
}

/* Start and end are the exact tail, also where a push has not moved it. */
static void test_start_and_end_are_the_tail(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    struct sb_subscribe_reply a, b;
    struct sb_route_reply route;
    bus_prepare(&bus, "tail");
    bus_start(&bus);
    peer_attach(&p, &bus);
    assert_int_equal(peer_route(&p, "t", &route), 0);
    assert_int_equal(peer_subscribe(&p, "t", 5, SB_DROP_OLDEST, &a), 0);
    const struct sb_ring_rec *rec = peer_ring_rec(&p, a.ring);
    uint64_t size = 0;
    int fd = peer_ask(&p, SB_MAP_RINGS_WRITE, rec->segment, peer_segment_rec(&p, rec->segment)->gen,
                      &size);
    assert_true(fd >= 0);
    uint8_t *base = peer_map(fd, size, PROT_READ | PROT_WRITE);
    struct sb_ring_view ring = sb_ring_view((void *)(base + rec->offset), 5);
    uint64_t pos = 0;
    for (int i = 0; i < 12; i++)
        assert_int_equal(sb_ring_push(&ring, 42, false, 0, &pos), SB_PUSH_DONE);
    uint64_t tail = ring.mem->tail;
    ring.mem->tail = pos; /* as after a kill between the two CASes */
    assert_int_equal(peer_subscribe(&p, "t", 5, SB_DROP_OLDEST, &b), 0);
    assert_int_equal(b.ring, a.ring);
    assert_true(peer_seat_rec(&p, b.seat)->start == tail);
    assert_true(peer_seat_rec(&p, a.seat)->start == 0);
    assert_int_equal(sb_ring_push(&ring, 42, false, 0, &pos), SB_PUSH_DONE);
    assert_int_equal(peer_seat(&p, SB_CONTROL_UNSUBSCRIBE, &a), 0);
    assert_true(peer_seat_rec(&p, a.seat)->end == ring.mem->tail);
    assert_true(peer_seat_rec(&p, b.seat)->end == SB_OPEN_END);
    /* Type-stable: used again, seq and tail go on. */
    assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &a), 0);
    struct sb_subscribe_reply keep;
    assert_int_equal(peer_subscribe(&p, "keep", 6, SB_DROP_OLDEST, &keep), 0);
    assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &b), 0);
    assert_int_equal(peer_subscribe(&p, "other", 5, SB_DROP_OLDEST, &a), 0);
    assert_int_equal(a.ring, b.ring);
    assert_int_equal(a.ring_gen, b.ring_gen + 2);
    assert_true(peer_seat_rec(&p, a.seat)->start == ring.mem->tail);
    munmap(base, size);
    close(fd);
    peer_close(&p);
    bus_stop(&bus);
}

/*
 * The oracle: random patterns come and go, random topics get routes and give them back, and after
 * each change every route lists exactly the rings of the open subscriptions that match.
 */
#define SUBS 40
#define TOPICS 60

struct oracle {
    struct {
        bool open;
        struct sb_subscribe_reply seat;
        uint8_t list[4 * 128];
        size_t len;
        uint32_t count;
    } sub[SUBS];
    struct {
        bool live;
        struct sb_route_reply route;
        char text[32];
        uint8_t bytes[128];
        size_t len;
    } topic[TOPICS];
};

static void random_text(uint64_t *random, bool wild, char *text)
{
    static const char *const tokens[] = {"a", "b", "c", "=1", "+", "#"};
    size_t n = 1 + test_random(random) % 3;
    *text = 0;
    for (size_t i = 0; i < n; i++) {
        size_t t = test_random(random) % (wild ? 6 : 4);
        strcat(text, i ? "/" : "");
        strcat(text, tokens[t]);
        if (t == 5)
            return;
    }
}

static bool oracle_matches(const struct oracle *o, int sub, int topic)
{
    const uint8_t *pattern;
    size_t at = 0, len;
    while (sb_control_next_pattern(o->sub[sub].list, o->sub[sub].len, &at, &pattern, &len) == 1) {
        if (sb_topic_match(pattern, len, o->topic[topic].bytes, o->topic[topic].len))
            return true;
    }
    return false;
}

static void oracle_check(const struct oracle *o, const struct peer *p)
{
    for (int t = 0; t < TOPICS; t++) {
        if (!o->topic[t].live)
            continue;
        uint32_t want[SUBS];
        uint32_t n = 0;
        for (int s = 0; s < SUBS; s++) {
            uint32_t k = 0;
            if (!o->sub[s].open || !oracle_matches(o, s, t))
                continue;
            while (k < n && want[k] != o->sub[s].seat.ring)
                k++;
            if (k == n)
                want[n++] = o->sub[s].seat.ring;
        }
        const struct sb_route_rec *rec = peer_route_rec(p, o->topic[t].route.route);
        assert_int_equal(rec->state, SB_ROUTE_LIVE);
        assert_int_equal(rec->topic_len, o->topic[t].len);
        assert_memory_equal(p->arena + rec->topic, o->topic[t].bytes, o->topic[t].len);
        uint64_t at = sb_set_offset(rec->set);
        const struct sb_ring_set *set = (const void *)(p->arena + at);
        assert_int_equal(at ? set->count : 0, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(peer_route_lists(p, o->topic[t].route.route, want[i]));
            if (i)
                assert_true(set->ring[i - 1] < set->ring[i]);
        }
    }
}

static void oracle_toggle_sub(struct oracle *o, struct peer *p, uint64_t *random)
{
    int s = (int)(test_random(random) % SUBS);
    char text[32];
    if (o->sub[s].open) {
        if (test_random(random) % 2)
            assert_int_equal(peer_seat(p, SB_CONTROL_UNSUBSCRIBE, &o->sub[s].seat), 0);
        assert_int_equal(peer_seat(p, SB_CONTROL_LEAVE, &o->sub[s].seat), 0);
        o->sub[s].open = false;
        return;
    }
    o->sub[s].len = 0;
    o->sub[s].count = 1 + (uint32_t)(test_random(random) % 3);
    for (uint32_t i = 0; i < o->sub[s].count; i++) {
        random_text(random, true, text);
        o->sub[s].len = peer_pattern(o->sub[s].list, o->sub[s].len, text);
    }
    uint32_t full = test_random(random) % 3 ? SB_DROP_OLDEST : SB_REJECT_NEWEST;
    assert_int_equal(peer_subscribe_list(p, o->sub[s].list, o->sub[s].len, o->sub[s].count,
                                         1 + (int64_t)(test_random(random) % 3), full,
                                         &o->sub[s].seat),
                     0);
    o->sub[s].open = true;
}

static void oracle_toggle_topic(struct oracle *o, struct peer *p, uint64_t *random)
{
    int t = (int)(test_random(random) % TOPICS);
    if (o->topic[t].live) {
        struct sb_unroute_request request = {.count = 1};
        uint32_t pair[2] = {o->topic[t].route.route, o->topic[t].route.gen};
        assert_int_equal(
            peer_request(p, SB_CONTROL_UNROUTE, &request, sizeof(request), pair, sizeof(pair)), 0);
        assert_int_equal(peer_route_rec(p, pair[0])->gen, pair[1] + 1);
        for (int k = 0; k < TOPICS; k++) {
            if (o->topic[k].live && o->topic[k].route.route == pair[0])
                o->topic[k].live = false;
        }
        return;
    }
    random_text(random, false, o->topic[t].text);
    assert_int_equal(peer_route(p, o->topic[t].text, &o->topic[t].route), 0);
    assert_int_equal(sb_topic_encode(shmbus_text(o->topic[t].text), SB_TOPIC_CONCRETE,
                                     &sb_wildcards_default, o->topic[t].bytes,
                                     sizeof(o->topic[t].bytes), &o->topic[t].len),
                     0);
    o->topic[t].live = true;
}

static void oracle_end(struct oracle *o, struct peer *p)
{
    for (int s = 0; s < SUBS; s++) {
        if (o->sub[s].open)
            assert_int_equal(peer_seat(p, SB_CONTROL_LEAVE, &o->sub[s].seat), 0);
    }
    for (int t = 0; t < TOPICS; t++) {
        if (o->topic[t].live)
            assert_int_equal(sb_set_offset(peer_route_rec(p, o->topic[t].route.route)->set), 0);
    }
}

static void test_routes_list_what_matches(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    uint64_t random = test_seed();
    struct oracle *o = calloc(1, sizeof(*o));
    bus_prepare(&bus, "oracle");
    bus_start(&bus);
    peer_attach(&p, &bus);
    int rounds = test_light() ? 600 : 3000;
    for (int i = 0; i < rounds; i++) {
        if (test_random(&random) % 2)
            oracle_toggle_sub(o, &p, &random);
        else
            oracle_toggle_topic(o, &p, &random);
        oracle_check(o, &p);
    }
    oracle_end(o, &p);
    free(o);
    peer_close(&p);
    bus_stop(&bus);
}

/* Waits until the arena's use is no more than it was: what is retired is freed by and by. */
static bool arena_use_returns(struct peer *p, uint64_t used)
{
    int64_t deadline = sb_clock_after(PEER_WAIT);
    while (sb_load_acquire(&peer_header(p)->used) > used) {
        if (sb_clock_ns() > deadline)
            return false;
        (void)peer_stats(p);
    }
    return true;
}

static void test_coming_and_going_leaves_nothing(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    struct sb_subscribe_reply seat;
    struct sb_route_reply route;
    char text[32];
    bus_prepare(&bus, "leaves");
    bus_start(&bus);
    peer_attach(&p, &bus);
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "t/%d", i);
        assert_int_equal(peer_route(&p, text, &route), 0);
    }
    uint64_t used = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), i % 2 ? "t/+" : "t/%d/#", i % 20);
        assert_int_equal(peer_subscribe(&p, text, 1 + i % 5, 1 + (uint32_t)i % 2, &seat), 0);
        assert_int_equal(peer_seat(&p, SB_CONTROL_UNSUBSCRIBE, &seat), 0);
        assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &seat), 0);
        if (i == 9) /* the first chunks of the tables are there to stay */
            used = sb_load_acquire(&peer_header(&p)->used);
    }
    assert_true(arena_use_returns(&p, used));
    assert_int_equal(peer_stats(&p).subscriptions, 0);
    peer_close(&p);
    bus_stop(&bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subscribe_is_checked),
        cmocka_unit_test(test_equal_patterns_share_a_ring),
        cmocka_unit_test(test_the_epoch_moves_before_the_reply),
        cmocka_unit_test(test_start_and_end_are_the_tail),
        cmocka_unit_test(test_routes_list_what_matches),
        cmocka_unit_test(test_coming_and_going_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
