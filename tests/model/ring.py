# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""The ring and its chunks: push, pop, reclaim, tombstones, one kill.

Modelled: one ring, an owner that fills chunks, pushes and reclaims them without reference counts, a
foreign producer, seats with one or two threads, drop_oldest and reject_newest. One party may be
killed at any step; with a reader's death its seat and holds are taken away (at once: a later
removal is the run in which it was merely slow).

Checked: what a reader reads until it releases is what was published; no position is claimed twice
or out of order; a reject_newest ring loses nothing; no push takes the ring for spoiled; at rest the
true tail is the number of messages pushed.

Mutants to be found: no second look; holds read before positions; a chunk reused at a lap instead of
more than a lap; the descriptor of the first look used where the owner may put tombstones; the
cursor claimed by a plain store; reject_newest with the hold written after the cursor.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe
from slots import FinePush, empty_ring

OWNER, FOREIGN = "owner", "foreign"
FOREIGN_CHUNK = None  # lives in a heap that is not modelled
TOMBSTONE = "tombstone"
NO_SEAT = None  # cursor of a seat that has been taken away


@dataclass
class RingModel(FinePush, Model):
    capacity: int
    chunks: int
    owner: int  # messages to push
    foreign: int = 0
    threads: tuple = ((0, 2),)  # (seat, attempts to pop) each
    reject: bool = False
    kills: int = 0
    tombstones: bool = False
    second_look: bool = True
    holds_first: bool = False
    lap_slack: int = 0
    first_descriptor: bool = False
    claim_by_cas: bool = True
    hold_first: bool = True

    def __post_init__(self):
        self.seats = 1 + max(seat for seat, _ in self.threads)
        self.after_tail = "push_look_full" if self.reject else "push_read_slot"

    def start(self):
        producer = dict(ring=0, item=None, pos=None, slot=None, room=self.capacity, seat=None)
        parties = [Party(name=OWNER, pc="owner_next", left=self.owner, chunk=None,
                         free=tuple(range(self.chunks)), out=(), tombed=None, tail=None,
                         cursors=(), holds=(), **producer)]
        if self.foreign:
            parties.append(Party(name=FOREIGN, pc="foreign_next", left=self.foreign, **producer))
        parties += [Party(name=f"thread {i} of seat {seat}", pc="look", thread=i, seat=seat,
                          left=left, k=None, item=None)
                    for i, (seat, left) in enumerate(self.threads)]
        killers = [Party(name=f"kill {party.name}", pc="kill", victim=index, seat=None)
                   for index, party in enumerate(parties)] if self.kills else []
        return State(tuple(parties + killers), rings=(empty_ring(self.capacity),),
                     memory=(0,) * self.chunks, cursors=(0,) * self.seats,
                     holds=(None,) * len(self.threads), kills=self.kills, landed=0)

    # The owner: reuse or reclaim a chunk, fill it, push it.

    def step_owner_next(self, state, me):
        if not me.left:
            me.done()
        elif me.free:
            me.chunk, me.free = me.free[-1], me.free[:-1]
            me.pc = "fill"
        else:
            me.tail, me.cursors, me.holds = None, (), ()
            me.pc = "reclaim_read_hold" if self.holds_first else "reclaim_read_tail"
            return getattr(self, "step_" + me.pc)(state, me)

    def step_fill(self, state, me):
        state.memory = put(state.memory, me.chunk, state.memory[me.chunk] + 1)
        self.push(me, 0, (me.chunk, state.memory[me.chunk]))

    def step_foreign_next(self, state, me):
        if not me.left:
            me.done()
        else:
            self.push(me, 0, (FOREIGN_CHUNK, 0))
            return self.step_push_read_tail(state, me)

    def step_push_look_full(self, state, me):
        """reject_newest: compare with the remembered cursor, read it again if that looks full."""
        if me.pos >= me.room:
            if state.cursors[0] is NO_SEAT:
                return self.refused(me)
            me.room = state.cursors[0] + self.capacity
        if me.pos >= me.room:
            return self.refused(me)
        me.pc = "push_read_slot"

    def refused(self, me):
        me.left, me.item = me.left - 1, None
        if me.name == OWNER:
            me.free, me.chunk, me.pc = me.free + (me.chunk,), None, "owner_next"
        else:
            me.pc = "foreign_next"

    def landed(self, state, me):
        state.landed += 1
        cursor = state.cursors[0]
        if self.reject and cursor is not NO_SEAT and me.pos >= cursor + self.capacity:
            raise Bad("reject_newest: an unread message is overwritten")

    def pushed(self, state, me):
        me.left, me.item = me.left - 1, None
        if me.name == OWNER:
            me.out, me.chunk, me.pc = me.out + ((me.chunk, me.pos),), None, "owner_next"
        else:
            me.pc = "foreign_next"
        me.pos = None

    # Reclaiming: tail, cursors, then holds, word by word; at the limit a tombstone and again.

    def step_reclaim_read_tail(self, state, me):
        me.tail = state.rings[0].tail
        me.pc = "reclaim_read_cursor"

    def step_reclaim_read_cursor(self, state, me):
        me.cursors += (state.cursors[len(me.cursors)],)
        if len(me.cursors) == self.seats:
            me.pc = "reclaim_read_hold"
            if self.holds_first:
                self.reclaim(me)

    def step_reclaim_read_hold(self, state, me):
        me.holds += (state.holds[len(me.holds)],)
        if len(me.holds) < len(self.threads):
            me.pc = "reclaim_read_hold"
        elif self.holds_first and me.tail is None:
            me.pc = "reclaim_read_tail"
        else:
            self.reclaim(me)

    def reclaim(self, me):
        passed = min((c for c in me.cursors if c is not NO_SEAT), default=me.tail)
        if not self.reject:
            passed = max(passed, me.tail - self.capacity + self.lap_slack)

        def reusable(pos):
            return (pos < passed or pos == me.tombed) and pos not in me.holds

        freed = tuple(chunk for chunk, pos in me.out if reusable(pos))
        me.out = tuple((chunk, pos) for chunk, pos in me.out if not reusable(pos))
        me.free += freed
        me.pc = "tombstone" if self.tombstones and not freed and me.tombed is None else "owner_next"
        me.tail, me.cursors, me.holds, me.tombed = None, (), (), None

    def step_tombstone(self, state, me):
        """Take back the oldest message; if its slot has been written over, it is gone anyway."""
        chunk, me.tombed = me.out[0]
        ring = state.rings[0]
        if ring.is_there(me.tombed) and ring.item(me.tombed)[0] == chunk:
            state.rings = (ring.written(me.tombed, TOMBSTONE),)
        me.pc = "reclaim_read_tail"

    # A reader.

    def step_look(self, state, me):
        if not me.left:
            return me.done()
        me.k = state.cursors[me.seat]
        me.pc = "look_slot"

    def step_look_slot(self, state, me):
        ring = state.rings[0]
        if ring.is_older(me.k):
            self.again(me, me.left - 1)
        elif ring.is_newer(me.k):
            if self.reject and state.cursors[me.seat] == me.k:
                raise Bad("reject_newest: a reader was lapped")
            me.pc = "jump"
        else:
            me.item = ring.item(me.k)
            me.pc = "hold" if self.hold_first else "claim"

    def again(self, me, left):
        me.left, me.k, me.item, me.pc = left, None, None, "look"

    def step_jump(self, state, me):
        """Lapped: to the oldest position that can still be there."""
        me.item = max(state.rings[0].tail - self.capacity, me.k + 1)
        me.pc = "jump_claim"

    def step_jump_claim(self, state, me):
        self.claim(state, me, me.item)
        self.again(me, me.left)

    def step_hold(self, state, me):
        state.holds = put(state.holds, me.thread, me.k)
        if self.reject:
            me.pc = "claim" if self.hold_first else "release"
        else:
            me.pc = "look_again" if self.second_look else "claim"

    def step_look_again(self, state, me):
        ring = state.rings[0]
        if ring.is_there(me.k):
            if not self.first_descriptor:
                me.item = ring.item(me.k)
            me.pc = "claim"
        else:
            me.k, me.item, me.pc = None, None, "unhold"

    def step_unhold(self, state, me):
        state.holds = put(state.holds, me.thread, None)
        self.again(me, me.left)

    def claim(self, state, me, to):
        cursor = state.cursors[me.seat]
        if self.claim_by_cas and cursor != me.k:
            return False
        if to <= cursor:
            raise Bad("a position is claimed twice")
        state.cursors = put(state.cursors, me.seat, to)
        return True

    def step_claim(self, state, me):
        if not self.claim(state, me, me.k + 1) or me.item == TOMBSTONE:
            me.k, me.item, me.pc = None, None, "unhold"
        else:
            me.pc = "release" if self.hold_first else "hold"

    def step_release(self, state, me):
        """The last moment at which the payload is read."""
        chunk, stamp = me.item
        if chunk is not FOREIGN_CHUNK and state.memory[chunk] != stamp:
            raise Bad("a reader reads a chunk that has been reused")
        state.holds = put(state.holds, me.thread, None)
        self.again(me, me.left - 1)

    # One kill.

    def step_kill(self, state, me):
        """A process dies whole: with a reader all threads of its seat."""
        victim = state.parties[me.victim]
        if not state.kills or victim.pc == "done":
            return BLOCKED
        state.kills = 0
        seat = victim.seat
        if seat is not None:
            state.cursors = put(state.cursors, seat, NO_SEAT)
        for index, party in enumerate(state.parties):
            if index != me.victim and (seat is None or party.seat != seat):
                continue
            if seat is not None:
                state.holds = put(state.holds, party.thread, None)
            dead = party.copy()
            dead.done()
            state.parties = put(state.parties, index, dead)
        me.done()

    def at_rest(self, state):
        if state.rings[0].true_tail() != state.landed:
            raise Bad("the tail is not the number of messages pushed")


