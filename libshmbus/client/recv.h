/* SPDX-License-Identifier: Apache-2.0 */
/* What subscriptions and receiving need of each other. */
#ifndef SB_CLIENT_RECV_H
#define SB_CLIENT_RECV_H

#include "client/client.h"

/* Prepares a new subscription for receiving, once rec, start, full and reader are set. */
void sb_recv_init(struct shmbus_sub *sub);

/* Whether no message of the subscription is unreleased. Acquires all that was done with them. */
bool sb_recv_idle(const struct shmbus_sub *sub);

#endif
