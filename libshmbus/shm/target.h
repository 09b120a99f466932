/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring as one of its publishers sees it: where to push, whom to wake, and what has been passed.
 *
 * Who: one connection's publishing side, serialized by that connection's lock. Several connections
 * each have a target of their own for one ring.
 *
 * Passing. The owner of a chunk at position p may reuse it once the ring has passed p:
 *  - every seat that the target lists is beyond p (the larger of its start and its cursor), or the
 *    ring is drop_oldest and its tail is more than a lap beyond p, so that the slot has been
 *    overwritten, or the owner has taken back all that it had there (sb_target_take_back); a ring
 *    without seats has passed what lies below the tail;
 *  - and no hold covers p.
 * A pass reads positions of all targets, then a full fence, then the holds: a reader stores its
 * hold, fences, and looks at the slot again (shm/seat.h), so it either finds the slot changed or
 * is seen. The caller has fenced after its last push and has checked the routing epoch before the
 * positions are read: a seat that joins later starts beyond what had been pushed (tests/model/
 * join.py, leave.py, ring.py).
 *
 * Trust: cursors and holds are other users' words. A wrong one makes its own reader see reused
 * memory, or pins memory as an honest slow reader could; nothing else.
 */
#ifndef SB_SHM_TARGET_H
#define SB_SHM_TARGET_H

#include "shm/bell.h"
#include "shm/ring.h"
#include "shm/seat.h"

#define SB_POS_ALL UINT64_MAX /* "has passed everything" */

struct sb_target_seat {
    const struct sb_seat *seat;    /* in its reader's inbox */
    const struct sb_seat_rec *rec; /* in the arena */
    uint32_t gen;                  /* of rec, when it was listed */
    void *mapping;                 /* the owner's handle of the inbox mapping */
};

struct sb_target_hold {
    uint64_t first, end;
};

/* Bytes of closed blocks whose last message here lies below end. */
struct sb_target_mark {
    uint64_t end, bytes;
};

#define SB_TARGET_MARKS 16 /* what was queued is known to a part of the budget like this */

struct sb_target {
    struct sb_ring_view ring;
    bool limited; /* reject_newest */
    uint32_t seat_count;
    uint64_t limit; /* pushes stop here until the cursor is read again; 0 at first */
    struct sb_target_seat *seats;
    struct sb_bell *bell;
    uint32_t index; /* of rec in the table of rings */
    uint32_t gen;
    const struct sb_ring_rec *rec;

    /* As of the last pass. */
    uint64_t passed; /* positions below it have been passed, but for holds */
    uint32_t hold_count;
    uint32_t hold_room;
    struct sb_target_hold *holds;

    uint64_t taken_back; /* nothing of the owner's heap is left below it; drop_oldest only */

    /* reject_newest only: what waits for the reader, as far as it is known to, oldest first. */
    uint64_t queued; /* bytes; the sum of the marks */
    uint64_t budget; /* beyond it pushes are refused */
    uint32_t mark_count;
    struct sb_target_mark mark[SB_TARGET_MARKS];
};

/* The seat is still the one that was listed. */
SB_INLINE bool sb_target_seat_live(const struct sb_target_seat *s)
{
    return sb_load_acquire(&s->rec->gen) == s->gen;
}

/* The larger of start and cursor. A seat just announced has start 0 and pins everything. */
SB_INLINE uint64_t sb_target_seat_at(const struct sb_target_seat *s)
{
    /* Acquire: a cursor beyond a position shows the hold on it; a start shows its seat's reset. */
    uint64_t start = sb_load_acquire(&s->rec->start);
    uint64_t cursor = sb_load_acquire(&s->seat->cursor);
    return start > cursor ? start : cursor;
}

/* How many messages the first reader is behind; 0 without one. */
uint64_t sb_target_lag(const struct sb_target *t);

/* Reads the reader's cursor again; true if that made room. A drop_oldest ring has no limit; one
 * with more queued than its budget has no room. */
bool sb_target_relimit(struct sb_target *t);

/* Pushes desc and stores its position. At the limit the cursor is looked at once more; a refusal is
 * counted. */
enum sb_push sb_target_push(struct sb_target *t, uint64_t desc, uint64_t *pos);

/* A block of so many bytes, closed now, has its last message below end. */
void sb_target_charge(struct sb_target *t, uint32_t bytes, uint64_t end);

/* From now on more than `budget` bytes in closed blocks make pushes stop, until the reader has
 * moved on. */
void sb_target_budget(struct sb_target *t, uint64_t budget);

/* Puts tombstones for all messages from the heap `source` (sb_desc_source) that have not been
 * passed and lie below end, which is one more than the position of such a message. Looks at no
 * position twice. */
void sb_target_take_back(struct sb_target *t, uint32_t source, uint64_t end);

/* The two halves of a pass, see above; the full fence between them is the caller's. The second
 * returns SHMBUS_E_NOMEM when holds cannot be noted: nothing may be reused then. */
void sb_target_read_positions(struct sb_target *t);
int sb_target_read_holds(struct sb_target *t);

enum sb_passed {
    SB_PASSED,
    SB_PASSED_HELD, /* passed, but a reader still holds some of it */
    SB_PASSED_NOT,  /* nor has anything that was pushed there later */
};

/* Whether the positions from first up to, not including, end have been passed, as of that pass;
 * end 0: there are none. */
enum sb_passed sb_target_passed(const struct sb_target *t, uint64_t first, uint64_t end);

#endif
