/* SPDX-License-Identifier: Apache-2.0 */
/* The life of subscriptions, for the files that make them and end connections. */
#ifndef SB_CLIENT_SUBSCRIPTION_H
#define SB_CLIENT_SUBSCRIPTION_H

#include "client/client.h"

/* Puts a new subscription, with its fields set, on the connection's list. */
void sb_sub_enlist(struct shmbus_sub *sub);

/* Gives up a subscription that was granted but never enlisted: it leaves next time. */
void sb_sub_give_up(struct shmbus_sub *sub);

/* Frees what a subscription that holds no seat has got so far. */
void sb_sub_destroy(struct shmbus_sub *sub);

/* Tells the coordinator which subscriptions were freed and have no message unreleased, and releases
 * them. Waits for the control timeout each, or for nobody; returns nothing, since who cannot be
 * told finds out. The caller has a reference of the connection. */
void sb_sub_leave_all(struct shmbus_conn *conn, bool wait);

/* If subscriptions of the connection are still leaving, sb_linger_sweep() looks after it from now
 * on: called where nobody else may come back to it. */
void sb_linger(struct shmbus_conn *conn);
void sb_linger_sweep(void);

/* Closes all on this side and wakes who waits: the coordinator is away. */
void sb_sub_close_all(struct shmbus_conn *conn, uint32_t reason);

#endif
