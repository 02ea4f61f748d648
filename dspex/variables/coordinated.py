"""Variables that coordinate agents: each is an actor; a change counts when all subscribers have agreed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from dspex.variables.adaptation import Adaptation
from dspex.variables.variable import Variable
from supervision import Actor, CallError, Down, Ref, Refuse, Request, handle
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.events import Event


class VersionedValue(msgspec.Struct, frozen=True):
    """A value, and its version: 0 for the default, one more with each change."""

    value: Any
    version: int


class ChangeRefused(Exception):
    """A subscriber does not agree to a change; nothing has changed. ``refusals`` says for each agent's path why."""

    def __init__(self, variable: str, refusals: dict[str, str]) -> None:
        self.variable = variable
        self.refusals = refusals
        said = "; ".join(f"{path}: {why}" for path, why in refusals.items())
        super().__init__(f"the change of {variable!r} was refused ({said})")


class ProposeChange(Request[Any], frozen=True):
    """To an agent: a variable is about to change. Any answer agrees; an error, or none in time, refuses."""

    name: str
    old: Any
    new: Any
    version: int


class SettleChange(Request[Any], frozen=True):
    """To an agent that has agreed: the change is made, or was taken back; ``value`` is the current one."""

    name: str
    value: Any
    version: int
    made: bool


class SubscribeToVariable(Request[VersionedValue], frozen=True):
    """Be asked about changes from now on; answered with the current value."""

    agent: Ref


class UnsubscribeFromVariable(Request[None], frozen=True):
    """Be asked no more."""

    agent: Ref


class GetVariable(Request[VersionedValue], frozen=True):
    """What is the value?"""


class ChangeVariable(Request[VersionedValue], frozen=True):
    """Change the value. Answered with the new one; fails with `BadVariableValue` or `ChangeRefused`."""

    value: Any


class Feedback(Request[VersionedValue], frozen=True):
    """Feedback on the value: a number, the more the better. It may lead to a change; answered with the value then."""

    performance: float


class VariableChanged(Event, frozen=True, kw_only=True):
    """A variable was to be changed.

    Attributes:
        ref: the variable.
        name: its name.
        old: the value before.
        new: the value it was to have.
        version: of the current value.
        outcome: whether it was changed, or a subscriber has refused.
        agents: how many were asked.
    """

    ref: Ref
    name: str
    old: Any
    new: Any
    version: int
    outcome: Literal["changed", "refused"]
    agents: int


class CoordinatedVariable(Actor):
    """A variable as an actor.

    Its agents have subscribed. A change is proposed to all of them at the same time; if all agree within the limit, it
    is made, and all are told; if one refuses, or does not answer, those who had agreed are told that it was taken back.
    One change at a time. An agent that ends is no longer asked.

    Args:
        variable: what it may be.
        scope: a place in the tree: agents from elsewhere cannot subscribe. An agent's own path, that of a team's
            supervisor, or ``/`` for all.
        limit: seconds in which an agent has to answer.
        adaptation: makes of the variable what learns from feedback; None for nothing.
    """

    def __init__(
        self,
        variable: Variable,
        *,
        scope: str = "/",
        limit: float = 5.0,
        adaptation: Callable[[Variable], Adaptation] | None = None,
    ) -> None:
        self._variable = variable
        self._scope = scope.rstrip("/") + "/"
        self._limit = seconds("limit", limit, zero=False)
        self._adaptation = None if adaptation is None else adaptation(variable)
        self._agents: dict[Ref, Any] = {}
        self.value = VersionedValue(variable.default, 0)

    def summary(self) -> dict[str, object]:
        """Return value and version, for ``/tree``."""
        return {"value": self.value.value, "version": self.value.version, "agents": len(self._agents)}

    @handle
    def subscribe(self, request: SubscribeToVariable) -> VersionedValue:
        """Ask an agent about changes, from now on."""
        agent = request.agent
        if not f"{agent.path}/".startswith(self._scope):
            raise Refuse(BadOption("agent", agent, f"only what is below {self._scope} can subscribe"))
        if agent not in self._agents:
            self._agents[agent] = self.monitor(agent)
        return self.value

    @handle
    def unsubscribe(self, request: UnsubscribeFromVariable) -> None:
        """Ask an agent no more."""
        monitor = self._agents.pop(request.agent, None)
        if monitor is not None:
            self.demonitor(monitor)

    @handle
    def ended(self, message: Down) -> None:
        """Forget an agent that has ended."""
        self._agents = {agent: monitor for agent, monitor in self._agents.items() if agent is not message.target}

    @handle
    def current(self, request: GetVariable) -> VersionedValue:
        """Return the value."""
        return self.value

    @handle
    async def change(self, request: ChangeVariable) -> VersionedValue:
        """Change the value, if all agree."""
        try:
            return await self._change(self._variable.check(request.value))
        except (ValueError, ChangeRefused) as error:
            raise Refuse(error) from None

    @handle
    async def learn(self, request: Feedback) -> VersionedValue:
        """Learn what the value was worth, and change it, if there is a better one and all agree."""
        if self._adaptation is None:
            raise Refuse(BadOption("performance", request.performance, "the variable has no adaptation"))
        self._adaptation.note(self.value.value, request.performance)
        proposed = self._adaptation.propose(self.value.value, self.runtime.random)
        try:
            return await self._change(proposed)
        except ChangeRefused:
            return self.value

    async def _change(self, new: Any) -> VersionedValue:
        old = self.value
        if new == old.value:
            return old
        name, asked = self._variable.name, list(self._agents)
        proposal = ProposeChange(name, old.value, new, old.version + 1)
        answers = await asyncio.gather(*(self._asked(agent, proposal) for agent in asked))
        refusals = {agent.path: why for agent, why in zip(asked, answers, strict=True) if why is not None}
        made = not refusals
        if made:
            self.value = VersionedValue(new, old.version + 1)
        told = SettleChange(name, self.value.value, self.value.version, made)
        agreed = [agent for agent, why in zip(asked, answers, strict=True) if why is None]
        await asyncio.gather(*(self._asked(agent, told) for agent in agreed))
        self.runtime.events.emit(
            VariableChanged,
            ref=self.ref,
            name=name,
            old=old.value,
            new=new,
            version=self.value.version,
            outcome="changed" if made else "refused",
            agents=len(asked),
        )
        if not made:
            raise ChangeRefused(name, refusals)
        return self.value

    async def _asked(self, agent: Ref, request: Request[Any]) -> str | None:
        """Ask an agent, and return why it does not agree; None if it does, or is gone."""
        try:
            await agent.call(request, self._limit)
        except CallError as error:
            return str(error) if agent.alive else None
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None
