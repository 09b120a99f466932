# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""The counts of a seat: exact at rest and after any kill, and never reported too high before.

Modelled: producers, one or two threads at one seat, pushes of foreign routes (skipped), an owner
that puts tombstones, one kill of any party, and an outsider that reads the words of the seat one by
one while all go on, and reports the largest number of drops it has seen.

With t' the tail, plus one if the slot there is already of that lap:
  drop_oldest    dropped = max(cursor, t' - capacity) - start - taken - skipped
                           + tombstones not yet passed - positions in hand
  reject_newest  dropped = rejected
  both           queued  = t' - max(cursor, t' - capacity) - tombstones not yet passed
                 offered = received + queued + dropped
A seat whose process has died has nothing queued: what it has not returned it has dropped.

For the largest seen to be right at rest, no look may see a drop that does not come true:
- a position from the cursor on that a hold covers is in hand: its reader may have had its second
  look, and only then have been lapped; it will count the message as taken, not as dropped.
- taken and skipped are stored before the cursor, the hold is given back after it; so the outsider
  reads t' and cursor, then tombstones, then holds, then taken and skipped.
- (Not covered: a process killed while two of its threads are about to pass the same foreign
  message has counted it as skipped twice.)
- offered is added up from the others: it sinks when what was queued turns out foreign.

Checked at rest: offered = received + queued + dropped against what happened, and that the outsider
has not reported more drops than there are.

Mutants to be found: holds not looked at, or read after taken; taken stored after the cursor; the
outsider reading taken first, or tombstones last; tail for t'; the item in a dead reader's hand
found as taken - returned beside a queue that still begins at its cursor; offered reported as the
largest seen.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe
from slots import ShortPush, empty_ring

OWN, FOREIGN, TOMBSTONE = "own", "foreign", "tombstone"
LOOKS = ("tail", "cursor", "tombstones", "holds", "taken", "skipped")


