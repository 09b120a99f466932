# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""A seat leaves a ring, while publishers push that have read the old route, or while others stay.

Modelled: unsubscribe rewrites the route, advances the epoch, reads the tail and stores it as the
seat's end, stores the reason, returns. If others share the ring the route stays as it is, and only
end keeps the seat apart from what follows. The reader drains and then says closed. An owner reuses
chunks: for this seat positions from end on do not exist; holds count as always.

Checked: everything whose publish returned before unsubscribe began is delivered or lapped before
closed; nothing whose publish started after unsubscribe returned is delivered or counted; offered =
received + dropped when closed; no chunk that is being read is reused.

What makes it so, beyond storing end:
- the reader looks at end after it has seen the message (after the second look). It may deliver
  from end on what it saw before end was stored: the seat's figures end at max(end, cursor).
- a lapped reader jumps no further than end.
- whether the route is rewritten before or after end is stored does not matter to what is delivered.

Mutants to be found: a reader that looks at end before the slot, or goes on past end; a jump beyond
end; figures that stop at end whatever the cursor; a tail read before unsubscribe began; an owner
that ignores holds from end on.
"""
from dataclasses import dataclass

from explore import Bad, Model, Party, State, mutant, put, run, safe
from slots import ShortPush, empty_ring

OPEN = None  # end of a seat that has not left
DESIGN = ("begin", "rewrite_route", "read_tail", "store_end", "store_reason", "return")


@dataclass
class LeaveModel(ShortPush, Model):
    capacity: int
    publishers: tuple  # messages of each; the first has two chunks to reuse
    shared: bool = False  # others stay at the ring
    chunks: int = 2
    steps: tuple = DESIGN
    look_at_end: str = "after slot"  # or "before slot", "only when empty"
    clamp_jump: bool = True
    figures_to_cursor: bool = True
    holds_count: bool = True

    def start(self):
        parties = [Party(name=f"publisher {i}", pc="publish", left=left, owner=i == 0, chunk=None,
                         free=tuple(range(self.chunks)) if i == 0 else (), out=(), tail=None,
                         end=OPEN, cursor=None, late=None, ring=0, item=None, pos=None)
                   for i, left in enumerate(self.publishers)]
        parties += [Party(name="coordinator", pc="unsubscribe", todo=self.steps, tail=None),
                    Party(name="reader", pc="look", k=0, item=None, end=OPEN, to=None)]
        return State(tuple(parties), rings=(empty_ring(self.capacity),), memory=(0,) * self.chunks,
                     listed=True, end=OPEN, closed=False, cursor=0, taken=0, hold=None,
                     begun=False, returned=False, due=0, late=())

    # The coordinator.

    def step_unsubscribe(self, state, me):
        if not me.todo:
            return me.done()
        step, me.todo = me.todo[0], me.todo[1:]
        if step == "begin":
            state.begun = True
        elif step == "rewrite_route":
            state.listed = self.shared
        elif step == "read_tail":
            me.tail = state.rings[0].true_tail()
        elif step == "store_end":
            state.end = me.tail
            if state.end < state.due:
                raise Bad("what was published before unsubscribe began lies beyond end")
        elif step == "store_reason":
            state.closed = True
        elif step == "return":
            state.returned = True

    # Publishers; the first is the owner of chunks.

    def step_publish(self, state, me):
        """Publish begins: the route as it is now."""
        if not me.left:
            return me.done()
        if not state.listed:
            me.left -= 1
            return None
        me.late = state.returned
        if not me.owner:
            self.push(me, 0, (None, 0))
        elif me.free:
            self.fill(state, me)
        else:
            me.pc = "pass_read_tail"
        return None

    def fill(self, state, me):
        me.chunk, me.free = me.free[-1], me.free[:-1]
        state.memory = put(state.memory, me.chunk, state.memory[me.chunk] + 1)
        self.push(me, 0, (me.chunk, state.memory[me.chunk]))

    def landed(self, state, me):
        if me.late:
            state.late += (me.pos,)

    def pushed(self, state, me):
        if not state.begun:
            state.due = max(state.due, me.pos + 1)
        if me.owner:
            me.out += ((me.chunk, me.pos),)
        me.left, me.chunk, me.item, me.pos, me.late = me.left - 1, None, None, None, None
        me.pc = "publish"

    def step_pass_read_tail(self, state, me):
        me.tail, me.pc = state.rings[0].tail, "pass_read_end"

    def step_pass_read_end(self, state, me):
        me.end, me.pc = state.end, "pass_read_cursor"

    def step_pass_read_cursor(self, state, me):
        me.cursor, me.pc = state.cursor, "pass_read_hold"

    def step_pass_read_hold(self, state, me):
        def reusable(pos):
            beyond = me.end is not OPEN and pos >= me.end
            if beyond and not self.holds_count:
                return True
            passed = pos < me.cursor or beyond or me.tail > pos + self.capacity
            return passed and pos != state.hold

        me.free += tuple(chunk for chunk, pos in me.out if reusable(pos))
        me.out = tuple((chunk, pos) for chunk, pos in me.out if not reusable(pos))
        me.tail, me.end, me.cursor = None, OPEN, None
        if me.free:
            self.fill(state, me)
        else:
            me.pc = "pass_read_tail"

    # The reader.

    def step_look(self, state, me):
        if self.look_at_end == "before slot":
            me.end, me.pc = state.end, "look_slot"
        else:
            return self.step_look_slot(state, me)

    def step_look_slot(self, state, me):
        ring = state.rings[0]
        if ring.is_older(me.k):
            me.pc = "read_reason"
        elif ring.is_newer(me.k):
            me.pc = "jump"
        else:
            me.pc = "hold"

    def step_read_reason(self, state, me):
        """Nothing there, or nothing more of ours: closed, if the reason says so."""
        if state.closed and me.k >= state.end:
            return self.say_closed(state, me)
        me.end, me.pc = OPEN, "look"

    def step_hold(self, state, me):
        state.hold, me.pc = me.k, "look_again"

    def step_look_again(self, state, me):
        ring = state.rings[0]
        if not ring.is_there(me.k):
            me.pc = "unhold"
        else:
            me.item = ring.item(me.k)
            me.pc = "read_end" if self.look_at_end == "after slot" else "move_cursor"
            if self.look_at_end == "before slot" and self.beyond(me, me.k):
                me.item, me.pc = None, "unhold"

    def step_read_end(self, state, me):
        me.end, me.pc = state.end, "move_cursor"
        if self.beyond(me, me.k):
            me.item, me.pc = None, "unhold"

    def beyond(self, me, pos):
        return me.end is not OPEN and pos >= me.end

    def step_unhold(self, state, me):
        state.hold, me.pc = None, "read_reason" if self.beyond(me, me.k) else "look"

    def step_move_cursor(self, state, me):
        """(taken is stored before: counting.py)"""
        if me.k in state.late:
            raise Bad("what was published after unsubscribe returned is delivered")
        state.taken += 1
        me.k += 1
        state.cursor, me.end, me.pc = me.k, OPEN, "release"

    def step_release(self, state, me):
        chunk, stamp = me.item
        if chunk is not None and state.memory[chunk] != stamp:
            raise Bad("a reader reads a chunk that has been reused")
        state.hold, me.item, me.pc = None, None, "look"

    def step_jump(self, state, me):
        me.to, me.pc = max(state.rings[0].tail - self.capacity, me.k + 1), "jump_read_end"

    def step_jump_read_end(self, state, me):
        if self.clamp_jump and state.end is not OPEN:
            me.to = max(me.k, min(me.to, state.end))
            me.end = state.end
        me.pc = "jump_store"

    def step_jump_store(self, state, me):
        beyond = self.beyond(me, me.k)
        state.cursor = me.k = me.to
        me.to, me.end, me.pc = None, OPEN, "read_reason" if beyond else "look"

    def say_closed(self, state, me):
        end = max(state.end, state.cursor) if self.figures_to_cursor else state.end
        if any(pos < end for pos in state.late):
            raise Bad("what was published after unsubscribe returned is counted")
        tail = state.rings[0].true_tail()
        offered = min(tail, end)
        dropped = max(state.cursor, min(tail - self.capacity, end)) - state.taken
        if offered != state.taken + dropped:
            raise Bad(f"offered {offered} is not received {state.taken} + dropped {dropped}")
        me.done()


END_FIRST = ("begin", "read_tail", "store_end", "rewrite_route", "store_reason", "return")
OLD_TAIL = ("read_tail", "begin", "rewrite_route", "store_end", "store_reason", "return")


run(__doc__, [
    safe("1 slot", LeaveModel(1, (2, 1))),
    safe("2 slots", LeaveModel(2, (3, 1))),
    safe("1 slot, others stay", LeaveModel(1, (3,), shared=True)),
    safe("2 slots, others stay", LeaveModel(2, (2, 1), shared=True)),
    safe("end stored before the route is rewritten", LeaveModel(2, (2, 1), steps=END_FIRST)),
    safe("1 slot, more messages, others stay", LeaveModel(1, (4, 2), shared=True), ci=False),
    safe("2 slots, more messages, others stay", LeaveModel(2, (4, 2), shared=True), ci=False),
    safe("2 slots, three publishers", LeaveModel(2, (3, 1, 1)), ci=False),
    mutant("the reader looks at end before the slot",
           LeaveModel(2, (2, 1), shared=True, look_at_end="before slot")),
    mutant("the reader goes on past end",
           LeaveModel(2, (2, 1), shared=True, look_at_end="only when empty")),
    mutant("a jump beyond end", LeaveModel(1, (3, 1), shared=True, clamp_jump=False)),
    mutant("figures that stop at end", LeaveModel(2, (3, 1), figures_to_cursor=False)),
    mutant("a tail read before unsubscribe began",
           LeaveModel(2, (3, 1), steps=OLD_TAIL)),
    mutant("the owner ignores holds from end on",
           LeaveModel(2, (3, 1), shared=True, holds_count=False)),
])
