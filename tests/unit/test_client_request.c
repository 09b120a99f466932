/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket from the client's side: this test is the coordinator, at the other end of a
 * socket pair. Replies are put there before they are asked for, so nothing has to wait.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/err.h"
#include "client/client.h"
#include "client/request.h"
#include "os/memfd.h"
#include "os_fds.h"

struct fixture {
    struct shmbus_conn conn;
    struct sb_arena_header header;
    int peer;
    int fds_before;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int pair[2];
    assert_non_null(f);
    f->fds_before = count_fds();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    strcpy(f->conn.name, "test");
    f->conn.sock = pair[0];
    f->conn.buffer = malloc(SB_CONTROL_MAX);
    f->conn.control_timeout = 2000000;
    f->conn.header = &f->header;
    f->header.state = SB_BUS_RUNNING;
    f->peer = pair[1];
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    sb_mappings_free(&f->conn);
    close(f->conn.sock);
    if (f->peer >= 0)
        close(f->peer);
    assert_int_equal(count_fds(), f->fds_before);
    free(f->conn.buffer);
    free(f);
    return 0;
}

static void put(struct fixture *f, void *message, size_t size, const int *fds, unsigned n)
{
    struct sb_control_head *head = message;
    head->size = (uint32_t)size;
    assert_int_equal(sb_sock_send(f->peer, message, size, fds, n, SB_SOCK_NOW), 0);
}

/* Takes the next request off the wire; its type, 0 if there is none. */
static uint32_t taken(struct fixture *f, void *message, size_t cap)
{
    size_t len;
    int ret = sb_sock_recv(f->peer, message, cap, &len, NULL, 0, SB_SOCK_NOW);
    if (ret == SHMBUS_TIMEOUT)
        return 0;
    assert_int_equal(ret, 0);
    assert_int_equal(sb_control_parse_request(message, len), 0);
    return ((struct sb_control_head *)message)->type;
}

static int grow(struct fixture *f, uint64_t *size)
{
    struct sb_grow_message request = {.head.type = SB_CONTROL_GROW, .size = 1},
                           reply = {.size = 77};
    int ret = sb_request(&f->conn, &request, sizeof(request), &reply, sizeof(reply));
    *size = reply.size;
    return ret;
}

static void test_reply_is_delivered(void **state)
{
    struct fixture *f = *state;
    struct sb_grow_message reply = {{SB_CONTROL_GROW, 1, 0, 0}, 4096}, request;
    uint64_t size;
    put(f, &reply, sizeof(reply), NULL, 0);
    assert_int_equal(grow(f, &size), 0);
    assert_int_equal(size, 4096);
    assert_int_equal(taken(f, &request, sizeof(request)), SB_CONTROL_GROW);
    assert_int_equal(request.head.id, 1);
    assert_int_equal(request.size, 1);
}

static void test_refusal_carries_its_sentence(void **state)
{
    struct fixture *f = *state;
    struct {
        struct sb_control_head head;
        char text[9];
    } no = {{SB_CONTROL_GROW, 1, 0, SHMBUS_E_LIMIT}, "no more!"};
    uint64_t size;
    put(f, &no, sizeof(no.head) + 8, NULL, 0);
    assert_int_equal(grow(f, &size), SHMBUS_E_LIMIT);
    assert_string_equal(shmbus_errmsg(), "no more!");
    assert_int_equal(size, 77);
}

static void test_late_reply_answers_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t size;
    assert_int_equal(grow(f, &size), SHMBUS_E_COORD);
    assert_non_null(strstr(shmbus_errmsg(), "did not answer"));
    struct sb_grow_message late = {{SB_CONTROL_GROW, 1, 0, 0}, 1};
    struct sb_grow_message reply = {{SB_CONTROL_GROW, 2, 0, 0}, 2};
    put(f, &late, sizeof(late), NULL, 0);
    put(f, &reply, sizeof(reply), NULL, 0);
    assert_int_equal(grow(f, &size), 0);
    assert_int_equal(size, 2);
}

