/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/futex.h"
#include "os/map.h"
#include "os/memfd.h"
#include "os_fds.h"
#include "os_seccomp.h"

static void test_wait_outcomes_without_a_waker(void **state)
{
    (void)state;
    uint32_t word = 5;
    assert_int_equal(sb_futex_wait(&word, 4, SB_NEVER), SB_FUTEX_CHANGED);
    assert_int_equal(sb_futex_wait(&word, 5, sb_clock_ns() - 1), SB_FUTEX_TIMEOUT);
    assert_int_equal(sb_futex_wait(&word, 5, 0), SB_FUTEX_TIMEOUT);
    assert_int_equal(sb_futex_wait(&word, 5, -1), SB_FUTEX_TIMEOUT);
    int64_t deadline = sb_clock_ns() + 5 * SB_NS_PER_MS;
    assert_int_equal(sb_futex_wait(&word, 5, deadline), SB_FUTEX_TIMEOUT);
    assert_true(sb_clock_ns() >= deadline);
    assert_int_equal(sb_futex_wait((uint32_t *)8, 0, 0), SHMBUS_E_SYSTEM);
    assert_int_equal(sb_futex_wake(&word, 1), 0);
}

/* Two processes, two mappings, the sleeper's read-only. The parent wakes until one slept. */
static void test_wait_is_shared_between_processes(void **state)
{
    (void)state;
    int fd = -1, ro = -1;
    void *map = NULL;
    assert_int_equal(sb_memfd_create("futex", 4096, &fd), 0);
    assert_int_equal(sb_memfd_readonly(fd, &ro), 0);
    assert_int_equal(sb_map(fd, 4096, true, &map), 0);
    pid_t pid = fork();
    if (pid == 0) {
        void *mine = NULL;
        if (sb_map(ro, 4096, false, &mine) != 0)
            _exit(2);
        _exit(sb_futex_wait(mine, 0, sb_clock_after(10 * SB_NS_PER_S)) != SB_FUTEX_WOKEN);
    }
    assert_int_equal(sb_futex_wake(map, 0), 0);
    siginfo_t ended = {.si_pid = 0};
    while (sb_futex_wake(map, 1) == 0 && ended.si_pid == 0) {
        assert_int_equal(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT), 0);
        sched_yield();
    }
    assert_int_equal(child_status(pid), 0);
    sb_unmap(map, 4096);
    close(ro);
    close(fd);
}

static void ignore_signal(int sig)
{
    (void)sig;
}

/* A timer that keeps firing, so that one signal hits the wait however late that starts. */
static timer_t start_signals(int flags)
{
    struct sigaction sa = {.sa_handler = ignore_signal, .sa_flags = flags};
    sigaction(SIGALRM, &sa, NULL);
    timer_t timer;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
    struct itimerspec every = {{0, 2000000}, {0, 2000000}};
    assert_int_equal(timer_settime(timer, 0, &every, NULL), 0);
    return timer;
}

static void test_wait_is_interrupted_by_a_handler(void **state)
{
    (void)state;
    uint32_t word = 0;
    timer_t timer = start_signals(SA_RESTART);
    int64_t far = sb_clock_after(10 * SB_NS_PER_S);
    assert_int_equal(sb_futex_wait(&word, 0, far), SB_FUTEX_INTERRUPTED);
    timer_delete(timer);

    struct futex_waitv w;
    unsigned woken;
    sb_futex_waitv_set(&w, &word, 0);
    timer = start_signals(0);
    int rc = sb_futex_waitv(&w, 1, far, &woken);
    assert_true(rc == SB_FUTEX_INTERRUPTED || rc == SB_FUTEX_UNSUPPORTED);
    timer_delete(timer);
    /* As the header says: with SA_RESTART the kernel goes on, up to the deadline. */
    timer = start_signals(SA_RESTART);
    rc = sb_futex_waitv(&w, 1, sb_clock_after(20 * SB_NS_PER_MS), &woken);
    assert_true(rc == SB_FUTEX_TIMEOUT || rc == SB_FUTEX_UNSUPPORTED);
    timer_delete(timer);
    signal(SIGALRM, SIG_DFL);
}

static void *wake_the_last(void *arg)
{
    uint32_t *words = arg;
    while (sb_futex_wake(&words[SB_FUTEX_WAITV_MAX - 1], 1) == 0)
        sched_yield();
    return NULL;
}

