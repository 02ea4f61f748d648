"""Error policies: what an agent's server does about a failed action, besides publishing the event and logging it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from supervision import Address
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.options import is_whole
from supervision.reasons import Crashed, ExitReason

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from agents.core.directives import ErrorDirective, StopAgent


class LogOnly(msgspec.Struct, frozen=True, tag="log_only"):
    """Go on."""


class StopAfter(msgspec.Struct, frozen=True, tag="stop_after"):
    """End the server at the n-th error, for its supervisor to start a fresh one.

    Attributes:
        errors: how many; 1 ends it at the first.
        within: counting only those of the last so many seconds; None counts all.

    Raises:
        BadOption: ``errors`` is not a whole number from 1.
        BadTime: ``within`` is not a length of time.
    """

    errors: int
    within: float | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.errors, 1):
            raise BadOption("StopAfter.errors", self.errors, "give a whole number from 1")
        if self.within is not None:
            seconds("StopAfter.within", self.within, zero=False)


class EmitError(msgspec.Struct, frozen=True, tag="emit_error"):
    """Send a signal ``agent.error``, and go on. Its data are the agent's id, the action and the error.

    Attributes:
        to: an address, or the name of an actor.

    Raises:
        BadOption: ``to`` is neither.
    """

    to: Address | str

    def __post_init__(self) -> None:
        if not isinstance(self.to, Address) and not (isinstance(self.to, str) and self.to):
            raise BadOption("EmitError.to", self.to, "give an address, or the name of an actor")


#: A function of the error and the agent: it returns None to go on, or a `StopAgent` with a reason of its own. If it
#: fails, or returns something else, that is logged, and the server goes on.
PolicyFunction: TypeAlias = "Callable[[ErrorDirective, Agent[Any]], StopAgent | None]"
ErrorPolicy: TypeAlias = "LogOnly | StopAfter | EmitError | PolicyFunction"


class TooManyErrors(ExitReason, frozen=True, tag="too_many_errors"):
    """An agent's server ended by its error policy: at error number ``count``, which was ``last``."""

    count: int
    last: Crashed

    def __str__(self) -> str:
        return f"too many errors ({self.count}), the last one: {self.last}"


class ErrorCount:
    """The errors of one server, counted by a policy."""

    __slots__ = ("_times", "policy")

    def __init__(self, policy: ErrorPolicy) -> None:
        self.policy = policy
        self._times: deque[float] | None = None

    def record(self, now: float) -> int | None:
        """Count an error; return how many there are if they are too many, else None."""
        policy = self.policy
        if not isinstance(policy, StopAfter):
            return None
        if self._times is None:
            self._times = deque()
        self._times.append(now)
        if policy.within is not None:
            while self._times[0] <= now - policy.within:
                self._times.popleft()
        return len(self._times) if len(self._times) >= policy.errors else None
