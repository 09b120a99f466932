/* SPDX-License-Identifier: Apache-2.0 */
/* ctest: no-tsan */
/* The life of a bus: options, names, attaching, the end. Not under TSan, which does not let the
 * forked child of a process with threads start one. */
#include "coord_peer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "os_fds.h"

static void refuse(const struct shmbus_coordinator_options *options, const char *name,
                   const char *word)
{
    struct shmbus_coordinator *coordinator = (void *)1;
    assert_int_equal(shmbus_coordinator_start(name, options, &coordinator), SHMBUS_E_INVALID);
    assert_ptr_equal(coordinator, (void *)1);
    if (!strstr(shmbus_errmsg(), word))
        fail_msg("'%s' does not say '%s'", shmbus_errmsg(), word);
}

static void test_bad_options_are_refused(void **state)
{
    (void)state;
    struct bus bus;
    bus_prepare(&bus, "options");
    struct shmbus_coordinator_options o = bus.options;
    refuse(&o, ".hidden", "name");
    refuse(&o, NULL, "name");
    o.queue_len = -1;
    refuse(&o, bus.name, "queue_len");
    o.queue_len = SB_QUEUE_MAX + 1ll;
    refuse(&o, bus.name, "queue_len");
    o = bus.options;
    o.full = 3;
    refuse(&o, bus.name, "cannot block");
    o = bus.options;
    o.s_wild = o.m_wild;
    refuse(&o, bus.name, "wildcard");
    o.s_wild = NULL;
    refuse(&o, bus.name, "wildcard");
    o = bus.options;
    o.mode = 01777;
    refuse(&o, bus.name, "mode");
    o = bus.options;
    o.arena_limit = 4096;
    refuse(&o, bus.name, "arena");
    o = bus.options;
    o.heap_limit = UINT64_C(1) << 40;
    refuse(&o, bus.name, "heap");
    o = bus.options;
    o.flags = 1;
    refuse(&o, bus.name, "flags");
    o = bus.options;
    o.size = 8;
    refuse(&o, bus.name, "options");
    assert_int_equal(rmdir(bus.dir), 0);
}

static void test_attach_gives_arena_heap_and_inbox(void **state)
{
    (void)state;
    struct bus bus;
    struct peer p;
    bus_prepare(&bus, "attach");
    bus.options.queue_len = 77;
    bus.options.s_wild = "one";
    bus_start(&bus);
    peer_attach(&p, &bus);
    const struct sb_arena_header *header = peer_header(&p);
    assert_true(header->magic == SB_LAYOUT_MAGIC);
    assert_int_equal(header->fingerprint, sb_layout_fingerprint());
    assert_int_equal(header->queue_len, 77);
    assert_int_equal(header->s_wild_len, 3);
    assert_string_equal(header->name, bus.name);
    assert_string_equal(header->socket_path, bus.socket);
    assert_int_equal(header->coordinator_pid, getpid());
    const struct sb_conn_rec *rec = peer_conn_rec(&p, p.conn);
    assert_int_equal(p.conn, 1);
    assert_int_equal(rec->gen, p.gen);
    assert_int_equal(rec->state, SB_CONN_ATTACHED);
    assert_int_equal(rec->pid, getpid());
    assert_int_equal(rec->uid, geteuid());
    assert_int_equal(rec->heap_size, 65536);
    assert_int_equal(rec->inbox_size, SB_INBOX_SIZE);
    assert_int_equal(p.heap_limit, UINT64_C(64) << 20);
    /* The arena cannot be written, and an armed heap cannot be mapped writable again. */
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p.arena_fd, 0),
                     MAP_FAILED);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p.heap_fd, 0),
                     MAP_FAILED);
    p.heap[65535] = 1;
    assert_int_equal(ftruncate(p.inbox_fd, 0), -1);
    assert_int_equal(peer_head(&p, SB_CONTROL_ARMED), SHMBUS_E_INVALID);
    peer_close(&p);
    bus_stop(&bus);
}

