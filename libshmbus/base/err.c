/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SB_ERR_MAX 512

static _Thread_local char sb_err_text[SB_ERR_MAX];
static _Thread_local int sb_err_number;

int sb_fail(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(sb_err_text, sizeof(sb_err_text), fmt, args);
    va_end(args);
    /* Not that of an earlier failure. */
    if (code == SHMBUS_E_NOMEM || code == SHMBUS_E_SYSTEM)
        sb_err_number = code == SHMBUS_E_NOMEM ? ENOMEM : 0;
    return code;
}

int sb_fail_of(int code, int error, const char *sentence)
{
    sb_fail(code, "%s", sentence);
    if (code == SHMBUS_E_NOMEM || code == SHMBUS_E_SYSTEM)
        sb_err_number = error;
    return code;
}

int sb_fail_errno(const char *fmt, ...)
{
    int saved = errno;
    char what[SB_ERR_MAX];
    char reason[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    const char *text = strerror_r(saved, reason, sizeof(reason));
    snprintf(sb_err_text, sizeof(sb_err_text), "%.350s: %s", what, text);
    sb_err_number = saved;
    errno = saved;
    return saved == ENOMEM ? SHMBUS_E_NOMEM : SHMBUS_E_SYSTEM;
}

int sb_fail_prefix(int code, const char *fmt, ...)
{
    char what[SB_ERR_MAX];
    char rest[SB_ERR_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    memcpy(rest, sb_err_text, sizeof(rest));
    snprintf(sb_err_text, sizeof(sb_err_text), "%.200s: %.300s", what, rest);
    return code;
}

const char *shmbus_errmsg(void)
{
    return sb_err_text;
}

int shmbus_errsys(void)
{
    return sb_err_number;
}

const char *shmbus_strerror(int code)
{
    switch (code) {
    case SHMBUS_E_INVALID:
        return "invalid";
    case SHMBUS_E_DENIED:
        return "denied";
    case SHMBUS_E_DISCONNECTED:
        return "disconnected";
    case SHMBUS_E_BOUND:
        return "already bound";
    case SHMBUS_E_LIMIT:
        return "limit";
    case SHMBUS_E_NO_BUS:
        return "no such bus";
    case SHMBUS_E_BUS_EXISTS:
        return "bus exists";
    case SHMBUS_E_VERSION:
        return "version mismatch";
    case SHMBUS_E_FOREIGN:
        return "foreign handle";
    case SHMBUS_E_FORKED:
        return "forked";
    case SHMBUS_E_COORD:
        return "coordinator unavailable";
    case SHMBUS_E_NOMEM:
        return "no memory";
    case SHMBUS_E_SYSTEM:
        return "system";
    case SHMBUS_OK:
        return "ok";
    case SHMBUS_EMPTY:
        return "empty";
    case SHMBUS_TIMEOUT:
        return "timeout";
    case SHMBUS_CLOSED:
        return "closed";
    case SHMBUS_INTERRUPTED:
        return "interrupted";
    case SHMBUS_DONE:
        return "done";
    case SHMBUS_TOO_SMALL:
        return "too small";
    default:
        return "unknown";
    }
}
