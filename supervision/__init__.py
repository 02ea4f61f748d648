"""Actors for asyncio, with the supervision contract of Erlang/OTP.

>>> import asyncio
>>> class Add(Message):
...     n: int
>>> class Total(Request[int]):
...     pass
>>> class Counter(Actor):
...     total = 0
...
...     @handle
...     def add(self, message: Add) -> None:
...         self.total += message.n
...
...     @handle
...     def get(self, request: Total) -> int:
...         return self.total
>>> async def main() -> int:
...     async with Runtime() as runtime:
...         await runtime.spawn(Supervisor, [ChildSpec("counter", Counter, name="counter")])
...         counter = runtime.name("counter")
...         counter.cast(Add(2))
...         counter.cast(Add(3))
...         return await counter.call(Total())
>>> asyncio.run(main())
5
"""

# What one writes: an actor, its messages, its handlers.
from supervision.actor import Actor as Actor
from supervision.messages import Message as Message
from supervision.messages import Request as Request
from supervision._core.dispatch import handle as handle
from supervision.errors import Refuse as Refuse
from supervision.errors import Stop as Stop
from supervision.mailbox import Mailbox as Mailbox
from supervision._core.phases import IGNORE as IGNORE

# Where it runs.
from supervision.runtime import Runtime as Runtime
from supervision._core.info import ActorInfo as ActorInfo
from supervision._core.info import RuntimeStatistics as RuntimeStatistics
from supervision._core.info import ZombieInfo as ZombieInfo

# Whom one talks to.
from supervision.ref import Ref as Ref
from supervision.ref import Name as Name
from supervision.ref import Address as Address
from supervision._core.foreign import ForeignRef as ForeignRef
from supervision.call import Call as Call
from supervision.call import ReplyTo as ReplyTo
from supervision.ref import call_when_ready as call_when_ready
from supervision.actor import current_actor as current_actor
from supervision.actor import spawn_link as spawn_link
from supervision._core.timers import Timer as Timer

# Supervision.
from supervision.supervisors.supervisor import Supervisor as Supervisor
from supervision.supervisors.dynamic_supervisor import DynamicSupervisor as DynamicSupervisor
from supervision.supervisors.partition_supervisor import PartitionSupervisor as PartitionSupervisor
from supervision.supervisors.childspec import ChildSpec as ChildSpec
from supervision.supervisors.childspec import ChildLike as ChildLike
from supervision.supervisors.childspec import Restart as Restart
from supervision.supervisors.supervisor import Strategy as Strategy
from supervision.supervisors.childspec import AutoShutdown as AutoShutdown
from supervision.supervisors.restarts import Backoff as Backoff
from supervision.supervisors.childspec import check_child_specs as check_child_specs
from supervision.supervisors.partition_supervisor import partition as partition

# Orders to a supervisor, and what it knows.
from supervision.supervisors.administration import start_child as start_child
from supervision.supervisors.administration import terminate_child as terminate_child
from supervision.supervisors.administration import restart_child as restart_child
from supervision.supervisors.administration import delete_child as delete_child
from supervision.supervisors.administration import which_child as which_child
from supervision.supervisors.administration import which_children as which_children
from supervision.supervisors.administration import count_children as count_children
from supervision.supervisors.administration import get_child_spec as get_child_spec
from supervision.supervisors._base import supervisor_info as supervisor_info
from supervision.supervisors._base import pending_children as pending_children
from supervision.supervisors.administration import ChildInfo as ChildInfo
from supervision.supervisors.administration import ChildCounts as ChildCounts
from supervision.supervisors.administration import SupervisorInfo as SupervisorInfo

# Links, monitors, and what they tell.
from supervision.ref import Monitor as Monitor
from supervision.messages import Down as Down
from supervision.messages import Exit as Exit
from supervision.messages import IdleTimeout as IdleTimeout

# Why an actor ended.
from supervision.reasons import ExitReason as ExitReason
from supervision.reasons import NORMAL as NORMAL
from supervision.reasons import SHUTDOWN as SHUTDOWN
from supervision.reasons import KILL as KILL
from supervision.reasons import KILLED as KILLED
from supervision.reasons import NOPROC as NOPROC
from supervision.reasons import Shutdown as Shutdown
from supervision.reasons import Killed as Killed
from supervision.reasons import Crashed as Crashed
from supervision.reasons import Abnormal as Abnormal

# State machines.
from supervision.state_machine import StateMachine as StateMachine
from supervision.state_machine import state as state
from supervision.state_machine import Enter as Enter
from supervision.state_machine import StateTimeout as StateTimeout
from supervision.state_machine import EventTimeout as EventTimeout
from supervision.state_machine import NamedTimeout as NamedTimeout

# Errors that callers catch; all of them are in `supervision.errors`.
from supervision.errors import SupervisionError as SupervisionError
from supervision.errors import CallError as CallError
from supervision.errors import NoProcess as NoProcess
from supervision.errors import ActorExited as ActorExited
from supervision.errors import CallTimeout as CallTimeout
from supervision.errors import CallCycle as CallCycle
from supervision.errors import MailboxFull as MailboxFull
from supervision.errors import UnhandledMessage as UnhandledMessage
from supervision.errors import StartError as StartError
from supervision.errors import StartIgnored as StartIgnored
from supervision.errors import ChildError as ChildError
from supervision.errors import AlreadyStarted as AlreadyStarted
from supervision.errors import AlreadyPresent as AlreadyPresent
from supervision.errors import ChildNotFound as ChildNotFound
from supervision.errors import ChildRunning as ChildRunning
from supervision.errors import ChildRestarting as ChildRestarting
from supervision.errors import MaxChildren as MaxChildren
from supervision.errors import SpecError as SpecError
from supervision.errors import BadChildSpec as BadChildSpec
from supervision.errors import BadOption as BadOption
from supervision.errors import BadTime as BadTime
from supervision.errors import AlreadyRegistered as AlreadyRegistered
from supervision.errors import AlreadyReplied as AlreadyReplied
from supervision.errors import NotRunning as NotRunning

# Trees that need each other.
from supervision.applications import Application as Application
from supervision.applications import Applications as Applications

# Tracing.
from supervision.propagation import Propagator as Propagator
from supervision.propagation import KeepingPropagator as KeepingPropagator
from supervision.propagation import inject_context as inject_context
from supervision.propagation import resume_context as resume_context
from supervision.actor import trace_point as trace_point

# Modules of their own: events, groups (OTP's pg), tasks (Elixir's Task), applications.
from supervision import events as events
from supervision import errors as errors
from supervision import groups as groups
from supervision import tasks as tasks
from supervision import applications as applications

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