run(__doc__, [
    safe("drop_oldest, 1 slot, kill", RingModel(1, 2, 3, 1, kills=1)),
    safe("drop_oldest, 2 slots, kill", RingModel(2, 3, 4, 1, ((0, 1),), kills=1)),
    safe("drop_oldest, two seats", RingModel(1, 2, 3, 0, ((0, 2), (1, 1)))),
    safe("drop_oldest, two threads of a seat", RingModel(1, 2, 3, 0, ((0, 2), (0, 2)))),
    safe("reject_newest, 1 slot, kill", RingModel(1, 2, 3, 1, reject=True, kills=1)),
    safe("reject_newest, two threads of a seat",
         RingModel(1, 2, 3, 0, ((0, 2), (0, 2)), reject=True)),
    safe("tombstones, kill", RingModel(2, 1, 3, 1, tombstones=True, kills=1)),
    safe("drop_oldest, 2 slots, two seats, kill",
         RingModel(2, 3, 4, 1, ((0, 2), (1, 1)), kills=1), ci=False),
    safe("drop_oldest, 2 slots, more messages, kill",
         RingModel(2, 3, 5, 2, ((0, 3),), kills=1), ci=False),
    safe("reject_newest, 2 slots, two threads, kill",
         RingModel(2, 2, 3, 1, ((0, 2), (0, 2)), reject=True, kills=1), ci=False),
    safe("tombstones, two threads",
         RingModel(3, 2, 4, 1, ((0, 2), (0, 1)), tombstones=True), ci=False),
    mutant("no second look", RingModel(1, 2, 3, 1, second_look=False)),
    mutant("holds read before positions", RingModel(1, 2, 3, holds_first=True)),
    mutant("reuse at a lap, not more", RingModel(1, 2, 3, 0, lap_slack=1)),
    mutant("tombstones, descriptor of the first look",
           RingModel(2, 1, 3, tombstones=True, first_descriptor=True)),
    mutant("claimed by a plain store",
           RingModel(1, 2, 3, 0, ((0, 2), (0, 2)), claim_by_cas=False)),
    mutant("reject_newest, hold after the cursor",
           RingModel(1, 1, 3, 0, reject=True, hold_first=False)),
])
