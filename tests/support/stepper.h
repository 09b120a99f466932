/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that is run instruction by instruction, and can be stopped, killed or continued at any.
 *
 *   stepper_start()          a child stands before the first instruction of fn(arg)
 *   stepper_step()           one instruction; false once fn has returned
 *   stepper_finish()         lets it run until fn has returned
 *   stepper_end()            SIGKILL, wherever it stands, and reaps it
 *
 * Killing takes nothing but the process away: what a killed process leaves in memory that it shares
 * is what a stopped one leaves. So where fn does not ask the kernel for anything, one child serves
 * for all kill points: stop it after each instruction, save the shared memory, let survivors go on,
 * put the memory back, and step once more. With its stack in the shared memory, too, a child is
 * rewound the same way, by its registers (stepper_save, stepper_restore): fn must then not use
 * memory of its own. That is 100 times cheaper than a process for each point, so that all pairs of
 * points of two processes can be tried.
 *
 * x86-64 only: elsewhere a single-stepped pair of load-exclusive and store-exclusive never ends.
 * One thread of the test uses steppers. Everything that cannot happen aborts.
 */
#ifndef TEST_STEPPER_H
#define TEST_STEPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct stepper {
    pid_t pid;
    bool ended; /* fn has returned */
};

/* Why steppers cannot work here (the architecture, a sanitizer, ptrace refused); NULL if they do.
 */
const char *stepper_missing(void);

/* Starts a child on the stack that ends at stack + size, or, with NULL, on its own copy of this
 * one. It first runs prepare(arg), if that is not NULL, at full speed. The child is killed with
 * this process, and by itself after a minute of computing. */
void stepper_start(struct stepper *s, void (*prepare)(void *), void (*fn)(void *), void *arg,
                   void *stack, size_t size);

/* Runs one instruction; whether fn has still not returned. */
bool stepper_step(struct stepper *s);

/* Lets the child go on until fn has returned; false if it died on the way. */
bool stepper_finish(struct stepper *s);

/* Kills the child and waits for its end. */
void stepper_end(struct stepper *s);

struct stepper_state {
    struct user_regs_struct regs;
#ifdef __x86_64__
    struct user_fpregs_struct fpregs;
#endif
    bool ended;
};

/* Where the child stands; and back to there. */
void stepper_save(const struct stepper *s, struct stepper_state *state);
void stepper_restore(struct stepper *s, const struct stepper_state *state);

#endif
