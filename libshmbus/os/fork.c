/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Concurrency: any number of threads may arm at once. The pointer changes once, from the static 0
 * to the page, by compare-and-swap; the word changes once per process, from 0 to the id, likewise:
 * the losers take the winner's. A thread that checks a handle got it, directly or not, from the
 * thread that armed, so it sees the pointer and the word.
 */
#include "os/fork.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"

static uint32_t sb_fork_unarmed;
uint32_t *sb_fork_word = &sb_fork_unarmed;

/* The largest id given out here or in an ancestor before it forked us; this one is inherited. */
static uint32_t sb_fork_last;

static int sb_fork_make_page(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return sb_fail_errno("mapping the page that tells a forked child failed");
    if (madvise(page, size, MADV_WIPEONFORK) < 0) {
        int code = sb_fail_errno("MADV_WIPEONFORK, which tells a forked child, failed");
        munmap(page, size);
        return code;
    }
    uint32_t *unarmed = &sb_fork_unarmed;
    if (!sb_cas_acq_rel(&sb_fork_word, &unarmed, (uint32_t *)page))
        munmap(page, size);
    return 0;
}

int sb_fork_arm(uint32_t *id)
{
    if (sb_load_acquire(&sb_fork_word) == &sb_fork_unarmed) {
        int rc = sb_fork_make_page();
        if (rc != 0)
            return rc;
    }
    uint32_t *word = sb_load_acquire(&sb_fork_word);
    uint32_t now = sb_load_acquire(word);
    if (now == 0) {
        uint32_t fresh = sb_add_relaxed(&sb_fork_last, 1) + 1;
        if (sb_cas_acq_rel(word, &now, fresh))
            now = fresh;
    }
    *id = now;
    return 0;
}
