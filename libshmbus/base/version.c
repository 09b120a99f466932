/* SPDX-License-Identifier: Apache-2.0 */
#include <shmbus/version.h>

const char *shmbus_version(void)
{
    return SHMBUS_VERSION;
}
