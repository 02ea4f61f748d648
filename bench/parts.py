"""What generated services are made of: actors that write jobs down, pass them on, keep an order, watch, come and go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from supervision import (
    Actor,
    CallError,
    Down,
    Message,
    Ref,
    Refuse,
    Request,
    handle,
)
from supervision.ref import Address


class Put(Request[int], frozen=True):
    """A job: to be written down once, however often it is sent, and answered with `answer`."""

    id: int


class Append(Request[int], frozen=True):
    """The next job of a row: to be written down after those before."""

    n: int


class Tick(Message, frozen=True):
    """A note to itself: there is something left to do."""


class Late(Message, frozen=True):
    """A note to itself: something was put off."""

    what: Callable[[], object]


def answer(id: int) -> int:
    """Return what is to be answered to a job."""
    return 7 * id + 3


class Disk:
    """What outlives every actor of a service."""

    def __init__(self) -> None:
        #: Who wrote down which job, how often.
        self.written: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.rows: defaultdict[str, list[int]] = defaultdict(list)
        self.outbox: defaultdict[str, list[int]] = defaultdict(list)
        self.starts: Counter[str] = Counter()
        self.locked: set[str] = set()
        self.steps: defaultdict[str, list[int]] = defaultdict(list)


class Part(Actor):
    """An actor of a service, which knows its name and the disk."""

    def __init__(self, disk: Disk, key: str, pause: float) -> None:
        self.disk = disk
        self.key = key
        self.pause = pause

    def init(self) -> Any:
        """Count the start."""
        self.disk.starts[self.key] += 1

    @handle
    def late(self, message: Late) -> None:
        """Do what was put off."""
        message.what()


class Store(Part):
    """Writes jobs down before it answers."""

    def write(self, id: int) -> None:
        """Write a job down, unless it is there."""
        if not self.disk.written[self.key][id]:
            self.disk.written[self.key][id] += 1

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down."""
        await self.runtime.sleep(self.pause)
        self.write(request.id)
        await self.runtime.sleep(self.pause)
        return answer(request.id)


class Prompt(Store):
    """One that takes no time."""

    @handle
    def put(self, request: Put) -> int:  # type: ignore[override]
        """Write a job down."""
        self.write(request.id)
        return answer(request.id)


class Deferring(Store):
    """One that answers later, in the meantime takes other jobs."""

    @handle
    def put(self, request: Put) -> None:  # type: ignore[override]
        """Write a job down."""
        self.write(request.id)
        owed = self.defer_reply()
        self.send_after(self.pause, Late(lambda: owed.reply(answer(request.id))))


class Slow(Store):
    """One that takes its time to start and to stop."""

    trap_exit = True

    async def init(self) -> None:
        """Start slowly."""
        super().init()
        await self.runtime.sleep(self.pause)

    async def terminate(self, reason: object) -> None:
        """Stop slowly."""
        await self.runtime.sleep(self.pause)


class Delegate(Part):
    """Passes jobs on to a store, until that has done them."""

    def __init__(self, disk: Disk, key: str, pause: float, target: str) -> None:
        super().__init__(disk, key, pause)
        self.target = target

    def address(self) -> Address:
        """Return to whom jobs are passed on."""
        return self.runtime.name(self.target)

    @handle
    async def put(self, request: Put) -> int:
        """Pass a job on; who has sent it has to try again if there is no answer."""
        error: CallError | None = None
        for _ in range(3):
            try:
                return await self.address().call(request, timeout=5.0)
            except CallError as failed:
                error = failed
                await self.runtime.sleep(0.1)
        raise Refuse(error)


class Row(Part):
    """Takes jobs into an outbox on the disk, and writes them down from there, in their order."""

    def init(self) -> None:
        """Go on with what is left in the outbox."""
        super().init()
        self.send_after(self.pause, Tick())

    @handle
    def append(self, request: Append) -> int:
        """Take a job."""
        outbox, row = self.disk.outbox[self.key], self.disk.rows[self.key]
        if request.n not in outbox and request.n not in row:
            outbox.append(request.n)
        return answer(request.n)

    @handle
    def tick(self, message: Tick) -> None:
        """Write the oldest one down."""
        outbox = self.disk.outbox[self.key]
        if outbox:
            self.disk.rows[self.key].append(outbox[0])
            del outbox[0]
        self.send_after(self.pause, Tick())


class Watched(Request[Ref | None], frozen=True):
    """The question whom a watcher watches."""


class Watcher(Part):
    """Keeps a monitor on whoever has a name."""

    watching: Ref | None = None

    def __init__(self, disk: Disk, key: str, pause: float, target: str) -> None:
        super().__init__(disk, key, pause)
        self.target = target

    def init(self) -> None:
        """Begin to watch."""
        super().init()
        self.continue_with(Tick())

    @handle
    def tick(self, message: Tick) -> None:
        """Watch the next incarnation, if it is there."""
        self.watching = self.runtime.whereis(self.target)
        if self.watching is None:
            self.send_after(0.1, Tick())
        else:
            self.monitor(self.watching)

    @handle
    def watched(self, request: Watched) -> Ref | None:
        """Tell."""
        return self.watching

    @handle
    def down(self, message: Down) -> None:
        """Watch the next one."""
        self.watching = None
        self.continue_with(Tick())


class Session(Part):
    """Does three things and ends; when it is restarted, it goes on where it was."""

    def init(self) -> None:
        """Begin."""
        super().init()
        self.continue_with(Tick())

    @handle
    async def tick(self, message: Tick) -> None:
        """Do the next thing."""
        done = self.disk.steps[self.key]
        step = len(done)
        if step < 3:
            await self.runtime.sleep(self.pause)
            if step not in done:  # one that was killed, and caught its cancellation, may have done it
                done.append(step)
            self.continue_with(message)
        else:
            self.stop()
