"""Directives: effects outside the agent, described as data; the agent's server carries them out.

A directive never changes the agent that returns it. Those of one turn are carried out in order, after the new state is
committed and before the next turn. More kinds can be defined: see `agents.server.executes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from agents.core.cron import CronSchedule
from agents.core.router import segments
from agents.core.signal import check_text
from agents.errors import BadSignal
from supervision import NORMAL, Address, ChildSpec
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.messages import FrozenMeta
from supervision.reasons import Crashed, crashed

if TYPE_CHECKING:
    from agents.core.action import ActionLike
    from agents.core.agent_type import AgentType
    from agents.server.sensors import Sensor

#: What a server does when its agent's parent ends: end as well, go on alone, or go on and tell its agent so with a
#: signal ``agent.orphaned``.
OnParentDeath = Literal["stop", "continue", "emit_orphan"]
#: What happens to a tick of a cron job if the previous tick's signal is still being handled: it is left out, it is sent
#: when that signal is done (at most one waits), or it is sent all the same.
Overlap = Literal["skip", "queue", "allow"]
#: What happens to the ticks of a cron job that nobody was there for: one signal for all, none, or all of them.
Missed = Literal["once", "skip", "all"]
#: Where something has failed: in an action, in the commit of the turn, or in a directive after it.
Stage = Literal["action", "commit", "effect"]


class Directive(msgspec.Struct, metaclass=FrozenMeta, frozen=True, tag_field="kind"):
    """The base of all directives."""


class Withdraw(Directive, frozen=True, tag="withdraw"):
    """Take back a signal that a durable agent has decided to send, if it has not been sent.

    The agent gets a signal ``agent.effect.withdrawn``, if it has a route for it, with the token and ``in_time``:
    whether it was surely not sent. If the agent is not durable, or there is no such signal, nothing is taken back.

    Attributes:
        token: its id.
    """

    token: str


class Emit(Directive, frozen=True, tag="emit"):
    """Send a signal. It gets its id, time and source from the server, and the id of the signal that caused it.

    Attributes:
        type: of the signal, such as ``"order.placed"``.
        data: of the signal.
        subject: of the signal.
        to: an address, or the name of an actor: an agent's server, a bus, a webhook; None for where the server sends
            what its agent emits: the ``emit_to`` with which it was started, or the agent itself.

    Raises:
        BadSignal: this cannot be the type of a signal, or its subject.
        BadOption: ``to`` is not a destination.
    """

    type: str
    data: Any = None
    subject: str | None = None
    to: Address | str | None = None

    def __post_init__(self) -> None:
        segments("Emit.type", self.type, BadSignal)
        check_text("Emit.subject", self.subject)
        _check_destination("Emit.to", self.to)


class Schedule(Directive, frozen=True, tag="schedule"):
    """Send the agent itself a signal later. It is cancelled when its server ends, unless the agent is durable.

    Attributes:
        after: how many seconds later.
        type: of the signal.
        data: of the signal.
        id: under which `Unschedule` finds it; an earlier one with the same id is cancelled. None if it is not to be
            found.
        expires: how many seconds later it is not wanted any more, if nobody was there; None for never. For durable
            agents.

    Raises:
        BadTime: ``after`` or ``expires`` is not a length of time.
        BadSignal: this cannot be the type of a signal.
        BadOption: the id is not a string.
    """

    after: float
    type: str
    data: Any = None
    id: str | None = None
    expires: float | None = None

    def __post_init__(self) -> None:
        seconds("Schedule.after", self.after)
        if self.expires is not None:
            seconds("Schedule.expires", self.expires)
        segments("Schedule.type", self.type, BadSignal)
        if self.id is not None:
            _check_id("Schedule.id", self.id)


class Unschedule(Directive, frozen=True, tag="unschedule"):
    """Cancel the timer or cron job with this id. If there is none, nothing happens.

    Raises:
        BadOption: the id is not a string.
    """

    id: str

    def __post_init__(self) -> None:
        _check_id("Unschedule.id", self.id)


class Cron(Directive, frozen=True, tag="cron"):
    """Send the agent itself a signal again and again, by a cron expression.

    A durable agent keeps its cron jobs: they go on after a crash, and wake an instance that sleeps.

    Attributes:
        expression: five fields (minute, hour, day, month, weekday), or six with seconds before them, as in crontab(5);
            or ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.
        type: of the signal.
        data: of the signal.
        id: a job with the same id is replaced. The type of the signal unless it is given.
        timezone: the time zone of the expression, such as ``"Europe/Prague"``. A time that a change of clocks
            leaves out is left out; one that comes twice comes once.
        overlap: what happens to a tick if the previous tick's signal is still being handled: ``skip`` it, ``queue`` it
            (at most one), or ``allow`` it. It is about ticks during a turn; ``missed`` is about those that nobody was
            there for.
        missed: what a durable agent does about ticks that are later than ``grace``: one signal for all of them
            (``once``), whose extensions say how many (``missed``), and when the ``first`` and the ``last`` was; none
            (``skip``); or a signal for each, in order (``all``; at most 1000, then one for the rest).
        grace: seconds by which a tick may be late and is still an ordinary one.

    Raises:
        BadTime: ``grace`` is not a length of time.
        BadCronSchedule: the expression or the time zone is invalid.
        BadSignal: this cannot be the type of a signal.
        BadOption: ``overlap`` or ``missed`` is not one of those, or the id is not a string.
    """

    expression: str
    type: str
    data: Any = None
    id: str = ""
    timezone: str = "UTC"
    overlap: Overlap = "skip"
    missed: Missed = "once"
    grace: float = 60.0

    def __post_init__(self) -> None:
        segments("Cron.type", self.type, BadSignal)
        CronSchedule(self.expression, self.timezone)
        if self.overlap not in get_args(Overlap):
            raise BadOption("Cron.overlap", self.overlap, f"give one of {', '.join(get_args(Overlap))}")
        if self.missed not in get_args(Missed):
            raise BadOption("Cron.missed", self.missed, f"give one of {', '.join(get_args(Missed))}")
        seconds("Cron.grace", self.grace)
        _check_id("Cron.id", self.id)
        if not self.id:
            msgspec.structs.force_setattr(self, "id", self.type)


class SpawnAgent(Directive, frozen=True, tag="spawn_agent"):
    """Start a child: an agent whose parent this one is, known to it by a tag.

    This agent receives the signals ``agent.child.started`` and ``agent.child.exit``, if it has routes for them.

    Attributes:
        type: of the child.
        tag: by which this agent knows it.
        id: of the child; this agent's id, a slash and the tag, unless it is given.
        state: its first state, or some of its fields.
        restart: whether it is started again when it has ended: ``permanent`` always, ``transient`` if it crashed,
            ``temporary`` never.
        on_parent_death: what it does when this agent's server ends.
        meta: noted with the child.
        durable: whether it is saved where, and when, this agent is, which must be durable. Else a child that is started
            again begins with its first state.
        emit_to: where it sends what does not say so itself: an address, or the name of an actor; None for itself.

    Raises:
        BadOption: the type is not a class, the tag is not a string, or empty, or an option has an unknown value.
    """

    type: type[AgentType[Any]]
    tag: str
    id: str | None = None
    state: Any = None
    restart: Literal["permanent", "transient", "temporary"] = "transient"
    on_parent_death: OnParentDeath = "stop"
    meta: Any = None
    durable: bool = False
    emit_to: Address | str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.type, type):
            raise BadOption("SpawnAgent.type", self.type, "give a subclass of AgentType")
        _check_tag("SpawnAgent.tag", self.tag)
        if self.id is not None and (not isinstance(self.id, str) or not self.id):
            raise BadOption("SpawnAgent.id", self.id, "give a string that is not empty, or None")
        if not isinstance(self.durable, bool):
            raise BadOption("SpawnAgent.durable", self.durable, "give True or False")
        _check_destination("SpawnAgent.emit_to", self.emit_to)
        if self.restart not in ("permanent", "transient", "temporary"):
            raise BadOption("SpawnAgent.restart", self.restart, "give permanent, transient or temporary")
        if self.on_parent_death not in get_args(OnParentDeath):
            known = ", ".join(get_args(OnParentDeath))
            raise BadOption("SpawnAgent.on_parent_death", self.on_parent_death, f"give one of {known}")


class Spawn(Directive, frozen=True, tag="spawn"):
    """Start an actor that is not an agent, and that is not tracked as a child.

    Attributes:
        spec: its specification.
        under: the supervisor, or its name; None for the one of the agents.
    """

    spec: ChildSpec
    under: Address | str | None = None


class StopChild(Directive, frozen=True, tag="stop_child"):
    """Let a child end, when it has handled what it was sent before. It is not started again.

    Attributes:
        tag: of the child. If there is none, nothing happens.
        reason: noted in its exit.
    """

    tag: str
    reason: str = "normal"


class AdoptChild(Directive, frozen=True, tag="adopt_child"):
    """Make an agent without a parent a child of this one.

    Attributes:
        child: its server, or its id.
        tag: by which this agent will know it.
        meta: noted with the child.
    """

    child: Address | str
    tag: str
    meta: Any = None

    def __post_init__(self) -> None:
        _check_tag("AdoptChild.tag", self.tag)


class RunInstruction(Directive, frozen=True, tag="run_instruction"):
    """Run work while the agent takes other turns, and send the agent the result as a signal.

    Attributes:
        work: what to run. What it returns changes no state.
        then: the type of the signal with the result: its data are ``{"status": "ok", "result": …}`` or ``{"status":
            "error", "error": …}``, and ``meta``.
        meta: noted in that signal.
    """

    work: ActionLike
    then: str
    meta: Any = None

    def __post_init__(self) -> None:
        segments("RunInstruction.then", self.then, BadSignal)


class AwaitReply(Directive, frozen=True, tag="await_reply"):
    """Ask another agent, and send this one the answer as a signal. It takes other turns meanwhile.

    Attributes:
        to: the other agent's server, or its name.
        type: of the signal that it is asked with.
        then: the type of the signal with the answer: its data are ``{"status": "ok", "state": …, "errors": […]}`` or
            ``{"status": "error", "error": …}``, and ``meta``.
        data: of the signal that it is asked with.
        timeout: seconds to wait for the answer.
        meta: noted in the signal with the answer.
    """

    to: Address | str
    type: str
    then: str
    data: Any = None
    timeout: float = 5.0
    meta: Any = None

    def __post_init__(self) -> None:
        segments("AwaitReply.type", self.type, BadSignal)
        segments("AwaitReply.then", self.then, BadSignal)
        seconds("AwaitReply.timeout", self.timeout)


class StartSensor(Directive, frozen=True, tag="start_sensor"):
    """Start a sensor, whose signals this agent gets. It ends with the agent's server.

    Attributes:
        tag: by which it is known; a sensor with the same tag is replaced.
        sensor: the sensor.
        keep: whether a sensor that runs under this tag is kept instead.
        link: whether the agent's server ends when the sensor crashes; else there is a signal ``agent.sensor.exit``.
    """

    tag: str
    sensor: Sensor
    keep: bool = False
    link: bool = False

    def __post_init__(self) -> None:
        _check_tag("StartSensor.tag", self.tag)


class StopSensor(Directive, frozen=True, tag="stop_sensor"):
    """End a sensor. If there is none under this tag, nothing happens."""

    tag: str


class StopAgent(Directive, frozen=True, tag="stop"):
    """End the agent's server. Directives behind it are not carried out.

    An agent that has done its work says so in its state instead: a permanent child that stops is started again.

    Attributes:
        reason: an `ExitReason`, or anything else, which becomes ``Abnormal``.
    """

    reason: Any = NORMAL


class ErrorDirective(Directive, frozen=True, tag="error"):
    """Something failed. The server applies its error policy.

    Attributes:
        action: the name of the class of the action; or what else has failed.
        error: the exception as data.
        stage: where it has failed: in an ``action``, so that nothing of it is committed; in the ``commit``; or in an
            ``effect``, after the commit.
        retried: whether it is tried again.
    """

    action: str
    error: Crashed
    stage: Stage = "action"
    retried: bool = False


def error_directive(
    action: str, error: BaseException, stage: Stage = "action", *, retried: bool = False
) -> ErrorDirective:
    """Return an exception as a directive."""
    return ErrorDirective(action, crashed(error), stage, retried)


def _check_id(where: str, id: object) -> None:
    if not isinstance(id, str):
        raise BadOption(where, id, "give a string")


def _check_tag(where: str, tag: object) -> None:
    if not isinstance(tag, str) or not tag:
        raise BadOption(where, tag, "give a string that is not empty")


def _check_destination(where: str, to: object) -> None:
    if not (to is None or isinstance(to, Address) or (isinstance(to, str) and to)):
        raise BadOption(where, to, "give an address, the name of an actor, or None")
