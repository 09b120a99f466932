/* SPDX-License-Identifier: Apache-2.0 */
/* Every test runs over both backends; over io_uring only where this system allows it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/loop.h"
#include "os/sock.h"
#include "os_fds.h"
#include "os_seccomp.h"

static struct sb_loop *loop;
static int fds_before;

static int open_loop(const char *backend)
{
    fds_before = count_fds();
    setenv("SHMBUS_LOOP", backend, 1);
    return sb_loop_new(&loop);
}

static int setup_uring(void **state)
{
    *state = NULL;
    int rc = open_loop("io_uring");
    return rc == 0 || rc == SHMBUS_E_SYSTEM ? 0 : -1;
}

static int setup_epoll(void **state)
{
    *state = NULL;
    return open_loop("epoll");
}

static int teardown(void **state)
{
    (void)state;
    sb_loop_free(loop);
    loop = NULL;
    return count_fds() == fds_before ? 0 : -1;
}

#define NEED_LOOP()                                                                                \
    do {                                                                                           \
        if (!loop)                                                                                 \
            skip(); /* io_uring is not allowed here */                                             \
    } while (0)

/* A descriptor with a callback that counts, and reads one unit of an eventfd semaphore if told. */
struct source {
    int fd;
    uint64_t id;
    int calls;
    unsigned events; /* of the last call */
    bool drain;
};

static void count_call(void *ctx, unsigned events)
{
    struct source *s = ctx;
    s->calls++;
    s->events = events;
    uint64_t value;
    if (s->drain)
        assert_int_equal(read(s->fd, &value, sizeof(value)), sizeof(value));
}

static void open_source(struct source *s, unsigned units)
{
    *s = (struct source){.fd = eventfd(units, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)};
    assert_true(s->fd >= 0);
    s->drain = true;
    assert_int_equal(sb_loop_add(loop, s->fd, SB_LOOP_READ, count_call, s, &s->id), 0);
}

static void close_source(struct source *s)
{
    sb_loop_remove(loop, s->id);
    close(s->fd);
}

static void signal_source(struct source *s, uint64_t units)
{
    assert_int_equal(write(s->fd, &units, sizeof(units)), sizeof(units));
}

static void turn(void)
{
    assert_int_equal(sb_loop_turn(loop, 0), 0);
}

static void test_level_triggered(void **state)
{
    (void)state;
    NEED_LOOP();
    struct source s;
    open_source(&s, 0);
    turn();
    assert_int_equal(s.calls, 0);
    signal_source(&s, 3);
    for (int i = 0; i < 6; i++)
        turn();
    assert_int_equal(s.calls, 3);
    assert_int_equal(s.events, SB_LOOP_READ);
    signal_source(&s, 1);
    assert_int_equal(sb_loop_turn(loop, SB_NEVER), 0);
    assert_int_equal(s.calls, 4);
    close_source(&s);
}

static void test_hangup_and_writable(void **state)
{
    (void)state;
    NEED_LOOP();
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct source s = {.fd = pair[0]};
    assert_int_equal(sb_loop_add(loop, s.fd, 0, count_call, &s, &s.id), 0);
    assert_int_equal(sb_sock_send(pair[1], "x", 1, NULL, 0, SB_SOCK_NOW), 0);
    turn();
    assert_int_equal(s.calls, 0);
    sb_loop_set(loop, s.id, SB_LOOP_READ | SB_LOOP_WRITE);
    assert_int_equal(sb_loop_turn(loop, SB_NEVER), 0);
    assert_int_equal(s.events, SB_LOOP_READ | SB_LOOP_WRITE);
    sb_loop_set(loop, s.id, SB_LOOP_WRITE);
    assert_int_equal(sb_loop_turn(loop, SB_NEVER), 0);
    assert_int_equal(s.events, SB_LOOP_WRITE);
    sb_loop_set(loop, s.id, 0);
    turn();
    turn();
    assert_int_equal(s.calls, 2);
    close(pair[1]);
    assert_int_equal(sb_loop_turn(loop, SB_NEVER), 0);
    assert_int_equal(s.events, SB_LOOP_HANGUP);
    close_source(&s);
}

static void test_what_cannot_be_watched(void **state)
{
    (void)state;
    NEED_LOOP();
    uint64_t id = 7;
    assert_int_equal(sb_loop_add(loop, -1, SB_LOOP_READ, count_call, NULL, &id), SHMBUS_E_SYSTEM);
    assert_int_equal(id, 7);
    sb_loop_remove(loop, 0);
    sb_loop_remove(loop, UINT64_MAX);
    sb_loop_set(loop, 12345678, SB_LOOP_READ);
    turn();
}

