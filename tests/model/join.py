# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""A seat joins a ring to which a publisher pushes that has not seen the routing epoch yet.

Modelled: the coordinator puts the seat into the ring's seat list, its start 0 (which pins
everything), advances the routing epoch, reads the tail and stores it as start; then subscribe
returns and the reader begins at start. The owner pushes all the while, and reclaims with a private
copy of the seat list that it renews when a pass begins with a new epoch. A pass reads epoch (and
list), tail, start and cursor of each seat, then the holds.

Checked: no reader reads a chunk that has been reused; the joined seat gets, or is lapped by,
every message whose publish began after subscribe returned.

Mutants to be found: start is a tail read before the seat is announced; the epoch advanced after
start is stored, or never; a pass that looks at the epoch only after the cursors, or not at all.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe
from slots import FinePush, empty_ring

DESIGN = ("announce", "advance_epoch", "read_tail", "store_start")
FOREIGN_CHUNK = None


@dataclass
class JoinModel(FinePush, Model):
    capacity: int
    chunks: int
    owner: int  # messages to push
    old: tuple = (2,)  # attempts to pop of the seats that are there
    new: int = 2  # of the one that joins
    foreign: int = 0  # messages of another publisher
    join: tuple = DESIGN
    epoch_check: str = "first"  # in a reclaim pass: "first", "last" or "never"

    def start(self):
        producer = dict(ring=0, item=None, pos=None, slot=None)
        joining = len(self.old)
        seats = tuple(range(joining))
        parties = [Party(name="owner", pc="owner_next", left=self.owner, chunk=None,
                         free=tuple(range(self.chunks)), out=(), epoch=0, list=seats, tail=None,
                         starts=(), passed=(), holds=(), **producer),
                   Party(name="coordinator", pc="join", todo=self.join, tail=None)]
        parties += [Party(name=f"reader {seat}", pc="begin", seat=seat, left=left, k=None,
                          item=None) for seat, left in enumerate(self.old + (self.new,))]
        if self.foreign:
            parties.append(Party(name="foreign", pc="foreign_next", left=self.foreign, **producer))
        return State(tuple(parties), rings=(empty_ring(self.capacity),), memory=(0,) * self.chunks,
                     listed=seats, epoch=0, starts=(0,) * (joining + 1), joined=None,
                     cursors=(0,) * (joining + 1), holds=(None,) * (joining + 1))

    # The coordinator.

    def step_join(self, state, me):
        seat = len(self.old)
        if not me.todo:
            state.joined = state.rings[0].true_tail()  # subscribe returns: later publishes count
            return me.done()
        step, me.todo = me.todo[0], me.todo[1:]
        if step == "announce":
            state.listed += (seat,)
        elif step == "advance_epoch":
            state.epoch += 1
        elif step == "read_tail":
            me.tail = state.rings[0].tail
        elif step == "store_start":
            state.starts = put(state.starts, seat, me.tail)

    # The owner.

    def step_owner_next(self, state, me):
        if not me.left:
            me.done()
        elif me.free:
            chunk, me.free = me.free[-1], me.free[:-1]
            me.chunk = chunk
            state.memory = put(state.memory, chunk, state.memory[chunk] + 1)
            self.push(me, 0, (chunk, state.memory[chunk]))
        else:
            me.pc = "pass_read_epoch" if self.epoch_check == "first" else "pass_read_tail"
            return getattr(self, "step_" + me.pc)(state, me)

    def step_foreign_next(self, state, me):
        if not me.left:
            return me.done()
        self.push(me, 0, (FOREIGN_CHUNK, 0))

    def pushed(self, state, me):
        me.left, me.item = me.left - 1, None
        if me.name == "foreign":
            me.pc = "foreign_next"
        else:
            me.out, me.chunk, me.pc = me.out + ((me.chunk, me.pos),), None, "owner_next"
        me.pos = None

    def step_pass_read_epoch(self, state, me):
        if state.epoch != me.epoch:
            me.epoch, me.pc = state.epoch, "pass_read_list"
        elif self.epoch_check == "last":
            self.finish_pass(me)
        else:
            me.pc = "pass_read_tail"

    def step_pass_read_list(self, state, me):
        me.list = state.listed
        if self.epoch_check == "last":
            self.finish_pass(me)
        else:
            me.pc = "pass_read_tail"

    def step_pass_read_tail(self, state, me):
        me.tail = state.rings[0].tail
        self.next_seat(me)

    def next_seat(self, me):
        if len(me.passed) < len(me.list):
            me.pc = "pass_read_start"
        elif len(me.holds) < len(me.list):
            me.pc = "pass_read_hold"
        elif self.epoch_check == "last":
            me.pc = "pass_read_epoch"
        else:
            self.finish_pass(me)

    def step_pass_read_start(self, state, me):
        me.starts += (state.starts[me.list[len(me.passed)]],)
        me.pc = "pass_read_cursor"

    def step_pass_read_cursor(self, state, me):
        """A seat has passed what lies below the larger of its start and its cursor."""
        seat = len(me.passed)
        me.passed += (max(me.starts[seat], state.cursors[me.list[seat]]),)
        self.next_seat(me)

    def step_pass_read_hold(self, state, me):
        me.holds += (state.holds[me.list[len(me.holds)]],)
        self.next_seat(me)

    def finish_pass(self, me):
        passed = max(min(me.passed, default=me.tail), me.tail - self.capacity)
        me.free += tuple(c for c, pos in me.out if pos < passed and pos not in me.holds)
        me.out = tuple((c, pos) for c, pos in me.out if pos >= passed or pos in me.holds)
        me.tail, me.starts, me.passed, me.holds = None, (), (), ()
        me.pc = "owner_next"

    # A reader.

    def step_begin(self, state, me):
        if me.seat == len(self.old) and state.joined is None:
            return BLOCKED
        me.k, me.pc = state.starts[me.seat], "look"
        if state.joined is not None and me.seat == len(self.old) and me.k > state.joined:
            raise Bad("the seat misses a message published after subscribe returned")

    def step_look(self, state, me):
        if not me.left:
            return me.done()
        ring = state.rings[0]
        if ring.is_older(me.k):
            me.left -= 1
        elif ring.is_newer(me.k):
            me.pc = "jump"
        else:
            me.pc = "hold"

    def step_jump(self, state, me):
        me.k, me.pc = max(state.rings[0].tail - self.capacity, me.k + 1), "store_jump"

    def step_store_jump(self, state, me):
        state.cursors, me.pc = put(state.cursors, me.seat, me.k), "look"

    def step_hold(self, state, me):
        state.holds, me.pc = put(state.holds, me.seat, me.k), "look_again"

    def step_look_again(self, state, me):
        ring = state.rings[0]
        if ring.is_there(me.k):
            me.item, me.pc = ring.item(me.k), "move_cursor"
        else:
            me.pc = "unhold"

    def step_unhold(self, state, me):
        state.holds, me.pc = put(state.holds, me.seat, None), "look"

    def step_move_cursor(self, state, me):
        me.k += 1
        state.cursors, me.pc = put(state.cursors, me.seat, me.k), "release"

    def step_release(self, state, me):
        """The last moment at which the payload is read."""
        chunk, stamp = me.item
        if chunk is not FOREIGN_CHUNK and state.memory[chunk] != stamp:
            raise Bad("a reader reads a chunk that has been reused")
        state.holds = put(state.holds, me.seat, None)
        me.left, me.item, me.pc = me.left - 1, None, "look"


