"""Agents and actions for the agents' tests."""

from __future__ import annotations

from typing import Any

import msgspec

from agents import Action, AgentType, Context, Emit, Result, Schedule, StopAgent
from agents.core.signal import Signal
from supervision import Actor, handle
from supervision.testing import advance


class Counting(msgspec.Struct, frozen=True):
    """The state of a counter."""

    count: int = 0
    log: tuple[str, ...] = ()
    settings: dict[str, Any] = {}


class Counted(msgspec.Struct, frozen=True):
    """A result: fields of the counter's state."""

    count: int
    log: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Add(Action[Counted]):
    """Add an amount."""

    amount: int = 1

    def run(self, context: Context[Counting]) -> Counted:
        """Add it."""
        return Counted(context.state.count + self.amount)


class Record(Action[Counting]):
    """Append a line to the log."""

    line: str

    def run(self, context: Context[Counting]) -> Counting:
        """Append it."""
        return msgspec.structs.replace(context.state, log=(*context.state.log, self.line))


class Configure(Action[dict[str, Any]]):
    """Change settings by a patch."""

    patch: dict[str, Any]

    def run(self, context: Context[Counting]) -> dict[str, Any]:
        """Return the patch."""
        return {"settings": self.patch}


class Fail(Action[None]):
    """Fail."""

    why: str = "no reason"

    def run(self, context: Context[Counting]) -> None:
        """Fail."""
        raise RuntimeError(self.why)


class Nothing(Action[None]):
    """Do nothing."""

    def run(self, context: Context[Counting]) -> None:
        """Do it."""


class Announce(Action[Counted]):
    """Count, and tell others."""

    to: str | None = None

    def run(self, context: Context[Counting]) -> Result[Counted]:
        """Count, and say what to tell."""
        count = context.state.count + 1
        return Result(Counted(count), (Emit("counter.announced", {"count": count}, "the counter", self.to),))


class Remind(Action[None]):
    """Send a signal later."""

    after: float
    line: str

    def run(self, context: Context[Counting]) -> Result[None]:
        """Ask for it."""
        return Result(None, (Schedule(self.after, "counter.record", {"line": self.line}),))


class Finish(Action[Counted]):
    """Count, stop, and count on not doing what comes behind."""

    reason: Any = None

    def run(self, context: Context[Counting]) -> Result[Counted]:
        """Stop."""
        stop = StopAgent() if self.reason is None else StopAgent(self.reason)
        return Result(Counted(99), (Emit("before", to="listener"), stop, Emit("behind", to="listener")))


class Slow(Action[Counted]):
    """Count after a while."""

    seconds: float = 1.0

    async def run(self, context: Context[Counting]) -> Counted:
        """Wait, and count."""
        await advance(self.seconds)
        return Counted(context.state.count + 1, log=(*context.state.log, "slow"))


class Counter(AgentType[Counting]):
    """A counter."""

    name = "counter"
    routes = {
        "counter.add": Add,
        "counter.record": Record,
        "counter.configure": Configure,
        "counter.fail": Fail,
        "counter.announce": Announce,
        "counter.remind": Remind,
        "counter.finish": Finish,
        "counter.slow": Slow,
        "counter.both": (Add, Slow),
        "counter.nothing": Nothing,
    }


class Listener(Actor):
    """Keeps the signals that it gets."""

    def __init__(self, heard: list[Signal]) -> None:
        self.heard = heard

    @handle
    def hear(self, signal: Signal) -> None:
        """Keep it."""
        self.heard.append(signal)