static void test_thousands_of_descriptors(void **state)
{
    (void)state;
    NEED_LOOP();
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    unsigned n = limit.rlim_cur > 6100 ? 6000 : (unsigned)limit.rlim_cur - 100;
    struct source *s = calloc(n, sizeof(*s));
    assert_non_null(s);
    for (unsigned i = 0; i < n; i++)
        open_source(&s[i], 0);
    turn();
    for (int round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < n; i++)
            signal_source(&s[i], 1);
        for (unsigned i = 0; i < n / 64 + 4; i++)
            turn();
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(s[i].calls, round);
    }
    for (unsigned i = 0; i < n; i++)
        close_source(&s[i]);
    free(s);
}

/* Two that are ready at once; whoever runs first takes the other away, frees it, and puts a new
 * descriptor with the same number in its place. */
struct killer {
    struct source self;
    struct killer **other;
    struct source *heir;
    int *runs;
};

static void kill_other(void *ctx, unsigned events)
{
    struct killer *k = ctx;
    assert_int_equal(events, SB_LOOP_READ);
    (*k->runs)++;
    struct killer *victim = *k->other;
    *k->other = NULL;
    int number = victim->self.fd;
    close_source(&victim->self);
    free(victim);
    open_source(k->heir, 0);
    assert_int_equal(k->heir->fd, number);
    sb_loop_remove(loop, k->self.id);
    close(k->self.fd);
    memset(k, 0xee, sizeof(*k));
    free(k);
}

static void test_removal_during_dispatch(void **state)
{
    (void)state;
    NEED_LOOP();
    struct killer *k[2];
    struct source heir;
    int runs = 0;
    for (int i = 0; i < 2; i++) {
        k[i] = calloc(1, sizeof(*k[i]));
        k[i]->other = &k[1 - i];
        k[i]->heir = &heir;
        k[i]->runs = &runs;
        k[i]->self.fd = eventfd(1, EFD_CLOEXEC);
        assert_int_equal(
            sb_loop_add(loop, k[i]->self.fd, SB_LOOP_READ, kill_other, k[i], &k[i]->self.id), 0);
    }
    for (int i = 0; i < 4; i++)
        turn();
    assert_int_equal(runs, 1);
    assert_int_equal(heir.calls, 0);
    signal_source(&heir, 1);
    turn();
    turn();
    assert_int_equal(heir.calls, 1);
    close_source(&heir);
}

static void assert_hung_up(int sock)
{
    char byte;
    size_t len;
    assert_int_equal(sb_sock_recv(sock, &byte, 1, &len, NULL, 0, SB_SOCK_NOW), SHMBUS_CLOSED);
}

/* Closing after removal is seen by the peer at once: nothing holds the file any more. */
static void test_removal_lets_go_of_the_file(void **state)
{
    (void)state;
    NEED_LOOP();
    int pair[2];
    struct source s = {.fd = -1};
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    s.fd = pair[0];
    assert_int_equal(sb_loop_add(loop, s.fd, SB_LOOP_READ, count_call, &s, &s.id), 0);
    turn();
    close_source(&s);
    assert_hung_up(pair[1]);
    close(pair[1]);

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    s.fd = pair[0];
    assert_int_equal(sb_loop_add(loop, s.fd, SB_LOOP_READ, count_call, &s, &s.id), 0);
    turn();
    sb_loop_free(loop);
    loop = NULL;
    close(pair[0]);
    assert_hung_up(pair[1]);
    close(pair[1]);
}

struct trace {
    char text[32];
    uint64_t cancel;
    int again;
};

static void trace_call(struct trace *t, char c)
{
    size_t len = strlen(t->text);
    assert_true(len < sizeof(t->text) - 1);
    t->text[len] = c;
}

static void timer_a(void *ctx)
{
    trace_call(ctx, 'a');
    sb_loop_timer_cancel(loop, ((struct trace *)ctx)->cancel);
}

static void timer_b(void *ctx)
{
    trace_call(ctx, 'b');
}

static void timer_again(void *ctx)
{
    struct trace *t = ctx;
    uint64_t id;
    t->again++;
    assert_int_equal(sb_loop_timer(loop, 0, timer_again, t, &id), 0);
}

static void test_timers(void **state)
{
    (void)state;
    NEED_LOOP();
    struct trace t = {.again = 0};
    uint64_t id;
    int64_t now = sb_clock_ns(), late = now + 12 * SB_NS_PER_MS;
    assert_int_equal(sb_loop_timer(loop, late, timer_b, &t, &id), 0);
    assert_int_equal(sb_loop_timer(loop, now - 1, timer_b, &t, &t.cancel), 0);
    assert_int_equal(sb_loop_timer(loop, now - 2, timer_a, &t, &id), 0);
    assert_int_equal(sb_loop_timer(loop, now - 1, timer_b, &t, &id), 0);
    turn();
    assert_string_equal(t.text, "ab");
    while (strlen(t.text) == 2)
        assert_int_equal(sb_loop_turn(loop, SB_NEVER), 0);
    assert_true(sb_clock_ns() >= late);
    assert_true(sb_clock_ns() < late + SB_NS_PER_S);
    int64_t deadline = sb_clock_after(3 * SB_NS_PER_MS);
    int turns = 0;
    for (; sb_clock_ns() < deadline; turns++)
        assert_int_equal(sb_loop_turn(loop, deadline), 0);
    assert_true(turns < 10); /* one, or a few: a ring freed before still interrupts this thread */
}

