/* SPDX-License-Identifier: Apache-2.0 */
#include "common_fds.h"

#include <fcntl.h>
#include <unistd.h>

void fds_fill_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", O_RDONLY); /* the lowest free one, which is fd */
}
