/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: timeout=30 */
/*
 * Connecting and what ends a connection, with a real coordinator in another process, and with a
 * listener that is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "client/client.h"
#include "os/sock.h"
#include "os_fds.h"
#include "support/testbus.h"

#include <shmbus/shmbus.h>

static struct test_bus bus;
static int fds_before, maps_before;

static int with_bus(void **state)
{
    (void)state;
    fds_before = count_fds();
    maps_before = count_maps();
    test_bus_start(&bus, NULL);
    return 0;
}

static void assert_nothing_leaked(void)
{
    assert_int_equal(count_maps(), maps_before);
    assert_int_equal(count_fds(), fds_before);
}

static int without_bus(void **state)
{
    (void)state;
    test_bus_stop(&bus);
    assert_nothing_leaked();
    return 0;
}

static void assert_says(const char *words)
{
    if (strstr(shmbus_errmsg(), words) == NULL)
        fail_msg("\"%s\" should say \"%s\"", shmbus_errmsg(), words);
}

/* N4 */
static void test_bad_arguments_are_named(void **state)
{
    (void)state;
    struct shmbus_conn *conn = NULL;
    struct shmbus_connect_options o = SHMBUS_CONNECT_OPTIONS_INIT;
    assert_int_equal(shmbus_connect(NULL, NULL, &conn), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_connect("a/b", NULL, &conn), SHMBUS_E_INVALID);
    assert_says("0x2f at offset 1");
    assert_int_equal(shmbus_connect(bus.name, NULL, NULL), SHMBUS_E_INVALID);
    o.size = 0;
    assert_int_equal(shmbus_connect(bus.name, &o, &conn), SHMBUS_E_INVALID);
    assert_says("initialiser");
    o.size = sizeof(o);
    o.wait_ns = -2;
    assert_int_equal(shmbus_connect(bus.name, &o, &conn), SHMBUS_E_INVALID);
    assert_says("wait_ns -2");
    o.wait_ns = 0;
    o.control_timeout_ns = 0;
    assert_int_equal(shmbus_connect(bus.name, &o, &conn), SHMBUS_E_INVALID);
    assert_says("control_timeout_ns 0");
    o.control_timeout_ns = 1;
    o.flags = 2;
    assert_int_equal(shmbus_connect(bus.name, &o, &conn), SHMBUS_E_INVALID);
    assert_says("SHMBUS_CONNECT_OBSERVER");
    assert_null(conn);
}

/* Options of another version of the header. */
static void test_sizes_of_other_versions(void **state)
{
    (void)state;
    struct {
        struct shmbus_connect_options known;
        uint64_t later;
    } newer = {SHMBUS_CONNECT_OPTIONS_INIT, 0};
    struct shmbus_connect_options older = SHMBUS_CONNECT_OPTIONS_INIT;
    struct shmbus_conn *conn;
    newer.known.size = sizeof(newer);
    assert_int_equal(shmbus_connect(bus.name, &newer.known, &conn), 0);
    shmbus_conn_free(conn);
    newer.later = 1;
    assert_int_equal(shmbus_connect(bus.name, &newer.known, &conn), SHMBUS_E_INVALID);
    assert_says("newer library");
    older.size = offsetof(struct shmbus_connect_options, flags);
    older.flags = 77; /* not there */
    assert_int_equal(shmbus_connect(bus.name, &older, &conn), 0);
    shmbus_conn_free(conn);
}

static void test_no_such_bus(void **state)
{
    (void)state;
    struct shmbus_conn *conn;
    struct shmbus_connect_options o = SHMBUS_CONNECT_OPTIONS_INIT;
    assert_int_equal(shmbus_connect("test-none", NULL, &conn), SHMBUS_E_NO_BUS);
    assert_string_equal(shmbus_errmsg(), "no such bus test-none");
    o.wait_ns = 20 * SB_NS_PER_MS;
    int64_t before = sb_clock_ns();
    assert_int_equal(shmbus_connect("test-none", &o, &conn), SHMBUS_E_NO_BUS);
    assert_true(sb_clock_ns() - before >= o.wait_ns);
}

