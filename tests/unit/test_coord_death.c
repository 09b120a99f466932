/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that die, hang up or stop reading; who may map what; figures; the end of a bus. */
#include "coord_peer.h"

#include <signal.h>
#include <sys/wait.h>

#include "support/testbus.h"

#define CAPACITY 8

static struct sb_ring_view map_ring(struct peer *p, uint32_t kind, uint32_t ring, uint8_t **base,
                                    uint64_t *size)
{
    const struct sb_ring_rec *rec = peer_ring_rec(p, ring);
    uint32_t gen = peer_segment_rec(p, rec->segment)->gen;
    int fd = peer_ask(p, kind, rec->segment, gen, size);
    assert_true(fd >= 0);
    *base = peer_map(fd, *size, kind == SB_MAP_RINGS_WRITE ? PROT_READ | PROT_WRITE : PROT_READ);
    close(fd);
    return sb_ring_view((void *)(*base + rec->offset), rec->capacity);
}

/* A process that attaches, subscribes to t and x, publishes t, and then waits to be killed. */
static int victim_run(int fd, void *arg)
{
    struct peer p;
    struct sb_subscribe_reply seat[2];
    struct sb_route_reply route;
    peer_attach(&p, arg);
    assert_int_equal(peer_subscribe(&p, "t", CAPACITY, SB_DROP_OLDEST, &seat[0]), 0);
    assert_int_equal(peer_subscribe(&p, "x", CAPACITY, SB_REJECT_NEWEST, &seat[1]), 0);
    assert_int_equal(peer_route(&p, "t", &route), 0);
    test_tell(fd, p.conn);
    test_tell(fd, route.route);
    test_tell(fd, seat[0].seat);
    uint32_t ring = (uint32_t)test_hear(fd); /* the survivor's, to push to */
    uint8_t *base;
    uint64_t size, pos = 0;
    struct sb_ring_view view = map_ring(&p, SB_MAP_RINGS_WRITE, ring, &base, &size);
    for (int i = 0; i < 3; i++)
        (void)sb_ring_push(&view, sb_desc(p.conn, p.gen, 256u * (unsigned)i, 64), false, 0, &pos);
    test_tell(fd, 1);
    return (int)test_hear_or(fd, 0);
}

struct scene {
    struct bus bus;
    struct peer p;
    struct test_proc victim;
    struct sb_subscribe_reply seat; /* the survivor's */
    uint32_t conn, gen, route, theirs;
};

static void scene_open(struct scene *s, const char *what)
{
    bus_prepare(&s->bus, what);
    bus_start(&s->bus);
    peer_attach(&s->p, &s->bus);
    s->victim = test_spawn(victim_run, &s->bus);
    s->conn = (uint32_t)test_hear(s->victim.fd);
    s->route = (uint32_t)test_hear(s->victim.fd);
    s->theirs = (uint32_t)test_hear(s->victim.fd);
    s->gen = peer_conn_rec(&s->p, s->conn)->gen;
    assert_int_equal(peer_subscribe(&s->p, "t", CAPACITY + 1, SB_DROP_OLDEST, &s->seat), 0);
    test_tell(s->victim.fd, s->seat.ring);
    assert_int_equal(test_hear(s->victim.fd), 1);
}

static void scene_close(struct scene *s)
{
    peer_close(&s->p);
    bus_stop(&s->bus);
}

static bool only_one_left(void *arg)
{
    struct sb_bus_stats_reply stats = peer_stats(arg);
    return stats.connections == 1 && stats.subscriptions == 1 && stats.routes == 0;
}

static bool victim_is_free(void *arg)
{
    struct scene *s = arg;
    (void)peer_stats(&s->p);
    return sb_load_acquire(&peer_conn_rec(&s->p, s->conn)->state) == SB_CONN_FREE;
}

static struct sb_seat *seat_of(const struct scene *s)
{
    return (void *)(s->p.inbox + peer_seat_rec(&s->p, s->seat.seat)->offset);
}

