/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving.
 *
 * A message's life ends here: shm/seat.h takes it from the ring under a hold, client/source.c
 * checks what its descriptor names, the caller reads it in its publisher's heap, and
 * shmbus_release() gives the hold back. None of this writes memory that a publisher writes.
 *
 * One thread at a time receives from a subscription. Others may release its messages meanwhile: a
 * hold word that is 0 is free, and only the receiving thread makes it anything else.
 */
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/recv.h"
#include "client/source.h"
#include "client/spin.h"
#include "shm/bell.h"

#define SB_RECV_ROUNDS 1024u /* looks without a message, beyond a whole queue of them */
#define SB_RECV_REFUSED 8u   /* of these, such as made a request for nothing */

static SB_COLD int sb_recv_all_held(void)
{
    return sb_fail(SHMBUS_E_LIMIT,
                   "%d messages of this subscription are unreleased: release one to receive more",
                   SHMBUS_HELD_MAX);
}

/*
 * Taking what is there.
 */

/*
 * What the handle has lost since the last message it returned: lost_told is the ring's count of
 * refusals as of then, less what was pushed out since.
 */
SB_INLINE uint64_t sb_recv_lost(struct shmbus_sub *sub, const struct sb_ring *ring)
{
    /* Only reject_newest rings ever refuse. */
    uint64_t refused = sb_load_relaxed(&ring->rejected);
    uint64_t lost = refused - sub->lost_told;
    if (sb_unlikely(lost))
        sub->lost_told = refused;
    return lost;
}

SB_INLINE void sb_recv_fill(struct shmbus_sub *sub, const struct sb_ring *ring,
                            struct shmbus_message *m, const struct sb_found *found, uint64_t hold,
                            uint64_t *hold_at)
{
    m->topic = &found->delivered->topic;
    m->origin = &found->delivered->origin;
    m->payload = (const uint8_t *)(found->chunk + 1) + found->extra;
    m->size = found->size;
    m->seq = found->seq;
    m->time_ns = sb_load_relaxed(&found->chunk->time);
    m->lost_before = sb_recv_lost(sub, ring);
    /* encoding and clock, and the zeros behind them */
    uint64_t tags = sb_load_relaxed(&found->chunk->tags);
    memcpy((char *)m + offsetof(struct shmbus_message, encoding), &tags, sizeof(tags));
    memset(m->reserved, 0, sizeof(m->reserved));
    m->hold_at = hold_at;
    m->hold = hold;
    m->sub = sub;
}

/*
 * Moves on to a position. The quick path keeps the slot there, the seq that it waits for, and where
 * it must stop: at the last slot of a lap, and now and then while the ring is busy.
 */
static void sb_recv_pass(struct shmbus_sub *sub, uint64_t pos, uint32_t taken, uint32_t skipped)
{
    const struct sb_reader *r = &sub->reader;
    sb_seat_pass(&sub->reader, pos, taken, skipped);
    uint64_t quick = r->capacity - 1 - (pos & r->mask);
    if (sub->pause_ns && quick > SB_SPIN_AHEAD / 2)
        quick = SB_SPIN_AHEAD / 2;
    sub->slot = sb_seat_slot(r, pos);
    sub->slot_seq = sb_ring_lap(pos, r->bits) + 1;
    sub->slot_stop = sub->slot + quick;
}

/* Asks for the lines of a chunk of the near block. desc is only a hint. */
SB_INLINE void sb_recv_fetch(const struct sb_source *near, uint64_t desc)
{
    uint64_t unit = desc - near->near_desc;
    if (unit < near->near.units) {
        const uint8_t *chunk =
            (const uint8_t *)sb_source_chunk_at(near->near.starts, unit * SB_CHUNK_UNIT);
        sb_prefetch_read(chunk);
        sb_prefetch_read(chunk + SB_CACHE_LINE);
    }
}

/* How many of max positions at the cursor are there. The first has been seen to be. */
static uint32_t sb_recv_ready(const struct sb_reader *r, const struct sb_source *near, uint32_t max)
{
    uint64_t pos = r->cursor;
    uint32_t n = 0;
    do {
        sb_recv_fetch(near, sb_load_relaxed(&sb_seat_slot(r, pos)->desc));
        pos = sb_ring_next(pos, r->capacity, r->bits);
        n++;
    } while (n < max && sb_seat_look(r, pos) == SB_LOOK_READY);
    return n;
}

