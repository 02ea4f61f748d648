"""Dispatches a program's calls to its agent, from any thread, task or event loop; and what goes wrong between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from typing import Any

import dspy

from dspex._compat import bare_acall, bare_call, inside_of, is_streamed, relayed
from dspex._loops import await_in_loop, run_in_loop
from dspex.agents.runner import Invoke
from foundation.programs import Busy
from supervision import ActorExited, CallError, CallTimeout, Name, NoProcess, Ref, Runtime
from supervision.clock import seconds

#: For calls that nobody counts.
_FREE = nullcontext()


class Dispatcher:
    """Sends the calls of a program to its agent.

    Made in the event loop of the runtime. The calls may come from anywhere:

    - ``await program.acall()`` in any loop is a task of the agent;
    - ``program()`` in any thread runs in a worker thread of the agent, while the caller's thread waits. In the thread
      of the runtime's own loop, which cannot wait for itself, it runs in place, and blocks the loop as it would do
      without an agent;
    - a call from within a run of the same agent belongs to that run, and is not sent again.

    Args:
        runtime: where the agent lives.
        address: the name of the agent, so that the next incarnation is found after a restart.
        timeout: seconds that a call may take, with all its attempts; None for any time.
        retries: how often a call is sent again when the agent has died in the middle of it; a call that streams never
            is. What the agent had not begun is sent again in any case.
        patience: seconds to wait for the restart of an agent that is not there.
    """

    def __init__(
        self,
        runtime: Runtime,
        address: Name,
        *,
        timeout: float | None = None,
        retries: int = 3,
        patience: float = 5.0,
    ) -> None:
        self.runtime = runtime
        self.address = address
        self._timeout = None if timeout is None else seconds("timeout", timeout, zero=False)
        self._retries = retries
        self._patience = seconds("patience", patience)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def call(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a module's ``forward``, and wait for it in this thread.

        Raises:
            AgentDown, ProgramTimeout, ProgramOverloaded: the agent could not run it.
            BaseException: whatever the program raised.
        """
        if self._thread == threading.get_ident() or inside_of(self.key):
            return bare_call(module, args, kwargs)
        context = relayed(copy_context(), self._loop)
        return run_in_loop(self._loop, self.ask(module, False, args, kwargs, context))

    async def acall(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a module's ``aforward``. Cancelled, it cancels the run. Raises as `call`."""
        if inside_of(self.key):
            return await bare_acall(module, args, kwargs)
        work = self.ask(module, True, args, kwargs, relayed(copy_context(), self._loop))
        return await await_in_loop(self._loop, work)

    @property
    def key(self) -> str:
        """What tells this agent from others in the settings of a run."""
        return str(self.address)

    async def ask(
        self, module: Any, asynchronous: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Context
    ) -> Any:
        """Have the agent run a module; from within the loop of its runtime.

        Args:
            module: what to call.
            asynchronous: its ``aforward``, or its ``forward`` in a worker thread.
            args: of the call.
            kwargs: of the call.
            context: of the caller.

        Raises:
            AgentDown, ProgramTimeout, ProgramOverloaded: the agent could not run it.
            BaseException: whatever the program raised.
        """
        clock = self.runtime.clock
        deadline = None if self._timeout is None else clock.time() + self._timeout
        invoke = Invoke(module, asynchronous, args, kwargs, context, self.key)
        # A stream's reader has already seen its first chunks, so the call is not retried.
        retries = 0 if is_streamed(context) else self._retries
        attempt = 0
        while True:
            try:
                ref = await self._wait_for_agent(deadline)
            except Busy as error:
                raise ProgramOverloaded(f"{self.key}: {error}") from error
            call = ref.call(invoke, None if deadline is None else max(0.0, deadline - clock.time()))
            try:
                with self.held(ref):
                    return await call
            except CallTimeout as error:
                if error.target is not ref:
                    raise
                raise ProgramTimeout(f"{self.key} has not answered within {self._timeout:g} s") from error
            except Busy as error:
                raise ProgramOverloaded(f"{self.key}: {error}") from error
            except CallError as error:
                if error.target is not ref:
                    raise
                if not call.begun and isinstance(error, (ActorExited, NoProcess)):
                    continue
                if attempt == retries:
                    raise AgentDown(f"{self.key} died under this call, {attempt + 1} times: {error}") from error
                attempt += 1

    async def _wait_for_agent(self, deadline: float | None) -> Ref:
        """Return the incarnation to ask, or wait for the next one."""
        clock = self.runtime.clock
        until = clock.time() + self._patience
        until = until if deadline is None else min(until, deadline)
        while (ref := self.choose()) is None:
            in_time = await self.runtime.wait_for_name(*self.names, until=until)
            if not in_time or not any(map(self._is_expected, self.names)):
                raise AgentDown(f"{self.key} does not run; is its supervisor up?")
        return ref

    def _is_expected(self, name: str) -> bool:
        return self.runtime.whereis(name) is not None or self.runtime.expected(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all actors that can take a call."""
        return (self.address.key,)

    def choose(self) -> Ref | None:
        """Return the actor that is to take a call; None if there is none at the moment."""
        return self.address.resolve()

    def held(self, ref: Ref) -> AbstractContextManager[None]:
        """Return a context in which an actor has a call."""
        return _FREE


class AgentDown(dspy.LMTransportError):  # type: ignore[misc]
    """The agent that was to run the program died, or does not run, and no other came in time."""


class ProgramTimeout(dspy.LMTimeoutError):  # type: ignore[misc]
    """The agent has not answered within the time that the caller gave it."""


class ProgramOverloaded(dspy.LMTransportError):  # type: ignore[misc]
    """The agent has as much to do as it may have."""