static void test_a_killed_client_leaves_only_its_messages(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, "killed");
    int64_t killed = sb_clock_ns();
    test_kill(&s.victim);
    (void)test_until(only_one_left, &s.p, 5000);
    printf("gone %d us after the kill\n", (int)((sb_clock_ns() - killed) / 1000));
    assert_int_equal(peer_seat_rec(&s.p, s.theirs)->gen % 2, 0);
    assert_int_equal(peer_route_rec(&s.p, s.route)->state, SB_ROUTE_DEAD);
    assert_int_equal(peer_route_rec(&s.p, s.route)->conn, s.conn);
    /* Queued: the heap can still be had, read-only, by the one who has messages of it. */
    uint64_t size = 0;
    int fd = peer_ask(&s.p, SB_MAP_HEAP, s.conn, s.gen, &size);
    assert_true(fd >= 0);
    assert_ptr_equal(mmap(NULL, size, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    close(fd);
    /* A hold below the tail keeps it, the cursor behind it does not let it go. */
    struct sb_seat *seat = seat_of(&s);
    sb_store_release(&seat->hold[3], sb_hold_word(1, 1));
    sb_store_release(&seat->cursor, 3);
    int64_t until = sb_clock_after(200 * SB_NS_PER_MS);
    while (sb_clock_ns() < until)
        assert_int_equal(peer_conn_rec(&s.p, s.conn)->state, SB_CONN_DEAD);
    sb_store_release(&seat->hold[3], 0);
    (void)test_until(victim_is_free, &s, 5000);
    assert_int_equal(peer_conn_rec(&s.p, s.conn)->gen, s.gen + 1);
    assert_int_equal(peer_route_rec(&s.p, s.route)->state, SB_ROUTE_FREE);
    assert_int_equal(peer_ask(&s.p, SB_MAP_HEAP, s.conn, s.gen, NULL), -1);
    scene_close(&s);
}

static void test_messages_that_are_overwritten_free_a_dead_heap(void **state)
{
    (void)state;
    struct scene s;
    struct sb_route_reply route;
    uint8_t *base;
    uint64_t size, pos = 0;
    scene_open(&s, "lapped");
    test_kill(&s.victim);
    (void)test_until(only_one_left, &s.p, 5000);
    assert_int_equal(peer_route(&s.p, "t", &route), 0);
    struct sb_ring_view view = map_ring(&s.p, SB_MAP_RINGS_WRITE, s.seat.ring, &base, &size);
    for (int i = 0; i < CAPACITY + 5; i++)
        assert_int_equal(sb_ring_push(&view, 1u << 12, false, 0, &pos), SB_PUSH_DONE);
    (void)test_until(victim_is_free, &s, 5000);
    munmap(base, size);
    scene_close(&s);
}

static void test_a_hangup_ends_routes_and_keeps_seats(void **state)
{
    (void)state;
    struct scene s;
    struct peer q;
    struct sb_subscribe_reply seat;
    struct sb_route_reply route;
    scene_open(&s, "hangup");
    test_kill(&s.victim);
    (void)test_until(only_one_left, &s.p, 5000);
    peer_attach(&q, &s.bus);
    assert_int_equal(peer_subscribe(&q, "q", 3, SB_DROP_OLDEST, &seat), 0);
    assert_int_equal(peer_route(&q, "t", &route), 0);
    close(q.sock);
    (void)test_until(only_one_left, &s.p, 5000);
    assert_int_equal(peer_seat_rec(&s.p, seat.seat)->gen, seat.seat_gen);
    assert_int_equal(peer_seat_rec(&s.p, seat.seat)->reason, SB_REASON_DISCONNECTED);
    assert_int_equal(peer_route_rec(&s.p, route.route)->state, SB_ROUTE_DEAD);
    assert_int_equal(peer_conn_rec(&s.p, q.conn)->state, SB_CONN_DISCONNECTED);
    peer_unmap(&q);
    scene_close(&s);
}

static void test_a_clean_free_is_reaped_while_its_process_lives(void **state)
{
    (void)state;
    struct scene s;
    struct peer q;
    struct sb_subscribe_reply seat;
    struct sb_route_reply route;
    scene_open(&s, "clean");
    peer_attach(&q, &s.bus);
    assert_int_equal(peer_subscribe(&q, "q", 3, SB_REJECT_NEWEST, &seat), 0);
    assert_int_equal(peer_route(&q, "nobody", &route), 0);
    assert_int_equal(peer_head(&q, SB_CONTROL_DISCONNECT), 0);
    assert_int_equal(peer_head(&q, SB_CONTROL_DISCONNECT), 0);
    assert_int_equal(peer_conn_rec(&s.p, q.conn)->state, SB_CONN_DISCONNECTED);
    assert_int_equal(peer_seat_rec(&s.p, seat.seat)->reason, SB_REASON_DISCONNECTED);
    assert_int_equal(peer_route(&q, "more", &route), SHMBUS_E_DISCONNECTED);
    assert_int_equal(peer_seat(&q, SB_CONTROL_LEAVE, &seat), 0);
    struct scene watched = {.p = s.p, .conn = q.conn};
    peer_close(&q);
    (void)test_until(victim_is_free, &watched, 5000);
    s.p.id = watched.p.id;
    test_kill(&s.victim);
    scene_close(&s);
}

/* Nothing is given to whom no route or seat leads there. */
static void test_maps_are_given_by_right_only(void **state)
{
    (void)state;
    struct scene s;
    struct peer q;
    struct sb_route_reply route;
    uint64_t size = 0;
    scene_open(&s, "rights");
    peer_attach(&q, &s.bus);
    const struct sb_ring_rec *ring = peer_ring_rec(&q, s.seat.ring);
    const struct sb_segment_rec *segment = peer_segment_rec(&q, ring->segment);
    uint32_t bell_gen = peer_segment_rec(&q, ring->bell_segment)->gen;
    assert_int_equal(peer_ask(&q, SB_MAP_RINGS_WRITE, ring->segment, segment->gen, NULL), -1);
    assert_int_equal(peer_ask(&q, SB_MAP_RINGS_READ, ring->segment, segment->gen, NULL), -1);
    assert_int_equal(peer_ask(&q, SB_MAP_INBOX, s.p.conn, s.p.gen, NULL), -1);
    assert_int_equal(peer_ask(&q, SB_MAP_HEAP, s.conn, s.gen, NULL), -1);
    assert_int_equal(peer_ask(&q, SB_MAP_HEAP, s.p.conn, s.p.gen, NULL), -1);
    assert_int_equal(peer_ask(&q, 0, 0, 0, NULL), -1);
    assert_int_equal(peer_ask(&q, SB_MAP_KINDS, 1, 1, NULL), -1);
    assert_int_equal(peer_route(&q, "t", &route), 0);
    int fd = peer_ask(&q, SB_MAP_RINGS_WRITE, ring->segment, segment->gen, &size);
    assert_true(fd >= 0 && size == segment->size);
    close(fd);
    assert_int_equal(peer_ask(&q, SB_MAP_RINGS_WRITE, ring->segment, segment->gen + 1, NULL), -1);
    assert_int_equal(peer_ask(&q, SB_MAP_RINGS_READ, ring->segment, segment->gen, NULL), -1);
    fd = peer_ask(&q, SB_MAP_BELLS, ring->bell_segment, bell_gen, NULL);
    assert_true(fd >= 0);
    close(fd);
    fd = peer_ask(&q, SB_MAP_INBOX, s.p.conn, s.p.gen, &size);
    assert_true(fd >= 0 && size == q.inbox_limit);
    assert_ptr_equal(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    close(fd);
    fd = peer_ask(&s.p, SB_MAP_HEAP, q.conn, q.gen, NULL);
    assert_true(fd >= 0);
    close(fd);
    fd = peer_ask(&s.p, SB_MAP_RINGS_READ, ring->segment, segment->gen, NULL);
    assert_true(fd >= 0);
    assert_ptr_equal(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    close(fd);
    peer_close(&q);
    test_kill(&s.victim);
    scene_close(&s);
}

/* offered = received + queued + dropped, also of what is gone. */
static void test_figures_are_the_books(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    struct sb_subscribe_reply a;
    struct sb_route_reply route;
    uint8_t *base;
    uint64_t size, pos = 0;
    bus_prepare(&bus, "books");
    bus_start(&bus);
    peer_attach(&p, &bus);
    assert_int_equal(peer_route(&p, "t", &route), 0);
    assert_int_equal(peer_subscribe(&p, "t", 5, SB_DROP_OLDEST, &a), 0);
    struct sb_ring_view view = map_ring(&p, SB_MAP_RINGS_WRITE, a.ring, &base, &size);
    struct sb_seat *seat = (void *)(p.inbox + peer_seat_rec(&p, a.seat)->offset);
    for (int i = 0; i < 12; i++)
        assert_int_equal(sb_ring_push(&view, 1u << 12, false, 0, &pos), SB_PUSH_DONE);
    seat->taken = seat->returned = 1;
    seat->cursor = sb_ring_advance(0, 1, 5, view.bits);
    struct sb_page_request page = {.from = 0};
    assert_int_equal(peer_request(&p, SB_CONTROL_HANDLES, &page, sizeof(page), NULL, 0), 0);
    const struct sb_page_reply *reply = (const void *)p.reply;
    const void *found;
    size_t at = 0;
    assert_int_equal(sb_control_next_entry(reply, &at, &found), 1);
    const struct sb_handle_entry *handle = found;
    assert_int_equal(handle->offered, 12);
    assert_int_equal(handle->received, 1);
    assert_int_equal(handle->queued, 5);
    assert_int_equal(handle->dropped, 6);
    assert_int_equal(handle->queue_len, 5);
    assert_int_equal(handle->pid, getpid());
    assert_int_equal(sb_control_next_entry(reply, &at, &found), 0);
    assert_int_equal(reply->next, UINT32_MAX);
    /* A hostile inbox makes nonsense of its own figures, and they never fall. */
    memset(seat, 0xff, sizeof(*seat));
    assert_true(peer_stats(&p).dropped >= 6);
    memset(seat, 0, sizeof(*seat));
    seat->taken = seat->returned = 1;
    seat->cursor = sb_ring_advance(0, 1, 5, view.bits);
    assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &a), 0);
    assert_int_equal(peer_stats(&p).dropped, 11);
    assert_int_equal(peer_request(&p, SB_CONTROL_CONNS, &page, sizeof(page), NULL, 0), 0);
    at = 0;
    assert_int_equal(sb_control_next_entry((const void *)p.reply, &at, &found), 1);
    const struct sb_conn_entry *conn = found;
    assert_int_equal(conn->pid, getpid());
    assert_int_equal(conn->routes, 1);
    assert_true(conn->principal_len > 0);
    munmap(base, size);
    peer_close(&p);
    bus_stop(&bus);
}

static void test_pages_hold_all_handles(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    struct sb_subscribe_reply seat;
    uint32_t seen = 0;
    bus_prepare(&bus, "pages");
    bus_start(&bus);
    peer_attach(&p, &bus);
    for (int i = 0; i < 1500; i++)
        assert_int_equal(peer_subscribe(&p, "some/pattern/+/#", 2, 1 + i % 2, &seat), 0);
    struct sb_page_request page = {.from = 0};
    uint32_t pages = 0;
    do {
        assert_int_equal(peer_request(&p, SB_CONTROL_HANDLES, &page, sizeof(page), NULL, 0), 0);
        const struct sb_page_reply *reply = (const void *)p.reply;
        const void *found;
        size_t at = 0;
        while (sb_control_next_entry(reply, &at, &found) == 1)
            seen++;
        page.from = reply->next;
        pages++;
    } while (page.from != UINT32_MAX);
    assert_int_equal(seen, 1500);
    assert_true(pages > 1);
    peer_close(&p);
    bus_stop(&bus);
}

static void test_stopping_hands_out_heaps(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, "farewell");
    test_kill(&s.victim);
    (void)test_until(only_one_left, &s.p, 5000);
    int64_t before = sb_clock_ns();
    bus_stop(&s.bus);
    assert_true(sb_clock_ns() - before < SB_NS_PER_S);
    assert_int_equal(sb_sock_recv(s.p.sock, s.p.reply, sizeof(s.p.reply), &s.p.reply_len, &s.p.fds,
                                  SB_CONTROL_FDS, sb_clock_after(PEER_WAIT)),
                     0);
    assert_int_equal(sb_control_parse_reply(s.p.reply, s.p.reply_len, SB_CONTROL_HEAPS, 0), 0);
    const struct sb_map_message *heaps = (const void *)s.p.reply;
    assert_int_equal(heaps->count, 1);
    assert_int_equal(heaps->item[0].index, s.conn);
    assert_int_equal(heaps->item[0].gen, s.gen);
    assert_int_equal(s.p.fds.n, 1);
    assert_int_equal(peer_header(&s.p)->state, SB_BUS_STOPPED);
    assert_int_equal(peer_seat_rec(&s.p, s.seat.seat)->gen, s.seat.seat_gen);
    peer_close(&s.p);
}