/*
 * Of n positions at the cursor, all of which have been seen to be there, those before the seat's
 * end. The end is loaded behind the slots: who sees a message that was published when unsubscribe
 * had returned then sees the end, too (tests/model/leave.py).
 */
SB_INLINE uint32_t sb_recv_admitted(const struct sb_reader *r, uint32_t n)
{
    uint64_t end = sb_load_acquire(r->end), pos = r->cursor;
    if (sb_likely(end == SB_OPEN_END))
        return n;
    uint32_t admitted = 0;
    for (; admitted < n && pos < end; admitted++)
        pos = sb_ring_next(pos, r->capacity, r->bits);
    return admitted;
}

/* How many positions may be taken at the cursor; jumps when it was lapped. 0: nothing there. */
SB_INLINE uint32_t sb_recv_look(struct shmbus_sub *sub, uint32_t max)
{
    struct sb_reader *r = &sub->reader;
    for (uint32_t jumps = 0; jumps < SB_RECV_ROUNDS; jumps++) {
        enum sb_look look = sb_seat_look(r, r->cursor);
        if (sb_likely(look == SB_LOOK_READY))
            return sb_recv_admitted(r, max == 1 ? 1 : sb_recv_ready(r, sub->near, max));
        if (look == SB_LOOK_EMPTY)
            return 0;
        uint64_t jumped = sb_seat_jump(r);
        if (!jumped)
            return 0; /* at the end, or a spoiled ring */
        sub->lost_told -= jumped;
        sb_recv_pass(sub, r->cursor, 0, 0);
    }
    return 0;
}

/* What one pass over a batch has found. */
struct sb_batch {
    uint32_t taken, skipped;
    uint32_t h; /* the hold over all of it */
    uint64_t hold;
    uint64_t pos; /* behind the last position looked at */
};

/* Where messages go: copies of at most room bytes, or nowhere (views). */
struct sb_into {
    void *copy;
    size_t room;
};

#define SB_INTO_VIEWS                                                                              \
    {                                                                                              \
        NULL, SIZE_MAX                                                                             \
    }

/*
 * Copies the payload, and looks again whether the chunk still is the one that was checked: somebody
 * else with a right to push may have named a chunk whose owner does not know that it is read here,
 * and reuses it.
 */
static bool sb_recv_copied(const struct sb_into *into, uint64_t desc, const struct sb_found *found)
{
    memcpy(into->copy, (const uint8_t *)(found->chunk + 1) + found->extra, found->size);
    sb_fence_acquire(); /* the bytes before the second look */
    struct sb_found again;
    return sb_source_chunk(&found->source->near, desc - found->source->near_desc, &again) &&
           again.seq == found->seq && again.size == found->size;
}

/*
 * Checks the message at batch->pos, which is under the batch's hold, and fills the next of
 * messages. 0 to go on, SB_LOOK_LAPPED when it was overwritten meanwhile, SHMBUS_TOO_SMALL with its
 * size in into->room when it has more bytes than that, or a failure.
 */
SB_INLINE int sb_recv_one(struct shmbus_sub *sub, struct shmbus_message *messages,
                          struct sb_batch *batch, struct sb_into *into)
{
    struct sb_reader *r = &sub->reader;
    uint64_t desc;
    if (sb_unlikely(sb_seat_read(r, batch->pos, &desc) != SB_LOOK_READY))
        return SB_LOOK_LAPPED;
    struct sb_found found;
    sub->in_hand = batch->taken;
    int ret =
        sb_likely(desc != SB_DESC_TOMBSTONE) ? sb_source_check(sub, desc, &found) : SB_SOURCE_GONE;
    if (sb_unlikely(ret < 0))
        return ret;
    if (sb_likely(ret == 0)) {
        if (sb_unlikely(found.size > into->room)) {
            into->room = found.size;
            return SHMBUS_TOO_SMALL;
        }
        if (sb_unlikely(into->copy && !sb_recv_copied(into, desc, &found)))
            ret = SB_SOURCE_SKIP;
    }
    if (sb_likely(ret == 0)) {
        found.source->last_seq = found.seq;
        sb_recv_fill(sub, r->ring, &messages[batch->taken++], &found, batch->hold,
                     &r->seat->hold[batch->h]);
    } else if (ret == SB_SOURCE_SKIP) {
        batch->skipped++;
    } else {
        sub->lost_told--;
    }
    batch->pos = sb_ring_next(batch->pos, r->capacity, r->bits);
    return 0;
}

