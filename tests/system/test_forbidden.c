/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole path in sandboxes: a coordinator, a publisher whose threads share a connection, and a
 * sleeping and a busy subscriber, in processes of their own, where io_uring, membarrier or both are
 * forbidden to all of them, and with each event loop asked for by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/testbus.h"
#include "unit/os_seccomp.h"

#define SINGLES 20u /* published one at a time, each to a sleeper */
#define THREADS 2u  /* then from threads of one connection at once */
#define BURST 1000u /* by each */
#define COUNT (SINGLES + THREADS * BURST)
#define QUEUE 4096

#define URING SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register

/* Ends a process of the test that found something wrong, and by that the test. */
#define CHECK(ok)                                                                                  \
    do {                                                                                           \
        if (!(ok)) {                                                                               \
            fprintf(stderr, "%s:%d: %s; last failure: %s\n", __FILE__, __LINE__, #ok,              \
                    shmbus_errmsg());                                                              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A system, as a sandbox or an administrator makes it. */
struct world {
    const char *loop;  /* SHMBUS_LOOP, or NULL */
    const char *found; /* the event loop that the coordinator must be found to have, or NULL */
    int error;         /* of the calls that are forbidden */
    long forbidden[4]; /* 0: none */
};

/*
 * The processes on the bus.
 */

struct burst {
    struct shmbus_conn *conn;
    uint32_t thread;
};

static void publish(struct shmbus_conn *conn, uint32_t thread, uint32_t n)
{
    const uint32_t payload[2] = {thread, n};
    struct shmbus_delivery delivery;
    CHECK(shmbus_publish(conn, shmbus_text("path/taken"), payload, sizeof(payload), NULL,
                         &delivery) == 0);
    CHECK(delivery.matched == 2 && delivery.refused == 0);
}

static void *burst_main(void *arg)
{
    const struct burst *burst = arg;
    for (uint32_t n = 0; n < BURST; n++)
        publish(burst->conn, burst->thread, n);
    return NULL;
}

/* Publishes one message per word, then the bursts, then waits to be killed. */
static int publisher_main(int fd, void *arg)
{
    struct shmbus_conn *conn = test_connect(arg);
    test_tell(fd, 0);
    for (uint32_t n = 0; n < SINGLES; n++) {
        (void)test_hear(fd);
        publish(conn, 0, n);
    }
    (void)test_hear(fd);
    struct burst burst[THREADS];
    pthread_t thread[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        burst[i] = (struct burst){conn, i + 1};
        CHECK(pthread_create(&thread[i], NULL, burst_main, &burst[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    test_tell(fd, 0);
    (void)test_hear_or(fd, 0);
    return 1;
}

/* Receives the message that is next of its thread. */
static void take(struct shmbus_message *m, uint32_t next[THREADS + 1])
{
    uint32_t payload[2];
    CHECK(m->size == sizeof(payload) && m->lost_before == 0);
    memcpy(payload, m->payload, sizeof(payload));
    CHECK(payload[0] <= THREADS && payload[1] == next[payload[0]]++);
    CHECK(strcmp(m->topic->text, "path/taken") == 0);
    shmbus_release(m);
}

struct reader {
    const struct test_bus *bus;
    uint32_t full;
    bool sleeps;
};

static int subscriber_main(int fd, void *arg)
{
    const struct reader *reader = arg;
    struct shmbus_conn *conn = test_connect(reader->bus);
    struct shmbus_sub *sub = test_subscribe(conn, "path/+", QUEUE, reader->full);
    struct shmbus_message m;
    uint32_t next[THREADS + 1] = {0};
    test_tell(fd, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (reader->sleeps && i < SINGLES)
            test_tell(fd, i);
        int ret;
        while ((ret = shmbus_recv(sub, &m, reader->sleeps ? SHMBUS_FOREVER : 0)) == SHMBUS_EMPTY)
            sched_yield();
        CHECK(ret == 0);
        take(&m, next);
    }
    struct shmbus_queue_stats books = test_books(sub);
    CHECK(books.received == COUNT && books.dropped == 0);
    test_tell(fd, COUNT);
    /* Woken by the end of the bus. */
    CHECK(shmbus_recv(sub, &m, SHMBUS_FOREVER) == SHMBUS_CLOSED);
    CHECK(strcmp(shmbus_sub_why(sub), "bus_stopped") == 0);
    shmbus_sub_free(sub);
    shmbus_conn_free(conn);
    return 0;
}

/*
 * The system.
 */

/* Whether a process holds a descriptor of that kind. */
static bool holds(pid_t pid, const char *kind)
{
    char path[64], target[64];
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    bool found = false;
    for (struct dirent *e; !found && (e = readdir(dir)) != NULL;) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = '\0';
        found = strstr(target, kind) != NULL;
    }
    closedir(dir);
    return found;
}

static bool two_connections(void *bus)
{
    return test_bus_figures(bus).connections == 2;
}

static void whole_path(struct test_bus *bus)
{
    struct reader readers[] = {{bus, SHMBUS_REJECT_NEWEST, true}, {bus, SHMBUS_DROP_OLDEST, false}};
    struct test_proc sleeper = test_spawn(subscriber_main, &readers[0]);
    struct test_proc busy = test_spawn(subscriber_main, &readers[1]);
    (void)test_hear(sleeper.fd);
    (void)test_hear(busy.fd);
    struct test_proc publisher = test_spawn(publisher_main, bus);
    (void)test_hear(publisher.fd);
    for (uint32_t i = 0; i < SINGLES; i++) {
        CHECK(test_hear(sleeper.fd) == i);
        test_until(test_asleep, &sleeper.pid, 10000);
        test_tell(publisher.fd, i);
    }
    test_tell(publisher.fd, 0);
    (void)test_hear(publisher.fd);
    CHECK(test_hear(sleeper.fd) == COUNT);
    CHECK(test_hear(busy.fd) == COUNT);
    test_kill(&publisher); /* seen by its pidfd */
    test_until(two_connections, bus, 10000);
    CHECK(test_bus_figures(bus).dropped == 0);
    test_until(test_asleep, &sleeper.pid, 10000);
    test_bus_stop(bus);
    CHECK(test_join(&sleeper) == 0);
    CHECK(test_join(&busy) == 0);
}

static void enter(const struct world *world)
{
    for (int i = 0; i < 4 && world->forbidden[i]; i++)
        CHECK(forbid_syscall(world->forbidden[i], world->error));
    if (world->loop)
        setenv("SHMBUS_LOOP", world->loop, 1);
    else
        unsetenv("SHMBUS_LOOP");
}

/* In a child, as nothing that was forbidden can be allowed again. */
static int world_main(int fd, void *arg)
{
    (void)fd;
    const struct world *world = arg;
    struct test_bus bus;
    enter(world);
    test_bus_start(&bus, NULL);
    if (world->found)
        CHECK(holds(bus.coordinator.pid, world->found));
    if (world->found && strcmp(world->found, "eventpoll") == 0)
        CHECK(!holds(bus.coordinator.pid, "io_uring"));
    whole_path(&bus);
    return 0;
}

static void in_world(struct world world)
{
    struct test_proc proc = test_spawn(world_main, &world);
    assert_int_equal(test_join(&proc), 0);
}

/*
 * The tests.
 */

static void test_io_uring_is_not_permitted(void **state)
{
    (void)state;
    in_world((struct world){NULL, "eventpoll", EPERM, {URING}});
}

static void test_io_uring_is_not_in_the_kernel(void **state)
{
    (void)state;
    in_world((struct world){NULL, "eventpoll", ENOSYS, {URING}});
}

static void test_membarrier_is_not_permitted(void **state)
{
    (void)state;
    in_world((struct world){NULL, NULL, EPERM, {SYS_membarrier}});
}

static void test_neither_is_permitted(void **state)
{
    (void)state;
    in_world((struct world){NULL, "eventpoll", EPERM, {URING, SYS_membarrier}});
}

static void test_epoll_is_asked_for(void **state)
{
    (void)state;
    in_world((struct world){.loop = "epoll", .found = "eventpoll"});
}

static void test_io_uring_is_asked_for(void **state)
{
    (void)state;
    /* Without arguments it fails with EINVAL or EFAULT where it is to be had. */
    long rc = syscall(SYS_io_uring_setup, 0, NULL);
    if (rc < 0 && (errno == EPERM || errno == ENOSYS)) {
        printf("io_uring is not to be had here\n");
        skip();
    }
    in_world((struct world){.loop = "io_uring", .found = "io_uring"});
}

/* What is asked for by name and cannot be had is an error that names it, and leaves nothing. */
static int refused_main(int fd, void *arg)
{
    (void)fd;
    const struct world *world = arg;
    char dir[] = "/tmp/shmbus-test-XXXXXX", name[64];
    CHECK(mkdtemp(dir));
    snprintf(name, sizeof(name), "test-forbidden-%ld", (long)getpid());
    struct shmbus_coordinator_options options = SHMBUS_COORDINATOR_OPTIONS_INIT;
    options.runtime_dir = dir;
    struct shmbus_coordinator *coordinator = NULL;
    enter(world);
    int ret = shmbus_coordinator_start(name, &options, &coordinator);
    CHECK(ret == (world->error ? SHMBUS_E_SYSTEM : SHMBUS_E_INVALID) && coordinator == NULL);
    CHECK(strstr(shmbus_errmsg(), "SHMBUS_LOOP") && strstr(shmbus_errmsg(), world->loop));
    CHECK(world->error == 0 || shmbus_errsys() == world->error);
    CHECK(rmdir(dir) == 0);
    return 0;
}

static void test_a_loop_that_cannot_be_had(void **state)
{
    (void)state;
    struct world worlds[] = {{"io_uring", NULL, EPERM, {URING}}, {.loop = "kqueue"}};
    for (int i = 0; i < 2; i++) {
        struct test_proc proc = test_spawn(refused_main, &worlds[i]);
        assert_int_equal(test_join(&proc), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_io_uring_is_not_permitted),
        cmocka_unit_test(test_io_uring_is_not_in_the_kernel),
        cmocka_unit_test(test_membarrier_is_not_permitted),
        cmocka_unit_test(test_neither_is_permitted),
        cmocka_unit_test(test_epoll_is_asked_for),
        cmocka_unit_test(test_io_uring_is_asked_for),
        cmocka_unit_test(test_a_loop_that_cannot_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
