"""The errors of agents.

::

    AgentError
    ├── AgentExists          an agent with this id runs already
    ├── AgentTimeout         an agent was not done in time
    ├── AmbiguousAgent       agents of several types have this id
    ├── BadCheckpoint        what was saved of an agent cannot be read
    │   └── SchemaMismatch   it was saved with another schema
    ├── BadParams            an action was not given what it needs
    ├── BadResult            an action returned something else than it declares
    ├── BadState             a state, or a change of it, is not of the declared type
    ├── CompensationFailed   an action failed, and what was done could not be undone
    ├── DebugOff             an agent's turns are not recorded
    ├── HookFailed           a plugin's hook failed, and the signal went no further
    ├── Moved                another owner has taken an agent over
    ├── NeedsLoop            an async action was run without a loop
    ├── NoToken              no signal has caused what a token is asked for
    ├── NoRoute              an agent has no route for a signal
    ├── NotAdopted           an agent cannot become the child of another one
    ├── NotSaved             an agent, or a commit of it, could not be saved
    ├── PublishRefused       a bus cannot keep a signal, and has not published it
    ├── ResultConflict       parts that were run side by side return the same field
    ├── StrategyRefused      an agent's strategy does not take a command now
    ├── TagTaken             an agent has a child with this tag
    └── TurnCancelled        a turn was cancelled while its action waited

Wrong definitions are specification errors of the kernel (``supervision.SpecError``): `BadAction`, `BadAgentType`,
`BadPlan`, `BadRoute`, `BadSignal`, `BadCronSchedule`.
"""

from __future__ import annotations

from supervision import SpecError


class AgentError(Exception):
    """The root of the errors of agents."""


class AgentExists(AgentError):
    """An agent with this id runs already, in this partition."""

    def __init__(self, id: str, partition: str, ref: object) -> None:
        self.id = id
        self.partition = partition
        self.ref = ref
        where = f" in partition {partition!r}" if partition else ""
        super().__init__(f"an agent {id!r} runs already{where}: {ref}")


class AmbiguousAgent(AgentError, LookupError):
    """Agents of several types have this id."""

    def __init__(self, id: str, partition: str, types: list[str]) -> None:
        self.id = id
        self.types = types
        where = f" in partition {partition!r}" if partition else ""
        super().__init__(f"agents of the types {', '.join(types)} have the id {id!r}{where}: say which, with kind=")


class AgentTimeout(AgentError, TimeoutError):
    """An agent was not done in time.

    Attributes:
        waited: for how many seconds.
        status: of the agent then.
        version: of the agent then.
        waiting: how many messages waited for its server then.
    """

    def __init__(self, id: str, waited: float, status: str, version: int, waiting: int) -> None:
        self.id = id
        self.waited = waited
        self.status = status
        self.version = version
        self.waiting = waiting
        hint = "its mailbox is full of work" if waiting else "no message waits in its mailbox: nothing will complete it"
        super().__init__(
            f"agent {id!r} was not done after {waited} s: its status is {status!r}, at version {version}; {hint}"
        )


class BadCheckpoint(AgentError):
    """What was saved of an agent cannot be read. It is left as it is, and the agent does not start."""

    def __init__(self, key: str, why: str) -> None:
        self.key = key
        super().__init__(f"{key}: {why}")


class SchemaMismatch(BadCheckpoint):
    """An agent was saved with another schema, and its type does not say how that becomes its own."""

    def __init__(self, key: str, type: str, saved: int, schema: int) -> None:
        self.saved = saved
        self.schema = schema
        remedy = "run the release that saved it, or a later one"
        if saved < schema:
            remedy = f"say in {type}.migrate how a state of {saved} becomes one of {schema}"
        super().__init__(key, f"it was saved with schema {saved}, and {type} has {schema}: {remedy}")


class BadParams(AgentError, ValueError):
    """This is not an action, or its parameters are invalid."""

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


class CompensationFailed(AgentError):
    """An action failed, and something that was done before could not be undone: a person has to repair it.

    Attributes:
        action: the name of the class of the action whose ``compensate`` failed.
        error: what it raised.
        original: what had gone wrong.
    """

    def __init__(self, action: str, error: BaseException, original: Exception) -> None:
        self.action = action
        self.error = error
        self.original = original
        super().__init__(f"{action} could not be undone ({error!r}) after {original!r}")


class ResultConflict(AgentError, ValueError):
    """Parts that were run side by side return the same field."""

    def __init__(self, names: list[str], by: list[str]) -> None:
        self.names = names
        self.by = by
        super().__init__(f"{' and '.join(by)} both return {', '.join(names)}: let only one do so")


class PublishRefused(AgentError):
    """A bus cannot keep a signal, and has published none of those that came with it."""

    def __init__(self, signal: str, id: str, why: str) -> None:
        self.signal = signal
        self.id = id
        super().__init__(f"signal {signal!r} with id {id!r} is not published: {why}")


class NotAdopted(AgentError):
    """An agent cannot become the child of another one. Nothing has changed."""

    def __init__(self, child: object, why: str) -> None:
        super().__init__(f"{child} cannot be adopted: {why}")


class NotSaved(AgentError):
    """An agent, or a commit of it, could not be saved."""

    def __init__(self, key: str, why: str) -> None:
        self.key = key
        super().__init__(f"{key}: {why}")


class Moved(AgentError):
    """Another owner has taken an agent over: a server in another process, say. This one ends, and has saved nothing."""

    def __init__(self, key: str, why: str) -> None:
        self.key = key
        super().__init__(f"{key} has moved: {why}")


class TagTaken(AgentError):
    """An agent has a child with this tag."""

    def __init__(self, tag: str, ref: object) -> None:
        self.tag = tag
        super().__init__(f"tag {tag!r} is taken, by {ref}: choose another one, or stop that child first")


class TurnCancelled(AgentError):
    """A turn was cancelled while its action waited: nothing of it is committed."""

    def __init__(self, signal: str, why: str) -> None:
        super().__init__(f"the turn for {signal!r} was cancelled: {why}")


class StrategyRefused(AgentError):
    """An agent's strategy does not take a command now."""

    def __init__(self, strategy: str, why: str) -> None:
        self.strategy = strategy
        super().__init__(f"{strategy}: {why}")


class DebugOff(AgentError):
    """An agent's turns are not recorded."""

    def __init__(self, id: str) -> None:
        super().__init__(f"the turns of {id!r} are not recorded: switch it on with handle.debug(True)")


class HookFailed(AgentError):
    """A plugin's hook failed, and the signal went no further."""

    def __init__(self, plugin: str, hook: str, error: BaseException) -> None:
        self.plugin = plugin
        self.hook = hook
        super().__init__(f"{plugin}.{hook}: {type(error).__name__}: {error}")


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


class NoToken(AgentError):
    """No signal has caused what a token is asked for: tokens are made of the signal that caused a turn."""

    def __init__(self, agent: str) -> None:
        super().__init__(
            f"agent {agent!r}: no signal has caused this; give cmd(..., signal=...), or make an id of your own"
        )


class BadAction(SpecError):
    """A class of actions is defined wrongly."""


class BadAgentType(SpecError):
    """A type of agents is defined wrongly, or an agent is made of it wrongly."""


class BadPlan(SpecError):
    """A chain, branch, parallel or plan of actions is put together wrongly."""


class BadRoute(SpecError):
    """A route is wrong."""


class BadSignal(SpecError):
    """A signal lacks what every signal has, or has it wrongly."""


class BadCronSchedule(SpecError):
    """A cron expression or its time zone is invalid."""