static void test_observers_are_not_counted(void **state)
{
    (void)state;
    struct bus bus;
    struct peer o, p;
    struct sb_subscribe_reply seat;
    bus_prepare(&bus, "observer");
    bus_start(&bus);
    peer_connect(&o, &bus);
    assert_int_equal(peer_hello(&o, 1), 0);
    assert_int_equal(o.conn, SB_NONE);
    assert_int_equal(peer_stats(&o).connections, 0);
    assert_int_equal(peer_subscribe(&o, "a", 1, 1, &seat), SHMBUS_E_INVALID);
    assert_non_null(strstr(peer_sentence(&o), "observer"));
    peer_attach(&p, &bus);
    assert_int_equal(peer_stats(&o).connections, 1);
    peer_close(&p);
    peer_close(&o);
    bus_stop(&bus);
}

/* Whatever a client of another version sends behind its version, it is told both. */
static void test_other_versions_are_told(void **state)
{
    (void)state;
    struct bus bus;
    bus_prepare(&bus, "version");
    bus_start(&bus);
    for (int kind = 0; kind < 4; kind++) {
        struct peer p;
        struct {
            struct sb_hello_request hello;
            uint64_t more[4];
        } m = {.hello = {.head = {.type = SB_CONTROL_HELLO, .id = 9, .size = sizeof(m.hello)},
                         .version = SB_CONTROL_VERSION,
                         .layout = SB_LAYOUT_VERSION,
                         .fingerprint = sb_layout_fingerprint()}};
        size_t len = sizeof(m.hello);
        if (kind == 0)
            m.hello.version++;
        else if (kind == 1)
            m.hello.layout = 250;
        else if (kind == 2)
            m.hello.fingerprint ^= 1;
        else
            m.hello.layout = 250, len = sizeof(m);
        peer_connect(&p, &bus);
        assert_int_equal(peer_exchange(&p, &m, len), 0);
        assert_int_equal(sb_control_parse_reply(p.reply, p.reply_len, SB_CONTROL_HELLO, 9), 0);
        assert_int_equal(peer_reply(&p)->status, SHMBUS_E_VERSION);
        assert_non_null(strstr(peer_sentence(&p), bus.name));
        if (kind == 1 || kind == 3)
            assert_non_null(strstr(peer_sentence(&p), "250"));
        peer_close(&p);
    }
    bus_stop(&bus);
}

