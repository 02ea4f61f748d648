"""Sensors: they turn what happens outside into signals for one agent, each in an actor beside the agent's server."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.directives import Emit, StartSensor, StopSensor
from agents.core.failures import awaited, hook, raise_end, raise_interrupt
from agents.core.signal import new_signal
from agents.core.structs import checked
from agents.errors import BadParams
from agents.server.executors import executes
from supervision import SHUTDOWN, Actor, Down, Message, Monitor, Ref, handle
from supervision.clock import seconds
from supervision.logs import get_logger
from supervision.messages import FrozenMeta

if TYPE_CHECKING:
    from agents.core.signal import Signal
    from agents.server.server import AgentServer
    from supervision import Runtime


_log: Any = get_logger("agents")


class Sensor(msgspec.Struct, metaclass=FrozenMeta, frozen=True):
    """The base of all sensors. The fields of a subclass are its configuration.

    A sensor either polls, with `interval` and `poll`, or follows a stream, with `events`. Both give `Emit` directives:
    signals for the agent, or for the address that a directive names.

    A poll that fails gives nothing, and the sensor goes on. A stream that fails ends the sensor.

    >>> class Thermometer(Sensor):
    ...     every: float = 60.0
    ...
    ...     def interval(self) -> float:
    ...         return self.every
    ...
    ...     def poll(self, context: SensorContext) -> list[Emit]:
    ...         return [Emit("room.measured", {"celsius": 21.5})]
    """

    def interval(self) -> float | None:
        """Return the seconds from one poll to the next; None for a sensor that follows a stream."""
        return None

    def init(self, context: SensorContext) -> None:
        """Prepare, or refuse to start by an exception."""

    def poll(self, context: SensorContext) -> Iterable[Emit] | Awaitable[Iterable[Emit]]:
        """Return what has happened since the last poll."""
        return ()

    def handle_event(self, event: Any, context: SensorContext) -> Iterable[Emit]:
        """Return the signals for an event passed in with `inject`."""
        return ()

    def events(self, context: SensorContext) -> AsyncIterator[Emit]:
        """Return what happens, when it happens: to be overridden as ``async def`` with ``yield``."""
        remedy = "give it an interval() and a poll(), or events()"
        raise BadParams(type(self).__name__, f"it does not say what it senses: {remedy} ({context.tag})")


class SensorContext:
    """Where a sensor is.

    Attributes:
        runtime: the one it runs in: its clock, its random numbers.
        agent: the server of the agent whose sensor it is.
        agent_id: of that agent.
        tag: of the sensor.
        memory: what the sensor remembers from one poll to the next.
    """

    __slots__ = ("agent", "agent_id", "memory", "runtime", "tag")

    def __init__(self, runtime: Runtime, agent: Ref, agent_id: str, tag: str) -> None:
        self.runtime = runtime
        self.agent = agent
        self.agent_id = agent_id
        self.tag = tag
        self.memory: dict[str, Any] = {}


def inject(sensor: Ref, event: Any) -> None:
    """Pass an event in to a sensor that runs and polls."""
    sensor.cast(Inject(event))


class Inject(Message, frozen=True):
    """An event passed in to a sensor."""

    event: Any


class _PollDue(Message, frozen=True):
    """Timer message: poll now."""


class _Follow(Message, frozen=True):
    """Message of a sensor to itself: follow the stream."""


class SensorServer(Actor):
    """The actor that runs one sensor. It ends when the agent's server does.

    Args:
        sensor: the sensor.
        agent: the agent's server.
        agent_id: of the agent.
        source: what is given as the source of its signals.
        tag: of the sensor.

    Raises:
        BadParams: it is not a sensor, or its configuration is invalid.
    """

    def __init__(self, sensor: Sensor, agent: Ref, agent_id: str, source: str, tag: str) -> None:
        if not isinstance(sensor, Sensor):
            raise BadParams(tag, f"{sensor!r} is no sensor")
        try:
            self._sensor: Sensor = checked(type(sensor), sensor)
        except msgspec.ValidationError as error:
            raise BadParams(type(sensor).__name__, str(error)) from None
        self._agent = agent
        self._source = source
        self._context = SensorContext(self.runtime, agent, agent_id, tag)

    def init(self) -> None:
        """Begin."""
        self.monitor(self._agent)
        with hook(self._context.tag, "init"):
            self._sensor.init(self._context)
        with hook(self._context.tag, "interval"):
            self._interval = self._sensor.interval()
        if self._interval is None:
            self.continue_with(_Follow())
        else:
            self.send_after(seconds("interval", self._interval, zero=False), _PollDue())

    @handle
    async def poll(self, message: _PollDue) -> None:
        """Poll, and set the timer again."""
        try:
            found = self._sensor.poll(self._context)
            self._tell(await awaited(found) if inspect.isawaitable(found) else found)
        except BaseException as error:
            raise_end(error, self.ref)
            _log.warning("sensor_failed", sensor=type(self._sensor).__name__, tag=self._context.tag, error=repr(error))
        assert self._interval is not None
        self.send_after(self._interval, message)

    @handle
    async def follow(self, message: _Follow) -> None:
        """Follow a stream to its end."""
        with hook(self._context.tag, "events", self.ref):
            async for one in self._sensor.events(self._context):
                self._tell((one,))
        self.stop()

    @handle
    def injected(self, message: Inject) -> None:
        """Handle an event that was passed in."""
        try:
            self._tell(self._sensor.handle_event(message.event, self._context))
        except BaseException as error:
            raise_interrupt(error)
            _log.warning("sensor_failed", sensor=type(self._sensor).__name__, tag=self._context.tag, error=repr(error))

    @handle
    def ended(self, message: Down) -> None:
        """End with the agent's server."""
        self.stop()

    def _tell(self, found: Iterable[Emit]) -> None:
        runtime = self.runtime
        for one in found:
            to = runtime.name(one.to) if isinstance(one.to, str) else one.to or self._agent
            to.cast(new_signal(runtime, one.type, one.data, source=self._source, subject=one.subject))


