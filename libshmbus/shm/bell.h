/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bell: a futex word that tells publishers whether somebody may sleep.
 *
 * Who: any number of waiters and ringers, in any processes that map it; all write it.
 *
 * The word is {n, A: the last change was an announcement, S: somebody may sleep}.
 *
 *   waiting   sb_bell_announce(); look at the queue again; sb_futex_wait() on the word it returned
 *   ringing   push; full fence; sb_bell_ring(): looks at S, and only if it is set changes n, wakes,
 *             and clears S if the word is still its own
 *
 * Invariants: a waiter sleeps only on a word that it announced or joined and after which it has
 * looked again; every ringing that finds S set changes the word, so nobody falls asleep on an
 * older one; S is cleared only by the ringer whose word is still there, so that no late clear
 * silences a newer sleeper. An announcement is joined only while no ringer has touched it, since a
 * ringer may be stopped between its change and its wake. tests/model/bell.py has the mutants.
 *
 * Death: a killed sleeper leaves S set; the next ringer pays one wake and clears it. A killed or
 * stopped ringer may leave a sleeper asleep whose message it pushed: sleeps are bounded
 * (SB_BELL_NAP_NS), and the coordinator rings the bells that a dead client could have left silent.
 *
 * Trust: whoever may publish to a user's rings may ring or silence its bells; sleeps are bounded.
 */
#ifndef SB_SHM_BELL_H
#define SB_SHM_BELL_H

#include <stdbool.h>

#include "shm/layout.h"

#define SB_BELL_S 1u
#define SB_BELL_A 2u
#define SB_BELL_STEP 4u

#define SB_BELL_NAP_NS 1000000000ll /* the longest sleep without looking */

/* Announces a sleeper; returns the word to sleep on. Ends with a full fence: look at the queue
 * again before sleeping. */
uint32_t sb_bell_announce(struct sb_bell *bell);

/* The slow half of ringing: S was seen set. */
void sb_bell_wake(struct sb_bell *bell, uint32_t wakes);

/* Whether somebody may sleep; after a push and the caller's full fence. */
SB_INLINE bool sb_bell_may_sleep(const struct sb_bell *bell)
{
    return sb_load_acquire(&bell->word) & SB_BELL_S;
}

/* Rings after a push; the caller's full fence lies between. wakes: how many may sleep. */
SB_INLINE void sb_bell_ring(struct sb_bell *bell, uint32_t wakes)
{
    if (sb_unlikely(sb_bell_may_sleep(bell)))
        sb_bell_wake(bell, wakes);
}

#endif