/* Waits for a bus, says so before, and what came of it. */
static int waiting_client(int fd, void *arg)
{
    struct shmbus_connect_options o = SHMBUS_CONNECT_OPTIONS_INIT;
    struct shmbus_conn *conn = NULL;
    (void)arg;
    o.wait_ns = SHMBUS_FOREVER;
    setenv("SHMBUS_RUNTIME_DIR", "/nowhere", 1); /* so by its memory object */
    test_tell(fd, 1);
    int ret = shmbus_connect("test-late", &o, &conn);
    test_tell(fd, (uint64_t)(int64_t)ret);
    shmbus_conn_free(conn);
    return 0;
}

static void test_waits_for_the_bus(void **state)
{
    (void)state;
    struct test_proc client = test_spawn(waiting_client, NULL);
    struct shmbus_coordinator_options o = SHMBUS_COORDINATOR_OPTIONS_INIT;
    struct shmbus_coordinator *late;
    assert_int_equal(test_hear(client.fd), 1);
    o.runtime_dir = bus.dir;
    assert_int_equal(shmbus_coordinator_start("test-late", &o, &late), 0);
    assert_int_equal(test_hear(client.fd), 0);
    assert_int_equal(test_join(&client), 0);
    shmbus_coordinator_stop(late);
}

static void test_what_a_connection_says_of_itself(void **state)
{
    (void)state;
    struct shmbus_conn *one = test_connect(&bus), *other = test_connect(&bus);
    size_t len = 0;
    assert_int_equal(strlen(shmbus_conn_id(one)), 36);
    assert_string_not_equal(shmbus_conn_id(one), shmbus_conn_id(other));
    assert_string_equal(shmbus_bus_name(one), bus.name);
    assert_true(strlen(shmbus_principal(one, &len)) > 0);
    assert_int_equal(len, strlen(shmbus_principal(one, NULL)));
    assert_int_equal(shmbus_is_disconnected(one), 0);
    shmbus_conn_free(one);
    shmbus_conn_free(other);
    shmbus_conn_free(NULL);
}

/* C1, C4, O5 */
static void test_a_disconnected_connection_says_so(void **state)
{
    (void)state;
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "a", 0, 0), *none = NULL;
    struct shmbus_bus_stats figures;
    struct shmbus_message m;
    assert_int_equal(shmbus_disconnect(conn), 0);
    assert_int_equal(shmbus_disconnect(conn), 0);
    assert_int_equal(shmbus_is_disconnected(conn), 1);
    assert_int_equal(shmbus_subscribe(conn, shmbus_text(""), NULL, &none), SHMBUS_E_DISCONNECTED);
    assert_int_equal(shmbus_publish(conn, shmbus_text("a"), "x", 1, NULL, NULL),
                     SHMBUS_E_DISCONNECTED);
    assert_int_equal(shmbus_bus_stats(conn, &figures, sizeof(figures)), SHMBUS_E_DISCONNECTED);
    assert_string_equal(shmbus_sub_why(sub), "disconnected");
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), SHMBUS_CLOSED);
    assert_int_equal(shmbus_unsubscribe(conn, sub), 0);
    assert_string_equal(shmbus_sub_why(sub), "disconnected"); /* C2: the first one stays */
    assert_true(strlen(shmbus_principal(conn, NULL)) > 0);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
}

/* No connection of this bus is known that has ended and that somebody still seems to read from. */
static bool all_have_left(void *arg)
{
    const struct shmbus_conn *looking = arg;
    for (uint32_t i = 1; i < sb_load_acquire(&looking->header->conns.count); i++) {
        const struct sb_conn_rec *rec =
            sb_table_at(sb_conn_arena(looking), &looking->header->conns, i, sizeof(*rec));
        if (sb_load_acquire(&rec->state) == SB_CONN_DISCONNECTED)
            return false;
    }
    return true;
}

