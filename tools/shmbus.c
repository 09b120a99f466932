/* SPDX-License-Identifier: Apache-2.0 */
/* shmbus: uses a bus from the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shmbus/version.h>

#include "args.h"
#include "common_fds.h"
#include "stop.h"
#include "tool.h"

static const struct command *const commands[] = {&command_pub, &command_sub, &command_stat};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]), OPTION_VERSION = ARGS_OWN };

/* The help, made of what the commands say of themselves. NULL if memory ran out. */
static char *help_text(void)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (file == NULL)
        return NULL;
    fputs("usage: shmbus [-b BUS] [--json] [--wait SECONDS] COMMAND …\n\n", file);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(file, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n"
          "  -b, --bus BUS      the bus (else $SHMBUS_BUS, else default)\n"
          "  --json             one JSON object a line\n"
          "  --wait SECONDS     wait for the bus to appear\n"
          "  --help             of a command: shmbus COMMAND --help\n"
          "  --version\n"
          "\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage, 3 timed out.\n",
          file);
    if (fclose(file) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static int no_command(const struct tool *tool, const char *name)
{
    char list[128] = "";
    for (int i = 0; i < COMMANDS; i++) {
        size_t len = strlen(list);
        snprintf(list + len, sizeof(list) - len, "%s%s", i > 0 ? ", " : "", commands[i]->name);
    }
    if (name == NULL)
        return fail_usage(tool, NULL, "a command is wanted: %s; see shmbus --help", list);
    return fail_usage(tool, NULL, "there is no command '%s', but: %s", name, list);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"version", no_argument, NULL, OPTION_VERSION}, {0}};
    const char *bus = getenv("SHMBUS_BUS");
    struct tool tool = {.bus = bus != NULL && bus[0] != '\0' ? bus : "default"};
    fds_fill_standard();
    stop_init();

    char *help = help_text();
    struct args args = {.tool = &tool,
                        .argc = argc,
                        .argv = argv,
                        .usage = help != NULL ? help : "",
                        .shorts = "",
                        .longs = longs,
                        .in_order = true};
    int option = args_next(&args);
    free(help);
    if (option == OPTION_VERSION)
        return printf("shmbus %s\n", shmbus_version()) < 0 ? END_FAILED : END_DONE;
    if (option == ARGS_STOP)
        return args.end;
    if (optind == argc)
        return no_command(&tool, NULL);

    argc -= optind;
    argv += optind;
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->name, argv[0]) == 0) {
            tool.command = argv[0];
            optind = 0; /* the command's options begin */
            return commands[i]->run(&tool, argc, argv);
        }
    }
    return no_command(&tool, argv[0]);
}
