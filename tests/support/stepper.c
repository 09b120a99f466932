/* SPDX-License-Identifier: Apache-2.0 */
#include "support/stepper.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEPPER_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STEPPER_SANITIZED 1
#endif
#endif

static void stepper_abort(const char *what)
{
    fprintf(stderr, "stepper: %s (errno %d)\n", what, errno);
    abort();
}

#if defined(__x86_64__)

/* The child traps itself before and behind fn. Its parent knows both places by address. */
void stepper_trap_begin(void);
void stepper_trap_end(void);
__asm__(".text\n"
        ".globl stepper_trap_begin\n.hidden stepper_trap_begin\n"
        ".type stepper_trap_begin, @function\n"
        "stepper_trap_begin: int3; ret\n"
        ".globl stepper_trap_end\n.hidden stepper_trap_end\n"
        ".type stepper_trap_end, @function\n"
        "stepper_trap_end: int3; ret\n");

struct stepper_main {
    void (*prepare)(void *);
    void (*fn)(void *);
    void *arg;
};

static int stepper_child(void *arg)
{
    struct stepper_main main = *(struct stepper_main *)arg;
    struct rlimit limit = {60, 60};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CPU, &limit);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(1);
    if (main.prepare)
        main.prepare(main.arg);
    stepper_trap_begin();
    main.fn(main.arg);
    stepper_trap_end();
    _exit(0);
}

/* Waits until the child stops at a trap; false if it ended, or stopped for another reason. */
static bool stepper_wait(const struct stepper *s)
{
    int status;
    while (waitpid(s->pid, &status, 0) != s->pid) {
        if (errno != EINTR)
            stepper_abort("no child to wait for");
    }
    return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
}

static uint64_t stepper_rip(const struct stepper *s)
{
    errno = 0;
    long rip = ptrace(PTRACE_PEEKUSER, s->pid, offsetof(struct user, regs.rip), NULL);
    if (errno)
        stepper_abort("cannot read where the child is");
    return (uint64_t)rip;
}

static bool stepper_try(struct stepper *s, struct stepper_main main, void *stack, size_t size)
{
    fflush(NULL);
    s->ended = false;
    if (stack) {
        s->pid = clone(stepper_child, (char *)stack + size, SIGCHLD, &main);
    } else {
        s->pid = fork();
        if (s->pid == 0)
            stepper_child(&main);
    }
    if (s->pid < 0)
        stepper_abort("cannot start a child");
    return stepper_wait(s) && stepper_rip(s) == (uint64_t)(uintptr_t)stepper_trap_begin + 1;
}

void stepper_start(struct stepper *s, void (*prepare)(void *), void (*fn)(void *), void *arg,
                   void *stack, size_t size)
{
    if (!stepper_try(s, (struct stepper_main){prepare, fn, arg}, stack, size))
        stepper_abort("the child did not reach its first instruction");
    /* From the trap, over its ret and the call, into fn. */
    for (int i = 0; stepper_rip(s) != (uint64_t)(uintptr_t)fn; i++) {
        if (i == 16 || !stepper_step(s))
            stepper_abort("the child does not call its function");
    }
}

bool stepper_step(struct stepper *s)
{
    if (s->ended)
        return false;
    if (ptrace(PTRACE_SINGLESTEP, s->pid, NULL, NULL) != 0 || !stepper_wait(s))
        stepper_abort("the child does not step");
    s->ended = stepper_rip(s) == (uint64_t)(uintptr_t)stepper_trap_end;
    return !s->ended;
}

bool stepper_finish(struct stepper *s)
{
    if (s->ended)
        return true;
    if (ptrace(PTRACE_CONT, s->pid, NULL, NULL) != 0)
        stepper_abort("the child does not go on");
    s->ended = stepper_wait(s) && stepper_rip(s) == (uint64_t)(uintptr_t)stepper_trap_end + 1;
    return s->ended;
}

void stepper_end(struct stepper *s)
{
    int status;
    kill(s->pid, SIGKILL);
    do {
        if (waitpid(s->pid, &status, 0) != s->pid && errno != EINTR)
            stepper_abort("no child to reap");
    } while (!WIFSIGNALED(status) && !WIFEXITED(status));
    s->pid = -1;
}

void stepper_save(const struct stepper *s, struct stepper_state *state)
{
    if (ptrace(PTRACE_GETREGS, s->pid, NULL, &state->regs) != 0 ||
        ptrace(PTRACE_GETFPREGS, s->pid, NULL, &state->fpregs) != 0)
        stepper_abort("cannot save the child's registers");
    state->ended = s->ended;
}

void stepper_restore(struct stepper *s, const struct stepper_state *state)
{
    if (ptrace(PTRACE_SETREGS, s->pid, NULL, &state->regs) != 0 ||
        ptrace(PTRACE_SETFPREGS, s->pid, NULL, &state->fpregs) != 0)
        stepper_abort("cannot restore the child's registers");
    s->ended = state->ended;
}

#ifdef STEPPER_SANITIZED
const char *stepper_missing(void)
{
    return "a sanitizer's instructions are not those that are to be tried";
}
#else
static void stepper_nothing(void *arg)
{
    (void)arg;
}

const char *stepper_missing(void)
{
    struct stepper s;
    bool works = stepper_try(&s, (struct stepper_main){NULL, stepper_nothing, NULL}, NULL, 0);
    stepper_end(&s);
    return works ? NULL : "ptrace is not permitted";
}
#endif

#else

/* Nothing of it is called where stepper_missing() says why. */

const char *stepper_missing(void)
{
    return "single-stepping needs x86-64";
}

void stepper_start(struct stepper *s, void (*prepare)(void *), void (*fn)(void *), void *arg,
                   void *stack, size_t size)
{
    (void)s, (void)prepare, (void)fn, (void)arg, (void)stack, (void)size;
    stepper_abort(stepper_missing());
}

bool stepper_step(struct stepper *s)
{
    (void)s;
    return false;
}

bool stepper_finish(struct stepper *s)
{
    (void)s;
    return false;
}

void stepper_end(struct stepper *s)
{
    (void)s;
}

void stepper_save(const struct stepper *s, struct stepper_state *state)
{
    (void)s, (void)state;
}

void stepper_restore(struct stepper *s, const struct stepper_state *state)
{
    (void)s, (void)state;
}

#endif