/* P4: the parts of a connection can be let go of in any order; afterwards the bus knows of none. */
static void test_handles_outlive_their_connection(void **state)
{
    (void)state;
    struct shmbus_conn *looking = test_connect(&bus);
    for (int order = 0; order < 6; order++) {
        struct shmbus_conn *conn = test_connect(&bus);
        struct shmbus_sub *sub = test_subscribe(conn, "a", 0, 0);
        struct shmbus_message m;
        assert_int_equal(shmbus_publish(conn, shmbus_text("a"), "payload", 7, NULL, NULL), 0);
        assert_int_equal(shmbus_recv(sub, &m, 0), 0);
        static const char *const orders[] = {"csm", "cms", "scm", "smc", "mcs", "msc"};
        for (int i = 0; i < 3; i++) {
            if (orders[order][i] == 'c')
                shmbus_conn_free(conn);
            if (orders[order][i] == 's')
                shmbus_sub_free(sub);
            if (orders[order][i] == 'm') {
                assert_memory_equal(m.payload, "payload", 7);
                assert_string_equal(m.topic->text, "a");
                assert_int_equal(m.origin->pid, getpid());
                shmbus_release(&m);
            }
        }
    }
    struct shmbus_bus_stats figures = test_bus_figures(&bus);
    assert_int_equal(figures.connections, 1);
    assert_int_equal(figures.subscriptions, 0);
    test_until(all_have_left, looking, 2000);
    shmbus_conn_free(looking);
}

static void test_observers_only_look(void **state)
{
    (void)state;
    struct shmbus_connect_options o = SHMBUS_CONNECT_OPTIONS_INIT;
    struct shmbus_conn *conn;
    struct shmbus_sub *sub;
    struct shmbus_bus_stats figures;
    struct shmbus_conn_stats own;
    o.flags = SHMBUS_CONNECT_OBSERVER;
    assert_int_equal(shmbus_connect(bus.name, &o, &conn), 0);
    assert_int_equal(shmbus_subscribe(conn, shmbus_text("a"), NULL, &sub), SHMBUS_E_DENIED);
    assert_says("observer");
    assert_int_equal(shmbus_publish(conn, shmbus_text("a"), "x", 1, NULL, NULL), SHMBUS_E_DENIED);
    assert_says("observer");
    assert_int_equal(shmbus_bus_stats(conn, &figures, sizeof(figures)), 0);
    assert_int_equal(figures.connections, 0);
    assert_int_equal(shmbus_conn_stats(conn, &own, sizeof(own)), 0);
    assert_string_equal(shmbus_principal(conn, NULL), "");
    assert_int_equal(shmbus_disconnect(conn), 0);
    shmbus_conn_free(conn);
}

static int stranger(int fd, void *arg)
{
    (void)arg;
    struct shmbus_conn *conn;
    if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
        return 77;
    test_tell(fd, (uint64_t)(int64_t)shmbus_connect(bus.name, NULL, &conn));
    return strstr(shmbus_errmsg(), "permission denied") && strstr(shmbus_errmsg(), bus.name) ? 0
                                                                                             : 1;
}

static void test_permission_denied(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* it takes root to become somebody else */
    struct test_proc proc = test_spawn(stranger, NULL);
    assert_int_equal((int)test_hear(proc.fd), SHMBUS_E_DENIED);
    assert_int_equal(test_join(&proc), 0);
}

