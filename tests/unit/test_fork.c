/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "base/err.h"
#include "os/fork.h"
#include "os_fds.h"

static void test_nothing_is_mine_before_arming(void **state)
{
    (void)state;
    assert_false(sb_fork_mine(1));
}

/* In the grandchild: ids of all generations differ, and only its own is alive. */
static int grandchild(uint32_t parent_id, uint32_t child_id)
{
    uint32_t id = 0;
    if (sb_fork_mine(parent_id) || sb_fork_mine(child_id))
        return 10;
    if (sb_fork_arm(&id) != 0 || id == 0 || id == parent_id || id == child_id)
        return 11;
    return sb_fork_mine(id) && !sb_fork_mine(parent_id) && !sb_fork_mine(child_id) ? 0 : 12;
}

static int child(uint32_t parent_id)
{
    uint32_t id = 0, again = 0;
    if (sb_fork_mine(parent_id))
        return 1;
    if (sb_fork_arm(&id) != 0 || sb_fork_arm(&again) != 0 || id != again || !sb_fork_mine(id))
        return 2;
    if (sb_fork_mine(parent_id))
        return 3;
    pid_t pid = fork();
    if (pid == 0)
        _exit(grandchild(parent_id, id));
    int status = child_status(pid);
    return status != 0 ? status : !sb_fork_mine(id);
}

static void test_handles_of_ancestors_are_dead(void **state)
{
    (void)state;
    uint32_t id = 0, same = 0;
    assert_int_equal(sb_fork_arm(&id), 0);
    assert_int_equal(sb_fork_arm(&same), 0);
    assert_true(id != 0 && id == same);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(id));
    assert_int_equal(child_status(pid), 0);
    assert_true(sb_fork_mine(id));
}

/* A child that arms nothing itself, but its own child does. */
static void test_a_generation_that_never_arms(void **state)
{
    (void)state;
    uint32_t id = 0;
    assert_int_equal(sb_fork_arm(&id), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pid_t inner = fork();
        if (inner == 0)
            _exit(grandchild(id, id));
        _exit(child_status(inner));
    }
    assert_int_equal(child_status(pid), 0);
}

/* No library hook runs here: only the kernel's wiping can tell. */
static void test_a_bare_clone_is_noticed(void **state)
{
    (void)state;
    uint32_t id = 0;
    assert_int_equal(sb_fork_arm(&id), 0);
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0)
        _exit(sb_fork_mine(id));
    assert_int_equal(child_status(pid), 0);
}

#define ARMERS 4

static void *arm(void *arg)
{
    if (sb_fork_arm(arg) != 0)
        *(uint32_t *)arg = 0;
    return NULL;
}

/* Threads of a fresh child race to arm it: all get one id. */
static int armed_by_threads(void)
{
    pthread_t threads[ARMERS];
    uint32_t ids[ARMERS] = {0};
    for (int i = 0; i < ARMERS; i++) {
        if (pthread_create(&threads[i], NULL, arm, &ids[i]) != 0)
            return 1;
    }
    for (int i = 0; i < ARMERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ARMERS; i++) {
        if (ids[i] == 0 || ids[i] != ids[0] || !sb_fork_mine(ids[i]))
            return 2;
    }
    return 0;
}

static void test_threads_agree_on_the_id(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(armed_by_threads());
        assert_int_equal(child_status(pid), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_mine_before_arming),
        cmocka_unit_test(test_threads_agree_on_the_id), /* the children set the page up as well */
        cmocka_unit_test(test_handles_of_ancestors_are_dead),
        cmocka_unit_test(test_a_generation_that_never_arms),
        cmocka_unit_test(test_a_bare_clone_is_noticed),
        cmocka_unit_test(test_threads_agree_on_the_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
