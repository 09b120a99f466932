/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TOOLS_SHMBUSD_SETTINGS_H
#define TOOLS_SHMBUSD_SETTINGS_H

#include <limits.h>
#include <stdbool.h>

#include <shmbus/coordinator.h>

/* What shmbusd was asked to do. options points into the same struct: it must not be copied. */
struct settings {
    const char *name; /* of the bus */
    struct shmbus_coordinator_options options;
    int log_level;
    char s_wild[256];
    char m_wild[256];
    char runtime_dir[PATH_MAX];
};

/*
 * Reads the command line, and before its options the configuration file that it names, so that an
 * option always wins over the file.
 *
 * Returns -1 to go on, else the status to exit with: 0 after --help or --version, 2 after one line
 * on standard error.
 */
int settings_read(struct settings *settings, int argc, char **argv);

#endif