/* Everything that was made before the fork is dead in the child; the child may connect anew. */
static int forked_child(struct shmbus_conn *conn, struct shmbus_sub *sub)
{
    struct shmbus_sub *none;
    struct shmbus_queue_stats books;
    struct shmbus_message m;
    struct shmbus_conn *own;
    int bad = 0;
    bad += shmbus_publish(conn, shmbus_text("a"), "x", 1, NULL, NULL) != SHMBUS_E_FORKED;
    bad += shmbus_subscribe(conn, shmbus_text("a"), NULL, &none) != SHMBUS_E_FORKED;
    bad += shmbus_disconnect(conn) != SHMBUS_E_FORKED;
    bad += shmbus_is_disconnected(conn) != 1;
    bad += shmbus_recv(sub, &m, 0) != SHMBUS_E_FORKED;
    bad += shmbus_sub_stats(sub, &books, sizeof(books)) != SHMBUS_E_FORKED;
    bad += shmbus_unsubscribe(conn, sub) != SHMBUS_E_FORKED;
    bad += shmbus_sub_dropped(sub) != 0;
    bad += strcmp(shmbus_sub_why(sub), "forked") != 0;
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    bad += shmbus_connect(bus.name, NULL, &own) != 0;
    bad += shmbus_disconnect(conn) != SHMBUS_E_FORKED; /* still */
    bad += shmbus_subscribe(own, shmbus_text("b"), NULL, &sub) != 0;
    bad += shmbus_publish(own, shmbus_text("b"), "x", 1, NULL, NULL) != 0;
    bad += shmbus_recv(sub, &m, 0) != 0;
    shmbus_release(&m);
    shmbus_sub_free(sub);
    shmbus_conn_free(own);
    return bad;
}

static void test_fork(void **state)
{
    (void)state;
    struct shmbus_conn *conn = test_connect(&bus);
    struct shmbus_sub *sub = test_subscribe(conn, "a", 0, 0);
    struct shmbus_message m;
    pid_t pid = fork();
    if (pid == 0)
        _exit(forked_child(conn, sub));
    assert_int_equal(child_status(pid), 0);
    assert_int_equal(shmbus_publish(conn, shmbus_text("a"), "x", 1, NULL, NULL), 0);
    assert_int_equal(shmbus_recv(sub, &m, 0), 0);
    shmbus_release(&m);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
}

/* A listener that answers HELLO with one message, or not at all. */
struct false_bus {
    char path[128];
    int listener;
    pthread_t thread;
    const void *answer;
    size_t size;
    int times;
    int last; /* the socket of the last client, which is not hung up on if it was answered */
};

static void *false_bus_main(void *arg)
{
    struct false_bus *f = arg;
    struct sb_hello_request hello;
    size_t len;
    int sock;
    while (f->times-- > 0) {
        while (sb_sock_accept(f->listener, &sock) == SHMBUS_EMPTY)
            sched_yield();
        int ret = sb_sock_recv(sock, &hello, sizeof(hello), &len, NULL, 0, SB_NEVER);
        if (ret == 0 && f->size)
            ret = sb_sock_send(sock, f->answer, f->size, NULL, 0, SB_NEVER);
        if (f->size)
            f->last = sock;
        else
            close(sock);
    }
    return NULL;
}

static void false_bus_open(struct false_bus *f)
{
    snprintf(f->path, sizeof(f->path), "%s/test-false.sock", bus.dir);
    assert_int_equal(sb_sock_listen(f->path, 0600, SB_SOCK_GROUP_KEEP, &f->listener), 0);
}

static void false_bus_close(struct false_bus *f)
{
    close(f->listener);
    unlink(f->path);
}

static int connect_to_false_bus(struct false_bus *f, const void *answer, size_t size, int times)
{
    struct shmbus_conn *conn;
    f->answer = answer;
    f->size = size;
    f->times = times;
    f->last = -1;
    assert_int_equal(pthread_create(&f->thread, NULL, false_bus_main, f), 0);
    int ret = shmbus_connect("test-false", NULL, &conn);
    pthread_join(f->thread, NULL);
    if (f->last >= 0)
        close(f->last);
    return ret;
}

