/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options. Those that all commands share are taken before and after the command's name alike.
 */
#ifndef TOOLS_ARGS_H
#define TOOLS_ARGS_H

#include <getopt.h>

#include "tool.h"

/* What args_next() returns beside the command's own options. */
enum { ARGS_END = -1, ARGS_STOP = -2 };

/* Long options of a command count from here, so that they are no characters. */
enum { ARGS_OWN = 512 };

/* A walk over the options of one command. */
struct args {
    struct tool *tool;
    int argc;
    char **argv;
    const char *usage;          /* for --help */
    const char *shorts;         /* the command's short options, as for getopt() */
    const struct option *longs; /* its long ones, ended by {0} */
    bool in_order;              /* stop at the first word that is no option */
    int end;                    /* with ARGS_STOP: the status to exit with */
};

/*
 * The next option of the command, its value in optarg; ARGS_END when the words begin, at
 * argv[optind]; ARGS_STOP when the command is to end with args->end, all being said.
 */
int args_next(struct args *args);

/* fail_usage() for the value of option, which is not wanted because of sentence. */
int args_bad_value(struct args *args, const char *option, const char *sentence);

#endif
