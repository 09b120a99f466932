/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name of a bus: the lock that makes this coordinator the only one, its files, and what a dead
 * predecessor left.
 *
 *   /dev/shm/shmbus.NAME       the arena
 *   /dev/shm/shmbus.NAME.lock  held by the coordinator's process as long as it lives
 *   RUNTIME-DIR/NAME.sock      where clients attach
 */
#ifndef SB_COORD_NAMES_H
#define SB_COORD_NAMES_H

#include <sys/types.h>

#include "base/compiler.h"
#include "shm/layout.h"

struct sb_lockfile;

struct sb_coord_names {
    struct sb_lockfile *lock;
    int listener; /* -1: none */
    char arena[sizeof("/dev/shm/shmbus.") + SB_NAME_MAX];
    char socket[sizeof(((struct sb_arena_header *)NULL)->socket_path)];
};

/*
 * Takes the name: locks it, removes the arena of a dead coordinator of this user, and makes the
 * directory of the socket (NULL: the default) if its parent is there.
 * SHMBUS_E_INVALID (no directory known, path too long), SHMBUS_E_BUS_EXISTS (the sentence names the
 * pid), SHMBUS_E_DENIED (leftovers of another user: owner and file), SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_coord_names_take(struct sb_coord_names *names, const char *name,
                                      const char *runtime_dir);

/* Listens at the socket; clients wait in the backlog until they are accepted. */
SB_MUST_CHECK int sb_coord_names_listen(struct sb_coord_names *names, mode_t mode, gid_t gid);

/* Removes socket and lock; the arena is gone already. */
void sb_coord_names_release(struct sb_coord_names *names);

#endif