static void test_a_second_coordinator_is_refused(void **state)
{
    (void)state;
    struct bus bus;
    char sentence[200];
    int status;
    bus_prepare(&bus, "second");
    bus_start(&bus);
    snprintf(sentence, sizeof(sentence), "bus %s already has a coordinator (pid %d)", bus.name,
             (int)getpid());
    struct shmbus_coordinator *second = NULL;
    assert_int_equal(shmbus_coordinator_start(bus.name, &bus.options, &second),
                     SHMBUS_E_BUS_EXISTS);
    assert_string_equal(shmbus_errmsg(), sentence);
    /* The name counts, not the directory; another process is told the same. */
    pid_t child = fork();
    if (child == 0) {
        char other[] = "/tmp/shmbus-test-XXXXXX";
        bus.options.runtime_dir = mkdtemp(other);
        int ret = shmbus_coordinator_start(bus.name, &bus.options, &second);
        rmdir(other);
        _exit(ret == SHMBUS_E_BUS_EXISTS && strcmp(shmbus_errmsg(), sentence) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct peer p;
    peer_attach(&p, &bus);
    peer_close(&p);
    bus_stop(&bus);
}

static void test_leftovers_of_the_dead_are_taken_over(void **state)
{
    (void)state;
    struct bus bus;
    int ready[2];
    char byte;
    bus_prepare(&bus, "takeover");
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        int ret = shmbus_coordinator_start(bus.name, &bus.options, &bus.coordinator);
        byte = ret == 0;
        if (write(ready[1], &byte, 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(access(bus.arena, F_OK), 0);
    assert_int_equal(access(bus.socket, F_OK), 0);
    bus_start(&bus);
    struct peer p;
    peer_attach(&p, &bus);
    assert_int_equal(peer_header(&p)->coordinator_pid, getpid());
    peer_close(&p);
    bus_stop(&bus);
    close(ready[0]);
    close(ready[1]);
}

static void test_leftovers_of_others_are_refused(void **state)
{
    (void)state;
    struct bus bus;
    struct shmbus_coordinator *coordinator;
    bus_prepare(&bus, "foreign");
    if (geteuid() != 0)
        skip();
    int fd = open(bus.arena, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fchown(fd, 1, 1), 0);
    close(fd);
    assert_int_equal(shmbus_coordinator_start(bus.name, &bus.options, &coordinator),
                     SHMBUS_E_DENIED);
    assert_non_null(strstr(shmbus_errmsg(), bus.arena));
    assert_non_null(strstr(shmbus_errmsg(), "uid 1"));
    char lock[200];
    snprintf(lock, sizeof(lock), "%s.lock", bus.arena);
    assert_int_not_equal(access(lock, F_OK), 0);
    unlink(bus.arena);
    rmdir(bus.dir);
}

/* A failed start leaves nothing, wherever it failed. */
static void test_a_failed_start_leaves_nothing(void **state)
{
    (void)state;
    struct bus bus;
    bus_prepare(&bus, "failed");
    int before = count_fds();
    struct shmbus_coordinator *coordinator;
    assert_int_equal(mkdir(bus.socket, 0700), 0);
    assert_true(shmbus_coordinator_start(bus.name, &bus.options, &coordinator) < 0);
    assert_int_not_equal(access(bus.arena, F_OK), 0);
    assert_int_equal(rmdir(bus.socket), 0);
    assert_int_equal(rmdir(bus.dir), 0);
    bus.options.runtime_dir = "/nonexistent/deep";
    assert_int_equal(shmbus_coordinator_start(bus.name, &bus.options, &coordinator),
                     SHMBUS_E_SYSTEM);
    assert_int_equal(count_fds(), before);
}

static void test_stop_and_start_leak_nothing(void **state)
{
    (void)state;
    struct bus bus;
    int before = count_fds();
    for (int i = 0; i < 20; i++) {
        struct peer p;
        bus_prepare(&bus, "leak");
        bus_start(&bus);
        peer_attach(&p, &bus);
        if (i % 2)
            peer_close(&p);
        bus_stop(&bus);
        if (i % 2 == 0) {
            assert_int_equal(peer_header(&p)->state, SB_BUS_STOPPED);
            assert_int_equal(peer_conn_rec(&p, p.conn)->state, SB_CONN_ATTACHED);
            peer_close(&p);
        }
    }
    assert_int_equal(count_fds(), before);
}

static void test_socket_and_arena_have_the_mode(void **state)
{
    (void)state;
    struct bus bus;
    struct stat st;
    bus_prepare(&bus, "mode");
    bus.options.mode = 0660;
    bus_start(&bus);
    assert_int_equal(stat(bus.socket, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(stat(bus.arena, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    bus_stop(&bus);
}

/* A fork's child has the handle, but stopping is the parent's. */
static void test_a_forked_child_stops_nothing(void **state)
{
    (void)state;
    struct bus bus;
    bus_prepare(&bus, "fork");
    bus_start(&bus);
    pid_t child = fork();
    if (child == 0) {
        shmbus_coordinator_stop(bus.coordinator);
        _exit(0);
    }
    assert_int_equal(child_status(child), 0);
    struct peer p;
    peer_attach(&p, &bus);
    peer_close(&p);
    bus_stop(&bus);
    shmbus_coordinator_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_options_are_refused),
        cmocka_unit_test(test_attach_gives_arena_heap_and_inbox),
        cmocka_unit_test(test_observers_are_not_counted),
        cmocka_unit_test(test_other_versions_are_told),
        cmocka_unit_test(test_a_second_coordinator_is_refused),
        cmocka_unit_test(test_leftovers_of_the_dead_are_taken_over),
        cmocka_unit_test(test_leftovers_of_others_are_refused),
        cmocka_unit_test(test_a_failed_start_leaves_nothing),
        cmocka_unit_test(test_stop_and_start_leak_nothing),
        cmocka_unit_test(test_socket_and_arena_have_the_mode),
        cmocka_unit_test(test_a_forked_child_stops_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
