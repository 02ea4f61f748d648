"""Names that nobody holds at the moment, but that a supervisor is about to give to the next incarnation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supervision._core.phases import STOPPING
from supervision.errors import ActorExited

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision._core.scheduler import Scheduler
    from supervision.call import Call


class Vacancies:
    """The names whose holders have died under a running supervisor that has not said that it will start no other."""

    def __init__(self) -> None:
        #: By name: the supervisor.
        self.keepers: dict[str, Cell] = {}
        self._last: dict[str, Cell] = {}
        #: By name: requests that the last holder had not begun, in the order in which they came.
        self._calls: dict[str, dict[Call[Any], None]] = {}
        #: By name: those who wait for the next holder, in the order in which they came.
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.keepers

    @property
    def waiting(self) -> int:
        """How many wait for somebody to hold a name, with the requests that are kept for one."""
        return sum(map(len, self._waiting.values())) + sum(map(len, self._calls.values()))

    def open(self, name: str, last: Cell) -> None:
        """A holder has died."""
        keeper = last.parent
        if keeper is not None and getattr(keeper.kind, "is_supervisor", False) and keeper.phase < STOPPING:
            self.keepers[name] = keeper  # type: ignore[assignment]
            self._last[name] = last

    def keep(self, call: Call[Any]) -> bool:
        """Keep a request that nobody has begun for the next holder, while its time runs on; tell whether it is kept.

        It is not if it is not to be sent again, or if there will be no next holder.
        """
        name = getattr(call, "again", None)
        if name is None or call.begun or name not in self.keepers:
            return False
        if not call.done():
            self._calls.setdefault(name, {})[call] = None
            call.add_done_callback(lambda _: self._forget(name, call))
        return True

    def _forget(self, name: str, call: Call[Any]) -> None:
        calls = self._calls.get(name)
        if calls is not None:
            calls.pop(call, None)
            if not calls:
                del self._calls[name]

    def taken(self, name: str, holder: Cell) -> None:
        """Somebody holds the name now."""
        if name in self.keepers:
            del self.keepers[name], self._last[name]
        for call in self._calls.pop(name, ()):
            if not call.done():
                call.target = holder
                holder.take_call(call)
        if self._waiting:
            self._wake(name)

    def close(self, name: str, keeper: Cell) -> None:
        """The supervisor of the last holder will start nobody who holds the name, if it is this one."""
        if self.keepers.get(name) is keeper:
            del self.keepers[name], self._last[name]
            for call in self._calls.pop(name, ()):
                reason = call.target.exit_reason
                assert reason is not None
                if not call.done():
                    call.target.sched.fail(call, ActorExited(call.target, call.message, reason, begun=False))
            self._wake(name)

    def _wake(self, name: str) -> None:
        for waiting in self._waiting.get(name, ()):
            if not waiting.done():
                waiting.set_result(None)

    def last(self, name: str) -> Cell | None:
        """Return the last holder of a name that a supervisor is about to give to the next one."""
        return self._last.get(name)

    def close_all(self, keeper: Cell) -> None:
        """A supervisor has ended, or gives up."""
        if self.keepers:
            for name in [name for name, other in self.keepers.items() if other is keeper]:
                self.close(name, keeper)

    async def wait(self, names: Sequence[str], sched: Scheduler, until: float) -> bool:
        """Wait until somebody holds one of the names, or it is certain that nobody will; False if it is too late."""
        waiting: asyncio.Future[None] = sched.loop.create_future()
        for name in names:
            self._waiting.setdefault(name, {})[waiting] = None
        try:
            return await sched.wait(waiting, max(0.0, until - sched.now()))
        finally:
            for name in names:
                del self._waiting[name][waiting]
                if not self._waiting[name]:
                    del self._waiting[name]
