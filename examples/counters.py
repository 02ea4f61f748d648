"""Counters that are supervised, and one of them as a program that can be run over HTTP.

``python -m foundation.run examples/counters.toml`` keeps them running.
"""

from __future__ import annotations

from foundation.programs import Answer, DescribeProgram, Interface, InvalidInputs, ProgramField, RunProgram
from supervision import Actor, ChildSpec, Message, Refuse, Request, handle


class Add(Message, frozen=True):
    """Count ``n`` more."""

    n: int


class Total(Request[int], frozen=True):
    """How many have been counted?"""


class Counter(Actor):
    """Counts.

    Args:
        start: with what it begins, also when it is restarted.
    """

    def __init__(self, start: int = 0) -> None:
        self._total = start

    @handle
    def add(self, message: Add) -> None:
        """Count."""
        self._total += message.n

    @handle
    def total(self, request: Total) -> int:
        """Tell the total."""
        return self._total


class CounterProgram(Actor):
    """Adds to a counter for whoever asks over HTTP, and answers with the total.

    Args:
        counter: the name of the counter.
    """

    def __init__(self, counter: str) -> None:
        self._counter = self.runtime.name(counter)

    @handle
    def describe(self, request: DescribeProgram) -> Interface:
        """Say what it takes and gives."""
        n = ProgramField("n", "int", "how many to add", schema={"type": "integer"})
        total = ProgramField("total", "int", "what they come to", schema={"type": "integer"})
        return Interface("CounterProgram", "Adds to a counter.", inputs=(n,), outputs=(total,))

    @handle
    async def run(self, request: RunProgram) -> Answer:
        """Add and answer."""
        n = request.inputs.get("n")
        if not isinstance(n, int):
            raise Refuse(InvalidInputs(wrong={"n": "give a whole number"}))
        self._counter.cast(Add(n))
        return Answer({"total": await self._counter.call(Total())})


#: The same in Python, without the HTTP server.
TREE = [
    ChildSpec("counter", Counter, name="counter"),
    ChildSpec("count", CounterProgram, args=("counter",), name="program:count"),
]
