"""The agent's server: the actor that owns one agent."""

from agents.server import asking as asking
from agents.server.agents_supervisor import AGENTS as AGENTS
from agents.server.agents_supervisor import AgentSupervisor as AgentSupervisor
from agents.server.agents_supervisor import supervisor_of as supervisor_of
from agents.server.children import Binding as Binding
from agents.server.executing import HALT as HALT
from agents.server.executing import executes as executes
from agents.server.messages import Adopt as Adopt
from agents.server.messages import Ask as Ask
from agents.server.messages import AttachOwner as AttachOwner
from agents.server.messages import GetRecent as GetRecent
from agents.server.messages import GetView as GetView
from agents.server.messages import Reply as Reply
from agents.server.messages import SetDebug as SetDebug
from agents.server.recent import TurnRecord as TurnRecord
from agents.server.server import AgentServer as AgentServer
