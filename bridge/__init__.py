# ruff: noqa: E402  # whose the packages are is looked at before they are imported
"""The bridge: how agents, and any other actors, use the services of the platform. See ``docs/how-to/bridge.md``."""

from foundation.installation import require_own

require_own("supervision", "agents")

from bridge.events import AgentEvent as AgentEvent
from bridge.events import HealthChanged as HealthChanged
from bridge.events import emit_agent_event as emit_agent_event
from bridge.execution import AgentFailed as AgentFailed
from bridge.execution import AgentResult as AgentResult
from bridge.execution import distributed_execute as distributed_execute
from bridge.execution import execute_protected as execute_protected
from bridge.execution import execute_with_retry as execute_with_retry
from bridge.foreign import ForeignAgent as ForeignAgent
from bridge.foreign import Run as Run
from bridge.health import Check as Check
from bridge.health import Health as Health
from bridge.health import Thresholds as Thresholds
from bridge.health import answers as answers
from bridge.monitoring import HealthMonitor as HealthMonitor
from bridge.monitoring import setup_monitoring as setup_monitoring
from bridge.registration import AgentMetadata as AgentMetadata
from bridge.registration import acquire_for_agent as acquire_for_agent
from bridge.registration import find_agents as find_agents
from bridge.registration import register_agent as register_agent
from bridge.registration import register_agents as register_agents
from bridge.registration import start_and_register as start_and_register
from bridge.signals import EventSignals as EventSignals
from bridge.signals import EventSink as EventSink

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
