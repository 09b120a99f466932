/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file shmbus.h
 * All of shmbus: a shared-memory message bus for the processes of one Linux machine.
 */
#ifndef SHMBUS_SHMBUS_H
#define SHMBUS_SHMBUS_H

#include <shmbus/connection.h>
#include <shmbus/coordinator.h>
#include <shmbus/error.h>
#include <shmbus/publish.h>
#include <shmbus/stats.h>
#include <shmbus/subscribe.h>
#include <shmbus/topic.h>
#include <shmbus/version.h>

#endif