/*
 * Takes 1..max messages at the cursor, to where `into` says, under one free hold. 0 with
 * *count, SHMBUS_EMPTY when there is none, SHMBUS_TOO_SMALL, or a failure; all but 0 leave the
 * first message queued. Ends even when somebody pushes as fast as this skips: once all that was
 * queued at first has been looked at, or a few of them have led to heaps of others. Then it may
 * return SHMBUS_EMPTY although there is news.
 */
static SB_NOINLINE int sb_recv_take(struct shmbus_sub *sub, struct shmbus_message *messages,
                                    uint32_t max, struct sb_into *into, uint32_t *count)
{
    struct sb_reader *r = &sub->reader;
    uint32_t h = sb_seat_free_hold(r->seat);
    if (sb_unlikely(h == SB_HELD_MAX))
        return sb_recv_all_held();
    const uint32_t *refused = &sub->sources->refused, before = *refused;
    for (uint32_t looks = 0;
         looks < SB_RECV_ROUNDS + r->capacity && *refused - before < SB_RECV_REFUSED; looks++) {
        uint32_t n = sb_recv_look(sub, max);
        if (n == 0)
            return SHMBUS_EMPTY;
        sb_seat_hold(r, h, n);
        struct sb_batch batch = {.h = h, .hold = sb_hold_word(r->cursor, n), .pos = r->cursor};
        int ret = 0;
        for (uint32_t i = 0; i < n && ret == 0; i++)
            ret = sb_recv_one(sub, messages, &batch, into);
        if (sb_likely(batch.taken)) {
            sb_store_relaxed(&sub->hold_left[h], batch.taken);
            sb_recv_pass(sub, batch.pos, batch.taken, batch.skipped);
            sb_bump_relaxed(&r->seat->returned, batch.taken);
            *count = batch.taken;
            return 0;
        }
        if (batch.pos != r->cursor)
            sb_recv_pass(sub, batch.pos, 0, batch.skipped);
        sb_seat_unhold(r->seat, h);
        if (ret < 0 || ret == SHMBUS_TOO_SMALL)
            return ret;
    }
    return SHMBUS_EMPTY;
}

/*
 * The common case in a straight line: the next message is there and not the last one of a lap,
 * nothing of the subscription is unreleased, and it is of the block and route that the last one was
 * of. False, having changed nothing, for everything else, which sb_recv_take() does. Same steps,
 * same order.
 */
SB_INLINE bool sb_recv_quick(struct shmbus_sub *sub, struct shmbus_message *m)
{
    const struct sb_slot *slot = sub->slot;
    uint64_t pos = sub->reader.cursor, desc;
    if (sb_unlikely(slot == sub->slot_stop || sb_load_acquire(&slot->seq) != sub->slot_seq ||
                    sb_load_acquire(sub->hold_first) != 0))
        return false;
    sb_seat_hold_first(sub->hold_first, sb_hold_word(pos, 1));
    struct sb_found found;
    if (sb_unlikely(sb_seat_read_slot(slot, sub->slot_seq, &desc) != SB_LOOK_READY ||
                    pos >= sb_load_acquire(sub->reader.end) ||
                    !sb_source_check_near(sub->near, desc, &found))) {
        sb_seat_unhold(sub->reader.seat, 0);
        return false;
    }
    found.source->last_seq = found.seq;
    sb_recv_fill(sub, sub->reader.ring, m, &found, sb_hold_word(pos, 1), sub->hold_first);
    sub->slot = slot + 1;
    sub->reader.cursor = pos + 1;
    struct sb_seat *seat = sub->reader.seat;
    sb_bump_relaxed(&seat->taken, 1);
    sb_store_release(&seat->cursor, pos + 1);
    sb_bump_relaxed(&seat->returned, 1);
    return true;
}

/*
 * Waiting.
 */

/* When the timeout ends: a deadline, 0 for "do not wait", SB_NEVER. Read when it is needed. */
struct sb_patience {
    int64_t timeout_ns;
    int64_t deadline_ns; /* 0: not yet read from timeout_ns */
};

static int64_t sb_patience_deadline(struct sb_patience *patience)
{
    if (patience->deadline_ns == 0)
        patience->deadline_ns = patience->timeout_ns == SHMBUS_FOREVER
                                    ? SB_NEVER
                                    : sb_clock_after(patience->timeout_ns);
    return patience->deadline_ns;
}

/* Sleeps until the bell rings, the deadline, or for a nap. 0, SHMBUS_TIMEOUT, SHMBUS_INTERRUPTED,
 * or a failure. word is what was announced. */
