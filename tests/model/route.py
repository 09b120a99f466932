# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""A route that changes while its publisher publishes and while chunks are queued.

Two models. RouteModel: the route's word {set, version} names an immutable array of rings in memory
that the coordinator frees and uses again; the coordinator writes the array, stores the word,
advances the epoch and only then lets subscribe or unsubscribe return. A publish compares the epoch
with the one it saw last; if it differs, it reads the word, copies the array word by word, and reads
the word again: the same, it goes on; another, once more.

Checked: each publish that starts after a change has returned uses that set or a later one; a copied
set is one that the route has had, whole.

BlockModel: several chunks in a block, pushed to the rings of the route of that moment; the block
keeps a list of (ring, first, last) and is free when every listed ring has passed it, and no hold of
that ring falls between first and last.

Checked: no reader reads a chunk that has been reused.

Mutants to be found: the version not part of the word; the word not read again; the epoch advanced
after the change returned, or read after the copy; a list with the rings of the block's first
message only; a list without the holds; one ring passed instead of all.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe

# Rings of a route after each change; all sets have two entries here.
SETS = ((0, 1), (2, 3), (4, 5), (6, 7))


@dataclass
class RouteModel(Model):
    changes: int
    publishes: int
    publishers: int = 1
    version_in_word: bool = True
    read_again: bool = True
    epoch: str = "before return"  # or "after return"
    epoch_read: str = "before copy"  # or "after copy"

    def start(self):
        parties = [Party(name="coordinator", pc="write_set", change=0, entry=0)]
        parties += [Party(name=f"publisher {i}", pc="publish", left=self.publishes, epoch=0, seen=0,
                          word=None, copied=(), due=0, set=SETS[0]) for i in range(self.publishers)]
        # Two arrays in memory: each change writes the one that the route does not name.
        return State(tuple(parties), arrays=(SETS[0], (None, None)), word=(0, 0), epoch=0,
                     returned=0)

    def word_of(self, change):
        return (change % 2, change if self.version_in_word else 0)

    # The coordinator: changes 1, 2, …

    def step_write_set(self, state, me):
        if me.change == self.changes:
            return me.done()
        array = (me.change + 1) % 2
        value = SETS[me.change + 1][me.entry]
        state.arrays = put(state.arrays, array, put(state.arrays[array], me.entry, value))
        me.entry += 1
        if me.entry == len(SETS[0]):
            me.change, me.entry, me.pc = me.change + 1, 0, "store_word"

    def step_store_word(self, state, me):
        state.word = self.word_of(me.change)
        me.pc = "advance_epoch" if self.epoch == "before return" else "return"

    def step_advance_epoch(self, state, me):
        state.epoch += 1
        me.pc = "return" if self.epoch == "before return" else "write_set"

    def step_return(self, state, me):
        """Subscribe, or unsubscribe, returns."""
        state.returned = me.change
        me.pc = "write_set" if self.epoch == "before return" else "advance_epoch"

    # A publisher.

    def step_publish(self, state, me):
        if not me.left:
            return me.done()
        me.due = state.returned
        me.pc = "read_epoch"

    def step_read_epoch(self, state, me):
        me.seen = state.epoch
        me.pc = "push" if me.seen == me.epoch else "read_word"
        if me.pc == "push":
            return self.step_push(state, me)

    def step_read_word(self, state, me):
        me.word, me.copied, me.pc = state.word, (), "copy"

    def step_copy(self, state, me):
        me.copied += (state.arrays[me.word[0]][len(me.copied)],)
        if len(me.copied) == len(SETS[0]):
            me.pc = "read_word_again"
            if not self.read_again:
                self.take(me)

    def step_read_word_again(self, state, me):
        if state.word != me.word:
            me.pc = "read_word"
            return self.step_read_word(state, me)
        self.take(me)

    def take(self, me):
        me.set, me.copied, me.word = me.copied, (), None
        me.pc = "push" if self.epoch_read == "before copy" else "read_epoch_late"

    def step_read_epoch_late(self, state, me):
        me.seen, me.pc = state.epoch, "push"

    def step_push(self, state, me):
        """Private: the pushes themselves are not modelled."""
        if me.set not in SETS:
            raise Bad(f"a torn set is used: {me.set}")
        if SETS.index(me.set) < me.due:
            raise Bad("a publish that started after a change had returned uses the old set")
        me.epoch, me.due, me.left, me.pc = me.seen, 0, me.left - 1, "publish"



