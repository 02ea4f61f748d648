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
from agents.action import Effect as Effect
from agents.action import Failure as Failure
from agents.action import Result as Result
from agents.agent import Agent as Agent
from agents.agent_type import AgentType as AgentType
from agents.attempts import Attempts as Attempts
from agents.command import OnFailure as OnFailure
from agents.command import Step as Step
from agents.command import acmd as acmd
from agents.command import cmd as cmd
from agents.composition import Branch as Branch
from agents.composition import Chain as Chain
from agents.composition import Parallel as Parallel
from agents.composition import Plan as Plan
from agents.directives import AdoptChild as AdoptChild
from agents.directives import AwaitReply as AwaitReply
from agents.directives import Cron as Cron
from agents.directives import Directive as Directive
from agents.directives import Emit as Emit
from agents.directives import ErrorDirective as ErrorDirective
from agents.directives import RunInstruction as RunInstruction
from agents.directives import Schedule as Schedule
from agents.directives import Spawn as Spawn
from agents.directives import SpawnAgent as SpawnAgent
from agents.directives import StartSensor as StartSensor
from agents.directives import Stop as Stop
from agents.directives import StopChild as StopChild
from agents.directives import StopSensor as StopSensor
from agents.directives import Unschedule as Unschedule
from agents.directory import agent_ids as agent_ids
from agents.directory import capable as capable
from agents.directory import whereis as whereis
from agents.errors import AgentError as AgentError
from agents.errors import AgentExists as AgentExists
from agents.errors import AgentTimeout as AgentTimeout
from agents.errors import BadAction as BadAction
from agents.errors import BadAgentType as BadAgentType
from agents.errors import BadCheckpoint as BadCheckpoint
from agents.errors import BadParams as BadParams
from agents.errors import BadPlan as BadPlan
from agents.errors import BadResult as BadResult
from agents.errors import BadRoute as BadRoute
from agents.errors import BadSignal as BadSignal
from agents.errors import BadState as BadState
from agents.errors import BadTimetable as BadTimetable
from agents.errors import CompensationFailed as CompensationFailed
from agents.errors import Conflict as Conflict
from agents.errors import DebugOff as DebugOff
from agents.errors import HookFailed as HookFailed
from agents.errors import NeedsLoop as NeedsLoop
from agents.errors import NoRoute as NoRoute
from agents.errors import NotAdopted as NotAdopted
from agents.errors import NotKept as NotKept
from agents.errors import StrategyRefused as StrategyRefused
from agents.errors import TagTaken as TagTaken
from agents.events import ActionFailed as ActionFailed
from agents.events import SignalUndelivered as SignalUndelivered
from agents.events import TurnTaken as TurnTaken
from agents.execution import aexecute as aexecute
from agents.execution import execute as execute
from agents.handle import AgentHandle as AgentHandle
from agents.handle import AgentStatus as AgentStatus
from agents.handle import all_completed as all_completed
from agents.handle import connect as connect
from agents.handle import first_completed as first_completed
from agents.handle import start_agent as start_agent
from agents.ids import uuid7 as uuid7
from agents.operations import DeleteKeys as DeleteKeys
from agents.operations import DeletePath as DeletePath
from agents.operations import Operation as Operation
from agents.operations import ReplaceState as ReplaceState
from agents.operations import SetPath as SetPath
from agents.operations import SetSlice as SetSlice
from agents.operations import SetState as SetState
from agents.parent import Parent as Parent
from agents.plugin import Instead as Instead
from agents.plugin import Plugin as Plugin
from agents.policy import EmitError as EmitError
from agents.policy import ErrorPolicy as ErrorPolicy
from agents.policy import LogOnly as LogOnly
from agents.policy import StopAfter as StopAfter
from agents.policy import TooManyErrors as TooManyErrors
from agents.router import Route as Route
from agents.router import Router as Router
from agents.router import matches as matches
from agents.sensor import Sensor as Sensor
from agents.sensor import SensorContext as SensorContext
from agents.server import AgentServer as AgentServer
from agents.server import AgentSupervisor as AgentSupervisor
from agents.server import Ask as Ask
from agents.server import GetView as GetView
from agents.server import Reply as Reply
from agents.signal import Signal as Signal
from agents.snapshot import Completion as Completion
from agents.snapshot import Snapshot as Snapshot
from agents.strategies import Direct as Direct
from agents.strategies import StateMachine as StateMachine
from agents.strategies import StepByStep as StepByStep
from agents.strategies import Strategy as Strategy
from agents.timetable import Timetable as Timetable
from agents.tool import tool as tool
from agents.view import ChildAgent as ChildAgent
from agents.view import View as View
from agents.work import ActionLike as ActionLike

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
