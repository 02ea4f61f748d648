"""What agents add to the event stream of a runtime."""

from __future__ import annotations

from typing import Any

from supervision import Ref
from supervision.events import Event
from supervision.reasons import Crashed, ExitReason


class ActionFailed(Event, frozen=True, kw_only=True):
    """An action of an agent, a directive, or a hook of a plugin failed.

    Attributes:
        ref: the agent's server.
        path: its place in the tree.
        agent_id: of the agent.
        agent_type: the name of its type.
        partition: of the agent.
        action: the name of the action's class; or what else has failed.
        error: the exception as data.
        signal_id: of the signal that asked for the action.
    """

    ref: Ref
    path: str
    agent_id: str
    agent_type: str
    partition: str
    action: str
    error: Crashed
    signal_id: str


class AgentParked(Event, frozen=True, kw_only=True):
    """An agent has crashed, or could not start, more often than its budget allows: it is tried again now and then.

    Attributes:
        ref: the supervisor of agents.
        path: its place in the tree.
        id: of the agent's child specification.
        reason: of its last end, or why it did not start.
        retry_every: seconds from one try to the next.
    """

    ref: Ref
    path: str
    id: Any
    reason: ExitReason
    retry_every: float


class TurnTaken(Event, frozen=True, kw_only=True):
    """An agent has taken a turn: its actions were run, its state committed, its directives carried out.

    Attributes:
        ref: the agent's server.
        agent_id: of the agent.
        agent_type: the name of its type.
        partition: of the agent.
        signal_type: of the signal.
        signal_id: of the signal.
        cause_id: of the signal that caused that one; None if it came from outside.
        actions: the names of what was run, in order.
        directives: the kinds of what was to be carried out, in order.
        version: of the agent after it.
    """

    ref: Ref
    agent_id: str
    agent_type: str
    partition: str
    signal_type: str
    signal_id: str
    cause_id: str | None
    actions: tuple[str, ...]
    directives: tuple[str, ...]
    version: int


class SignalUndelivered(Event, frozen=True, kw_only=True):
    """A signal could not be delivered, however often it was tried.

    Attributes:
        ref: who has tried.
        destination: where it was to go.
        signal_type: of the signal.
        signal_id: of the signal.
        attempts: how often it was tried.
        error: what went wrong the last time.
        cause_id: of the signal that caused it; None if it came from outside.
    """

    ref: Ref
    destination: str
    signal_type: str
    signal_id: str
    attempts: int
    error: str
    cause_id: str | None = None


class EffectDead(Event, frozen=True, kw_only=True):
    """An effect of a durable agent was given up. It is kept, and can be tried again.

    Attributes:
        ref: the agent's server.
        agent_id: of the agent.
        what: the kind of the directive.
        destination: where a signal was to go; None for what is no signal.
        token: of the effect.
        why: it was given up.
    """

    ref: Ref
    agent_id: str
    what: str
    destination: str | None
    token: str
    why: str


class CompensationDelayed(Event, frozen=True, kw_only=True):
    """What a durable agent's action has done could not be undone now. It is kept, and tried again.

    Attributes:
        ref: the agent's server.
        agent_id: of the agent.
        action: whose effect it is.
        token: of the compensation.
        why: it was not undone.
    """

    ref: Ref
    agent_id: str
    action: str
    token: str
    why: str


class SignalsForgotten(Event, frozen=True, kw_only=True):
    """A durable agent has forgotten ids of signals that it took less than a day ago: if they come again, they are new.

    Attributes:
        ref: the agent's server.
        agent_id: of the agent.
        count: how many.
    """

    ref: Ref
    agent_id: str
    count: int


class TicksMissed(Event, frozen=True, kw_only=True):
    """Nobody was there for ticks of a durable agent's cron job.

    Attributes:
        ref: the agent's server.
        agent_id: of the agent.
        timer: the id of the job.
        ticks: how many; 1000 stand for any number from there on.
    """

    ref: Ref
    agent_id: str
    timer: str
    ticks: int


class TimerDropped(Event, frozen=True, kw_only=True):
    """A timer of a durable agent, or a tick of one, is not carried out.

    Attributes:
        ref: the agent's server.
        agent_id: of the agent.
        timer: its id.
        why: it is not.
    """

    ref: Ref
    agent_id: str
    timer: str
    why: str


class PublishFailed(Event, frozen=True, kw_only=True):
    """A signal that was cast to a bus, or sent with others, is not published.

    Attributes:
        ref: the bus.
        signal_type: of the signal.
        signal_id: of the signal.
        cause_id: of the signal that caused it; None if it came from outside.
        error: why not.
    """

    ref: Ref
    signal_type: str
    signal_id: str
    cause_id: str | None
    error: str


class SignalsRedriven(Event, frozen=True, kw_only=True):
    """Signals are delivered again to a subscription, though they were dead letters, or done.

    Attributes:
        ref: the bus.
        subscription: its name.
        ids: of the signals.
    """

    ref: Ref
    subscription: str
    ids: tuple[str, ...]


class DeadLettersForgotten(Event, frozen=True, kw_only=True):
    """A bus has forgotten dead letters: they were too many or too old, or it was asked to.

    Attributes:
        ref: the bus.
        subscription: its name.
        ids: of the signals.
    """

    ref: Ref
    subscription: str
    ids: tuple[str, ...]


class BusNotSaved(Event, frozen=True, kw_only=True):
    """A bus could not write what has become of its subscriptions: it tries again, and goes on meanwhile.

    Attributes:
        ref: the bus.
        error: why not.
        retry_in: seconds until the next try.
    """

    ref: Ref
    error: str
    retry_in: float