class Sensors:
    """The sensors of a server, by tag."""

    __slots__ = ("_by_tag",)

    def __init__(self) -> None:
        self._by_tag: dict[str, tuple[Ref, Monitor, bool]] = {}

    async def start(self, server: AgentServer, directive: StartSensor) -> None:
        """Start a sensor. One that runs under the tag is replaced when the new one has started, or kept.

        Raises:
            StartError: it does not start; one that runs under the tag goes on.
        """
        tag, agent = directive.tag, server.agent
        if tag in self._by_tag and directive.keep:
            return
        args = (directive.sensor, server.ref, agent.id, f"{server.source}/{tag}", tag)
        ref = await server.spawn_link(SensorServer, *args)
        server.unlink(ref)  # it stands under the agent's server in the tree; a monitor reports its end
        self.stop(server, tag)
        self._by_tag[tag] = (ref, server.monitor(ref), directive.link)

    def stop(self, server: AgentServer, tag: str) -> None:
        """End a sensor."""
        found = self._by_tag.pop(tag, None)
        if found is not None:
            server.demonitor(found[1], flush=True)
            found[0].exit(SHUTDOWN)

    def ended(self, monitor: Monitor) -> tuple[str, bool] | None:
        """Remove the sensor that a monitor was for; return its tag, and whether it was linked to the server."""
        for tag, (_, watch, link) in self._by_tag.items():
            if watch is monitor:
                del self._by_tag[tag]
                return tag, link
        return None


@executes(StartSensor)
async def start_sensor(server: AgentServer, directive: StartSensor, signal: Signal) -> None:  # noqa: ARG001 - its shape
    """Start a sensor."""
    await server.sensors.start(server, directive)


@executes(StopSensor)
def stop_sensor(server: AgentServer, directive: StopSensor, signal: Signal) -> None:  # noqa: ARG001 - its shape
    """End a sensor."""
    server.sensors.stop(server, directive.tag)
