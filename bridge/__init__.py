# ruff: noqa: E402  # whose the packages are is looked at before they are imported
"""The bridge: how agents, and any other actors, use the services of the platform. See ``docs/how-to/bridge.md``.

- `registration`: agents in the registry, and resources for them.
- `execution`: work under the platform's guards, and an actor around an async function.
- `health`, `monitoring`: what a series of checks says, and the actor that checks.
- `events`: what the bridge adds to the event stream, and signals from events and back.
"""

from foundation.installation import require_own

require_own("supervision", "agents")

# Agents in the registry.
from bridge.registration import register_agent as register_agent
from bridge.registration import register_agents as register_agents
from bridge.registration import start_and_register as start_and_register
from bridge.registration import find_agents as find_agents
from bridge.registration import AgentMetadata as AgentMetadata
from bridge.registration import acquire_for_agent as acquire_for_agent

# Work under the platform's guards.
from bridge.execution import execute_protected as execute_protected
from bridge.execution import execute_with_retry as execute_with_retry
from bridge.execution import distributed_execute as distributed_execute
from bridge.execution import AgentResult as AgentResult
from bridge.execution import AgentFailed as AgentFailed
from bridge.execution import ForeignAgent as ForeignAgent
from bridge.execution import ForeignCall as ForeignCall

# Health.
from bridge.monitoring import setup_monitoring as setup_monitoring
from bridge.monitoring import HealthMonitor as HealthMonitor
from bridge.health import HealthStatus as HealthStatus
from bridge.health import HealthCheck as HealthCheck
from bridge.health import Thresholds as Thresholds
from bridge.events import HealthChanged as HealthChanged
from bridge.health import responds as responds

# Signals and the event stream.
from bridge.events import emit_agent_event as emit_agent_event
from bridge.events import AgentEvent as AgentEvent
from bridge.events import EventSink as EventSink
from bridge.events import EventSignals as EventSignals

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
