"""The actor that owns one agent, and how it is reached.

- `server`: which messages an `AgentServer` handles, and when it takes a turn. `turns`: the turn, from a signal to a
  commit and to its directives. `durable_server`, `durable_turns`: what there is more of both for a durable agent.
- `executors`: how directives are carried out, one function for each kind. What a server has to remember of them is kept
  in files of their own, with their executors: `children`, `timers`, `sensors`.
- `error_policy`: what a server does when an action has failed.
- `messages`, `view`: what a server is asked, and what is seen of its agent without asking. They know no other part.
- `directory`: the agents of a runtime by type and id, and by capability. `supervisor`: the one of those that agents
  start, with a budget of restarts for each.
- `handle`: an agent as its users see it: start it, signal it, read it, wait for it.

The server knows its parts. A part gets the server whose turn it is as an argument and knows its type alone, so that at
runtime no import runs back.
"""

# The server, and the supervisor of the agents that agents start.
from agents.server.server import AgentServer as AgentServer
from agents.server.supervisor import AgentSupervisor as AgentSupervisor
from agents.server.supervisor import AGENT_SUPERVISOR as AGENT_SUPERVISOR
from agents.server.supervisor import supervisor_of as supervisor_of
from agents.server.supervisor import ParkedAgent as ParkedAgent
from agents.server.supervisor import parked_agents as parked_agents
from agents.server.children import Binding as Binding

# What it is asked, and what it answers.
from agents.server.messages import Ask as Ask
from agents.server.messages import Reply as Reply
from agents.server.messages import GetView as GetView
from agents.server.messages import GetRecentTurns as GetRecentTurns
from agents.server.view import TurnRecord as TurnRecord
from agents.server.messages import SetDebug as SetDebug
from agents.server.messages import Adopt as Adopt
from agents.server.messages import AttachOwner as AttachOwner

# Directives of your own.
from agents.server.executors import executes as executes
from agents.server.executors import HALT as HALT