/* A client that asks and never reads is hung up on; the others do not notice. */
static void test_who_does_not_read_is_hung_up_on(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p, q;
    bus_prepare(&bus, "deaf");
    bus_start(&bus);
    peer_attach(&p, &bus);
    peer_attach(&q, &bus);
    struct sb_control_head ask = {SB_CONTROL_BUS_STATS, 1, sizeof(ask), 0};
    int ret;
    do
        ret = sb_sock_send(q.sock, &ask, sizeof(ask), NULL, 0, sb_clock_after(PEER_WAIT));
    while (ret == 0);
    assert_int_equal(ret, SHMBUS_CLOSED);
    assert_int_equal(peer_stats(&p).connections, 1);
    peer_close(&p);
    peer_close(&q);
    bus_stop(&bus);
}

static void test_limits_are_named(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    struct sb_subscribe_reply seat;
    bus_prepare(&bus, "limits");
    bus.options.arena_limit = 1 << 20;
    bus.options.heap_limit = 1 << 17;
    bus_start(&bus);
    peer_attach(&p, &bus);
    struct sb_grow_message grow = {.size = 100000};
    assert_int_equal(peer_request(&p, SB_CONTROL_GROW, &grow, sizeof(grow), NULL, 0), 0);
    assert_int_equal(((struct sb_grow_message *)(void *)p.reply)->size, 102400);
    assert_int_equal(peer_conn_rec(&p, p.conn)->heap_size, 102400);
    grow.size = (1 << 17) + 1;
    assert_int_equal(peer_request(&p, SB_CONTROL_GROW, &grow, sizeof(grow), NULL, 0),
                     SHMBUS_E_LIMIT);
    assert_non_null(strstr(peer_sentence(&p), "131072"));
    /* Ring memory of a user. */
    int n = 0, ret;
    while ((ret = peer_subscribe(&p, "big", SB_QUEUE_MAX, SB_REJECT_NEWEST, &seat)) == 0 && n < 3)
        n++;
    assert_int_equal(ret, 0);
    /* The arena fills; what is there goes on working, and giving back makes room. */
    char text[200];
    struct sb_route_reply first = {.route = SB_NONE}, route;
    memset(text, 'x', sizeof(text));
    for (n = 0; n < 100000; n++) {
        snprintf(text + 150, 50, "%d", n);
        if (peer_route(&p, text, &route) != 0)
            break;
        if (n == 0)
            first = route;
    }
    assert_int_equal(peer_reply(&p)->status, SHMBUS_E_LIMIT);
    assert_non_null(strstr(peer_sentence(&p), "1048576"));
    assert_int_equal(peer_stats(&p).routes, n);
    struct sb_unroute_request request = {.count = 1};
    uint32_t pair[2] = {first.route, first.gen};
    assert_int_equal(
        peer_request(&p, SB_CONTROL_UNROUTE, &request, sizeof(request), pair, sizeof(pair)), 0);
    assert_int_equal(peer_stats(&p).routes, n - 1);
    /* A subscription that cannot be had changes nothing; leaving works with a full arena. */
    assert_int_equal(peer_seat(&p, SB_CONTROL_LEAVE, &seat), 0);
    peer_close(&p);
    bus_stop(&bus);
}

