/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/bell.h"

#include "os/futex.h"

/* More failed attempts in a row than parties between their look and their CAS. On memory that
 * others write nothing is promised: a sleep ends after a nap. */
#define SB_BELL_TRIES 100000u

uint32_t sb_bell_announce(struct sb_bell *bell)
{
    uint32_t word = sb_load_acquire(&bell->word);
    for (uint32_t tries = 0; tries < SB_BELL_TRIES; tries++) {
        if ((word & SB_BELL_S) && (word & SB_BELL_A))
            break; /* join the announcement as it stands */
        uint32_t mine = ((word & ~3u) + SB_BELL_STEP) | SB_BELL_S | SB_BELL_A;
        if (sb_cas_acq_rel(&bell->word, &word, mine)) {
            word = mine;
            break;
        }
    }
    /* Announce before looking; pairs with the ringer's fence between push and look. */
    sb_fence_full();
    return word;
}

SB_COLD void sb_bell_wake(struct sb_bell *bell, uint32_t wakes)
{
    uint32_t word = sb_load_acquire(&bell->word);
    uint32_t mine, tries = 0;
    do {
        /* Without S another ringer has woken who slept, and who announces anew sees our push. */
        if (!(word & SB_BELL_S) || tries++ == SB_BELL_TRIES)
            return;
        mine = ((word & ~3u) + SB_BELL_STEP) | SB_BELL_S;
    } while (!sb_cas_acq_rel(&bell->word, &word, mine));
    sb_futex_wake(&bell->word, wakes);
    word = mine;
    sb_cas_acq_rel(&bell->word, &word, mine & ~SB_BELL_S);
}