static void test_late_subscription_is_given_back(void **state)
{
    struct fixture *f = *state;
    struct sb_subscribe_reply late = {{SB_CONTROL_SUBSCRIBE, 1, 0, 0}, 5, 7, 0, 0};
    struct sb_grow_message reply = {{SB_CONTROL_GROW, 2, 0, 0}, 2}, asked;
    struct sb_seat_request back;
    uint64_t size;
    f->conn.last_id = 1;
    put(f, &late, sizeof(late), NULL, 0);
    put(f, &reply, sizeof(reply), NULL, 0);
    assert_int_equal(grow(f, &size), 0);
    assert_int_equal(taken(f, &asked, sizeof(asked)), SB_CONTROL_GROW);
    assert_int_equal(taken(f, &back, sizeof(back)), SB_CONTROL_LEAVE);
    assert_int_equal(back.seat, 5);
    assert_int_equal(back.seat_gen, 7);
    assert_int_equal(taken(f, &back, sizeof(back)), 0);
}

static void test_descriptors_that_nobody_wants_are_closed(void **state)
{
    struct fixture *f = *state;
    struct sb_grow_message late = {{SB_CONTROL_GROW, 9, 0, 0}, 1};
    struct sb_grow_message reply = {{SB_CONTROL_GROW, 1, 0, 0}, 2};
    int fds[] = {0, 1, 2};
    uint64_t size;
    int before = count_fds();
    put(f, &late, sizeof(late), fds, 3);
    put(f, &reply, sizeof(reply), fds, 3);
    assert_int_equal(grow(f, &size), 0);
    assert_int_equal(count_fds(), before);
}

static void test_nonsense_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct sb_grow_message odd = {{SB_CONTROL_LEAVE, 1, 0, 0}, 1};
    uint8_t crumb = 1;
    uint64_t size;
    assert_int_equal(sb_sock_send(f->peer, &crumb, 1, NULL, 0, SB_SOCK_NOW), 0);
    put(f, &odd, sizeof(odd), NULL, 0);
    assert_int_equal(grow(f, &size), SHMBUS_E_COORD);
    odd.head = (struct sb_control_head){SB_CONTROL_GROW, 2, 0, 5};
    put(f, &odd, sizeof(odd), NULL, 0);
    assert_int_equal(grow(f, &size), SHMBUS_E_COORD);
    odd.head = (struct sb_control_head){SB_CONTROL_GROW, 3, 0, 0};
    put(f, &odd, sizeof(odd.head), NULL, 0);
    assert_int_equal(grow(f, &size), SHMBUS_E_COORD);
    assert_int_equal(size, 77);
}

static void test_hang_up_is_away_or_ended(void **state)
{
    struct fixture *f = *state;
    uint64_t size;
    close(f->peer);
    f->peer = -1;
    assert_int_equal(grow(f, &size), SHMBUS_E_COORD);
    assert_string_equal(shmbus_errmsg(), "the coordinator of bus test is away");
    f->header.state = SB_BUS_STOPPED;
    assert_int_equal(grow(f, &size), SHMBUS_E_DISCONNECTED);
    assert_string_equal(shmbus_errmsg(), "the bus test has ended");
}

static int heap_fd(void)
{
    int fd;
    assert_int_equal(sb_memfd_create("test", 65536, &fd), 0);
    assert_int_equal(sb_memfd_commit(fd, 0, 4096), 0);
    assert_int_equal(sb_memfd_seal_heap(fd), 0);
    return fd;
}

static int ring_fd(void)
{
    int fd;
    assert_int_equal(sb_memfd_create("test", 65536, &fd), 0);
    assert_int_equal(sb_memfd_seal(fd), 0);
    return fd;
}

union map_message {
    struct sb_map_message message;
    uint8_t bytes[sizeof(struct sb_map_message) + SB_CONTROL_FDS * sizeof(struct sb_map_item)];
};

