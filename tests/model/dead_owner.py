# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""The heap of a dead publisher: it stays until nobody can ask for its messages, and then goes.

Modelled: a publisher that is killed at any step, its messages in one or two rings; the coordinator,
which keeps the heap's descriptor. Once the death is certain it notes t' (the tail, plus one if the
slot there is of that lap) of every ring that the dead one's routes ever listed. The heap goes when
each seat of those rings has passed the noted tail (or its own end, or the ring is more than a lap
beyond), and then no hold lies below. A reader that meets a heap for the first time asks the
coordinator for it while its hold stands. One reader may be killed: its seat is taken away.

Checked: no reader asks for a heap that has gone, or reads from it; when nothing more happens the
heap has gone: nobody pins it for good.

Mutants to be found: only seats whose reader had mapped the heap are waited for; only the rings that
the routes list at the death; holds ignored, or read before the cursors; the tail noted before the
death is certain; the tail noted instead of t'; a seat's end ignored; a dead reader's seat left.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe
from slots import ShortPush, empty_ring

MINE, ANOTHER = "of the dead", "of another"
GONE = None  # cursor of a seat that has been taken away


@dataclass
class DeadOwnerModel(ShortPush, Model):
    capacity: int
    sets: tuple  # the rings of each message of the publisher that dies
    seats: tuple = (0,)  # the ring of each
    ends: tuple = (None,)
    another: int = 0  # messages of another publisher, to ring 0
    kill_reader: bool = False
    mapped_only: bool = False
    listed_only: bool = False
    holds: str = "after cursors"  # or "before cursors", "ignored"
    await_death: bool = True
    true_tail: bool = True
    ends_count: bool = True
    take_seat_away: bool = True

    def start(self):
        readers = range(len(self.seats))
        parties = [Party(name="publisher", pc="publish", left=self.sets, ring=0, item=None,
                         pos=None, todo=()),
                   Party(name="kill publisher", pc="kill", victim=0),
                   Party(name="coordinator", pc="await_death", ring=0, seat=0, seats=())]
        parties += [Party(name=f"reader {seat}", pc="look", seat=seat, k=0, item=None)
                    for seat in readers]
        if self.another:
            parties.append(Party(name="another", pc="another", left=self.another, ring=0, item=None,
                                 pos=None))
        if self.kill_reader:
            parties.append(Party(name="kill reader 0", pc="kill", victim=3))
        self.rings = 1 + max(self.seats)
        return State(tuple(parties), rings=(empty_ring(self.capacity),) * self.rings, heap=True,
                     noted=(), mapped=(False,) * len(self.seats), cursors=(0,) * len(self.seats),
                     holds=(None,) * len(self.seats), dead=False, pushing=bool(self.another),
                     listed=())

    # The publisher, and another one.

    def step_publish(self, state, me):
        if not me.left:
            state.dead = True
            return me.done()
        me.todo, me.left = me.left[0], me.left[1:]
        state.listed = me.todo
        self.push_next(state, me)

    def push_next(self, state, me):
        if me.todo:
            ring, me.todo = me.todo[0], me.todo[1:]
            self.push(me, ring, MINE)
        else:
            me.item, me.pc = None, "publish"

    def step_another(self, state, me):
        if not me.left:
            state.pushing = False
            return me.done()
        me.left -= 1
        self.push(me, 0, ANOTHER)
        return self.step_push_cas(state, me)

    def pushed(self, state, me):
        me.pos = None
        if me.name == "another":
            me.item, me.pc = None, "another"
        else:
            self.push_next(state, me)

    def step_kill(self, state, me):
        victim = state.parties[me.victim]
        if victim.pc == "done":
            return BLOCKED
        if me.victim == 0:
            state.dead = True
        elif self.take_seat_away:
            state.cursors = put(state.cursors, victim.seat, GONE)
            state.holds = put(state.holds, victim.seat, None)
        dead = victim.copy()
        dead.done()
        state.parties = put(state.parties, me.victim, dead)
        me.done()

    # The coordinator.

    def step_await_death(self, state, me):
        if self.await_death and not state.dead:
            return BLOCKED
        me.pc = "note_tail"
        return self.step_note_tail(state, me)

    def step_note_tail(self, state, me):
        ring = state.rings[me.ring]
        state.noted += (ring.true_tail() if self.true_tail else ring.tail,)
        me.ring += 1
        if me.ring == self.rings:
            me.pc = "choose_seats"
            if not self.await_death:
                me.pc = "await_death_late"

    def step_await_death_late(self, state, me):
        if not state.dead:
            return BLOCKED
        me.pc = "choose_seats"

    def step_choose_seats(self, state, me):
        """Which seats to wait for: by the design, all."""
        me.seats = tuple(seat for seat, ring in enumerate(self.seats)
                         if (state.mapped[seat] or not self.mapped_only)
                         and (ring in state.listed or not self.listed_only))
        me.pc = "read_hold" if self.holds == "before cursors" else "read_cursor"
        if not me.seats:
            self.let_go(state, me)

    def step_read_cursor(self, state, me):
        """Cursor and tail in one step: both only grow, an older one only waits longer."""
        if not self.has_passed(state, me.seats[me.seat]):
            return BLOCKED
        self.next(state, me, "read_hold" if self.holds == "after cursors" else None)

    def has_passed(self, state, seat):
        ring, cursor, end = self.seats[seat], state.cursors[seat], self.ends[seat]
        noted = state.noted[ring]
        due = min(noted, end) if self.ends_count and end is not None else noted
        return cursor is GONE or cursor >= due or state.rings[ring].tail > noted + self.capacity

    def step_read_hold(self, state, me):
        seat = me.seats[me.seat]
        hold = state.holds[seat]
        if hold is not None and hold < state.noted[self.seats[seat]]:
            return BLOCKED
        self.next(state, me, "read_cursor" if self.holds == "before cursors" else None)

    def next(self, state, me, then):
        me.seat += 1
        if me.seat == len(me.seats):
            me.seat, me.pc = 0, then
            if then is None:
                self.let_go(state, me)

    def let_go(self, state, me):
        state.heap = False
        me.done()

    # A reader.

    def step_look(self, state, me):
        ring, end = state.rings[self.seats[me.seat]], self.ends[me.seat]
        if end is not None and me.k >= end:
            return me.done()
        if ring.is_older(me.k):
            return me.done() if state.dead and not state.pushing else BLOCKED
        me.pc = "jump" if ring.is_newer(me.k) else "hold"

    def step_jump(self, state, me):
        end = self.ends[me.seat]
        tail = state.rings[self.seats[me.seat]].tail
        me.k = max(tail - self.capacity, me.k + 1)
        if end is not None:
            me.k = min(me.k, end)
        state.cursors, me.pc = put(state.cursors, me.seat, me.k), "look"

    def step_hold(self, state, me):
        state.holds, me.pc = put(state.holds, me.seat, me.k), "look_again"

    def step_look_again(self, state, me):
        ring = state.rings[self.seats[me.seat]]
        if not ring.is_there(me.k):
            me.pc = "unhold"
            return
        me.item = ring.item(me.k)
        unknown = me.item == MINE and not state.mapped[me.seat]
        me.pc = "ask_for_heap" if unknown else "move_cursor"

    def step_unhold(self, state, me):
        state.holds, me.pc = put(state.holds, me.seat, None), "look"

    def step_ask_for_heap(self, state, me):
        if not state.heap:
            raise Bad("a reader asks for a heap that has gone: the message is lost")
        state.mapped, me.pc = put(state.mapped, me.seat, True), "move_cursor"

    def step_move_cursor(self, state, me):
        me.k += 1
        state.cursors, me.pc = put(state.cursors, me.seat, me.k), "release"

    def step_release(self, state, me):
        if me.item == MINE and not state.heap:
            raise Bad("a reader reads from a heap that has gone")
        state.holds, me.item, me.pc = put(state.holds, me.seat, None), None, "look"

    def at_rest(self, state):
        if state.heap:
            raise Bad("the heap stays for good")