/* A timer that is always due takes one call a turn and leaves the descriptors theirs. */
static void test_timers_starve_nobody(void **state)
{
    (void)state;
    NEED_LOOP();
    struct trace t = {.again = 0};
    struct source s;
    open_source(&s, 2);
    timer_again(&t);
    for (int i = 0; i < 10; i++)
        turn();
    assert_int_equal(t.again, 11);
    assert_int_equal(s.calls, 2);
    close_source(&s);
}

static void stop_it(void *ctx)
{
    (*(int *)ctx)++;
    sb_loop_stop(loop);
}

static void *wake_from_thread(void *arg)
{
    (void)arg;
    sb_loop_wake(loop);
    return NULL;
}

static void wake_from_handler(int sig)
{
    (void)sig;
    errno = 42;
    sb_loop_wake(loop);
    assert_int_equal(errno, 42);
}

static void test_wake_and_stop(void **state)
{
    (void)state;
    NEED_LOOP();
    int woken = 0;
    sb_loop_on_wake(loop, stop_it, &woken);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_from_thread, NULL), 0);
    assert_int_equal(sb_loop_run(loop), 0);
    pthread_join(thread, NULL);
    assert_int_equal(woken, 1);

    signal(SIGUSR1, wake_from_handler);
    sb_loop_on_wake(loop, stop_it, &woken);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(sb_loop_run(loop), 0);
    signal(SIGUSR1, SIG_DFL);
    assert_true(woken >= 2);

    sb_loop_stop(loop); /* before it runs */
    assert_int_equal(sb_loop_run(loop), 0);
}

static void stop_on_event(void *ctx, unsigned events)
{
    count_call(ctx, events);
    sb_loop_stop(loop);
}

/* A stop in the middle of what one wait has fetched: the rest comes when the loop runs again. */
static void test_stop_loses_nothing(void **state)
{
    (void)state;
    NEED_LOOP();
    struct source s[8];
    int runs = 0, calls = 0;
    for (int i = 0; i < 8; i++) {
        s[i] = (struct source){.fd = eventfd(1, EFD_CLOEXEC), .drain = true};
        assert_int_equal(sb_loop_add(loop, s[i].fd, SB_LOOP_READ, stop_on_event, &s[i], &s[i].id),
                         0);
    }
    for (; calls < 8; runs++) {
        assert_int_equal(sb_loop_run(loop), 0);
        calls = 0;
        for (int i = 0; i < 8; i++)
            calls += s[i].calls;
        assert_int_equal(calls, runs + 1);
    }
    for (int i = 0; i < 8; i++)
        close_source(&s[i]);
}

static void *turn_once(void *arg)
{
    (void)arg;
    assert_int_equal(sb_loop_turn(loop, 0), 0);
    return NULL;
}

/* io_uring polls end with the thread that submitted them; the loop's do not. */
static void test_survives_its_thread(void **state)
{
    (void)state;
    NEED_LOOP();
    struct source s;
    open_source(&s, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, turn_once, NULL), 0);
    pthread_join(thread, NULL);
    signal_source(&s, 1);
    while (s.calls == 0)
        assert_int_equal(sb_loop_turn(loop, sb_clock_after(5 * SB_NS_PER_S)), 0);
    assert_int_equal(s.calls, 1);
    close_source(&s);
}

#define RANDOM_SOURCES 200

static void turn_for_all(struct source *s)
{
    for (int i = 0; i < RANDOM_SOURCES; i++)
        s[i].calls = 0;
    for (int i = 0; i < 2 * (RANDOM_SOURCES / 64 + 2); i++)
        turn();
}

/* After a few turns, exactly those that are watched and ready are called. */
static void check_against_poll(struct source *s)
{
    turn_for_all(s); /* delivers what was noticed before it was drained again */
    turn_for_all(s);
    for (int i = 0; i < RANDOM_SOURCES; i++) {
        struct pollfd p = {.fd = s[i].fd, .events = POLLIN};
        bool expected = s[i].id != 0 && s[i].events && poll(&p, 1, 0) == 1;
        assert_int_equal(s[i].calls > 0, expected);
    }
}

static void count_only(void *ctx, unsigned events)
{
    struct source *s = ctx;
    assert_true(s->id != 0 && s->events == SB_LOOP_READ && events == SB_LOOP_READ);
    s->calls++;
}

