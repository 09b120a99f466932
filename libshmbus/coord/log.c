/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/log.h"

#include <stdarg.h>
#include <stdio.h>

void sb_coord_log(const struct sb_coord *c, int level, const char *fmt, ...)
{
    char line[512];
    if (!c->options.log)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    c->options.log(level, line, c->options.log_arg);
}
