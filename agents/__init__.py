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

The rooms:

- `agents.core`: values and pure functions: what an agent is, and how commands change it.
- `agents.server`: the actor that owns one agent, and how it is reached.
- `agents.signals`: what carries signals: the bus, and sinks.
- `agents.durability`: when and where an agent is saved.
- `agents.instances`, `agents.pool`, `agents.pods`: many agents: one for each key, equal workers, a declared team.
- `agents.trees`: parts of tree files.
- `agents.outbox`: what durable agents have decided and not done, for whoever looks after a service.
- `agents.errors`, `agents.events`: what can go wrong, and what agents add to the event stream.
"""

# What an agent is, and what changes it.
from agents.core.agent import Agent as Agent
from agents.core.agent_type import AgentType as AgentType
from agents.core.action import Action as Action
from agents.core.action import Context as Context
from agents.core.action import Result as Result
from agents.core.action import Failure as Failure
from agents.core.action import Attempts as Attempts
from agents.core.command import cmd as cmd
from agents.core.command import acmd as acmd
from agents.core.command import Step as Step
from agents.core.command import OnFailure as OnFailure

# An agent that runs: its server, and how to reach it.
from agents.server.handle import start_agent as start_agent
from agents.server.handle import connect as connect
from agents.server.handle import AgentHandle as AgentHandle
from agents.server import AgentServer as AgentServer
from agents.server import AgentSupervisor as AgentSupervisor
from agents.core.signal import Signal as Signal
from agents.core.signal import new_signal as new_signal
from agents.server import Ask as Ask
from agents.server import Reply as Reply

# Directives: what is to happen outside.
from agents.core.directives import Directive as Directive
from agents.core.directives import Emit as Emit
from agents.core.directives import Schedule as Schedule
from agents.core.directives import Cron as Cron
from agents.core.directives import Unschedule as Unschedule
from agents.core.directives import Withdraw as Withdraw
from agents.core.directives import SpawnAgent as SpawnAgent
from agents.core.directives import AdoptChild as AdoptChild
from agents.core.directives import StopChild as StopChild
from agents.core.directives import Spawn as Spawn
from agents.core.directives import RunInstruction as RunInstruction
from agents.core.directives import AwaitReply as AwaitReply
from agents.core.directives import StartSensor as StartSensor
from agents.core.directives import StopSensor as StopSensor
from agents.core.directives import StopAgent as StopAgent
from agents.core.directives import ErrorDirective as ErrorDirective

# Where signals lead to.
from agents.core.router import Route as Route
from agents.core.router import Router as Router
from agents.core.router import matches as matches

# Actions made of actions, and run without an agent.
from agents.core.composition import Chain as Chain
from agents.core.composition import Branch as Branch
from agents.core.composition import Parallel as Parallel
from agents.core.composition import Plan as Plan
from agents.core.execution import execute as execute
from agents.core.execution import aexecute as aexecute
from agents.core.action import ActionLike as ActionLike
from agents.core.action import tool_schema as tool_schema

# Operations on the state.
from agents.core.operations import Operation as Operation
from agents.core.operations import SetState as SetState
from agents.core.operations import ReplaceState as ReplaceState
from agents.core.operations import DeleteKeys as DeleteKeys
from agents.core.operations import SetPath as SetPath
from agents.core.operations import DeletePath as DeletePath
from agents.core.operations import SetSlice as SetSlice
from agents.core.action import Effect as Effect

# What a type can have besides: strategies, plugins, sensors, error policies.
from agents.core.strategies import AgentStrategy as AgentStrategy
from agents.core.strategies import Direct as Direct
from agents.core.strategies import StateMachineStrategy as StateMachineStrategy
from agents.core.strategies import StepByStep as StepByStep
from agents.core.plugin import Plugin as Plugin
from agents.core.plugin import Override as Override
from agents.server.sensors import Sensor as Sensor
from agents.server.sensors import SensorContext as SensorContext
from agents.server.error_policy import ErrorPolicy as ErrorPolicy
from agents.server.error_policy import LogOnly as LogOnly
from agents.server.error_policy import StopAfter as StopAfter
from agents.server.error_policy import EmitError as EmitError
from agents.server.error_policy import TooManyErrors as TooManyErrors

# Finding agents, looking at them, and awaiting them.
from agents.server.directory import whereis as whereis
from agents.server.directory import agent_ids as agent_ids
from agents.server.directory import find_by_capability as find_by_capability
from agents.server import ParkedAgent as ParkedAgent
from agents.server import parked_agents as parked_agents
from agents.server.handle import AgentStatus as AgentStatus
from agents.server.view import AgentView as AgentView
from agents.core.agent import AgentProgress as AgentProgress
from agents.core.agent import Completion as Completion
from agents.server.view import ChildAgent as ChildAgent
from agents.core.agent import Parent as Parent
from agents.server.handle import all_completed as all_completed
from agents.server.handle import first_completed as first_completed

# Events.
from agents.events import TurnTaken as TurnTaken
from agents.events import ActionFailed as ActionFailed
from agents.events import SignalUndelivered as SignalUndelivered
from agents.events import AgentParked as AgentParked
from agents.events import CompensationDelayed as CompensationDelayed
from agents.events import EffectDead as EffectDead
from agents.events import SignalsForgotten as SignalsForgotten
from agents.events import TicksMissed as TicksMissed
from agents.events import TimerDropped as TimerDropped

# Errors.
from agents.errors import AgentError as AgentError
from agents.errors import AgentExists as AgentExists
from agents.errors import AgentTimeout as AgentTimeout
from agents.errors import AmbiguousAgent as AmbiguousAgent
from agents.errors import BadAction as BadAction
from agents.errors import BadAgentType as BadAgentType
from agents.errors import BadCheckpoint as BadCheckpoint
from agents.errors import BadCronSchedule as BadCronSchedule
from agents.errors import BadParams as BadParams
from agents.errors import BadPlan as BadPlan
from agents.errors import BadResult as BadResult
from agents.errors import BadRoute as BadRoute
from agents.errors import BadSignal as BadSignal
from agents.errors import BadState as BadState
from agents.errors import CompensationFailed as CompensationFailed
from agents.errors import DebugOff as DebugOff
from agents.errors import HookFailed as HookFailed
from agents.errors import Moved as Moved
from agents.errors import NeedsLoop as NeedsLoop
from agents.errors import NoRoute as NoRoute
from agents.errors import NoToken as NoToken
from agents.errors import NotAdopted as NotAdopted
from agents.errors import NotSaved as NotSaved
from agents.errors import PublishRefused as PublishRefused
from agents.errors import ResultConflict as ResultConflict
from agents.errors import SchemaMismatch as SchemaMismatch
from agents.errors import StrategyRefused as StrategyRefused
from agents.errors import TagTaken as TagTaken
from agents.errors import TurnCancelled as TurnCancelled

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
