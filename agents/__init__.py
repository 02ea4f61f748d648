"""Agents: immutable values changed by pure commands, and the actors that own them.

>>> import msgspec
>>> class CounterState(msgspec.Struct, frozen=True):
...     count: int = 0
>>> class Add(Action[CounterState]):
...     amount: int = 1
...
...     def run(self, context: Context[CounterState]) -> CounterState:
...         return CounterState(context.state.count + self.amount)
>>> class Counter(AgentType[CounterState]):
...     routes = {"counter.add": Add}

Without an actor, a command is a function:

>>> step = cmd(Counter.new("c1"), Add(amount=2), Add)
>>> step.agent.state, step.agent.version
(CounterState(count=3), 1)

With one, it is a signal:

>>> from supervision import Runtime
>>> async def main() -> tuple[int, int]:
...     async with Runtime() as runtime:
...         counter = await start_agent(runtime, Counter, id="c1")
...         counter.cast(counter.signal("counter.add", {"amount": 2}))
...         reply = await counter.call(counter.signal("counter.add"))
...         return reply.agent.state.count, counter.state.count
>>> import asyncio
>>> asyncio.run(main())
(3, 3)
"""

from agents.action import Action as Action
from agents.action import Context as Context
from agents.action import Result as Result
from agents.agent import Agent as Agent
from agents.agent import AgentType as AgentType
from agents.command import ActionLike as ActionLike
from agents.command import Step as Step
from agents.command import acmd as acmd
from agents.command import cmd as cmd
from agents.directives import Directive as Directive
from agents.directives import Emit as Emit
from agents.directives import ErrorDirective as ErrorDirective
from agents.directives import Schedule as Schedule
from agents.directives import Stop as Stop
from agents.errors import AgentError as AgentError
from agents.errors import BadAction as BadAction
from agents.errors import BadAgentType as BadAgentType
from agents.errors import BadParams as BadParams
from agents.errors import BadResult as BadResult
from agents.errors import BadRoute as BadRoute
from agents.errors import BadSignal as BadSignal
from agents.errors import BadState as BadState
from agents.errors import NeedsLoop as NeedsLoop
from agents.errors import NoRoute as NoRoute
from agents.events import ActionFailed as ActionFailed
from agents.handle import AgentHandle as AgentHandle
from agents.handle import connect as connect
from agents.handle import start_agent as start_agent
from agents.ids import uuid7 as uuid7
from agents.policy import ErrorPolicy as ErrorPolicy
from agents.policy import LogOnly as LogOnly
from agents.policy import StopAfter as StopAfter
from agents.policy import TooManyErrors as TooManyErrors
from agents.router import Router as Router
from agents.router import matches as matches
from agents.server import AgentServer as AgentServer
from agents.server import Ask as Ask
from agents.server import GetView as GetView
from agents.server import Reply as Reply
from agents.signal import Signal as Signal
from agents.view import View as View
