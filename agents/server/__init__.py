"""The actor that owns one agent, and how it is reached.

- `server`: which messages an `AgentServer` handles, and when it takes a turn. `turns`: the turn, from a signal to a
  commit and to its directives.
- `executors`: how directives are carried out, one function for each kind. What a server has to remember of them is kept
  in files of their own, with their executors: `children`, `timers`, `sensors`.
- `error_policy`: what a server does when an action has failed.
- `messages`, `view`: what a server is asked, and what is seen of its agent without asking. They know no other part.
- `directory`: the agents of a runtime by id and by capability, and the supervisor of those that agents start.
- `handle`: an agent as its users see it: start it, signal it, read it, wait for it.

The server knows its parts. A part gets the server whose turn it is as an argument and knows its type alone, so that at
runtime no import runs back.
"""

# The server, and the supervisor of the agents that agents start.
from agents.server.server import AgentServer as AgentServer
from agents.server.directory import AgentSupervisor as AgentSupervisor
from agents.server.directory import AGENT_SUPERVISOR as AGENT_SUPERVISOR
from agents.server.directory import supervisor_of as supervisor_of
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
