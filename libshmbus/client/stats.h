/* SPDX-License-Identifier: Apache-2.0 */
/* The books of a subscription, as this side of it sees them. */
#ifndef SB_CLIENT_STATS_H
#define SB_CLIENT_STATS_H

#include "client/client.h"
#include "shm/seat.h"

/*
 * What was offered, received and lost, and what is queued. With gone true the subscription is at
 * its end: what is queued will never be received and counts as lost. Lost and received never
 * decrease from one call to the next. Any thread.
 */
struct sb_books sb_sub_books(const struct shmbus_sub *sub, bool gone);

#endif
