# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""A ring is reused for another subscription while a publisher of the old one is still pushing.

Modelled: one ring's memory. A publisher of the old subscription owns chunks; it may be stopped at
any step of a push and go on at any later time. The coordinator takes the ring off the old route,
removes the old seat, and gives the ring to a new seat: generation + 1, slots and tail go on, and
the seat joins as at any ring (join.py): announced with start 0, epoch, start = tail. A publisher of
the new subscription pushes; the new reader asks each message's route, and skips what its patterns
do not match. The old publisher reclaims its chunks by the seats that the ring has now.

Checked: nothing of the old subscription is delivered, unless its topic matches the new patterns,
and then at most once; each message of the new one is delivered or lapped; at rest offered =
received + dropped, offered being what was pushed from start on without what was skipped; no push
takes the ring for spoiled; no reader reads a reused chunk, not even its route.

Mutants to be found: slots and tail, or the tail alone, reset; the route not asked; an owner that
takes a new generation for passed; a new seat that starts at 0.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe
from slots import FinePush, empty_ring

OLD, NEW = "old", "new"
ANOTHER_HEAP = None  # the chunk of a message whose heap is not modelled
TAKE = ("unlist", "advance_epoch", "remove_seat", "advance_epoch")
GIVE = ("announce", "advance_epoch", "read_tail", "store_start", "list_new")


