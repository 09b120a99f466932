/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last failure of this thread, as one sentence.
 *
 * A function that fails calls sb_fail() once, at the place that knows most, and everybody above
 * passes the code on. Thread-safe: the message is thread-local.
 */
#ifndef SB_BASE_ERR_H
#define SB_BASE_ERR_H

#include <shmbus/error.h>

#include "base/compiler.h"

/* Leaves the sentence and returns code, so `return sb_fail(SHMBUS_E_INVALID, …)` reads well. */
int sb_fail(int code, const char *fmt, ...) SB_PRINTF(2, 3);

/* Leaves what another thread has failed with: its sentence and its shmbus_errsys(). */
int sb_fail_of(int code, int error, const char *sentence);

/* Like sb_fail(SHMBUS_E_SYSTEM or SHMBUS_E_NOMEM for ENOMEM) with ": <strerror(errno)>" added. */
int sb_fail_errno(const char *fmt, ...) SB_PRINTF(1, 2);

/* Puts "<what>: " before the sentence that is already there; returns code. */
int sb_fail_prefix(int code, const char *fmt, ...) SB_PRINTF(2, 3);

#endif