static void test_a_false_coordinator(void **state)
{
    (void)state;
    struct false_bus f;
    struct {
        struct sb_control_head head;
        char text[16];
    } refusal = {{SB_CONTROL_HELLO, 1, sizeof(refusal), SHMBUS_E_VERSION}, "other version 9"};
    struct sb_hello_reply bare = {.head = {SB_CONTROL_HELLO, 1, sizeof(bare), 0}};
    struct shmbus_connect_options o = SHMBUS_CONNECT_OPTIONS_INIT;
    struct shmbus_conn *conn;
    false_bus_open(&f);
    assert_int_equal(connect_to_false_bus(&f, &refusal, sizeof(refusal), 1), SHMBUS_E_VERSION);
    assert_says("other version 9");
    assert_int_equal(connect_to_false_bus(&f, NULL, 0, 2), SHMBUS_E_COORD);
    assert_says("away");
    assert_int_equal(connect_to_false_bus(&f, &bare, sizeof(bare), 1), SHMBUS_E_COORD);
    assert_says("descriptors are missing");
    o.control_timeout_ns = 5 * SB_NS_PER_MS;
    assert_int_equal(shmbus_connect("test-false", &o, &conn), SHMBUS_E_COORD);
    assert_says("did not answer within 5 ms");
    false_bus_close(&f);
}

/* A memory object that somebody else planted must not lead to another's socket. */
static void test_a_planted_memory_object(void **state)
{
    (void)state;
    struct shmbus_conn *conn;
    struct sb_arena_header header = {.magic = SB_LAYOUT_MAGIC,
                                     .version = SB_LAYOUT_VERSION,
                                     .fingerprint = sb_layout_fingerprint(),
                                     .name = "test-planted"};
    if (geteuid() != 0)
        skip(); /* it takes root to make a file of somebody else */
    int len =
        snprintf(header.socket_path, sizeof(header.socket_path), "%s/%s.sock", bus.dir, bus.name);
    assert_in_range(len, 1, sizeof(header.socket_path) - 1);
    shm_unlink("/shmbus.test-planted"); /* of a run that failed here */
    int fd = shm_open("/shmbus.test-planted", O_RDWR | O_CREAT | O_EXCL, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &header, sizeof(header)), sizeof(header));
    assert_int_equal(fchown(fd, 65534, 65534), 0);
    assert_int_equal(shmbus_connect("test-planted", NULL, &conn), SHMBUS_E_DENIED);
    assert_says("belongs to uid 65534, and uid 0 listens");
    /* Of another layout it leads nowhere. */
    header.fingerprint++;
    assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
    assert_int_equal(shmbus_connect("test-planted", NULL, &conn), SHMBUS_E_NO_BUS);
    close(fd);
    shm_unlink("/shmbus.test-planted");
}

/* C5: what is queued stays receivable. */
static void test_the_bus_stops(void **state)
{
    (void)state;
    struct test_bus other, saved = bus;
    test_bus_start(&other, NULL);
    struct shmbus_conn *conn = test_connect(&other), *sender = test_connect(&other);
    struct shmbus_sub *sub = test_subscribe(conn, "a", 0, 0);
    struct shmbus_message m;
    assert_int_equal(shmbus_publish(sender, shmbus_text("a"), "x", 1, NULL, NULL), 0);
    test_bus_stop(&other);
    assert_int_equal(shmbus_is_disconnected(conn), 1);
    assert_string_equal(shmbus_sub_why(sub), "bus_stopped");
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), 0);
    assert_memory_equal(m.payload, "x", 1);
    assert_int_equal(shmbus_recv(sub, &m, SHMBUS_FOREVER), SHMBUS_CLOSED);
    assert_int_equal(shmbus_publish(sender, shmbus_text("a"), "x", 1, NULL, NULL),
                     SHMBUS_E_DISCONNECTED);
    assert_int_equal(shmbus_unsubscribe(conn, sub), 0);
    shmbus_release(&m);
    shmbus_sub_free(sub);
    shmbus_conn_free(sender);
    shmbus_conn_free(conn);
    setenv("SHMBUS_RUNTIME_DIR", saved.dir, 1);
}

