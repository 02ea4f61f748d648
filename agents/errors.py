"""The errors of agents.

::

    AgentError
    ├── BadParams        an action was not given what it needs
    ├── BadResult        an action returned something else than it declares
    ├── BadState         a state, or a change of it, is not of the declared type
    ├── NeedsLoop        an async action was run without a loop
    └── NoRoute          an agent has no route for a signal

Wrong definitions are specification errors of the kernel (``supervision.SpecError``): `BadAction`, `BadAgentType`,
`BadRoute`, `BadSignal`.
"""

from __future__ import annotations

from supervision import SpecError


class AgentError(Exception):
    """The root of the errors of agents."""


class BadParams(AgentError, ValueError):
    """This is no action, or not with such parameters."""

    def __init__(self, action: str, why: str) -> None:
        self.action = action
        super().__init__(f"{action}: {why}")


class BadResult(AgentError, TypeError):
    """An action returned something else than it declares."""

    def __init__(self, action: str, why: str) -> None:
        self.action = action
        super().__init__(f"{action}: {why}")


class BadState(AgentError, ValueError):
    """A state, or a change of it, is not of the declared type. Nothing has changed."""

    def __init__(self, kind: str, why: str) -> None:
        self.kind = kind
        super().__init__(f"{kind}: {why}")


class NeedsLoop(AgentError, TypeError):
    """An async action cannot be run by `cmd`; await `acmd` instead."""

    def __init__(self, action: str) -> None:
        self.action = action
        super().__init__(f"{action} is async: await acmd(...) instead of calling cmd(...)")


class NoRoute(AgentError, LookupError):
    """An agent has no route for signals of this type."""

    def __init__(self, agent_type: str, signal_type: str) -> None:
        self.agent_type = agent_type
        self.signal_type = signal_type
        super().__init__(f"{agent_type} has no route for signals of type {signal_type!r}")


class BadAction(SpecError):
    """A class of actions is defined wrongly."""


class BadAgentType(SpecError):
    """A type of agents is defined wrongly, or an agent is made of it wrongly."""


class BadRoute(SpecError):
    """A route is wrong."""


class BadSignal(SpecError):
    """A signal lacks what every signal has, or has it wrongly."""
