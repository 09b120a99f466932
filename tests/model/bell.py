# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""The bell: nobody sleeps on something it has not seen.

Modelled: the bell's word {n, may_sleep, announced}; publishers that push to one or more rings and
then ring each of their bells once; waiters, each of a ring, that announce, look again and sleep. A
bell serves one ring with all its readers, or several rings of one connection. A publisher may be
stopped for ever at any step.

Checked: when nobody can move, no waiter sleeps with a message of its ring unseen that came from a
publisher that was not stopped. (One that is stopped between its push and its wake is why every
sleep is bounded.)

Mutants to be found: an announcement that only sets the bit; a late clear by anybody; a sleeper that
does not look again; the bump that clears the bit; a wake before the push; one sleeper woken instead
of all; joining an announcement that a waker has touched.
"""
import typing
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe


class Word(typing.NamedTuple):
    n: int
    may_sleep: bool
    announced: bool


@dataclass
class BellModel(Model):
    publishers: tuple  # of tuples of publishes, each a tuple of the rings it goes to
    waiters: tuple  # the ring of each
    bells: tuple = (0,)  # the bell of each ring
    stops: int = 0
    announce: str = "join or new"  # or "set bit", "join any"
    clear: str = "own"  # or "any"
    bump_keeps_bit: bool = True
    look_again: bool = True
    push_first: bool = True
    wake_all: bool = True

    def start(self):
        parties = [Party(name=f"publisher {i}", pc="publish", id=i, left=publishes, rings=(),
                         bells=(), own=None) for i, publishes in enumerate(self.publishers)]
        self.first_waiter = len(parties)
        parties += [Party(name=f"waiter {i}", pc="look", ring=ring, seen=self.nothing(),
                          slept_on=None) for i, ring in enumerate(self.waiters)]
        if self.stops:
            parties += [Party(name=f"stop {party.name}", pc="stop", victim=index)
                        for index, party in enumerate(parties[:self.first_waiter])]
        return State(tuple(parties), stops=self.stops, stopped=(),
                     words=(Word(0, False, False),) * (max(self.bells) + 1),
                     pushed=(self.nothing(),) * len(self.bells))

    def nothing(self):
        """Messages of each publisher in a ring."""
        return (0,) * len(self.publishers)

    # A publisher: all pushes, then all bells.

    def step_publish(self, state, me):
        if not me.left:
            return me.done()
        me.rings, me.left = me.left[0], me.left[1:]
        me.bells = tuple(sorted({self.bells[ring] for ring in me.rings}))
        me.pc = "push" if self.push_first else "ring"
        return getattr(self, "step_" + me.pc)(state, me)

    def step_push(self, state, me):
        ring, me.rings = me.rings[0], me.rings[1:]
        count = state.pushed[ring][me.id] + 1
        state.pushed = put(state.pushed, ring, put(state.pushed[ring], me.id, count))
        self.next(me)

    def next(self, me):
        pushes, bells = ("push" if me.rings else None), ("ring" if me.bells else None)
        order = (pushes, bells) if self.push_first else (bells, pushes)
        me.pc = order[0] or order[1] or "publish"

    def step_ring(self, state, me):
        """Look at the bit."""
        if state.words[me.bells[0]].may_sleep:
            me.pc = "bump"
        else:
            me.bells = me.bells[1:]
            self.next(me)

    def step_bump(self, state, me):
        """A CAS loop: takes effect on the word as it is; done if the bit has gone."""
        word = state.words[me.bells[0]]
        if not word.may_sleep:
            me.bells = me.bells[1:]
            return self.next(me)
        me.own = Word(word.n + 1, self.bump_keeps_bit, False)
        state.words = put(state.words, me.bells[0], me.own)
        me.pc = "wake"

    def step_wake(self, state, me):
        bell, woke = me.bells[0], False
        for index, party in enumerate(state.parties):
            if party.pc == "asleep" and self.bells[party.ring] == bell:
                if woke and not self.wake_all:
                    break
                woke = True
                woken = party.copy()
                woken.pc, woken.slept_on = "look", None
                state.parties = put(state.parties, index, woken)
        me.pc = "clear"

    def step_clear(self, state, me):
        bell = me.bells[0]
        word = state.words[bell]
        if word == me.own or self.clear == "any":
            state.words = put(state.words, bell, word._replace(may_sleep=False))
        me.own, me.bells = None, me.bells[1:]
        self.next(me)

    # A waiter.

    def step_look(self, state, me):
        if me.seen == state.pushed[me.ring]:
            me.pc = "announce"
        else:
            me.seen = state.pushed[me.ring]

    def step_announce(self, state, me):
        bell = self.bells[me.ring]
        word = state.words[bell]
        if self.announce == "set bit":
            word = word._replace(may_sleep=True)
        elif not word.may_sleep or not (word.announced or self.announce == "join any"):
            word = Word(word.n + 1, True, True)
        state.words, me.slept_on = put(state.words, bell, word), word
        me.pc = "look_again" if self.look_again else "sleep"

    def step_look_again(self, state, me):
        if me.seen == state.pushed[me.ring]:
            me.pc = "sleep"
        else:
            me.seen, me.slept_on, me.pc = state.pushed[me.ring], None, "look"

    def step_sleep(self, state, me):
        """The futex compares and sleeps in one step."""
        if state.words[self.bells[me.ring]] == me.slept_on:
            me.pc = "asleep"
        else:
            me.slept_on, me.pc = None, "look"

    def step_asleep(self, state, me):
        return BLOCKED

    def step_stop(self, state, me):
        victim = state.parties[me.victim]
        if not state.stops or victim.pc == "done":
            return BLOCKED
        state.stops -= 1
        state.stopped += (me.victim,)
        dead = victim.copy()
        dead.done()
        state.parties = put(state.parties, me.victim, dead)
        me.done()

    def at_rest(self, state):
        for party in state.parties[self.first_waiter:]:
            if party.pc != "asleep":
                continue
            for publisher, count in enumerate(state.pushed[party.ring]):
                if count != party.seen[publisher] and publisher not in state.stopped:
                    raise Bad(f"{party.name} sleeps, a message of publisher {publisher} unseen")


def publishes(*counts):
    """Publishers that publish so many messages each to ring 0."""
    return tuple(((0,),) * count for count in counts)


BOTH = ((0, 1),)  # one publish, to two rings

run(__doc__, [
    safe("one publisher, one waiter", BellModel(publishes(3), (0,))),
    safe("one publisher, two waiters", BellModel(publishes(2), (0, 0))),
    safe("two publishers, two waiters, one stopped", BellModel(publishes(1, 1), (0, 0), stops=1)),
    safe("two publishers, one waiter, one stopped", BellModel(publishes(2, 1), (0,), stops=1)),
    safe("three publishers, one waiter, one stopped", BellModel(publishes(1, 1, 1), (0,), stops=1)),
    safe("two rings of one bell", BellModel((((0,), (1,)), ((1,),)), (0, 1), (0, 0))),
    safe("two rings of one bell, one stopped",
         BellModel((((0,),), ((1,),)), (0, 1), (0, 0), stops=1)),
    safe("publishes to two rings of two bells", BellModel((BOTH, BOTH), (0, 1), (0, 1))),
    safe("publishes to two rings of two bells, one stopped",
         BellModel((BOTH, BOTH), (0, 1), (0, 1), stops=1), ci=False),
    safe("two publishers, two waiters, more, one stopped",
         BellModel(publishes(2, 2), (0, 0), stops=1), ci=False),
    safe("two publishers, three waiters, one stopped",
         BellModel(publishes(1, 1), (0, 0, 0), stops=1), ci=False),
    safe("two rings of one bell, three publishers, one stopped",
         BellModel((BOTH, ((0,),), ((1,),)), (0, 1), (0, 0), stops=1), ci=False),
    mutant("announcing only sets the bit",
           BellModel(publishes(1, 1), (0, 0), stops=1, announce="set bit")),
    mutant("announcing joins any", BellModel(publishes(2, 1), (0,), stops=1, announce="join any")),
    mutant("cleared by anybody", BellModel(publishes(2, 1), (0,), stops=1, clear="any")),
    mutant("no second look", BellModel(publishes(1), (0,), look_again=False)),
    mutant("the bump clears the bit",
           BellModel(publishes(1, 1), (0, 0), stops=1, bump_keeps_bit=False)),
    mutant("wake before push", BellModel(publishes(1), (0,), push_first=False)),
    mutant("one sleeper woken", BellModel(publishes(1), (0, 0), wake_all=False)),
])
