/* SPDX-License-Identifier: Apache-2.0 */
/* What subscriptions and receiving need of each other. */
#ifndef SB_CLIENT_RECV_H
#define SB_CLIENT_RECV_H

#include "client/client.h"

/* Prepares a new subscription for receiving, once rec, start, full and reader are set. */
void sb_recv_init(struct shmbus_sub *sub);

/*
 * The user has freed the subscription. False if messages of it are unreleased: the last of them
 * then gives the user's reference back (sb_sub_unref()). True if there is none, and the caller
 * does.
 */
bool sb_recv_detach(struct shmbus_sub *sub);

#endif