static void test_the_coordinator_is_killed(void **state)
{
    (void)state;
    struct test_bus other, saved = bus;
    test_bus_start(&other, NULL);
    struct shmbus_conn *conn = test_connect(&other);
    struct shmbus_sub *sub = test_subscribe(conn, "a", 0, 0), *none;
    struct shmbus_message m;
    struct shmbus_bus_stats figures;
    assert_int_equal(shmbus_publish(conn, shmbus_text("a"), "x", 1, NULL, NULL), 0);
    test_kill(&other.coordinator);
    assert_int_equal(shmbus_is_disconnected(conn), 0);
    assert_string_equal(shmbus_sub_why(sub), "");
    assert_int_equal(shmbus_subscribe(conn, shmbus_text("b"), NULL, &none), SHMBUS_E_COORD);
    assert_says("is away");
    assert_int_equal(shmbus_unsubscribe(conn, sub), SHMBUS_E_COORD);
    assert_int_equal(shmbus_publish(conn, shmbus_text("a"), "y", 1, NULL, NULL), 0);
    assert_int_equal(shmbus_recv(sub, &m, 0), SHMBUS_E_COORD); /* its own heap was never mapped */
    /* What is left of the bus. */
    assert_int_equal(shmbus_inspect(other.name, &figures, sizeof(figures)), 0);
    assert_int_equal(figures.connections, 1);
    assert_int_equal(figures.subscriptions, 1);
    assert_int_equal(figures.routes, 1);
    assert_int_equal(figures.queue_len, 10);
    assert_string_equal(figures.m_wild, "#");
    assert_int_equal(shmbus_disconnect(conn), 0);
    assert_string_equal(shmbus_sub_why(sub), "disconnected");
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    struct shmbus_conn *later;
    assert_int_equal(shmbus_connect(other.name, NULL, &later), SHMBUS_E_NO_BUS);
    /* Its leftovers are taken over; what it had no time for is done. */
    struct shmbus_coordinator_options o = SHMBUS_COORDINATOR_OPTIONS_INIT;
    struct shmbus_coordinator *successor;
    o.runtime_dir = other.dir;
    assert_int_equal(shmbus_coordinator_start(other.name, &o, &successor), 0);
    shmbus_coordinator_stop(successor);
    assert_int_equal(rmdir(other.dir), 0);
    setenv("SHMBUS_RUNTIME_DIR", saved.dir, 1);
}

static void test_inspect_of_nothing(void **state)
{
    (void)state;
    struct shmbus_bus_stats figures;
    assert_int_equal(shmbus_inspect("-", &figures, sizeof(figures)), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_inspect("test-none", &figures, sizeof(figures)), SHMBUS_E_NO_BUS);
    assert_int_equal(shmbus_inspect(bus.name, NULL, sizeof(figures)), SHMBUS_E_INVALID);
    assert_int_equal(shmbus_inspect(bus.name, &figures, sizeof(figures)), 0);
    assert_int_equal(figures.connections, 0);
    assert_int_equal(figures.coordinator_pid, bus.coordinator.pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_arguments_are_named),
        cmocka_unit_test(test_sizes_of_other_versions),
        cmocka_unit_test(test_no_such_bus),
        cmocka_unit_test(test_waits_for_the_bus),
        cmocka_unit_test(test_what_a_connection_says_of_itself),
        cmocka_unit_test(test_a_disconnected_connection_says_so),
        cmocka_unit_test(test_handles_outlive_their_connection),
        cmocka_unit_test(test_observers_only_look),
        cmocka_unit_test(test_permission_denied),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_a_false_coordinator),
        cmocka_unit_test(test_a_planted_memory_object),
        cmocka_unit_test(test_the_bus_stops),
        cmocka_unit_test(test_the_coordinator_is_killed),
        cmocka_unit_test(test_inspect_of_nothing),
    };
    return cmocka_run_group_tests(tests, with_bus, without_bus);
}
