/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: wrap=malloc,calloc,realloc */
/* Every allocation of the coordinator's thread fails once: requests fail wholly or not at all, and
 * leaving never fails: what it could not do is done when there is memory again. */
#include "coord_peer.h"

#include <pthread.h>

#include "support/testbus.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static uint32_t countdown; /* atomic: allocations until one fails; 0: none does */
static pthread_t tester;

static bool fails_now(void)
{
    if (sb_load_relaxed(&countdown) == 0 || pthread_equal(pthread_self(), tester))
        return false;
    return sb_add_relaxed(&countdown, (uint32_t)-1) == 1;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __real_realloc(p, size);
}

/* Lets the n-th allocation from now on fail; whether that has happened is what disarm says. */
static void arm(uint32_t n)
{
    sb_store_relaxed(&countdown, n);
}

static bool disarm(void)
{
    return sb_exchange_acq_rel(&countdown, 0u) == 0;
}

static void expect_nomem(int ret)
{
    if (ret != 0)
        assert_int_equal(ret, SHMBUS_E_NOMEM);
}

static bool ring_is_free(struct peer *p, const struct sb_subscribe_reply *seat)
{
    int64_t deadline = sb_clock_after(PEER_WAIT);
    while (sb_load_acquire(&peer_ring_rec(p, seat->ring)->gen) == seat->ring_gen) {
        if (sb_clock_ns() > deadline)
            return false;
        (void)peer_stats(p);
    }
    return true;
}

/* One life of a subscription with the n-th allocation failing; false when none failed. */
static bool subscribe_once(struct peer *p, uint32_t n, uint32_t full)
{
    struct sb_subscribe_reply keep, seat;
    struct sb_route_reply route[3];
    int routed[3], subscribed;
    static const char *const topic[] = {"a/1", "a/2", "b"};
    assert_int_equal(peer_subscribe(p, "#", 3, full, &keep), 0);
    arm(n);
    for (int i = 0; i < 3; i++)
        expect_nomem(routed[i] = peer_route(p, topic[i], &route[i]));
    expect_nomem(subscribed = peer_subscribe(p, "a/#", 3, full, &seat));
    for (int i = 0; i < 2; i++) {
        if (routed[i] == 0)
            assert_int_equal(peer_route_lists(p, route[i].route, seat.ring), subscribed == 0);
    }
    if (subscribed == 0) {
        assert_int_equal(peer_seat(p, SB_CONTROL_UNSUBSCRIBE, &seat), 0);
        assert_int_equal(peer_seat(p, SB_CONTROL_LEAVE, &seat), 0);
    }
    bool failed = disarm();
    if (subscribed == 0)
        assert_true(ring_is_free(p, &seat));
    assert_int_equal(peer_stats(p).subscriptions, 1);
    for (int i = 0; i < 3; i++) {
        struct sb_unroute_request request = {.count = 1};
        if (routed[i] != 0)
            continue;
        assert_true(peer_route_lists(p, route[i].route, keep.ring));
        assert_false(peer_route_lists(p, route[i].route, seat.ring));
        uint32_t pair[2] = {route[i].route, route[i].gen};
        assert_int_equal(
            peer_request(p, SB_CONTROL_UNROUTE, &request, sizeof(request), pair, sizeof(pair)), 0);
    }
    assert_int_equal(peer_seat(p, SB_CONTROL_LEAVE, &keep), 0);
    return failed;
}

static void test_subscribing_fails_wholly_or_not_at_all(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    uint32_t n = 1;
    bus_prepare(&bus, "nomem");
    bus_start(&bus);
    peer_attach(&p, &bus);
    while (subscribe_once(&p, n, 1 + n % 2) || subscribe_once(&p, n, 2 - n % 2))
        n++;
    printf("%u allocations failed\n", n - 1);
    assert_true(n > 10);
    peer_close(&p);
    bus_stop(&bus);
}

static void test_attaching_fails_wholly_or_not_at_all(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p, q;
    bool failed = true;
    bus_prepare(&bus, "nomemattach");
    bus_start(&bus);
    peer_attach(&p, &bus);
    for (uint32_t n = 1; failed; n++) {
        struct sb_hello_request hello = {
            .head = {SB_CONTROL_HELLO, 1, sizeof(hello), 0},
            .version = SB_CONTROL_VERSION,
            .layout = SB_LAYOUT_VERSION,
            .fingerprint = sb_layout_fingerprint(),
        };
        arm(n);
        peer_connect(&q, &bus);
        int ret = peer_exchange(&q, &hello, sizeof(hello));
        failed = disarm();
        if (ret == 0)
            expect_nomem(peer_reply(&q)->status);
        peer_close(&q);
        int64_t deadline = sb_clock_after(PEER_WAIT);
        while (peer_stats(&p).connections != 1)
            assert_true(sb_clock_ns() < deadline);
    }
    peer_close(&p);
    bus_stop(&bus);
}

static void test_starting_fails_wholly_or_not_at_all(void **state)
{
    (void)state;
    struct bus bus;
    bool failed = true;
    for (uint32_t n = 1; failed; n++) {
        bus_prepare(&bus, "nomemstart");
        arm(n);
        int ret = shmbus_coordinator_start(bus.name, &bus.options, &bus.coordinator);
        failed = disarm();
        expect_nomem(ret);
        if (ret == 0)
            bus_stop(&bus);
        else
            assert_int_equal(rmdir(bus.dir), 0);
    }
}

int main(void)
{
    tester = pthread_self();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subscribing_fails_wholly_or_not_at_all),
        cmocka_unit_test(test_attaching_fails_wholly_or_not_at_all),
        cmocka_unit_test(test_starting_fails_wholly_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