static int sb_recv_sleep(struct shmbus_sub *sub, uint32_t word, int64_t deadline)
{
    int64_t now = sb_clock_ns();
    if (now >= deadline)
        return SHMBUS_TIMEOUT;
    int64_t until = deadline - now > SB_BELL_NAP_NS ? now + SB_BELL_NAP_NS : deadline;
    int ret = sb_futex_wait(&sub->bell->word, word, until);
    if (ret < 0)
        return ret;
    return ret == SB_FUTEX_INTERRUPTED ? SHMBUS_INTERRUPTED : 0;
}

/* The slow half of a receive: the queue was found empty. */
static SB_NOINLINE int sb_recv_wait(struct shmbus_sub *sub, struct shmbus_message *messages,
                                    uint32_t max, struct sb_into *into, uint32_t *count,
                                    struct sb_patience *patience)
{
    for (bool first = true;; first = false) {
        /* The reason first: what was admitted before the end is found by the look after it. */
        uint32_t reason = sb_sub_reason(sub);
        int ret = sb_recv_take(sub, messages, max, into, count);
        if (ret != SHMBUS_EMPTY)
            return ret;
        if (reason != SB_REASON_NONE && !sb_spin_news(sub))
            return SHMBUS_CLOSED;
        if (patience->timeout_ns == 0)
            return SHMBUS_EMPTY;
        int64_t deadline = sb_patience_deadline(patience);
        /* News that is never a message must not outlast it. */
        if (!first && sb_clock_ns() >= deadline)
            return SHMBUS_TIMEOUT;
        ret = 0;
        if (!sb_spin_for_news(sub)) {
            uint32_t word = sb_bell_announce(sub->bell);
            if (!sb_spin_news(sub) && sb_sub_reason(sub) == SB_REASON_NONE)
                ret = sb_recv_sleep(sub, word, deadline);
        }
        if (ret == 0)
            continue;
        /* Whatever ended the sleep, a message that is there comes first. */
        int taken = sb_recv_take(sub, messages, max, into, count);
        return taken == SHMBUS_EMPTY ? ret : taken;
    }
}

/* Everything but the quick case. */
static SB_NOINLINE int sb_recv_any(struct shmbus_sub *sub, struct shmbus_message *messages,
                                   uint32_t max, struct sb_into *into, uint32_t *count,
                                   struct sb_patience patience)
{
    bool patient = patience.timeout_ns != 0;
    if (sub->pause_ns && patient)
        sb_spin_keep_away(sub);
    int ret = sb_recv_take(sub, messages, max, into, count);
    if (ret == SHMBUS_EMPTY)
        ret = sb_recv_wait(sub, messages, max, into, count, &patience);
    if (ret == 0 && sub->pause_ns == 0 && patient && (*count > 1 || sb_spin_news(sub)))
        sb_spin_busy(sub);
    return ret;
}

static SB_NOINLINE int sb_recv_single(struct shmbus_sub *sub, struct shmbus_message *message,
                                      int64_t timeout_ns)
{
    struct sb_into into = SB_INTO_VIEWS;
    uint32_t count;
    return sb_recv_any(sub, message, 1, &into, &count,
                       (struct sb_patience){.timeout_ns = timeout_ns});
}

/*
 * The public calls.
 */

static SB_COLD int sb_recv_bad(const struct shmbus_sub *sub, int64_t timeout_ns)
{
    if (!sub || sub->magic != SB_MAGIC_SUB)
        return sb_fail(SHMBUS_E_INVALID, "this is no subscription: shmbus_subscribe() makes one");
    if (!sb_fork_mine(sub->fork_id))
        return sb_fail(SHMBUS_E_FORKED, "the subscription was made before a fork, in the parent");
    return sb_fail(SHMBUS_E_INVALID,
                   "timeout of %lld ns: 0 does not wait, SHMBUS_FOREVER waits without a limit",
                   (long long)timeout_ns);
}

SB_INLINE bool sb_recv_good(const struct shmbus_sub *sub, int64_t timeout_ns)
{
    return sb_likely(sub && sub->magic == SB_MAGIC_SUB) &&
           sb_likely(timeout_ns >= SHMBUS_FOREVER) && sb_fork_mine(sub->fork_id);
}