def with_join(*steps):
    return JoinModel(2, 2, 3, join=steps)


run(__doc__, [
    safe("first seat, 1 slot", JoinModel(1, 2, 3, old=())),
    safe("first seat, 2 slots, foreign publisher", JoinModel(2, 2, 3, old=(), foreign=1)),
    safe("second seat, 1 slot", JoinModel(1, 2, 3)),
    safe("second seat, 2 slots", JoinModel(2, 2, 3)),
    safe("second seat, 2 slots, more messages", JoinModel(2, 3, 5), ci=False),
    safe("second seat, 2 slots, foreign publisher", JoinModel(2, 2, 3, foreign=1), ci=False),
    safe("third seat, 2 slots", JoinModel(2, 2, 3, old=(2, 2)), ci=False),
    mutant("start is a tail read before announcing",
           with_join("read_tail", "announce", "advance_epoch", "store_start")),
    mutant("epoch advanced after start is stored",
           with_join("announce", "read_tail", "store_start", "advance_epoch")),
    mutant("epoch not advanced", with_join("announce", "read_tail", "store_start")),
    mutant("pass looks at the epoch after the cursors", JoinModel(2, 2, 3, epoch_check="last")),
    mutant("pass does not look at the epoch", JoinModel(2, 2, 3, epoch_check="never")),
])
