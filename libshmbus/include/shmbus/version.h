/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file version.h
 * The version of the library.
 */
#ifndef SHMBUS_VERSION_H
#define SHMBUS_VERSION_H

#include <shmbus/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHMBUS_VERSION_MAJOR 0
#define SHMBUS_VERSION_MINOR 1
#define SHMBUS_VERSION_PATCH 0
#define SHMBUS_VERSION "0.1.0"

/** The version of the library that is loaded, such as "0.1.0". A static string. */
SHMBUS_API const char *shmbus_version(void);

#ifdef __cplusplus
}
#endif
#endif
