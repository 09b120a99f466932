# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=120
"""The private lock of os/futex.h: giving it back is a plain store, and nobody sleeps on a free lock.

Modelled: threads that take the lock, add one to a plain word under it, and give it back, some times
each. Their plain stores wait in a store buffer each (x86-TSO: in order, drained one at a time, at
any time) while the thread goes on loading. That covers a holder whose look at `waiters` is done
before its store of 0 is seen by anybody, whatever the machine calls it. A read-modify-write and a
full fence pass when the thread's own buffer is empty; a membarrier passes one other thread after
the other, each when that one's buffer is empty. A system call is not taken for a fence by itself.
The kernel compares the lock's word and queues the sleeper in one step, and wakes the first in the
queue. Where the membarrier is denied, sleeps end by themselves.

Checked: two threads are never in the lock at once; no addition is lost; when nobody can move, all
are through, the lock is free and nobody is counted as waiting.

Mutants to be found: no membarrier; one before the waiter is counted; a holder that looks for
waiters before it stores 0; no fence before the wake; a sleep that does not compare; a woken waiter
that takes the lock for its own; a waiter that is no longer counted when it sleeps.
"""
from dataclasses import dataclass

from explore import BLOCKED, Bad, Model, Party, State, mutant, put, run, safe


@dataclass
class LockModel(Model):
    rounds: tuple  # of each thread
    barrier: str = "each time"  # before each try of a waiter; or "once", "none", "before counting"
    naps: bool = False  # sleeps end by themselves
    store_first: bool = True
    fence_before_wake: bool = True
    compare: bool = True
    woken_owns: bool = False
    counted_asleep: bool = True

    def start(self):
        threads = [Party(name=f"thread {i}", pc="acquire", id=i, left=rounds, inside=False,
                         passed=0, after=None, saw=None) for i, rounds in enumerate(self.rounds)]
        buffers = [Party(name=f"buffer {i}", pc="drain", id=i) for i in range(len(threads))]
        self.threads = len(threads)
        return State(tuple(threads + buffers), held=0, waiters=0, count=0, sleepers=(),
                     buffers=((),) * len(threads))

    # Stores.

    def store(self, state, me, word, value):
        state.buffers = put(state.buffers, me.id, state.buffers[me.id] + ((word, value),))

    def fenced(self, state, thread):
        return not state.buffers[thread]

    def step_drain(self, state, me):
        """The oldest store of a thread reaches memory."""
        if not state.buffers[me.id]:
            return BLOCKED
        (word, value), *rest = state.buffers[me.id]
        setattr(state, word, value)
        state.buffers = put(state.buffers, me.id, tuple(rest))

    # Taking the lock.

    def enter(self, state, me):
        if any(party.inside for party in state.parties[:self.threads]):
            raise Bad(f"{me.name} is in the lock together with another")
        me.inside = True

    def cas(self, state, me, taken, missed):
        """From 0 to 1."""
        if not self.fenced(state, me.id):
            return BLOCKED
        if state.held == 0:
            state.held = 1
            self.enter(state, me)
        me.pc = taken if me.inside else missed

    def step_acquire(self, state, me):
        first = "barrier" if self.barrier == "before counting" else "count"
        return self.cas(state, me, taken="read", missed=first)

    def step_count(self, state, me):
        """Its own buffer is empty since the CAS."""
        state.waiters += 1
        me.pc = "try" if self.barrier in ("none", "before counting") else "barrier"

    def step_barrier(self, state, me):
        """Another thread has passed a full fence."""
        if me.passed != me.id and not self.fenced(state, me.passed):
            return BLOCKED
        me.passed += 1
        if me.passed == self.threads:
            me.passed = 0
            me.pc = "count" if self.barrier == "before counting" else "try"

    def step_try(self, state, me):
        missed = "sleep" if self.counted_asleep else "uncount_early"
        return self.cas(state, me, taken="uncount", missed=missed)

    def step_uncount_early(self, state, me):
        state.waiters -= 1
        me.pc = "sleep"

    def step_sleep(self, state, me):
        if self.compare and state.held != 1:
            return self.look_again(me)
        state.sleepers += (me.id,)
        me.pc = "asleep"

    def step_asleep(self, state, me):
        if not self.naps:
            return BLOCKED
        state.sleepers = tuple(i for i in state.sleepers if i != me.id)
        self.look_again(me)

    def look_again(self, me):
        if not self.counted_asleep:
            me.pc = "count"
        else:
            me.pc = "barrier" if self.barrier == "each time" else "try"

    def step_uncount(self, state, me):
        state.waiters -= 1
        me.pc = "read"

    # Under the lock, and giving it back.

    def step_read(self, state, me):
        me.saw, me.pc = state.count, "write"

    def step_write(self, state, me):
        self.store(state, me, "count", me.saw + 1)
        me.saw, me.pc = None, "store" if self.store_first else "look"

    def step_store(self, state, me):
        self.store(state, me, "held", 0)
        me.inside = False
        me.pc = "look" if self.store_first else me.after
        me.after = None
        if me.pc == "acquire":
            self.next(me)

    def step_look(self, state, me):
        """For waiters; no store of this word is ever in a buffer."""
        wake = "fence" if self.fence_before_wake else "wake"
        me.pc = wake if state.waiters else "acquire"
        if not self.store_first:
            me.pc, me.after = "store", me.pc
        elif me.pc == "acquire":
            self.next(me)

    def step_fence(self, state, me):
        if not self.fenced(state, me.id):
            return BLOCKED
        me.pc = "wake"

    def step_wake(self, state, me):
        if state.sleepers:
            first, *rest = state.sleepers
            state.sleepers = tuple(rest)
            woken = state.parties[first].copy()
            if self.woken_owns:
                self.enter(state, woken)
                woken.pc = "uncount"
            else:
                self.look_again(woken)
            state.parties = put(state.parties, first, woken)
        self.next(me)

    def next(self, me):
        me.left -= 1
        me.pc = "acquire"
        if not me.left:
            me.done()

    def at_rest(self, state):
        for thread in state.parties[:self.threads]:
            if thread.pc != "done":
                raise Bad(f"{thread.name} waits for ever, held is {state.held}")
        if (state.held, state.waiters, state.count) != (0, 0, sum(self.rounds)):
            raise Bad(f"held {state.held}, waiters {state.waiters}, count {state.count} at the end")


run(__doc__, [
    safe("two threads", LockModel((3, 3))),
    safe("three threads", LockModel((1, 1, 1))),
    safe("three threads, one comes again", LockModel((2, 1, 1))),
    safe("three threads, two come again", LockModel((2, 2, 1)), ci=False),
    safe("one membarrier for each waiter", LockModel((2, 1, 1), barrier="once")),
    safe("membarrier denied, two threads", LockModel((3, 3), barrier="none", naps=True)),
    safe("membarrier denied, three threads", LockModel((1, 1, 1), barrier="none", naps=True)),
    mutant("no membarrier", LockModel((1, 1), barrier="none")),
    mutant("membarrier before counting", LockModel((1, 1), barrier="before counting")),
    mutant("looks for waiters before it stores", LockModel((1, 1), store_first=False)),
    mutant("no fence before the wake", LockModel((1, 1), fence_before_wake=False)),
    mutant("a sleep that does not compare", LockModel((1, 1), compare=False)),
    mutant("whoever is woken owns the lock", LockModel((2, 1), woken_owns=True)),
    mutant("not counted when asleep", LockModel((1, 1), counted_asleep=False)),
])
