"""A program served by several agents behind one name."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from dspex._compat import Metered, metered
from dspex.agents.dispatcher import AgentDown
from dspex.agents.pool import PoolDispatcher, pool_supervisor
from dspex.agents.process import runner_of
from dspex.serving.program import ProgramActor
from foundation.options import whole
from foundation.programs import Unavailable
from supervision import Supervisor
from supervision.errors import BadOption


class ProgramPool(ProgramActor):
    """Serves a program like `ProgramActor`, and has several agents run it, so that one that dies takes little with it.

    Each request goes to the agent with the fewest. One that dies is started again, and its requests are run by
    another agent; the caller does not notice. Versions are swapped for all of them at once.

    Args:
        program: see `dspex.agents.agent.load`.
        size: how many agents there are.
        concurrency: how many requests run at the same time, all together.
        waiting: how many more may wait, all together; the next is refused (`Busy`), which over HTTP is a 429. None for
            any number.
        retries: how often a request is run again when its agent has died with it.
        isolation: ``process`` to give each agent an OS process; see `dspex.agents.process.ProcessRunner`.
        options: as for `ProgramActor`: ``lm``, ``adapter``, ``settings``, ``versions``, ``signature``.

    Raises:
        BadOption: at its start, if there is no agent, or a number makes no sense.
        BadProgram, BadSetting, ModelMissing: at its start, as for `ProgramActor`.
    """

    def __init__(
        self,
        program: object,
        *,
        size: int = 4,
        concurrency: int = 16,
        waiting: int | None = 64,
        retries: int = 3,
        isolation: str = "none",
        **options: Any,
    ) -> None:
        if size < 1:
            raise BadOption("size", size, "a pool has at least one agent")
        super().__init__(program, concurrency=concurrency, waiting=waiting, **options)
        self._size = size
        self._retries = retries
        self._isolation = isolation

    @classmethod
    def check_arguments(
        cls, program: object, /, *, size: int = 4, retries: int = 3, isolation: str = "none", **options: Any
    ) -> None:
        """Check what stands in a tree file."""
        whole("size", size)
        whole("retries", retries, 0)
        runner_of(isolation)
        super().check_arguments(program, **options)

    async def init(self) -> None:
        """Start the agents."""
        await super().init()
        # Names of this incarnation alone: those of a pool that was killed may be held a moment longer.
        names = [f"{self.ref.path}#{self.ref.id}/{number}" for number in range(self._size)]
        supervisor = pool_supervisor(names, self.concurrency, {}, self._isolation)
        await self.spawn_link(Supervisor, *supervisor.args, **supervisor.kwargs)
        self._dispatcher = PoolDispatcher(self.runtime, self.runtime.name(self.ref.path), names, retries=self._retries)

    def summary(self) -> Mapping[str, object]:
        """Return how busy it is, with which version, and how many agents run, for ``/tree``."""
        return {**super().summary(), "agents": f"{len(self._dispatcher.alive())} of {self._size}"}

    async def perform_shadow(self, program: Any, inputs: dict[str, Any]) -> Any:
        """Have an agent run a version that answers nobody."""
        return await self.perform(program, inputs)

    async def perform(self, program: Any, inputs: dict[str, Any]) -> Any:
        """Have an agent run a version of the program."""
        try:
            return await self._dispatcher.ask(program, self.asynchronous, (), inputs, copy_context())
        except AgentDown as error:
            raise Unavailable(str(error)) from error

    @contextmanager
    def measured(self, program: str, settings: Mapping[str, Any]) -> Generator[Metered]:
        """Apply settings and measure; the agents tell what they have run."""
        with metered(settings) as used:
            yield used