static void put_map(struct fixture *f, uint32_t type, uint32_t id, const struct sb_map_item *items,
                    uint32_t count, const int *fds, unsigned n)
{
    union map_message m;
    m.message = (struct sb_map_message){{type, id, 0, 0}, count, 0};
    memcpy(m.message.item, items, count * sizeof(*items));
    put(f, &m, sizeof(m.message) + count * sizeof(*items), fds, n);
}

static void test_mapping_is_made_once_and_counted(void **state)
{
    struct fixture *f = *state;
    struct sb_map_item items[] = {{SB_MAP_RINGS_READ, 3, 1, 1, 65536}, {SB_MAP_BELLS, 4, 1, 0, 0}};
    struct sb_mapping_want want[] = {{SB_MAP_RINGS_READ, 3, 1, NULL},
                                     {SB_MAP_BELLS, 4, 1, NULL},
                                     {SB_MAP_RINGS_READ, 3, 1, NULL}};
    union map_message asked;
    int fd = ring_fd();
    put_map(f, SB_CONTROL_MAP, 1, items, 2, &fd, 1);
    assert_int_equal(sb_mapping_get(&f->conn, want, 3), 0);
    assert_int_equal(taken(f, &asked, sizeof(asked)), SB_CONTROL_MAP);
    assert_int_equal(asked.message.count, 2);
    assert_non_null(want[0].mapping);
    assert_null(want[1].mapping);
    assert_ptr_equal(want[0].mapping, want[2].mapping);
    assert_int_equal(want[0].mapping->refs, 2);
    struct sb_mapping_want again = want[0];
    assert_int_equal(sb_mapping_get(&f->conn, &again, 1), 0);
    assert_int_equal(taken(f, &asked, sizeof(asked)), 0);
    assert_ptr_equal(again.mapping, want[0].mapping);
    sb_mapping_put(&f->conn, again.mapping);
    sb_mapping_put(&f->conn, want[0].mapping);
    sb_mapping_put(&f->conn, want[2].mapping);
    sb_mapping_put(&f->conn, NULL);
    /* Unmapped: it has to be asked for again, and nobody answers. */
    assert_int_equal(sb_mapping_get(&f->conn, &again, 1), SHMBUS_E_COORD);
    assert_null(again.mapping);
    close(fd);
}

static void test_more_wants_than_a_request_takes(void **state)
{
    struct fixture *f = *state;
    enum { WANTS = SB_CONTROL_FDS + 6 };
    struct sb_mapping_want want[WANTS];
    struct sb_map_item items[WANTS];
    int fds[SB_CONTROL_FDS], fd = ring_fd();
    for (uint32_t i = 0; i < WANTS; i++) {
        want[i] = (struct sb_mapping_want){SB_MAP_INBOX, i, 1, NULL};
        items[i] = (struct sb_map_item){SB_MAP_INBOX, i, 1, 1, 65536};
        fds[i % SB_CONTROL_FDS] = fd;
    }
    put_map(f, SB_CONTROL_MAP, 1, items, SB_CONTROL_FDS, fds, SB_CONTROL_FDS);
    put_map(f, SB_CONTROL_MAP, 2, items + SB_CONTROL_FDS, 6, fds, 6);
    assert_int_equal(sb_mapping_get(&f->conn, want, WANTS), 0);
    for (uint32_t i = 0; i < WANTS; i++) {
        assert_non_null(want[i].mapping);
        assert_int_equal(want[i].mapping->index, i);
        assert_int_equal(want[i].mapping->refs, 1);
        sb_mapping_put(&f->conn, want[i].mapping);
    }
    for (size_t i = 0; i < sb_array_len(f->conn.mappings.bucket); i++)
        assert_null(f->conn.mappings.bucket[i]);
    close(fd);
}