@dataclass
class CountingModel(ShortPush, Model):
    capacity: int
    producers: tuple  # of tuples of OWN or FOREIGN
    threads: tuple = (2,)  # attempts to pop of each
    reject: bool = False
    kills: int = 1
    tombstones: tuple = ()  # positions that their owner takes back
    reports: int = 1
    taken_first: bool = True  # before the cursor
    looks: tuple = LOOKS
    look_at_holds: bool = True
    true_tail: bool = True
    dead_in_hand: bool = False  # as taken - returned
    offered_largest: bool = False

    def start(self):
        parties = [Party(name=f"producer {i}", pc="produce", left=items, ring=0, item=None,
                         pos=None, reader=False) for i, items in enumerate(self.producers)]
        parties += [Party(name=f"thread {i}", pc="look", id=i, left=left, k=None, item=None,
                          reader=True) for i, left in enumerate(self.threads)]
        if self.tombstones:
            parties.append(Party(name="owner", pc="take_back", left=self.tombstones, reader=False))
        killers = [Party(name=f"kill {party.name}", pc="kill", victim=index, reader=False)
                   for index, party in enumerate(parties) if party.name != "thread 1"]
        outsider = Party(name="outsider", pc="observe", left=self.reports, todo=(), reader=False,
                         **dict.fromkeys(LOOKS))
        return State(tuple(parties + [outsider] + (killers if self.kills else [])),
                     rings=(empty_ring(self.capacity),), cursor=0, taken=0, returned=0, skipped=0,
                     holds=(None,) * len(self.threads), rejected=0, kills=self.kills, landed=0,
                     end=None, reported=0, largest_offered=0)

    # A producer.

    def step_produce(self, state, me):
        if not me.left:
            return me.done()
        full = state.rings[0].true_tail() >= state.cursor + self.capacity
        if self.reject and state.end is None and full:
            me.pc = "reject"
        else:
            self.push(me, 0, me.left[0])
            return self.step_push_cas(state, me)

    def step_reject(self, state, me):
        if state.end is None:
            state.rejected += 1
        me.left, me.pc = me.left[1:], "produce"

    def landed(self, state, me):
        if state.end is None:
            state.landed += 1

    def pushed(self, state, me):
        me.left, me.item, me.pos, me.pc = me.left[1:], None, None, "produce"

    def step_take_back(self, state, me):
        if not me.left:
            return me.done()
        ring, pos = state.rings[0], me.left[0]
        if ring.is_older(pos):
            return BLOCKED
        if ring.is_there(pos):
            state.rings = (ring.written(pos, TOMBSTONE),)
        me.left = me.left[1:]

    # A thread of the reader.

    def step_look(self, state, me):
        if not me.left:
            return me.done()
        me.k = state.cursor
        me.pc = "look_slot"

    def step_look_slot(self, state, me):
        ring = state.rings[0]
        if ring.is_older(me.k):
            self.again(me, me.left - 1)
        elif ring.is_newer(me.k):
            me.pc = "jump"
        else:
            me.pc = "hold"

    def again(self, me, left):
        me.left, me.k, me.item, me.pc = left, None, None, "look"

    def step_jump(self, state, me):
        """To the oldest that can still be there (an older tail only makes it jump less far)."""
        if state.cursor == me.k:
            state.cursor = max(state.rings[0].tail - self.capacity, me.k + 1)
        self.again(me, me.left)

    def step_hold(self, state, me):
        state.holds, me.pc = put(state.holds, me.id, me.k), "look_again"

    def step_look_again(self, state, me):
        ring = state.rings[0]
        if ring.is_there(me.k):
            me.item = ring.item(me.k)
            me.pc = "count" if self.taken_first else "move_cursor"
        else:
            me.pc = "unhold"

    def step_unhold(self, state, me):
        state.holds = put(state.holds, me.id, None)
        self.again(me, me.left)

    def step_count(self, state, me):
        """A tombstone is neither taken nor skipped."""
        self.count(state, me, 1)
        me.pc = "move_cursor" if self.taken_first else "give"

    def count(self, state, me, by):
        if me.item == OWN:
            state.taken += by
        elif me.item == FOREIGN:
            state.skipped += by

    def step_move_cursor(self, state, me):
        if state.cursor != me.k:  # another thread was first
            me.pc = "uncount" if self.taken_first else "unhold"
            return
        state.cursor = me.k + 1
        me.pc = "give" if self.taken_first else "count"

    def step_uncount(self, state, me):
        self.count(state, me, -1)
        me.pc = "unhold"

    def step_give(self, state, me):
        """The receive returns; the hold may be given back at any time from here on."""
        if me.item == OWN:
            state.returned += 1
            me.left -= 1
        me.pc = "unhold"

    # The outsider.

    def step_observe(self, state, me):
        if not me.left or state.end is not None:
            return me.done()
        me.left, me.todo, me.pc = me.left - 1, self.looks, "observe_word"
        return self.step_observe_word(state, me)

    def step_observe_word(self, state, me):
        word, me.todo = me.todo[0], me.todo[1:]
        if word == "tail":
            me.tail = self.read_tail(state)
        elif word == "tombstones":
            me.tombstones = self.queued_tombstones(state, me.tail, me.cursor)
        else:
            setattr(me, word, getattr(state, word))
        if not me.todo:
            dropped = self.dropped(me)
            if state.end is None:
                state.reported = max(state.reported, dropped)
                state.largest_offered = max(state.largest_offered, me.tail - me.skipped)
            for name in LOOKS:
                setattr(me, name, None)
            me.pc = "observe"

    def read_tail(self, state):
        """The coordinator helps the tail before it reads counts."""
        ring = state.rings[0]
        if not self.true_tail:
            return ring.tail
        state.rings = (ring.helped(ring.true_tail() - 1),)
        return state.rings[0].tail

    def queued_tombstones(self, state, tail, cursor):
        ring = state.rings[0]
        first = max(cursor, tail - self.capacity)
        return sum(ring.is_there(pos) and ring.item(pos) == TOMBSTONE for pos in range(first, tail))

    def dropped(self, seen):
        if self.reject:
            return 0
        gone = max(seen.cursor, seen.tail - self.capacity)
        in_hand = set(seen.holds if self.look_at_holds else ())
        in_hand = sum(pos is not None and seen.cursor <= pos for pos in in_hand)
        return max(0, gone - seen.taken - seen.skipped + seen.tombstones - in_hand)

    # One kill.

    def step_kill(self, state, me):
        victim = state.parties[me.victim]
        if not state.kills or victim.pc == "done":
            return BLOCKED
        state.kills = 0
        if victim.reader:
            state.end = self.read_tail(state)
        for index, party in enumerate(state.parties):
            if index == me.victim or (victim.reader and party.reader):
                dead = party.copy()
                dead.done()
                state.parties = put(state.parties, index, dead)
        me.done()

    # What must hold at rest.

    def at_rest(self, state):
        tail = self.read_tail(state) if state.end is None else state.end
        tombstones = self.queued_tombstones(state, tail, state.cursor)
        gone = max(state.cursor, tail - self.capacity)
        dropped = 0 if self.reject else gone - state.taken - state.skipped + tombstones
        queued = tail - gone - tombstones
        offered = state.landed - state.skipped
        if state.end is not None and not self.dead_in_hand:
            queued = 0
            dropped = tail - state.skipped - state.returned
        elif state.end is not None:
            dropped += state.taken - state.returned
        if offered != state.returned + queued + dropped:
            raise Bad(f"offered {offered} = received {state.returned} + queued {queued} + "
                      f"dropped {dropped} does not hold")
        if state.end is None and queued != self.really_queued(state):
            raise Bad("what is reported as queued is not what can be received")
        if dropped < state.reported:
            raise Bad(f"{state.reported} drops were reported, {dropped} happened")
        if self.offered_largest and offered < state.largest_offered:
            raise Bad(f"{state.largest_offered} offers were reported, {offered} happened")

    def really_queued(self, state):
        ring = state.rings[0]
        return sum(ring.is_there(pos) and ring.item(pos) != TOMBSTONE
                   for pos in range(state.cursor, state.landed))


