/* SPDX-License-Identifier: Apache-2.0 */
#include "support/testbus.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_CHECK(ok, ...)                                                                        \
    do {                                                                                           \
        if (!(ok)) {                                                                               \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct test_proc test_spawn(int (*fn)(int fd, void *arg), void *arg)
{
    int fds[2];
    TEST_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "socketpair: %s",
               strerror(errno));
    fflush(NULL);
    pid_t parent = getpid();
    pid_t pid = fork();
    TEST_CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        /* Nothing outlives a test that is killed. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(fds[0]);
        int status = fn(fds[1], arg);
        fflush(NULL);
        _exit(status);
    }
    close(fds[1]);
    return (struct test_proc){.pid = pid, .fd = fds[0]};
}

bool test_tell(int fd, uint64_t word)
{
    return send(fd, &word, sizeof(word), MSG_NOSIGNAL) == sizeof(word);
}

uint64_t test_hear_or(int fd, uint64_t gone)
{
    uint64_t word;
    ssize_t n;
    do {
        n = recv(fd, &word, sizeof(word), 0);
    } while (n < 0 && errno == EINTR);
    return n == sizeof(word) ? word : gone;
}

uint64_t test_hear(int fd)
{
    uint64_t word;
    ssize_t n;
    do {
        n = recv(fd, &word, sizeof(word), 0);
    } while (n < 0 && errno == EINTR);
    TEST_CHECK(n == sizeof(word), "the other process has gone");
    return word;
}

int test_join(struct test_proc *proc)
{
    int status;
    TEST_CHECK(waitpid(proc->pid, &status, 0) == proc->pid, "waitpid: %s", strerror(errno));
    if (proc->fd >= 0)
        close(proc->fd);
    proc->fd = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void test_kill(struct test_proc *proc)
{
    kill(proc->pid, SIGKILL);
    (void)test_join(proc);
}

/*
 * The bus.
 */

struct test_coordinator {
    const struct test_bus *bus;
    struct shmbus_coordinator_options options;
};

static int test_coordinator_main(int fd, void *arg)
{
    struct test_coordinator *c = arg;
    struct shmbus_coordinator *coordinator;
    int ret = shmbus_coordinator_start(c->bus->name, &c->options, &coordinator);
    if (ret)
        fprintf(stderr, "coordinator: %s\n", shmbus_errmsg());
    test_tell(fd, (uint64_t)(int64_t)ret);
    if (ret)
        return 1;
    (void)test_hear_or(fd, 0);
    shmbus_coordinator_stop(coordinator);
    return 0;
}

void test_bus_start(struct test_bus *bus, struct shmbus_coordinator_options *options)
{
    static int serial;
    struct test_coordinator c = {.bus = bus, .options = SHMBUS_COORDINATOR_OPTIONS_INIT};
    snprintf(bus->dir, sizeof(bus->dir), "/tmp/shmbus-test-XXXXXX");
    TEST_CHECK(mkdtemp(bus->dir), "mkdtemp: %s", strerror(errno));
    snprintf(bus->name, sizeof(bus->name), "test-%ld-%d", (long)getpid(), serial++);
    setenv("SHMBUS_RUNTIME_DIR", bus->dir, 1);
    if (options)
        c.options = *options;
    c.options.runtime_dir = bus->dir;
    bus->coordinator = test_spawn(test_coordinator_main, &c);
    TEST_CHECK(test_hear(bus->coordinator.fd) == 0, "the coordinator did not start");
}

static void test_nothing_left(const char *path, const char *name)
{
    DIR *dir = opendir(path);
    TEST_CHECK(dir, "%s: %s", path, strerror(errno));
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        bool ours = name ? strstr(e->d_name, name) != NULL : e->d_name[0] != '.';
        TEST_CHECK(!ours, "%s/%s was left behind", path, e->d_name);
    }
    closedir(dir);
}

void test_bus_stop(struct test_bus *bus)
{
    test_tell(bus->coordinator.fd, 0);
    int status = test_join(&bus->coordinator);
    TEST_CHECK(status == 0, "the coordinator ended with status %d", status);
    test_nothing_left("/dev/shm", bus->name);
    test_nothing_left(bus->dir, NULL);
    TEST_CHECK(rmdir(bus->dir) == 0, "rmdir %s: %s", bus->dir, strerror(errno));
}

/*
 * Clients.
 */

struct shmbus_conn *test_connect(const struct test_bus *bus)
{
    struct shmbus_conn *conn;
    int ret = shmbus_connect(bus->name, NULL, &conn);
    TEST_CHECK(ret == 0, "connect: %s", shmbus_errmsg());
    return conn;
}

struct shmbus_sub *test_subscribe(struct shmbus_conn *conn, const char *pattern, int64_t queue_len,
                                  uint32_t full)
{
    struct shmbus_subscribe_options options = SHMBUS_SUBSCRIBE_OPTIONS_INIT;
    if (queue_len)
        options.queue_len = queue_len;
    options.full = full;
    struct shmbus_sub *sub;
    int ret = shmbus_subscribe(conn, shmbus_text(pattern), &options, &sub);
    TEST_CHECK(ret == 0, "subscribe %s: %s", pattern, shmbus_errmsg());
    return sub;
}

struct shmbus_queue_stats test_books(const struct shmbus_sub *sub)
{
    struct shmbus_queue_stats books;
    TEST_CHECK(shmbus_sub_stats(sub, &books, sizeof(books)) == 0, "stats: %s", shmbus_errmsg());
    TEST_CHECK(books.offered == books.received + books.queued + books.dropped,
               "offered %" PRIu64 " != received %" PRIu64 " + queued %" PRIu64
               " + dropped %" PRIu64,
               books.offered, books.received, books.queued, books.dropped);
    return books;
}

struct shmbus_bus_stats test_bus_figures(const struct test_bus *bus)
{
    struct shmbus_connect_options options = SHMBUS_CONNECT_OPTIONS_INIT;
    options.flags = SHMBUS_CONNECT_OBSERVER;
    struct shmbus_conn *conn;
    struct shmbus_bus_stats figures;
    TEST_CHECK(shmbus_connect(bus->name, &options, &conn) == 0, "observe: %s", shmbus_errmsg());
    TEST_CHECK(shmbus_bus_stats(conn, &figures, sizeof(figures)) == 0, "bus stats: %s",
               shmbus_errmsg());
    shmbus_conn_free(conn);
    return figures;
}

int64_t test_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t test_until(bool (*ok)(void *arg), void *arg, int64_t ms)
{
    int64_t start = test_now_ns();
    while (!ok(arg)) {
        TEST_CHECK(test_now_ns() - start < ms * 1000000, "still not so after %" PRId64 " ms", ms);
        struct timespec step = {.tv_nsec = 200000};
        nanosleep(&step, NULL);
    }
    return (test_now_ns() - start) / 1000000;
}

bool test_asleep(void *tid)
{
    char path[64], state = '?';
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)*(pid_t *)tid);
    FILE *f = fopen(path, "re");
    TEST_CHECK(f, "%s: %s", path, strerror(errno));
    int found = fscanf(f, "%*d (%*[^)]) %c", &state);
    fclose(f);
    return found == 1 && state == 'S';
}

long test_pss_kib(pid_t pid)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/%ld/smaps_rollup", (long)pid);
    FILE *f = fopen(path, "r");
    TEST_CHECK(f, "%s: %s", path, strerror(errno));
    long kib = -1;
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Pss: %ld kB", &kib) == 1)
            break;
    }
    fclose(f);
    TEST_CHECK(kib >= 0, "%s has no Pss line", path);
    return kib;
}

uint64_t test_seed(void)
{
    const char *given = getenv("SHMBUS_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)test_now_ns();
    printf("SHMBUS_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

bool test_light(void)
{
    const char *light = getenv("SHMBUS_TEST_LIGHT");
    return light && *light == '1';
}
