/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the coordinator of a bus by the bus's name. */
#ifndef SB_CLIENT_LOCATE_H
#define SB_CLIENT_LOCATE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "os/sock.h"

/*
 * Connects to the coordinator of the bus called name (a checked name): at NAME.sock in
 * $SHMBUS_RUNTIME_DIR, /run/shmbus, $XDG_RUNTIME_DIR/shmbus, else where the bus's memory object
 * says, if its owner is root, this user or whoever listens there. *peer is who listens.
 *
 * Returns 0; SHMBUS_E_NO_BUS; SHMBUS_E_DENIED (the sentence names the socket or file);
 * SHMBUS_E_COORD (it does not accept before the deadline); SHMBUS_E_INVALID (a path is too long);
 * SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_locate(const char *name, int64_t deadline, int *sock,
                            struct sb_sock_peer *peer);

/* Whether a file of that owner may speak for what peer serves: its own, root's or this user's. */
bool sb_locate_trusts(uid_t owner, const struct sb_sock_peer *peer);

#endif
