/* SPDX-License-Identifier: Apache-2.0 */
/* Somebody else's program: finds the installed headers and library, of one version. */
#include <stdio.h>
#include <string.h>

#include <shmbus/error.h>
#include <shmbus/version.h>

int main(void)
{
    if (strcmp(shmbus_version(), SHMBUS_VERSION) != 0) {
        fprintf(stderr, "headers are %s, the library is %s\n", SHMBUS_VERSION, shmbus_version());
        return 1;
    }
    if (strcmp(shmbus_strerror(SHMBUS_E_NO_BUS), "no such bus") != 0) {
        fprintf(stderr, "the library's words are not those of the headers\n");
        return 1;
    }
    return 0;
}
