/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real coordinator in a process of its own, real clients in processes of theirs, and lines to
 * talk to them: what system tests are made of. Failures end the test.
 */
#ifndef TESTS_SUPPORT_TESTBUS_H
#define TESTS_SUPPORT_TESTBUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <shmbus/shmbus.h>

/* A process that runs a function, with a socket to it. */
struct test_proc {
    pid_t pid;
    int fd;
};

/* Runs fn(fd, arg) in a child, which exits with its result; fd is the child's end. */
struct test_proc test_spawn(int (*fn)(int fd, void *arg), void *arg);

/* One word each way. test_tell returns false, test_hear ends the test, when the other side is gone;
 * test_hear_or returns `gone` then. */
bool test_tell(int fd, uint64_t word);
uint64_t test_hear(int fd);
uint64_t test_hear_or(int fd, uint64_t gone);

/* Waits for the child and returns its exit status, or 128 + the signal that killed it. */
int test_join(struct test_proc *proc);

/* SIGKILL, and waits. */
void test_kill(struct test_proc *proc);

/* A bus on a runtime directory of its own, served by a child. SHMBUS_RUNTIME_DIR leads there. */
struct test_bus {
    struct test_proc coordinator;
    char name[64];
    char dir[64];
};

/* options may be NULL; its runtime_dir is overwritten. */
void test_bus_start(struct test_bus *bus, struct shmbus_coordinator_options *options);

/* Ends it as SIGTERM would, and checks that nothing is left in /dev/shm and the directory. */
void test_bus_stop(struct test_bus *bus);

/* shmbus_connect() that ends the test on failure. */
struct shmbus_conn *test_connect(const struct test_bus *bus);

/* Subscribes with a queue and a policy (0: defaults), or ends the test. */
struct shmbus_sub *test_subscribe(struct shmbus_conn *conn, const char *pattern, int64_t queue_len,
                                  uint32_t full);

/* Fails unless offered = received + queued + dropped; returns the books. */
struct shmbus_queue_stats test_books(const struct shmbus_sub *sub);

/* Figures of the bus, asked for through an observer. */
struct shmbus_bus_stats test_bus_figures(const struct test_bus *bus);

/* Polls until ok(arg) is true; ends the test after `ms`. Returns the milliseconds it took. */
int64_t test_until(bool (*ok)(void *arg), void *arg, int64_t ms);

/* Whether a process or thread sleeps (S in /proc), by its id; for test_until(). */
bool test_asleep(void *tid);

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t test_now_ns(void);

/* The process's proportional set size in KiB. */
long test_pss_kib(pid_t pid);

/* A seed from SHMBUS_TEST_SEED or the clock, printed; and a small generator. */
uint64_t test_seed(void);
uint64_t test_random(uint64_t *state);

/* True in builds with sanitizers: take a sample. */
bool test_light(void);

#endif