@dataclass
class BlockModel(Model):
    """A push is one step, and rings never lap: ring.py is about that."""

    sets: tuple  # of the route; each change may come at any time
    publishes: int
    rings: int = 2
    blocks: int = 2
    chunks: int = 2  # a block
    list_grows: bool = True
    look_at_holds: bool = True
    all_rings: bool = True

    def start(self):
        parties = [Party(name="coordinator", pc="change", left=self.sets[1:]),
                   Party(name="publisher", pc="publish", left=self.publishes, block=0, used=0,
                         set=(), chunk=None, lists=((),) * self.blocks, check=None, todo=())]
        parties += [Party(name=f"reader {ring}", pc="look", ring=ring, k=0, item=None)
                    for ring in range(self.rings)]
        return State(tuple(parties), set=self.sets[0], rings=((),) * self.rings,
                     cursors=(0,) * self.rings, holds=(None,) * self.rings,
                     memory=(0,) * (self.blocks * self.chunks), finished=False)

    def step_change(self, state, me):
        if not me.left or state.finished:
            return me.done()
        state.set, me.left = me.left[0], me.left[1:]

    # The publisher.

    def step_publish(self, state, me):
        if not me.left:
            state.finished = True
            return me.done()
        if me.used == self.chunks:
            return self.begin_check(me, (me.block + 1) % self.blocks)
        me.set, me.chunk = state.set, me.block * self.chunks + me.used
        state.memory = put(state.memory, me.chunk, state.memory[me.chunk] + 1)
        me.pc = "push" if me.set else "published"

    def step_push(self, state, me):
        ring, me.set = me.set[0], me.set[1:]
        pos, item = len(state.rings[ring]), (me.chunk, state.memory[me.chunk])
        state.rings = put(state.rings, ring, state.rings[ring] + (item,))
        self.list(me, ring, pos)
        if not me.set:
            self.step_published(state, me)

    def step_published(self, state, me):
        me.used, me.left, me.chunk, me.pc = me.used + 1, me.left - 1, None, "publish"

    def list(self, me, ring, pos):
        """Note the position in the open block's list."""
        entries = dict((r, (first, last)) for r, first, last in me.lists[me.block])
        if ring not in entries and me.used and not self.list_grows:
            return
        entries[ring] = (entries.get(ring, (pos, pos))[0], pos)
        entries = tuple((r, first, last) for r, (first, last) in sorted(entries.items()))
        me.lists = put(me.lists, me.block, entries)

    # Is a block free? For each listed ring: its cursor, then its hold.

    def begin_check(self, me, block):
        me.check, me.todo, me.pc = block, me.lists[block], "read_cursor"
        if not me.todo:
            self.open(me)

    def open(self, me):
        me.lists = put(me.lists, me.check, ())
        me.block, me.used, me.check, me.todo, me.pc = me.check, 0, None, (), "publish"

    def step_read_cursor(self, state, me):
        ring, _, last = me.todo[0]
        if state.cursors[ring] <= last:
            return BLOCKED if self.all_rings else self.checked(me, False)
        me.pc = "read_hold"

    def step_read_hold(self, state, me):
        ring, first, last = me.todo[0]
        hold = state.holds[ring]
        if self.look_at_holds and hold is not None and first <= hold <= last:
            return BLOCKED
        self.checked(me, True)

    def checked(self, me, passed):
        me.todo, me.pc = me.todo[1:], "read_cursor"
        if passed and not self.all_rings or not me.todo:
            self.open(me)

    # A reader of each ring.

    def step_look(self, state, me):
        if me.k == len(state.rings[me.ring]):
            return me.done() if state.finished else BLOCKED
        me.item, me.pc = state.rings[me.ring][me.k], "hold"

    def step_hold(self, state, me):
        state.holds, me.pc = put(state.holds, me.ring, me.k), "move_cursor"

    def step_move_cursor(self, state, me):
        me.k += 1
        state.cursors, me.pc = put(state.cursors, me.ring, me.k), "release"

    def step_release(self, state, me):
        chunk, stamp = me.item
        if state.memory[chunk] != stamp:
            raise Bad("a reader reads a chunk that has been reused")
        state.holds, me.item, me.pc = put(state.holds, me.ring, None), None, "look"


GROWS, SHRINKS, MOVES = ((0,), (0, 1)), ((0, 1), (1,)), ((0,), (1,), (0,))

run(__doc__, [
    safe("3 changes, 4 publishes", RouteModel(3, 4)),
    safe("2 changes, two publishers", RouteModel(2, 2, publishers=2)),
    safe("3 changes, two publishers", RouteModel(3, 3, publishers=2), ci=False),
    safe("block: a ring more", BlockModel(GROWS, 6)),
    safe("block: a ring less", BlockModel(SHRINKS, 6)),
    safe("block: another ring and back", BlockModel(MOVES, 6)),
    safe("block: no ring for a while", BlockModel(((0,), (), (0, 1)), 6)),
    safe("block: three rings", BlockModel(((0, 1), (0, 2), (1, 2)), 6, rings=3), ci=False),
    safe("block: longer", BlockModel(((0,), (0, 1), (1,), (0,)), 8, chunks=3), ci=False),
    mutant("the version not part of the word", RouteModel(3, 1, version_in_word=False)),
    mutant("the word not read again", RouteModel(3, 1, read_again=False)),
    mutant("the epoch advanced after return", RouteModel(1, 2, epoch="after return")),
    mutant("the epoch read after the copy", RouteModel(2, 2, epoch_read="after copy")),
    mutant("block: rings of its first message only", BlockModel(GROWS, 6, list_grows=False)),
    mutant("block: holds not looked at", BlockModel(GROWS, 6, look_at_holds=False)),
    mutant("block: one ring passed instead of all", BlockModel(SHRINKS, 6, all_rings=False)),
])
