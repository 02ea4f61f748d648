"""What programs use, in tokens by language model and in dollars, summed by path in the tree."""

from __future__ import annotations

from typing import Literal

import msgspec

from foundation.call_records import Tokens
from supervision import Ref, Runtime
from supervision.events import Event


class ProgramRan(Event, frozen=True, kw_only=True):
    """An agent has run a program.

    Attributes:
        ref: the agent.
        path: its place in the tree.
        program: the name of the program's class.
        outcome: whether it has returned, raised, or was cancelled.
        seconds: how long it took.
        tokens: for each language model what it reported, such as ``total_tokens``. What came from a cache is not in it.
        cost: in dollars, as far as the prices are known.
        call: the id of the call of a served program that it was a part of; None if it was part of none.
        version: the number of the program's version; None as above.
        arm: for which arm of a rollout; None if none was under way.
    """

    ref: Ref
    path: str
    program: str
    outcome: Literal["returned", "raised", "cancelled"]
    seconds: float
    tokens: Tokens
    cost: float
    call: str | None = None
    version: int | None = None
    arm: str | None = None


class ProgramUsage(msgspec.Struct, frozen=True):
    """A sum of what was used.

    Attributes:
        runs: how often programs ran.
        failures: how many of these runs have raised.
        tokens: for each language model the sum of all it has counted.
        cost: in dollars.
    """

    runs: int = 0
    failures: int = 0
    tokens: Tokens = {}
    cost: float = 0.0

    def plus(self, other: ProgramUsage) -> ProgramUsage:
        """Return the sum of both."""
        tokens = {lm: dict(counts) for lm, counts in self.tokens.items()}
        for lm, counts in other.tokens.items():
            sums = tokens.setdefault(lm, {})
            for name, count in counts.items():
                if isinstance(count, (int, float)):
                    sums[name] = sums.get(name, 0) + count
        return ProgramUsage(self.runs + other.runs, self.failures + other.failures, tokens, self.cost + other.cost)


class UsageTotals:
    """Sums what the programs of a runtime use, by path in the tree, so a restart of an agent does not reset it.

    Args:
        runtime: whose agents are counted, from now on.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._sums: dict[str, ProgramUsage] = {}
        self._subscription = runtime.subscribe(self._note, ProgramRan)

    def _note(self, event: Event) -> None:
        assert isinstance(event, ProgramRan)
        used = ProgramUsage(1, int(event.outcome == "raised"), event.tokens, event.cost)
        self._sums[event.path] = self._sums.get(event.path, ProgramUsage()).plus(used)

    def of(self, path: str = "/") -> ProgramUsage:
        """Return what was used at a place in the tree, and below it."""
        inside = path.rstrip("/") + "/"
        total = ProgramUsage()
        for place, used in self._sums.items():
            if place == path or place.startswith(inside):
                total = total.plus(used)
        return total

    def close(self) -> None:
        """Count no more."""
        self._subscription.close()
