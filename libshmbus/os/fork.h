/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Noticing that a handle was inherited over fork(): it must fail and not touch memory and sockets
 * that are the parent's.
 *
 * A page that the kernel wipes in a forked child (MADV_WIPEONFORK, so also after a bare clone()
 * that no library sees) holds this process's fork id, never 0 once armed. A handle keeps the id it
 * was made under and compares. The child arms its page again when it opens a connection of its own,
 * with an id that none of its ancestors had: ids rise along every line of descent, so what was
 * inherited stays dead. Children that share memory (vfork, threads) are not forked children.
 *
 * Thread-safe. A forked child of a threaded process may call all of this.
 */
#ifndef SB_OS_FORK_H
#define SB_OS_FORK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"

/* Where the id is. Set once, by the first sb_fork_arm(); until then it points to a 0. */
extern uint32_t *sb_fork_word __attribute__((visibility("hidden")));

/*
 * The id for handles made now in this process. Returns 0, SHMBUS_E_NOMEM or SHMBUS_E_SYSTEM (a
 * kernel before 4.14). Does not block.
 */
SB_MUST_CHECK int sb_fork_arm(uint32_t *id);

/* Whether the handle with this id was made in this process. Three instructions. */
SB_INLINE bool sb_fork_mine(uint32_t id)
{
    return sb_likely(sb_load_relaxed(sb_fork_word) == id);
}

#endif
