"""Execution: work given to agents and other actors under the platform's guards, and async functions as such actors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeAlias

import msgspec

from agents import Ask, Reply, Signal
from bridge.registration import find_agents
from foundation.protection import Guard, Retry
from foundation.registry import Directory
from supervision import Actor, Address, Refuse, Request, call_when_ready, handle
from supervision.call import DEFAULT_TIMEOUT
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.options import is_whole

SignalOrRequest: TypeAlias = Signal | Request[Any]


class AgentFailed(Exception):
    """An agent has answered that its action failed; ``reply`` is the answer."""

    def __init__(self, reply: Reply[Any]) -> None:
        self.reply = reply
        super().__init__(str(reply.errors[0].error))


async def execute_protected(
    to: Address, work: SignalOrRequest, guard: Guard | None, *, timeout: float | None = DEFAULT_TIMEOUT
) -> Any:
    """Give work to an actor under a guard, which sees the real outcome: an action that failed is a failure.

    Args:
        to: an agent's server, or any actor.
        work: a signal for an agent; a request for any other actor.
        guard: a circuit breaker, a policy, or any other guard; None for nothing.
        timeout: seconds that each attempt may take.

    Raises:
        AgentFailed, CallError, ProtectionError: an action failed, nobody answered, or the guard let nothing through.
    """

    async def attempt() -> Any:
        return _checked(await to.call(_request(work), timeout))

    return await (attempt() if guard is None else guard.run(attempt))


def _request(work: SignalOrRequest) -> Request[Any]:
    return Ask(work) if isinstance(work, Signal) else work


def _checked(answer: Any) -> Any:
    if isinstance(answer, Reply) and answer.errors:
        raise AgentFailed(answer)
    return answer


async def execute_with_retry(
    to: Address, work: SignalOrRequest, retry: Retry | None = None, *, timeout: float | None = DEFAULT_TIMEOUT
) -> Any:
    """Do what `execute_protected` does, with retries as the guard: by default any failure is worth one.

    What no handler had begun when the actor behind a `Name` ended goes to the next incarnation within the same attempt:
    this does not count as a failure, and nothing is done twice.

    Args:
        to: an agent's server, or any actor; a `Name` finds the next incarnation.
        work: a signal for an agent; a request for any other actor.
        retry: how often, and with which pauses.
        timeout: seconds that each attempt may take.

    Raises:
        AgentFailed, CallError, ProtectionError: as for `execute_protected`, of the last attempt.
    """

    async def attempt() -> Any:
        return _checked(await call_when_ready(to, _request(work), timeout))

    return await (retry or Retry(on=lambda error: True)).run(attempt)


class AgentResult(msgspec.Struct, frozen=True):
    """The result of one actor's work: its answer, or the error."""

    answer: Any = None
    error: Exception | None = None


async def distributed_execute(
    directory: Directory,
    capability: str,
    work: SignalOrRequest,
    *,
    guard: Guard | None = None,
    limit: int = 10,
    timeout: float = DEFAULT_TIMEOUT,
) -> dict[Hashable, AgentResult]:
    """Give the same work to all actors with a capability that are not unresponsive, and return the results.

    At most ``limit`` of them work at the same time, for ``timeout`` seconds each, under the guard if one is given. Each
    has a result, by its key: a failure of one does not affect the others.
    """
    if not is_whole(limit, 1):
        raise BadOption("distributed_execute: limit", limit, "give a whole number from 1")
    slots, within = asyncio.Semaphore(limit), seconds("timeout", timeout)

    async def one(to: Address) -> AgentResult:
        async with slots:
            try:
                return AgentResult(await execute_protected(to, work, guard, timeout=within))
            except Exception as error:
                return AgentResult(error=error)

    found = find_agents(directory, capability)
    results = await asyncio.gather(*(one(entry.ref) for entry in found))
    return {entry.key: result for entry, result in zip(found, results, strict=True)}


class ForeignCall(Request[Any], frozen=True):
    """Call the object with this, and return what it returns."""

    payload: Any


class ForeignAgent(Actor):
    """An actor around an async function, called with the payload of each `ForeignCall`. The caller gets its errors."""

    def __init__(self, function: Callable[[Any], Awaitable[Any]]) -> None:
        self._function = function

    @handle
    async def run(self, request: ForeignCall) -> Any:
        """Call the object."""
        try:
            return await self._function(request.payload)
        except Exception as error:
            raise Refuse(error) from error
