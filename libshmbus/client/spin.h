/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a receiver that may wait behaves before it sleeps.
 *
 * A reader that is right behind a publisher fights it for the cache lines of slots and chunks.
 * Where messages are frequent it is faster for both if the reader stays SB_SPIN_AHEAD messages
 * behind: it is busy then, and before it takes something waits until as many are there, for
 * pause_ns at most. It becomes busy when two messages are there at once, which no exchange of
 * question and answer does, and ceases to be when waiting has not helped for a while.
 *
 * Where nothing is there it looks again and again, with the lines of the next chunk on their way,
 * for about as long as waking it would cost; longer where that has helped, shorter where it has
 * not.
 *
 * One thread at a time: the one that receives.
 */
#ifndef SB_CLIENT_SPIN_H
#define SB_CLIENT_SPIN_H

#include "client/client.h"

#define SB_SPIN_AHEAD 256u /* messages that a reader of a busy ring stays behind */

/* Whether a look would find something before the seat's end: a message or a loss. */
SB_INLINE bool sb_spin_news(const struct shmbus_sub *sub)
{
    const struct sb_reader *r = &sub->reader;
    return sb_seat_look(r, r->cursor) != SB_LOOK_EMPTY && r->cursor < sb_load_acquire(r->end);
}

void sb_spin_init(struct shmbus_sub *sub);

/* Two messages were there at once. */
void sb_spin_busy(struct shmbus_sub *sub);

/* While the ring is busy (sub->pause_ns is not 0), before something is taken. */
void sb_spin_keep_away(struct shmbus_sub *sub);

/* Looks for news for a while; true when there is some. */
bool sb_spin_for_news(struct shmbus_sub *sub);

#endif
