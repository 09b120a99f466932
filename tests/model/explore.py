# SPDX-License-Identifier: Apache-2.0
"""Exhaustive search of small concurrent models, breadth first, sequentially consistent.

A model is a subclass of Model. Its state is a State: shared words and parties. A party is a Party,
a record with a name and a `pc`, the name of its next step: the method step_<pc>(state, me) does
that step on a copy, changing the state and `me`, and ends by setting me.pc. One step is one access
to shared memory; private work is folded into the step before it. A step returns BLOCKED when it
cannot be taken now, and raises Bad with a sentence when it shows the design wrong. A party whose
pc is "done" takes no more steps. When nobody can take one, model.at_rest(state) is asked.

Only hashes of the states seen are kept (64 bits: with a million states the odds of missing one
are 1 in 30 million); a counterexample is found again by walking along the hashes, and is one of
the shortest. Python hashes -1 and -2 alike, so models use no number below zero.

A file of models ends with run(__doc__, cases): exit status 0 only if every case that must be safe
is, completely searched, and every mutant is found unsafe.
"""
import argparse
import collections
import sys
import time

BLOCKED = object()
STATES_MAX = 8_000_000


class Bad(Exception):
    """The model has shown the design wrong; the text says how."""


class Record:
    """Named fields that a step may assign; their values are immutable (or parties)."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def copy(self):
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def differs(self, before):
        """What changed since `before`, as text."""
        return ", ".join(f"{name}: {before.__dict__[name]} -> {value}"
                         for name, value in self.__dict__.items()
                         if name not in ("pc", "parties") and before.__dict__[name] != value)


class State(Record):
    """All there is: the parties, and the words that they share."""

    def __init__(self, parties, **words):
        super().__init__(parties=parties, **words)  # parties stay first: state_hash relies on it


class Party(Record):
    def done(self):
        """Take no more steps; what was private no longer tells states apart."""
        for name in self.__dict__:
            if name != "name":
                self.__dict__[name] = None
        self.pc = "done"


def put(values, index, value):
    """The tuple with one element replaced."""
    return values[:index] + (value,) + values[index + 1:]


class Model:
    def start(self):
        """The first State; its parties are a tuple of Party."""
        raise NotImplementedError

    def at_rest(self, state):
        """Raise Bad if nobody can take a step, and this should not be."""

    def successors(self, state):
        """Yield (party before, party after or None, next state or Bad)."""
        for index, party in enumerate(state.parties):
            if party.pc == "done":
                continue
            after, me = state.copy(), party.copy()
            after.parties = put(state.parties, index, me)
            try:
                if getattr(self, "step_" + party.pc)(after, me) is BLOCKED:
                    continue
            except Bad as bad:
                yield party, None, bad
                continue
            yield party, me, after


def state_hash(state):
    """The state as one number."""
    words = list(state.__dict__.values())
    words[0] = None
    for party in state.parties:
        words += party.__dict__.values()
    return hash(tuple(words))


Result = collections.namedtuple("Result", "bad trace states")


def explore(model, limit=STATES_MAX):
    """Search all interleavings. bad is None (safe) or a sentence; no trace: not finished."""
    first = model.start()
    first_hash = state_hash(first)
    parent = {first_hash: None}
    queue = collections.deque([(first, first_hash)])
    while queue:
        state, number = queue.popleft()
        moved = False
        for party, _, after in model.successors(state):
            moved = True
            if isinstance(after, Bad):
                trace = walk(model, first, parent, number)
                return Result(str(after), trace + [f"{party.name}: {party.pc}"], len(parent))
            key = state_hash(after)
            if key not in parent:
                parent[key] = number
                queue.append((after, key))
        if not moved:
            try:
                model.at_rest(state)
            except Bad as bad:
                return Result(str(bad), walk(model, first, parent, number), len(parent))
        if len(parent) > limit:
            return Result("not finished: too many states", [], len(parent))
    return Result(None, [], len(parent))


def walk(model, first, parent, number):
    """The steps from the first state to the one with this hash, as text."""
    path = []
    while number is not None:
        path.append(number)
        number = parent[number]
    lines, state = [], first
    for wanted in reversed(path[:-1]):
        for before, me, after in model.successors(state):
            if not isinstance(after, Bad) and state_hash(after) == wanted:
                shared = after.differs(state)
                private = me.differs(before) if me.pc != "done" else "done"
                lines.append(f"{before.name}: {before.pc}  {shared}  ({private})")
                state = after
                break
    return lines


Case = collections.namedtuple("Case", "name model mutant ci")


def safe(name, model, ci=True):
    """A configuration that must be safe; ci=False: only in the long run."""
    return Case(name, model, False, ci)


def mutant(name, model):
    """A configuration with a mistake built in, which must be found."""
    return Case(name, model, True, True)


def run(doc, cases):
    """Search the cases, print a verdict each, and exit."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--ci", action="store_true", help="leave out the larger configurations")
    parser.add_argument("--trace", action="store_true", help="print how each mutant is found")
    options = parser.parse_args()
    wrong = 0
    for case in cases:
        if options.ci and not case.ci:
            continue
        begun = time.monotonic()
        bad, trace, states = explore(case.model)
        verdict = "safe" if bad is None else f"UNSAFE: {bad}"
        expected = (bad is not None and bool(trace)) if case.mutant else bad is None
        print(f"{'mutant ' if case.mutant else 'design '} {case.name}: {verdict} "
              f"({states} states, {time.monotonic() - begun:.1f} s)", flush=True)
        if not expected or options.trace:
            print("".join(f"    {line}\n" for line in trace), end="")
        if not expected:
            wrong += 1
            print(f"    ^ WRONG: must be {'found' if case.mutant else 'safe'}")
    sys.exit(1 if wrong else 0)
