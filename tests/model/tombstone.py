# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""An owner at its heap limit takes back its oldest messages of a drop_oldest ring (DESIGN 6).

Modelled: one ring, an owner with few chunks, a foreign producer, one reader that may be as slow as
it likes. The owner without a free chunk makes a pass (tail, cursor, holds). Where that frees
nothing it marks the ring as tombstoned and goes over the positions from where the ring has passed
to its oldest message: load the descriptor, and if it is its own CAS {seq, descriptor} to
{seq, tombstone}. Then another pass, which counts what lies below as passed. The owner may be killed
at any step.

Checked: what a reader reads until it releases is what was published; a tombstone is found only
where one of the owner's own messages was, below what was asked for; no push takes the ring for
spoiled; at rest the books (tombstones are looked for only where the ring is marked) say how many
messages are left.

Mutants to be found: the reader uses the descriptor of its first look; the owner looks at holds
before the CAS; it looks at no holds; the ring marked after the CAS; a tombstone that is exchanged
for a descriptor whatever the slot's seq; one that is put whatever the descriptor.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe
from slots import FinePush, empty_ring

OWNER, FOREIGN = "owner", "foreign"
TOMBSTONE = "tombstone"


@dataclass
class TombstoneModel(FinePush, Model):
    capacity: int
    chunks: int
    owner: int  # messages to push
    foreign: int = 0
    pops: int = 2  # looks that the reader takes
    kills: int = 0
    first_descriptor: bool = False
    holds_first: bool = False
    look_at_holds: bool = True
    mark_first: bool = True
    compare_seq: bool = True
    own_only: bool = True

    def start(self):
        push = dict(ring=0, item=None, pos=None, slot=None)
        parties = [Party(name=OWNER, pc="owner_next", left=self.owner, chunk=None,
                         free=tuple(range(self.chunks)), out=(), taken_back=0, tail=None,
                         cursor=None, hold=None, at=None, end=None, **push),
                   Party(name="reader", pc="look", left=self.pops, k=None, item=None)]
        if self.foreign:
            parties.append(Party(name=FOREIGN, pc="foreign_next", left=self.foreign, **push))
        if self.kills:
            parties.append(Party(name="kill owner", pc="kill"))
        return State(tuple(parties), rings=(empty_ring(self.capacity),),
                     memory=(0,) * self.chunks, cursor=0, hold=None, marked=False, asked=0,
                     pushed=())

    # Pushing.

    def step_owner_next(self, state, me):
        if not me.left:
            me.done()
        elif me.free:
            me.chunk, me.free = me.free[0], me.free[1:]
            state.memory = put(state.memory, me.chunk, state.memory[me.chunk] + 1)
            self.push(me, 0, (OWNER, me.chunk, state.memory[me.chunk]))
        else:
            me.end, me.pc = None, "pass_tail"
            return self.step_pass_tail(state, me)

    def step_foreign_next(self, state, me):
        if not me.left:
            return me.done()
        self.push(me, 0, (FOREIGN, None, None))
        return self.step_push_read_tail(state, me)

    def landed(self, state, me):
        state.pushed += (me.name,)

    def pushed(self, state, me):
        if me.name == OWNER:
            me.out += ((me.chunk, me.pos),)
            me.chunk, me.pc = None, "owner_next"
        else:
            me.pc = "foreign_next"
        me.left, me.item, me.pos = me.left - 1, None, None

    # A pass, and taking back.

    def step_pass_tail(self, state, me):
        me.tail, me.pc = state.rings[0].tail, "pass_cursor"

    def step_pass_cursor(self, state, me):
        me.cursor, me.pc = state.cursor, "pass_hold"
        if self.holds_first and me.end is not None:
            self.passed(me)

    def step_pass_hold(self, state, me):
        me.hold = state.hold if self.look_at_holds else None
        self.passed(me)

    def passed(self, me):
        passed = max(me.cursor, me.tail - self.capacity, me.taken_back)

        def reusable(pos):
            return pos < passed and pos != me.hold

        me.free += tuple(chunk for chunk, pos in me.out if reusable(pos))
        me.out = tuple((chunk, pos) for chunk, pos in me.out if not reusable(pos))
        queued = [pos for _, pos in me.out if pos >= passed]
        if me.free:
            me.pc = "owner_next"
        elif queued and me.end is None:
            me.at, me.end = passed, queued[0] + 1
            me.pc = "mark" if self.mark_first else "take_back_look"
        else:  # held, all of it: this publish fails
            me.left, me.pc = me.left - 1, "owner_next"
        if me.pc == "owner_next":
            me.end = None
        me.tail, me.cursor = None, None
        if not self.holds_first or me.end is None:
            me.hold = None

    def step_mark(self, state, me):
        state.marked = True
        me.pc = "take_back_look" if self.mark_first else "pass_tail"

    def step_take_back_look(self, state, me):
        state.asked = me.end
        ring = state.rings[0]
        me.item = ring.item(me.at)
        own = me.item is not None and me.item[0] == OWNER
        if own or not self.own_only:
            me.pc = "take_back_cas"
        else:
            self.take_back_next(me)

    def step_take_back_cas(self, state, me):
        ring = state.rings[0]
        seq, item = ring.slots[me.at % self.capacity]
        wanted = ring.lap(me.at) + 1
        if not self.compare_seq:
            wanted, me.item = seq, item
        if (seq, item) == (wanted, me.item):
            slots = put(ring.slots, me.at % self.capacity, (seq, TOMBSTONE))
            state.rings = (ring._replace(slots=slots),)
        self.take_back_next(me)

    def take_back_next(self, me):
        me.at, me.item, me.pc = me.at + 1, None, "take_back_look"
        if me.at == me.end:
            me.taken_back, me.at = me.end, None
            me.pc = "pass_tail" if self.mark_first else "mark"

    # The reader.

    def step_look(self, state, me):
        if not me.left:
            return me.done()
        me.k, ring = state.cursor, state.rings[0]
        if ring.is_older(me.k):
            me.left, me.k = me.left - 1, None
        elif ring.is_newer(me.k):
            me.pc = "jump"
        else:
            me.item, me.pc = ring.item(me.k), "hold"

    def step_jump(self, state, me):
        state.cursor = max(state.rings[0].tail - self.capacity, me.k + 1)
        me.k, me.pc = None, "look"

    def step_hold(self, state, me):
        state.hold, me.pc = me.k, "look_again"

    def step_look_again(self, state, me):
        ring = state.rings[0]
        if not ring.is_there(me.k):
            me.k, me.item, me.pc = None, None, "release"
            return
        if not self.first_descriptor:
            me.item = ring.item(me.k)
        self.check_tombstone(state, me.k, me.item)
        me.pc = "move_cursor"

    def step_move_cursor(self, state, me):
        state.cursor, me.k, me.pc = me.k + 1, None, "release"

    def step_release(self, state, me):
        """The last moment at which the payload is read."""
        if me.item is not None and me.item[0] == OWNER:
            _, chunk, stamp = me.item
            if state.memory[chunk] != stamp:
                raise Bad("a reader reads a chunk that has been reused")
        state.hold = None
        me.left, me.item, me.pc = me.left - (me.item is not None), None, "look"

    def check_tombstone(self, state, pos, item):
        if item == TOMBSTONE and (state.pushed[pos] != OWNER or pos >= state.asked):
            raise Bad("a message is taken back that was not to be")

    # The end.

    def step_kill(self, state, me):
        owner = state.parties[0].copy()
        if owner.pc == "done":
            return BLOCKED
        owner.done()
        state.parties = put(state.parties, 0, owner)
        me.done()

    def at_rest(self, state):
        ring = state.rings[0]
        tail = ring.true_tail()
        if tail != len(state.pushed):
            raise Bad("the tail is not the number of messages pushed")
        queued = range(max(state.cursor, ring.oldest()), tail)
        tombstones = [pos for pos in queued if ring.item(pos) == TOMBSTONE]
        for pos in tombstones:
            self.check_tombstone(state, pos, TOMBSTONE)
        if tombstones and not state.marked:
            raise Bad("the books have messages queued that were taken back")


run(__doc__, [
    safe("1 chunk, kill", TombstoneModel(2, 1, 3, kills=1)),
    safe("1 chunk, a foreign producer, kill", TombstoneModel(2, 1, 3, 1, kills=1)),
    safe("2 chunks, 3 slots, a foreign producer", TombstoneModel(3, 2, 4, 1)),
    safe("2 chunks, 2 slots, a foreign producer, kill",
         TombstoneModel(2, 2, 4, 1, kills=1)),
    safe("2 chunks, 3 slots, two foreign messages, kill",
         TombstoneModel(3, 2, 5, 2, 3, kills=1), ci=False),
    mutant("descriptor of the first look", TombstoneModel(2, 1, 3, first_descriptor=True)),
    mutant("holds before the CAS", TombstoneModel(2, 1, 3, holds_first=True)),
    mutant("no look at holds", TombstoneModel(2, 1, 3, look_at_holds=False)),
    mutant("marked after the CAS", TombstoneModel(2, 1, 3, kills=1, mark_first=False)),
    mutant("the seq not compared", TombstoneModel(2, 1, 3, 2, compare_seq=False)),
    mutant("others' messages taken back", TombstoneModel(3, 2, 4, 1, own_only=False)),
])
