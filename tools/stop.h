/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGINT and SIGTERM: a clean end.
 *
 * A handler notes that the end was asked for; its running interrupts whatever blocks. One that runs
 * between a look at the note and the call that then blocks interrupts nothing, therefore:
 *
 * - descriptors and points in time are waited for with stop_wait() and stop_sleep(), whose look and
 *   wait are one step (the signals are let in by ppoll() only);
 * - what blocks in the library is asked to come back after STOP_LOOK_NS at the latest. The window
 * is some instructions wide, and what it costs is that the end comes that much later.
 */
#ifndef TOOLS_STOP_H
#define TOOLS_STOP_H

#include <stdbool.h>
#include <stdint.h>

#define STOP_LOOK_NS INT64_C(1000000000)

/* Installs the handlers, and ignores SIGPIPE: a closed output is seen where it is written. */
void stop_init(void);

/* Whether the end was asked for. */
bool stop_requested(void);

/* Waits until fd can be read, or has ended. Returns false if the end was asked for. */
bool stop_wait(int fd);

/* Waits until the monotonic clock shows time_ns. Returns false if the end was asked for. */
bool stop_sleep(int64_t time_ns);

/* The monotonic clock in nanoseconds. */
int64_t clock_now(void);

#endif
