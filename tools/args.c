/* SPDX-License-Identifier: Apache-2.0 */
#include "args.h"

#include <stdio.h>
#include <string.h>

#include "common_parse.h"

/* The options that all commands share. */
enum { ARGS_JSON = 256, ARGS_WAIT };

static const struct option shared[] = {
    {"bus", required_argument, NULL, 'b'},
    {"json", no_argument, NULL, ARGS_JSON},
    {"wait", required_argument, NULL, ARGS_WAIT},
    {"help", no_argument, NULL, 'h'},
};

enum { SHARED = sizeof(shared) / sizeof(shared[0]), OWN_MAX = 16, SHORTS_MAX = 32 };

static int stop(struct args *args, int end)
{
    args->end = end;
    return ARGS_STOP;
}

int args_bad_value(struct args *args, const char *option, const char *sentence)
{
    return fail_usage(args->tool, NULL, "%s '%s': %s", option, optarg, sentence);
}

/* getopt_long() has met something that is no option, or one without its value. */
static int bad_option(struct args *args, bool value_missing)
{
    const char *help = args->tool->command != NULL ? args->tool->command : "";
    const char *space = args->tool->command != NULL ? " " : "";
    const char *word = args->argv[optind - 1];
    if (value_missing)
        return fail_usage(args->tool, NULL, "%s needs a value; see shmbus %s%s--help", word, help,
                          space);
    if (optopt > 0 && optopt < ARGS_JSON)
        return fail_usage(args->tool, NULL, "there is no option -%c; see shmbus %s%s--help", optopt,
                          help, space);
    return fail_usage(args->tool, NULL,
                      "'%s' is no option, or not a clear one, or takes no value; see shmbus "
                      "%s%s--help",
                      word, help, space);
}

/* One step of getopt_long() over the shared options and the command's own. */
static int next_option(struct args *args)
{
    struct option longs[SHARED + OWN_MAX + 1] = {{NULL, 0, NULL, 0}};
    char shorts[SHORTS_MAX];
    memcpy(longs, shared, sizeof(shared));
    for (int i = 0; i < OWN_MAX && args->longs != NULL && args->longs[i].name != NULL; i++)
        longs[SHARED + i] = args->longs[i];
    snprintf(shorts, sizeof(shorts), "%s:b:h%s", args->in_order ? "+" : "", args->shorts);
    return getopt_long(args->argc, args->argv, shorts, longs, NULL);
}

int args_next(struct args *args)
{
    for (;;) {
        const char *sentence;
        int option = next_option(args);
        switch (option) {
        case 'b':
            args->tool->bus = optarg;
            break;
        case 'h':
            return stop(args, fputs(args->usage, stdout) < 0 ? END_FAILED : END_DONE);
        case ARGS_JSON:
            args->tool->json = true;
            break;
        case ARGS_WAIT:
            sentence = parse_seconds(optarg, &args->tool->wait_ns);
            if (sentence != NULL)
                return stop(args, args_bad_value(args, "--wait", sentence));
            break;
        case ':':
        case '?':
            return stop(args, bad_option(args, option == ':'));
        default:
            return option; /* ARGS_END, which is -1, among them */
        }
    }
}