TWO = ((OWN, OWN), (OWN,))
MIXED = ((OWN, FOREIGN), (OWN,))

run(__doc__, [
    safe("drop_oldest, 1 slot", CountingModel(1, TWO, (1,))),
    safe("drop_oldest, 1 slot, two receives", CountingModel(1, TWO), ci=False),
    safe("drop_oldest, 2 slots", CountingModel(2, TWO, (1,))),
    safe("drop_oldest, 2 slots, two reports", CountingModel(2, TWO, reports=2), ci=False),
    safe("drop_oldest, two threads", CountingModel(1, ((OWN, OWN),), (1, 1), kills=0)),
    safe("drop_oldest, foreign pushes", CountingModel(2, MIXED, (1,))),
    safe("drop_oldest, tombstones", CountingModel(2, ((OWN, OWN),), tombstones=(0, 1))),
    safe("reject_newest, 1 slot", CountingModel(1, TWO, reject=True)),
    safe("reject_newest, two threads",
         CountingModel(1, ((OWN, OWN),), (1, 1), reject=True, kills=0)),
    safe("drop_oldest, two threads, kill", CountingModel(1, ((OWN, OWN),), (1, 1)), ci=False),
    safe("reject_newest, two threads, kill",
         CountingModel(1, ((OWN, OWN),), (1, 1), reject=True), ci=False),
    safe("reject_newest, foreign pushes, two threads",
         CountingModel(1, MIXED, (2, 1), reject=True, kills=0), ci=False),
    safe("drop_oldest, 1 slot, more messages, two threads",
         CountingModel(1, TWO, (2, 2), reports=2), ci=False),
    safe("drop_oldest, 2 slots, all mixed, two threads",
         CountingModel(2, MIXED, (2, 1), tombstones=(0, 1), kills=0), ci=False),
    mutant("holds not looked at", CountingModel(1, TWO, kills=0, look_at_holds=False)),
    mutant("taken stored after the cursor", CountingModel(1, TWO, kills=0, taken_first=False)),
    mutant("holds read after taken",
           CountingModel(1, TWO, kills=0,
                         looks=("tail", "cursor", "tombstones", "taken", "skipped", "holds"))),
    mutant("taken read first",
           CountingModel(1, TWO, kills=0,
                         looks=("taken", "skipped", "tail", "cursor", "tombstones", "holds"))),
    mutant("tombstones read last",
           CountingModel(2, ((OWN, OWN),), kills=0, tombstones=(0,),
                         looks=("tail", "cursor", "holds", "taken", "skipped", "tombstones"))),
    mutant("tail for t'", CountingModel(2, TWO, true_tail=False)),
    mutant("in a dead reader's hand is taken - returned",
           CountingModel(1, TWO, reject=True, dead_in_hand=True)),
    mutant("offered reported as the largest seen",
           CountingModel(2, MIXED, kills=0, offered_largest=True)),
])