/* Routes for text/0, text/1, … until the arena is full. */
static uint32_t fill(struct peer *p, const char *text, struct sb_route_reply *routes, uint32_t max)
{
    char topic[200];
    uint32_t n = 0;
    do
        snprintf(topic, sizeof(topic), "%s/%u", text, n);
    while (n < max && peer_route(p, topic, &routes[n]) == 0 && ++n);
    assert_true(n < max);
    return n;
}

static bool ring_is_free(void *arg)
{
    const struct scene *s = arg;
    (void)peer_stats((struct peer *)&s->p);
    return sb_load_acquire(&peer_ring_rec(&s->p, s->seat.ring)->gen) == s->seat.ring_gen + 1;
}

/* Leaving cannot fail: where the smaller sets find no memory, it is completed when there is some.
 */
static void test_leaving_works_in_a_full_arena(void **state)
{
    (void)state;
    struct scene s;
    struct sb_subscribe_reply keep;
    struct sb_route_reply *routes = calloc(60000, sizeof(*routes));
    bus_prepare(&s.bus, "fullarena");
    s.bus.options.arena_limit = 1 << 20;
    bus_start(&s.bus);
    peer_attach(&s.p, &s.bus);
    assert_int_equal(peer_subscribe(&s.p, "#", 4, SB_REJECT_NEWEST, &keep), 0);
    assert_int_equal(peer_subscribe(&s.p, "a/#", 4, SB_REJECT_NEWEST, &s.seat), 0);
    char text[160];
    memset(text, 0, sizeof(text));
    memset(text, 'x', 150);
    memcpy(text, "a/", 2);
    uint32_t n = fill(&s.p, text, routes, 20000);
    n += fill(&s.p, "a/y", routes + n, 20000);
    n += fill(&s.p, "a", routes + n, 20000);
    assert_int_equal(peer_seat(&s.p, SB_CONTROL_UNSUBSCRIBE, &s.seat), 0);
    assert_int_equal(peer_seat_rec(&s.p, s.seat.seat)->reason, SB_REASON_UNSUBSCRIBED);
    assert_int_equal(peer_seat(&s.p, SB_CONTROL_LEAVE, &s.seat), 0);
    assert_int_equal(peer_stats(&s.p).subscriptions, 1);
    for (uint32_t i = 0; i < n; i += 2) {
        struct sb_unroute_request request = {.count = 1};
        uint32_t pair[2] = {routes[i].route, routes[i].gen};
        assert_int_equal(
            peer_request(&s.p, SB_CONTROL_UNROUTE, &request, sizeof(request), pair, sizeof(pair)),
            0);
    }
    (void)test_until(ring_is_free, &s, 5000);
    for (uint32_t i = 1; i < n; i += 2) {
        assert_true(peer_route_lists(&s.p, routes[i].route, keep.ring));
        assert_false(peer_route_lists(&s.p, routes[i].route, s.seat.ring));
    }
    free(routes);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_killed_client_leaves_only_its_messages),
        cmocka_unit_test(test_messages_that_are_overwritten_free_a_dead_heap),
        cmocka_unit_test(test_a_hangup_ends_routes_and_keeps_seats),
        cmocka_unit_test(test_a_clean_free_is_reaped_while_its_process_lives),
        cmocka_unit_test(test_maps_are_given_by_right_only),
        cmocka_unit_test(test_figures_are_the_books),
        cmocka_unit_test(test_pages_hold_all_handles),
        cmocka_unit_test(test_stopping_hands_out_heaps),
        cmocka_unit_test(test_who_does_not_read_is_hung_up_on),
        cmocka_unit_test(test_limits_are_named),
        cmocka_unit_test(test_leaving_works_in_a_full_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
