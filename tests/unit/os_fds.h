/* SPDX-License-Identifier: Apache-2.0 */
/* Counts descriptors and mappings, for tests of what leaks; and what forked children of a test
 * share. */
#ifndef OS_FDS_H
#define OS_FDS_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many descriptors this process has open. */
static inline int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

/* How many parts of a bus this process has mapped. */
static inline int count_maps(void)
{
    char line[512];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        n += strstr(line, "shmbus") != NULL;
    fclose(maps);
    return n;
}

/* The exit status of a child, 255 when it did not exit by itself. */
static inline int child_status(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 255;
    return WEXITSTATUS(status);
}

#endif