/* Adds, removes, changes, signals and drains at random. events holds what is asked for. */
static void random_step(struct source *s, unsigned *seed)
{
    uint64_t value = 1;
    switch (rand_r(seed) % 5) {
    case 0:
        if (s->id == 0) {
            s->events = rand_r(seed) % 4 ? SB_LOOP_READ : 0;
            assert_int_equal(sb_loop_add(loop, s->fd, s->events, count_only, s, &s->id), 0);
        }
        break;
    case 1:
        sb_loop_remove(loop, s->id);
        s->id = 0;
        if (rand_r(seed) % 2) {
            close(s->fd);
            s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        }
        break;
    case 2:
        s->events = rand_r(seed) % 2 ? SB_LOOP_READ : 0;
        sb_loop_set(loop, s->id, s->events);
        break;
    case 3:
        assert_int_equal(write(s->fd, &value, sizeof(value)), sizeof(value));
        break;
    default:
        assert_true(read(s->fd, &value, sizeof(value)) > 0 || errno == EAGAIN);
    }
}

static void test_random_operations(void **state)
{
    (void)state;
    NEED_LOOP();
    unsigned seed = (unsigned)sb_clock_ns();
    printf("seed %u\n", seed);
    struct source s[RANDOM_SOURCES];
    for (int i = 0; i < RANDOM_SOURCES; i++)
        s[i] = (struct source){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 150; i++)
            random_step(&s[rand_r(&seed) % RANDOM_SOURCES], &seed);
        if (rand_r(&seed) % 2)
            turn();
        check_against_poll(s);
    }
    for (int i = 0; i < RANDOM_SOURCES; i++)
        close_source(&s[i]);
}

/* In a child where system call nr is forbidden: 0 when the loop falls back and works. */
static int falls_back(long nr, int error)
{
    if (!forbid_syscall(nr, error))
        return 77;
    setenv("SHMBUS_LOOP", "io_uring", 1);
    if (sb_loop_new(&loop) != SHMBUS_E_SYSTEM || !strstr(shmbus_errmsg(), "SHMBUS_LOOP"))
        return 1;
    unsetenv("SHMBUS_LOOP");
    if (sb_loop_new(&loop) != 0 || strcmp(sb_loop_backend(loop), "epoll") != 0)
        return 2;
    struct source s;
    open_source(&s, 1);
    if (sb_loop_turn(loop, SB_NEVER) != 0 || s.calls != 1)
        return 3;
    close_source(&s);
    sb_loop_free(loop);
    return count_fds() == fds_before ? 0 : 4;
}

static void test_io_uring_forbidden(void **state)
{
    (void)state;
    const struct {
        long nr;
        int error;
    } forbidden[] = {{SYS_io_uring_setup, EPERM},
                     {SYS_io_uring_setup, ENOSYS},
                     {SYS_io_uring_setup, ENOMEM},
                     {SYS_io_uring_enter, EPERM}};
    fds_before = count_fds();
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(falls_back(forbidden[i].nr, forbidden[i].error));
        int status = child_status(pid);
        if (status == 77)
            skip(); /* no seccomp */
        assert_int_equal(status, 0);
    }
}

static void test_environment_forces_a_backend(void **state)
{
    (void)state;
    struct sb_loop *l = NULL;
    setenv("SHMBUS_LOOP", "select", 1);
    assert_int_equal(sb_loop_new(&l), SHMBUS_E_INVALID);
    assert_non_null(strstr(shmbus_errmsg(), "select"));
    assert_null(l);
    setenv("SHMBUS_LOOP", "epoll", 1);
    assert_int_equal(sb_loop_new(&l), 0);
    assert_string_equal(sb_loop_backend(l), "epoll");
    sb_loop_free(l);
    unsetenv("SHMBUS_LOOP");
    assert_int_equal(sb_loop_new(&l), 0);
    printf("backend by default: %s\n", sb_loop_backend(l));
    sb_loop_free(l);
    sb_loop_free(NULL);
}

#define BOTH(f)                                                                                    \
    {"io_uring: " #f, f, setup_uring, teardown, NULL},                                             \
    {                                                                                              \
        "epoll: " #f, f, setup_epoll, teardown, NULL                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_level_triggered),
        BOTH(test_hangup_and_writable),
        BOTH(test_what_cannot_be_watched),
        BOTH(test_thousands_of_descriptors),
        BOTH(test_removal_during_dispatch),
        BOTH(test_removal_lets_go_of_the_file),
        BOTH(test_timers),
        BOTH(test_timers_starve_nobody),
        BOTH(test_wake_and_stop),
        BOTH(test_stop_loses_nothing),
        BOTH(test_survives_its_thread),
        BOTH(test_random_operations),
        cmocka_unit_test(test_io_uring_forbidden),
        cmocka_unit_test(test_environment_forces_a_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