@dataclass
class ReuseModel(FinePush, Model):
    capacity: int
    old: int  # messages that the old publisher publishes as long as the route lists the ring
    new: int
    before: int = 0  # positions used before
    chunks: int = 1
    matches: bool = False  # the old topic matches the new patterns too
    reset: tuple = ()  # steps between TAKE and GIVE
    ask_route: bool = True
    generation_passes: bool = False
    start_at_tail: bool = True

    def start(self):
        push = dict(ring=0, item=None, pos=None, slot=None)
        old = Party(name="old publisher", pc="old_publish", left=self.old, chunk=None,
                    free=tuple(range(self.chunks)), out=(), epoch=0, seat=OLD, generation=0,
                    tail=None, start=None, passed=None, **push)
        new = Party(name="new publisher", pc="new_publish", left=self.new, **push)
        reader = Party(name="new reader", pc="begin", k=None, item=None)
        coordinator = Party(name="coordinator", pc="reuse", todo=TAKE + self.reset + GIVE,
                            tail=None)
        ring = empty_ring(self.capacity, self.before, (OLD, ANOTHER_HEAP, None))
        return State((old, new, reader, coordinator), rings=(ring,), memory=(0,) * self.chunks,
                     listed=OLD, seat=OLD, epoch=0, generation=0, start=0, cursor=0, hold=None,
                     taken=0, skipped=0, landed=self.before, got_old=(), pushing=2)

    # The coordinator.

    def step_reuse(self, state, me):
        if not me.todo:
            return me.done()
        step, me.todo = me.todo[0], me.todo[1:]
        if step == "unlist":
            state.listed = None
        elif step == "advance_epoch":
            state.epoch += 1
        elif step == "remove_seat":
            state.seat = None
        elif step == "reset slots and tail":
            state.rings, state.landed = (empty_ring(self.capacity),), 0
        elif step == "reset tail":
            state.rings, state.landed = (state.rings[0]._replace(tail=0),), 0
        elif step == "announce":
            state.generation += 1
            state.seat, state.start = NEW, 0
        elif step == "read_tail":
            me.tail = state.rings[0].tail if self.start_at_tail else 0
        elif step == "store_start":
            state.start = me.tail
        elif step == "list_new":
            state.listed = NEW

    # The old publisher: pushes while its route lists the ring, then fills its chunks with other
    # messages.

    def step_old_publish(self, state, me):
        if me.left and state.listed == OLD:
            if not me.free:
                me.pc = "pass_read_epoch"
                return
            me.chunk, me.free = me.free[-1], me.free[:-1]
            state.memory = put(state.memory, me.chunk, state.memory[me.chunk] + 1)
            self.push(me, 0, (OLD, me.chunk, state.memory[me.chunk]))
        elif me.out:
            me.left, me.pc = 0, "pass_read_epoch"
        else:
            state.memory = tuple(stamp + 1 for stamp in state.memory)
            state.pushing -= 1
            me.done()

    def step_pass_read_epoch(self, state, me):
        me.pc = "pass_read_tail" if state.epoch == me.epoch else "pass_read_seat"
        me.epoch = state.epoch

    def step_pass_read_seat(self, state, me):
        me.seat, me.generation, me.pc = state.seat, state.generation, "pass_read_tail"

    def step_pass_read_tail(self, state, me):
        me.tail, me.passed = state.rings[0].tail, None
        me.pc = "pass_read_start" if me.seat else "pass_read_hold"

    def step_pass_read_start(self, state, me):
        me.start, me.pc = (state.start if me.seat == state.seat else 0), "pass_read_cursor"

    def step_pass_read_cursor(self, state, me):
        me.passed = max(me.start, state.cursor if me.seat == NEW else 0)
        me.pc = "pass_read_hold"

    def step_pass_read_hold(self, state, me):
        passed = me.tail if me.passed is None else max(me.passed, me.tail - self.capacity)

        def reusable(entry):
            _, pos, generation = entry
            if self.generation_passes and generation != me.generation:
                return True
            return pos < passed and pos != state.hold

        me.free += tuple(entry[0] for entry in me.out if reusable(entry))
        me.out = tuple(entry for entry in me.out if not reusable(entry))
        me.tail, me.start, me.passed, me.pc = None, None, None, "old_publish"

    # The new publisher.

    def step_new_publish(self, state, me):
        if not me.left:
            state.pushing -= 1
            return me.done()
        if state.listed != NEW:
            return BLOCKED
        self.push(me, 0, (NEW, ANOTHER_HEAP, None))
        return self.step_push_read_tail(state, me)

    def landed(self, state, me):
        state.landed += 1

    def pushed(self, state, me):
        if me.name == "old publisher":
            me.out += ((me.chunk, me.pos, me.generation),)
            me.chunk, me.pc = None, "old_publish"
        else:
            me.pc = "new_publish"
        me.left, me.item, me.pos = me.left - 1, None, None

    # The new reader.

    def step_begin(self, state, me):
        if state.listed != NEW:
            return BLOCKED
        state.cursor = me.k = state.start
        me.pc = "look"

    def step_look(self, state, me):
        ring = state.rings[0]
        if ring.is_older(me.k):
            if state.pushing:
                return BLOCKED
            return me.done()
        me.pc = "jump" if ring.is_newer(me.k) else "hold"

    def step_jump(self, state, me):
        me.k = max(state.rings[0].tail - self.capacity, me.k + 1)
        state.cursor, me.pc = me.k, "look"

    def step_hold(self, state, me):
        state.hold, me.pc = me.k, "look_again"

    def step_look_again(self, state, me):
        ring = state.rings[0]
        if ring.is_there(me.k):
            me.item, me.pc = ring.item(me.k), "ask_route"
        else:
            me.pc = "unhold"

    def step_unhold(self, state, me):
        state.hold, me.pc = None, "look"

    def step_ask_route(self, state, me):
        """The route is in the chunk's header: a read of the chunk."""
        self.check_chunk(state, me)
        if me.item[0] == NEW or self.matches or not self.ask_route:
            state.taken += 1
            self.deliver(state, me)
        else:
            state.skipped += 1
        me.pc = "move_cursor"

    def check_chunk(self, state, me):
        _, chunk, stamp = me.item
        if chunk is not ANOTHER_HEAP and state.memory[chunk] != stamp:
            raise Bad("a reader reads a chunk that has been reused")

    def deliver(self, state, me):
        if me.item[0] == NEW:
            return
        if not self.matches:
            raise Bad("a message of the old subscription is delivered")
        if me.item in state.got_old:
            raise Bad("a message is delivered twice")
        state.got_old += (me.item,)

    def step_move_cursor(self, state, me):
        me.k += 1
        state.cursor, me.pc = me.k, "release"

    def step_release(self, state, me):
        self.check_chunk(state, me)
        state.hold, me.item, me.pc = None, None, "look"

    def at_rest(self, state):
        tail = state.rings[0].true_tail()
        if state.cursor != tail or any(party.pc != "done" for party in state.parties):
            raise Bad("messages are queued that the reader does not find")
        dropped = state.cursor - state.start - state.taken - state.skipped
        if state.landed - state.start - state.skipped != state.taken + dropped:
            raise Bad("offered = received + dropped does not hold")


run(__doc__, [
    safe("1 slot", ReuseModel(1, 2, 2)),
    safe("2 slots", ReuseModel(2, 2, 2, before=1)),
    safe("2 slots, the old topic matches", ReuseModel(2, 2, 2, matches=True)),
    safe("2 slots, two chunks", ReuseModel(2, 3, 3, chunks=2)),
    safe("3 slots, two chunks, longer", ReuseModel(3, 4, 5, chunks=2, matches=True), ci=False),
    safe("2 slots, longer", ReuseModel(2, 6, 6, chunks=3), ci=False),
    mutant("slots and tail reset", ReuseModel(2, 2, 2, before=1, reset=("reset slots and tail",))),
    mutant("tail reset", ReuseModel(2, 1, 2, before=1, reset=("reset tail",))),
    mutant("the route not asked", ReuseModel(2, 1, 1, ask_route=False)),
    mutant("a new generation taken for passed", ReuseModel(2, 1, 1, generation_passes=True)),
    mutant("a new seat starts at 0", ReuseModel(2, 1, 1, start_at_tail=False)),
])
