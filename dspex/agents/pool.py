"""Pools: several agents for one program, so that one that dies takes few calls with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from dspex._compat import overrides
from dspex.agents.agent import load, proxy
from dspex.agents.background import PROGRAM_AGENTS
from dspex.agents.dispatcher import Dispatcher
from dspex.agents.process import runner_of
from foundation.programs import Busy
from supervision import Address, ChildSpec, Name, Ref, Runtime, Supervisor, start_child
from supervision.errors import BadOption


class PoolDispatcher(Dispatcher):
    """Sends each call to the agent of a pool that has the fewest, and takes no more than the pool may have.

    Args:
        runtime: where they live.
        address: of the pool.
        members: their names.
        limit: how many calls they may have, all together; the next raises `ProgramOverloaded`. None for any number.
        options: as for `Dispatcher`.
    """

    def __init__(
        self, runtime: Runtime, address: Name, members: Sequence[str], *, limit: int | None = None, **options: Any
    ) -> None:
        super().__init__(runtime, address, **options)
        self.members = tuple(members)
        self._limit = limit
        self._calls: Counter[Ref] = Counter()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the agents."""
        return self.members

    @property
    def calls(self) -> int:
        """How many calls they have, all together."""
        return self._calls.total()

    def choose(self) -> Ref | None:
        """Return the agent with the fewest calls; None if none runs."""
        if self._limit is not None and self.calls >= self._limit:
            raise Busy(f"its {len(self.members)} agents have {self.calls} calls")
        return min(self.alive(), key=self._calls.__getitem__, default=None)

    def alive(self) -> list[Ref]:
        """Return the agents that run."""
        return [ref for name in self.members if (ref := self.runtime.whereis(name)) is not None]

    @contextmanager
    def held(self, ref: Ref) -> Generator[None]:
        """Count a call."""
        self._calls[ref] += 1
        try:
            yield
        finally:
            self._calls[ref] -= 1
            if not self._calls[ref]:
                del self._calls[ref]


def pool_supervisor(
    members: Sequence[str], concurrency: int, settings: Mapping[str, Any], isolation: str = "none"
) -> ChildSpec:
    """Return the supervisor of a pool's agents.

    Args:
        members: their names.
        concurrency: how many calls each runs at the same time.
        settings: for ``dspy.context``, where a caller has not overridden them.
        isolation: ``process`` for an OS process each.

    Raises:
        BadOption: there is no such isolation.
    """
    each = (concurrency, None, settings)
    agents = [ChildSpec(number, runner_of(isolation), each, name=member) for number, member in enumerate(members)]
    budget = {"max_restarts": 100 + len(members), "max_seconds": 1.0}
    return ChildSpec("pool", Supervisor, (agents,), budget)


async def start_program_pool(
    runtime: Runtime,
    program: object,
    *,
    size: int,
    name: str,
    supervisor: Address | None = None,
    concurrency: int = 64,
    limit: int | None = None,
    settings: dict[str, Any] | None = None,
    isolation: str = "none",
    **options: Any,
) -> Any:
    """Start several supervised agents for a program, and return the program, whose calls go to one of them.

    Args:
        runtime: where they live.
        program: see `dspex.start_program_agent`, also for what is not listed here.
        size: how many they are.
        name: of the pool; theirs are ``NAME.0``, ``NAME.1`` and so on.
        supervisor: of the pool's own supervisor; see `dspex.start_program_agent`.
        concurrency: how many calls each runs at the same time.
        limit: how many calls the pool may have, running and waiting; the next raises `ProgramOverloaded`.
        settings: for ``dspy.context``, where a caller has not overridden them.
        isolation: ``process`` for an OS process each; see `dspex.agents.process.ProcessRunner`.
        options: for `Dispatcher`: ``timeout``, ``retries``, ``patience``.

    Raises:
        BadProgram, BadOption: there is no such program, or an option is wrong.
    """
    if size < 1:
        raise BadOption("size", size, "a pool has at least one agent")
    found = load(program)
    members = [f"{name}.{number}" for number in range(size)]
    declared = {**overrides(), **(settings or {})}
    spec = msgspec.structs.replace(pool_supervisor(members, concurrency, declared, isolation), id=name, name=name)
    await start_child(runtime.name(PROGRAM_AGENTS) if supervisor is None else supervisor, spec)
    return proxy(found, PoolDispatcher(runtime, runtime.name(name), members, limit=limit, **options))