ONE = ((0,), (0,))
LEFT = ((0, 1), (1,))  # ring 0 is listed no more, its reader still has a message to read
BOTH = dict(seats=(0, 1), ends=(None, None))

run(__doc__, [
    safe("one ring, 1 slot", DeadOwnerModel(1, ONE)),
    safe("one ring, another publisher, a reader killed",
         DeadOwnerModel(1, ONE, another=4, kill_reader=True)),
    safe("one ring, two readers, one killed",
         DeadOwnerModel(2, ONE, (0, 0), (None, None), another=1, kill_reader=True)),
    safe("two rings, one left, a reader killed", DeadOwnerModel(2, LEFT, kill_reader=True, **BOTH)),
    safe("a seat that has left the ring", DeadOwnerModel(2, ONE, ends=(1,))),
    safe("two rings, another publisher, a reader killed",
         DeadOwnerModel(2, ((0, 1), (0, 1), (1,)), another=2, kill_reader=True, **BOTH), ci=False),
    safe("three readers, another publisher, one killed",
         DeadOwnerModel(1, ONE, (0, 0, 0), (None, None, 1), another=3, kill_reader=True), ci=False),
    mutant("only readers that had mapped the heap", DeadOwnerModel(1, ONE, mapped_only=True)),
    mutant("only rings listed at the death", DeadOwnerModel(2, LEFT, listed_only=True, **BOTH)),
    mutant("holds ignored", DeadOwnerModel(1, ONE, holds="ignored")),
    mutant("holds read before the cursors", DeadOwnerModel(1, ONE, holds="before cursors")),
    mutant("the tail noted before the death", DeadOwnerModel(1, ONE, await_death=False)),
    mutant("the tail instead of t'", DeadOwnerModel(1, ONE, true_tail=False)),
    mutant("a seat's end ignored", DeadOwnerModel(2, ONE, ends=(1,), ends_count=False)),
    mutant("a dead reader's seat left",
           DeadOwnerModel(1, ONE, kill_reader=True, take_seat_away=False)),
])
