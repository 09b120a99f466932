# SPDX-License-Identifier: Apache-2.0
"""The ring's slots and tail for models, and the push, in single steps or folded.

Positions are linear here: position p lies in slot p % capacity, in lap p // capacity. A slot is
(seq, item), seq one more than the lap of its last write, 0 if never written: as in DESIGN 5.

FinePush has a step for each access. ring.py shows that a push takes effect at its CAS, and that a
CAS on a stale look fails; ShortPush therefore folds the looks into the CAS and keeps the one thing
that others can see between: the tail that is a step behind.
"""
import typing

from explore import Bad, put


class Ring(typing.NamedTuple):
    tail: int
    slots: tuple

    def seq(self, pos):
        return self.slots[pos % len(self.slots)][0]

    def item(self, pos):
        return self.slots[pos % len(self.slots)][1]

    def lap(self, pos):
        return pos // len(self.slots)

    def is_older(self, pos):
        """The slot has not been written at this position yet."""
        return self.seq(pos) < self.lap(pos) + 1

    def is_newer(self, pos):
        """The position has been overwritten."""
        return self.seq(pos) > self.lap(pos) + 1

    def is_there(self, pos):
        return self.seq(pos) == self.lap(pos) + 1

    def true_tail(self):
        """t' of the design: the tail, plus one if the slot there is already of that lap."""
        return self.tail + self.is_there(self.tail)

    def oldest(self):
        return max(0, self.true_tail() - len(self.slots))

    def written(self, pos, item):
        slot = (self.lap(pos) + 1, item)
        return self._replace(slots=put(self.slots, pos % len(self.slots), slot))

    def helped(self, pos):
        """CAS of the tail from pos to pos + 1."""
        return self._replace(tail=pos + 1) if self.tail == pos else self


def empty_ring(capacity, tail=0, item=None):
    """A ring whose first `tail` positions have been used, by this item."""
    ring = Ring(0, ((0, None),) * capacity)
    for pos in range(tail):
        ring = ring.written(pos, item).helped(pos)
    return ring


class FinePush:
    """Steps of a push of me.item to state.rings[me.ring]; me.pos and me.slot are its locals.

    push(me, …) begins it, pushed(state, me) is called at its end. Hooks for reject_newest:
    has_room(state, me) tells whether position me.pos may be written; refused(state, me) ends it.
    """

    def push(self, me, ring, item):
        me.ring, me.item, me.pos, me.slot = ring, item, None, None
        me.pc = "push_read_tail"

    def step_push_read_tail(self, state, me):
        me.pos = state.rings[me.ring].tail
        me.pc = self.after_tail

    after_tail = "push_read_slot"

    def step_push_read_slot(self, state, me):
        ring = state.rings[me.ring]
        me.slot = ring.slots[me.pos % len(ring.slots)]
        lap = ring.lap(me.pos)
        me.pc = {lap: "push_cas", lap + 1: "push_help_other"}.get(me.slot[0], "push_look_spoiled")

    def step_push_look_spoiled(self, state, me):
        if state.rings[me.ring].tail == me.pos:
            raise Bad("a push takes the ring for spoiled")
        me.pos, me.slot, me.pc = None, None, "push_read_tail"

    def step_push_help_other(self, state, me):
        state.rings = put(state.rings, me.ring, state.rings[me.ring].helped(me.pos))
        me.pos, me.slot, me.pc = None, None, "push_read_tail"

    def step_push_cas(self, state, me):
        ring = state.rings[me.ring]
        if ring.slots[me.pos % len(ring.slots)] == me.slot:
            state.rings = put(state.rings, me.ring, ring.written(me.pos, me.item))
            self.landed(state, me)
            me.pc = "push_help"
        else:
            me.pos, me.pc = None, "push_read_tail"
        me.slot = None

    def landed(self, state, me):
        """Called in the step in which the item becomes visible."""

    def step_push_help(self, state, me):
        state.rings = put(state.rings, me.ring, state.rings[me.ring].helped(me.pos))
        self.pushed(state, me)


class ShortPush:
    """The push in two steps: the CAS, at the true tail, and helping the tail."""

    def push(self, me, ring, item):
        me.ring, me.item, me.pos = ring, item, None
        me.pc = "push_cas"

    def step_push_cas(self, state, me):
        ring = state.rings[me.ring]
        me.pos = ring.true_tail()
        ring = ring.helped(me.pos - 1)
        state.rings = put(state.rings, me.ring, ring.written(me.pos, me.item))
        self.landed(state, me)
        me.pc = "push_help"

    def landed(self, state, me):
        """Called in the step in which the item becomes visible."""

    def step_push_help(self, state, me):
        state.rings = put(state.rings, me.ring, state.rings[me.ring].helped(me.pos))
        self.pushed(state, me)
