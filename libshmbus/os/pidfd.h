/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes, named so that a later process with the same number is never taken for them: by a
 * pidfd, or by number and start time where it has to be written down.
 *
 * Thread-safe; nothing blocks but sb_pidfd_wait().
 */
#ifndef SB_OS_PIDFD_H
#define SB_OS_PIDFD_H

#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

/*
 * Opens a pidfd, close-on-exec, of a process of our pid namespace. It names whoever has the number
 * now: compare the start time, or verify what a peer says about itself by other means.
 * Returns 0, SHMBUS_DONE (no such process), SHMBUS_E_INVALID (pid <= 0), SHMBUS_E_LIMIT (out of
 * descriptors) or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_pidfd_open(pid_t pid, int *pidfd);

/*
 * Whether a descriptor that somebody else sent is the pidfd of the process pid: a pidfd, of a whole
 * process (one of a single thread would report the end of that thread only), and of that number.
 * pid 0, what the kernel says of a peer in a pid namespace that we cannot see, matches any process
 * that we cannot see: then it is the peer's word. Needs /proc.
 * Returns 0, SHMBUS_DONE (a pidfd, and that process has ended and been reaped), SHMBUS_E_INVALID
 * (something else; a sentence says what) or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_pidfd_verify(int pidfd, pid_t pid);

/*
 * Waits until the process of a pidfd has ended, all of its threads, or the CLOCK_MONOTONIC deadline
 * in nanoseconds (0: look only, SB_NEVER: none) has passed; a signal handler does not end it. In an
 * event loop the descriptor is readable from then on.
 * Returns 0 (ended), SHMBUS_TIMEOUT or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_pidfd_wait(int pidfd, int64_t deadline);

/*
 * When a process started, in clock ticks since boot: with the pid it names one process for as long
 * as the machine is up. Needs /proc. Returns 0, SHMBUS_DONE (no such process) or SHMBUS_E_SYSTEM.
 */
SB_MUST_CHECK int sb_pidfd_start_time(pid_t pid, uint64_t *ticks);

#endif
