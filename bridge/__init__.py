"""The bridge: how agents, and any other actors, use the services of the platform.

>>> import asyncio, msgspec
>>> from agents import AgentServer, AgentType
>>> from foundation.registry import Directory, Registry
>>> from supervision import ChildSpec, DynamicSupervisor, Runtime, Supervisor
>>> class Nothing(msgspec.Struct, frozen=True):
...     pass
>>> class Translator(AgentType[Nothing]):
...     pass
>>> children = [
...     ChildSpec("registry", Registry),
...     ChildSpec("monitors", DynamicSupervisor, name="monitors"),
...     ChildSpec("t1", start_and_register, (AgentServer, (Translator,)), {"key": "t1", "capabilities": ["translate"]}),
... ]
>>> async def main() -> list[str]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Supervisor, children)
...         directory = Directory.of(runtime)
...         await setup_monitoring(runtime.name("monitors"), directory, "t1", interval=10.0)
...         return [f"{entry.key} is {entry.metadata.health}" for entry in directory.find("capabilities", "translate")]
>>> asyncio.run(main())
['t1 is healthy']
"""

from bridge.events import AgentEvent as AgentEvent
from bridge.events import HealthChanged as HealthChanged
from bridge.events import emit_agent_event as emit_agent_event
from bridge.health import Check as Check
from bridge.health import Health as Health
from bridge.health import Thresholds as Thresholds
from bridge.health import answers as answers
from bridge.monitoring import HealthMonitor as HealthMonitor
from bridge.monitoring import setup_monitoring as setup_monitoring
from bridge.registration import AgentMetadata as AgentMetadata
from bridge.registration import register_agent as register_agent
from bridge.registration import start_and_register as start_and_register