int shmbus_recv(struct shmbus_sub *sub, struct shmbus_message *message, int64_t timeout_ns)
{
    if (!sb_recv_good(sub, timeout_ns))
        return sb_recv_bad(sub, timeout_ns);
    if (sb_likely(sb_recv_quick(sub, message)))
        return 0;
    return sb_recv_single(sub, message, timeout_ns);
}

int shmbus_recv_until(struct shmbus_sub *sub, struct shmbus_message *message, int64_t deadline_ns)
{
    if (!sb_recv_good(sub, deadline_ns < SHMBUS_FOREVER ? 0 : deadline_ns))
        return sb_recv_bad(sub, 0);
    struct sb_patience patience = {.timeout_ns = SHMBUS_FOREVER,
                                   .deadline_ns =
                                       deadline_ns == SHMBUS_FOREVER ? SB_NEVER : deadline_ns};
    if (patience.deadline_ns < 1)
        patience.deadline_ns = 1; /* long past */
    struct sb_into into = SB_INTO_VIEWS;
    uint32_t count;
    return sb_recv_any(sub, message, 1, &into, &count, patience);
}

int shmbus_recv_many(struct shmbus_sub *sub, struct shmbus_message *messages, size_t max,
                     size_t *count, int64_t timeout_ns)
{
    if (!sb_recv_good(sub, timeout_ns))
        return sb_recv_bad(sub, timeout_ns);
    if (max == 0 || max > SHMBUS_HELD_MAX)
        return sb_fail(SHMBUS_E_INVALID, "receive of %zu messages: 1 to %d can be had at once", max,
                       SHMBUS_HELD_MAX);
    struct sb_into into = SB_INTO_VIEWS;
    uint32_t n;
    int ret = sb_recv_any(sub, messages, (uint32_t)max, &into, &n,
                          (struct sb_patience){.timeout_ns = timeout_ns});
    if (ret == 0)
        *count = n;
    return ret;
}

int shmbus_recv_copy(struct shmbus_sub *sub, struct shmbus_message *message, void *buffer,
                     size_t capacity, size_t *needed, int64_t timeout_ns)
{
    if (!sb_recv_good(sub, timeout_ns))
        return sb_recv_bad(sub, timeout_ns);
    if (!buffer && capacity)
        return sb_fail(SHMBUS_E_INVALID, "buffer NULL: only one of 0 bytes may be, not of %zu",
                       capacity);
    struct sb_into into = {buffer, capacity};
    uint32_t count;
    struct shmbus_message found;
    int ret =
        sb_recv_any(sub, &found, 1, &into, &count, (struct sb_patience){.timeout_ns = timeout_ns});
    if (ret == SHMBUS_TOO_SMALL && needed)
        *needed = into.room;
    if (ret)
        return ret;
    *message = found;
    message->payload = buffer;
    message->sub = NULL;
    if (needed)
        *needed = found.size;
    shmbus_release(&found);
    return 0;
}

void shmbus_release(struct shmbus_message *message)
{
    struct shmbus_sub *sub = message->sub;
    if (sb_unlikely(!sub))
        return;
    message->sub = NULL;
    if (!sb_fork_mine(sub->fork_id))
        return;
    uint64_t *at = message->hold_at, hold = message->hold;
    if (sb_unlikely(sb_load_relaxed(at) != hold))
        return; /* a copy of a released message */
    uint64_t h = (uint64_t)(at - sub->reader.seat->hold);
    if (sb_unlikely(sb_hold_count(hold) != 1) && sb_sub_acq_rel(&sub->hold_left[h], 1u) != 1)
        return; /* others of its batch are unreleased */
    /* The owner's acquire load of the hold sees all reads done. The last access: another thread may
     * free the subscription right behind it. */
    sb_store_release(at, 0);
}

void sb_recv_init(struct shmbus_sub *sub)
{
    struct sb_reader *r = &sub->reader;
    r->end = &sub->rec->end;
    sub->lost_told = sub->rec->rejected_base;
    sb_spin_init(sub);
    sub->near = &sub->sources->none;
    sub->hold_first = &r->seat->hold[0];
    sb_store_relaxed(&r->seat->holds, 1u); /* publishers always look at the first hold */
    sb_recv_pass(sub, r->cursor, 0, 0);
}

bool sb_recv_idle(const struct shmbus_sub *sub)
{
    const struct sb_seat *seat = sub->reader.seat;
    for (uint32_t h = 0; h < SB_HELD_MAX; h++) {
        if (sb_load_acquire(&seat->hold[h]) != 0)
            return false;
    }
    return true;
}