static void test_waitv_takes_128_words(void **state)
{
    (void)state;
    uint32_t words[SB_FUTEX_WAITV_MAX] = {0};
    struct futex_waitv w[SB_FUTEX_WAITV_MAX];
    for (unsigned i = 0; i < SB_FUTEX_WAITV_MAX; i++)
        sb_futex_waitv_set(&w[i], &words[i], 0);
    unsigned woken = 999;
    int rc = sb_futex_waitv(w, SB_FUTEX_WAITV_MAX, 0, &woken);
    if (rc == SB_FUTEX_UNSUPPORTED)
        skip(); /* kernel or sandbox without futex_waitv */
    assert_int_equal(rc, SB_FUTEX_TIMEOUT);
    assert_int_equal(woken, 999);
    assert_int_equal(sb_futex_waitv(w, 0, 0, &woken), SHMBUS_E_INVALID);
    assert_int_equal(sb_futex_waitv(w, SB_FUTEX_WAITV_MAX + 1, 0, &woken), SHMBUS_E_INVALID);

    pthread_t waker;
    assert_int_equal(pthread_create(&waker, NULL, wake_the_last, words), 0);
    assert_int_equal(sb_futex_waitv(w, SB_FUTEX_WAITV_MAX, SB_NEVER, &woken), SB_FUTEX_WOKEN);
    assert_int_equal(woken, SB_FUTEX_WAITV_MAX - 1);
    pthread_join(waker, NULL);
    words[3] = 1;
    assert_int_equal(sb_futex_waitv(w, SB_FUTEX_WAITV_MAX, SB_NEVER, &woken), SB_FUTEX_CHANGED);
}

#define LOCK_THREADS 4
#define LOCK_ROUNDS 50000

static struct {
    struct sb_lock lock;
    uint64_t plain; /* not atomic: TSan looks at whether the lock orders it */
} guarded;

static void *count_under_lock(void *arg)
{
    (void)arg;
    for (int i = 0; i < LOCK_ROUNDS; i++) {
        sb_lock_acquire(&guarded.lock);
        guarded.plain++;
        if (i % 64 == 0)
            sched_yield(); /* lets others run into the lock while it is held */
        sb_lock_release(&guarded.lock);
    }
    return NULL;
}

/* Whether no addition of so many threads was lost, and the lock ends up free. */
static bool lock_excludes(void)
{
    memset(&guarded, 0, sizeof(guarded));
    pthread_t threads[LOCK_THREADS];
    int started = 0;
    while (started < LOCK_THREADS &&
           pthread_create(&threads[started], NULL, count_under_lock, NULL) == 0)
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return started == LOCK_THREADS && guarded.plain == LOCK_THREADS * LOCK_ROUNDS &&
           guarded.lock.held == 0 && guarded.lock.waiters == 0;
}

static void test_lock_excludes(void **state)
{
    (void)state;
    assert_true(lock_excludes());
}

struct waiter {
    struct sb_lock lock;
    uint32_t tid; /* atomic */
};

static void *wait_for_lock(void *arg)
{
    struct waiter *waiter = arg;
    sb_store_release(&waiter->tid, (uint32_t)syscall(SYS_gettid));
    sb_lock_acquire(&waiter->lock);
    sb_lock_release(&waiter->lock);
    return NULL;
}

/* Whether a thread of this process sleeps. */
static bool is_asleep(uint32_t tid)
{
    char path[64], state = '?';
    snprintf(path, sizeof(path), "/proc/self/task/%u/stat", tid);
    FILE *stat = fopen(path, "re");
    int found = stat ? fscanf(stat, "%*d (%*[^)]) %c", &state) : 0;
    if (stat)
        fclose(stat);
    return found == 1 && state == 'S';
}

/*
 * The holder that looked for waiters too early, made certain: the lock is freed without a wake. As
 * no membarrier is to be had, the waiter must come back by itself.
 */
static bool missed_wake_is_made_up_for(void)
{
    struct waiter waiter = {.lock.held = 1};
    struct sb_lock *lock = &waiter.lock;
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_lock, &waiter) != 0)
        return false;
    while (sb_load_acquire(&lock->waiters) == 0 || !is_asleep(sb_load_acquire(&waiter.tid)))
        sched_yield();
    sb_store_release(&lock->held, 0u);
    return pthread_join(thread, NULL) == 0 && lock->held == 0 && lock->waiters == 0;
}

/* In a child where membarrier is denied; an alarm ends it if it hangs. */
static int lock_without_membarrier(int error)
{
    if (!forbid_syscall(SYS_membarrier, error))
        return 77;
    alarm(30);
    if (!missed_wake_is_made_up_for())
        return 1;
    return lock_excludes() ? 0 : 2;
}

static void test_lock_where_membarrier_is_denied(void **state)
{
    (void)state;
    const int errors[] = {EPERM, ENOSYS};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(lock_without_membarrier(errors[i]));
        int status = child_status(pid);
        if (status == 77)
            skip(); /* no filters for system calls here */
        assert_int_equal(status, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wait_outcomes_without_a_waker),
        cmocka_unit_test(test_wait_is_shared_between_processes),
        cmocka_unit_test(test_wait_is_interrupted_by_a_handler),
        cmocka_unit_test(test_waitv_takes_128_words),
        cmocka_unit_test(test_lock_excludes),
        cmocka_unit_test(test_lock_where_membarrier_is_denied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
