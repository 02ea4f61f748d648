"""The sensors of an agent's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.directives import StartSensor, StopSensor
from agents.sensor import SensorServer
from agents.server.executing import executes
from supervision import SHUTDOWN, Monitor, Ref

if TYPE_CHECKING:
    from agents.server.server import AgentServer
    from agents.signal import Signal


class Sensors:
    """The sensors of a server, by tag."""

    __slots__ = ("_by_tag",)

    def __init__(self) -> None:
        self._by_tag: dict[str, tuple[Ref, Monitor, bool]] = {}

    async def start(self, server: AgentServer, directive: StartSensor) -> None:
        """Start a sensor. One that runs under the tag is replaced when the new one has started; or is kept.

        Raises:
            StartError: it does not start; one that runs under the tag goes on.
        """
        tag, agent = directive.tag, server.agent
        if tag in self._by_tag and directive.keep:
            return
        args = (directive.sensor, server.ref, agent.id, f"{server.source}/{tag}", tag)
        ref = await server.spawn_link(SensorServer, *args)
        server.unlink(ref)  # it stands under the agent's server in the tree; its end is told by a monitor
        self.stop(server, tag)
        self._by_tag[tag] = (ref, server.monitor(ref), directive.link)

    def stop(self, server: AgentServer, tag: str) -> None:
        """End a sensor."""
        found = self._by_tag.pop(tag, None)
        if found is not None:
            server.demonitor(found[1], flush=True)
            found[0].exit(SHUTDOWN)

    def ended(self, monitor: Monitor) -> tuple[str, bool] | None:
        """Forget the sensor that a monitor was for; return its tag, and whether the server goes with it."""
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