/* A failure leaves no reference, whatever was mapped before it. */
static void test_bad_descriptors_are_refused_and_nothing_kept(void **state)
{
    struct fixture *f = *state;
    struct sb_mapping_want want[] = {{SB_MAP_HEAP, 1, 1, NULL}, {SB_MAP_HEAP, 2, 1, NULL}};
    int heap = heap_fd(), ring = ring_fd();
    const struct {
        struct sb_map_item second;
        int fd;
        unsigned n;
        int ret;
    } bad[] = {
        {{SB_MAP_HEAP, 2, 1, 1, 65536}, ring, 2, SHMBUS_E_INVALID}, /* the owner could rewrite it */
        {{SB_MAP_HEAP, 2, 1, 1, 65537}, heap, 2, SHMBUS_E_INVALID},
        {{SB_MAP_HEAP, 2, 1, 1, 65536}, f->peer, 2, SHMBUS_E_INVALID},
        {{SB_MAP_HEAP, 3, 1, 1, 65536}, heap, 2, SHMBUS_E_COORD},
        {{SB_MAP_HEAP, 2, 2, 1, 65536}, heap, 2, SHMBUS_E_COORD},
        {{SB_MAP_HEAP, 2, 1, 1, 65536}, heap, 1, SHMBUS_E_COORD},
    };
    int before = count_fds();
    for (uint32_t i = 0; i < sb_array_len(bad); i++) {
        struct sb_map_item items[] = {{SB_MAP_HEAP, 1, 1, 1, 65536}, bad[i].second};
        int fds[] = {heap, bad[i].fd};
        put_map(f, SB_CONTROL_MAP, i + 1, items, 2, fds, bad[i].n);
        assert_int_equal(sb_mapping_get(&f->conn, want, 2), bad[i].ret);
        assert_null(want[0].mapping);
        assert_null(want[1].mapping);
        assert_int_equal(count_fds(), before);
        for (size_t j = 0; j < sb_array_len(f->conn.mappings.bucket); j++)
            assert_null(f->conn.mappings.bucket[j]);
    }
    close(heap);
    close(ring);
}

/* C5: what is queued can still be received when the bus has ended. */
static void test_heaps_pushed_at_the_end_are_found(void **state)
{
    struct fixture *f = *state;
    struct sb_map_item items[] = {
        {SB_MAP_HEAP, 8, 1, 1, 65536}, {SB_MAP_HEAP, 9, 1, 0, 0}, {SB_MAP_HEAP, 10, 3, 1, 65536}};
    int fds[] = {heap_fd(), heap_fd()}, unread = 1;
    put_map(f, SB_CONTROL_HEAPS, 0, items, 3, fds, 2);
    close(fds[0]);
    close(fds[1]);
    /* What a coordinator leaves unread resets the connection ahead of what it had sent. */
    assert_int_equal(send(f->conn.sock, &unread, sizeof(unread), 0), sizeof(unread));
    close(f->peer);
    f->peer = -1;
    f->header.state = SB_BUS_STOPPED;
    struct sb_mapping_want want[] = {
        {SB_MAP_HEAP, 10, 3, NULL}, {SB_MAP_HEAP, 9, 1, NULL}, {SB_MAP_HEAP, 8, 1, NULL}};
    assert_int_equal(sb_mapping_get(&f->conn, want, 3), 0);
    assert_non_null(want[0].mapping);
    assert_null(want[1].mapping);
    assert_non_null(want[2].mapping);
    assert_int_equal(want[2].mapping->size, 65536);
    sb_mapping_put(&f->conn, want[0].mapping);
    assert_int_equal(sb_mapping_get(&f->conn, want, 1), 0);
    assert_non_null(want[0].mapping); /* kept as long as the connection */
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_reply_is_delivered),
        WITH_FIXTURE(test_refusal_carries_its_sentence),
        WITH_FIXTURE(test_late_reply_answers_nothing),
        WITH_FIXTURE(test_late_subscription_is_given_back),
        WITH_FIXTURE(test_descriptors_that_nobody_wants_are_closed),
        WITH_FIXTURE(test_nonsense_is_an_error),
        WITH_FIXTURE(test_hang_up_is_away_or_ended),
        WITH_FIXTURE(test_mapping_is_made_once_and_counted),
        WITH_FIXTURE(test_more_wants_than_a_request_takes),
        WITH_FIXTURE(test_bad_descriptors_are_refused_and_nothing_kept),
        WITH_FIXTURE(test_heaps_pushed_at_the_end_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
