"""What durable agents promise, and what each fault does to it: the list that tests walk, and the documents show."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from agents import Signal
from agents.durability import OutcomeUnknown, StorageError
from agents.server.messages import Ask
from supervision.testing import VirtualClockLoop, advance
from tests.agents.kill_model import DESK, World

#: The promises, by letter.
PROMISES = {
    "A": "What was answered is kept",
    "S": "A signal changes the state once",
    "E": "Effects: none lost, once by token",
    "O": "Order per destination",
    "T": "Timers: none lost, early or twice",
    "C": "What was not committed is undone",
}
#: Untouched, as if nothing had happened.
_AS_EVER = "="


class Fault(msgspec.Struct, frozen=True):
    """Something that happens to a durable agent that saves on each commit.

    Attributes:
        name: what it is.
        cells: by the letter of a promise, what it does to it; what is not named is as if nothing had happened.
        at: the point at which the process is killed.
        act: what happens instead, at each point.
        until: how many seconds are waited until all is over.
    """

    name: str
    cells: dict[str, str]
    at: str | None = None
    act: Callable[[World, str], Awaitable[None]] | None = None
    until: float = 120.0

    def cell(self, letter: str) -> str:
        """Return what it does to a promise."""
        return self.cells.get(letter, _AS_EVER)

    def world(self) -> World:
        """Return a world in which it happens."""
        return World(lambda world, name: name == self.at and not world.deaths, self.act, self.until)


def once(
    point: str, act: Callable[[World], Awaitable[None]], times: int = 1
) -> Callable[[World, str], Awaitable[None]]:
    """Return what happens when a point is passed, so many times."""

    async def at(world: World, name: str) -> None:
        if name == point and world.happened < times:
            world.happened += 1
            await act(world)

    return at


def _killed(name: str) -> Callable[[World], Awaitable[None]]:
    async def kill(world: World) -> None:
        world.ref(name).kill()
        await asyncio.Event().wait()

    return kill


async def _stopped(world: World) -> None:
    world.tasks.append(asyncio.ensure_future(world.ref("desk").stop()))


def _raised(error: Exception) -> Callable[[World], Awaitable[None]]:
    async def fail(world: World) -> None:
        raise error

    return fail


async def _slow(world: World) -> None:
    await advance(50.0)


def _clock(by: float) -> Callable[[World], Awaitable[None]]:
    async def step(world: World) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        loop.set_wall_time(loop.wall_time() + by)

    return step


async def _asked_again(world: World, name: str) -> None:
    if name == "P6":
        world.happened += 1
        signal = Signal(type="order", source="/", id="1", data={"n": 1})
        assert (await world.ref("desk").call(Ask(signal))).duplicate


async def _claimed(world: World) -> None:
    await world.storage.claim(DESK, "other")


_AGAIN = "no answer; who asks again gets one"
_UNDONE = "undone by the next one, newest first, before its first turn"
_NOT_WRITTEN = {"A": _AGAIN, "S": "the old one; once when it comes again", "E": "none was sent"}

FAULTS = (
    Fault("killed as a turn begins", _NOT_WRITTEN, "P1"),
    Fault("killed between two steps", {**_NOT_WRITTEN, "C": _UNDONE}, "P2"),
    Fault("killed before the commit", {**_NOT_WRITTEN, "C": _UNDONE}, "P3"),
    Fault("killed in the commit, unwritten", {**_NOT_WRITTEN, "C": _UNDONE}, "P4"),
    Fault(
        "killed behind the commit",
        {"A": "no answer; who asks again is told `duplicate`", "S": "the new one", "E": "sent by the next one"},
        "P5",
    ),
    Fault("killed behind the answer", {"E": "sent by the next one"}, "P6"),
    Fault("killed as an effect begins", {"E": "sent again", "O": "the same one first"}, "P7"),
    Fault("killed before the receipt", {"E": "sent again, and known by its token; twice without"}, "P8"),
    Fault("killed before a mark", {"E": "sent again, and known by its token; twice without"}, "P9"),
    Fault("killed behind the first mark", {"E": "only those that are open are sent"}, "P10"),
    Fault("killed behind the last mark", {}, "P11"),
    Fault(
        "receiver killed before it has done it",
        {"E": "sent again until it answers", "O": "the others wait"},
        act=once("P7", _killed("ledger")),
    ),
    Fault(
        "receiver killed before its receipt",
        {"E": "sent again, and known by its token; twice without", "O": "the others wait"},
        act=once("P8", _killed("ledger")),
    ),
    Fault(
        "receiver fails five times",
        {"E": "tried again, later and later", "O": "the others wait"},
        act=once("before sent", _raised(RuntimeError("not now")), 5),
    ),
    Fault(
        "receiver takes 50 s",
        {"E": "waited for; no second one meanwhile", "O": "the others wait"},
        act=once("P7", _slow),
    ),
    Fault("server killed between two steps", {**_NOT_WRITTEN, "C": _UNDONE}, act=once("P2", _killed("desk"))),
    Fault(
        "server killed behind the commit",
        {"A": "no answer; who asks again is told `duplicate`", "S": "the new one", "E": "sent by the next one"},
        act=once("P5", _killed("desk")),
    ),
    Fault("stopped in order in a turn", {"C": "the turn ends, or is undone"}, act=once("P2", _stopped)),
    Fault(
        "save fails three times",
        {"A": "`NotSaved`", "S": "the old one", "E": "none was sent", "C": "undone at once"},
        act=once("P4", _raised(StorageError("full")), 3),
    ),
    Fault(
        "outcome unknown, written",
        {"A": "as is found", "S": "the new one", "E": "sent when it is found"},
        act=once("P5", _raised(OutcomeUnknown("line lost"))),
    ),
    Fault(
        "outcome unknown, not written",
        {"A": "as is found", "S": "the old one", "E": "none was sent", "C": "undone"},
        act=once("P4", _raised(OutcomeUnknown("line lost"))),
    ),
    Fault("clock put on by 2 h", {"T": "due ones come at once"}, act=once("P5", _clock(7200.0))),
    Fault("clock put back by 2 h", {"T": "2 h late"}, act=once("P5", _clock(-7200.0)), until=7500.0),
    Fault("signal comes again", {"A": "answered with `duplicate`", "E": "no others"}, act=_asked_again),
    Fault(
        "second owner",
        {"A": "`Moved`; who asks again gets an answer", "C": "undone by the new one"},
        act=once("P3", _claimed),
    ),
)


def table() -> str:
    """Return the table of the documents."""
    head = ["What happens", *(f"{words}" for words in PROMISES.values())]
    rows = [[fault.name, *(fault.cell(letter) for letter in PROMISES)] for fault in FAULTS]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
