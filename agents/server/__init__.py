"""The agent's server: the actor that owns one agent."""

# The server, and the supervisor of the agents that agents start.
from agents.server.children import Binding as Binding
from agents.server.directory import AGENT_SUPERVISOR as AGENT_SUPERVISOR
from agents.server.directory import AgentSupervisor as AgentSupervisor
from agents.server.directory import supervisor_of as supervisor_of
from agents.server.executors import HALT as HALT

# Directives of your own.
from agents.server.executors import executes as executes
from agents.server.messages import Adopt as Adopt

# What it is asked, and what it answers.
from agents.server.messages import Ask as Ask
from agents.server.messages import AttachOwner as AttachOwner
from agents.server.messages import GetRecentTurns as GetRecentTurns
from agents.server.messages import GetView as GetView
from agents.server.messages import Reply as Reply
from agents.server.messages import SetDebug as SetDebug
from agents.server.server import AgentServer as AgentServer
from agents.server.view import TurnRecord as TurnRecord
