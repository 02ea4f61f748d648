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

from supervision import applications as applications
from supervision import errors as errors
from supervision import events as events
from supervision import groups as groups
from supervision import tasks as tasks
from supervision._dispatch import handle as handle
from supervision._keeper import coming as coming
from supervision._keeper import look as look
from supervision._marks import IGNORE as IGNORE
from supervision.actor import Actor as Actor
from supervision.actor import StopLimit as StopLimit
from supervision.actor import current_actor as current_actor
from supervision.actor import spawn_link as spawn_link
from supervision.actor import trace_point as trace_point
from supervision.administration import ChildInfo as ChildInfo
from supervision.administration import Counts as Counts
from supervision.administration import SupervisorInfo as SupervisorInfo
from supervision.administration import count_children as count_children
from supervision.administration import delete_child as delete_child
from supervision.administration import get_child_spec as get_child_spec
from supervision.administration import restart_child as restart_child
from supervision.administration import start_child as start_child
from supervision.administration import terminate_child as terminate_child
from supervision.administration import which_child as which_child
from supervision.administration import which_children as which_children
from supervision.applications import Application as Application
from supervision.applications import ApplicationInfo as ApplicationInfo
from supervision.applications import Applications as Applications
from supervision.budget import BudgetState as BudgetState
from supervision.budget import RestartBudget as RestartBudget
from supervision.call import Call as Call
from supervision.call import ReplyTo as ReplyTo
from supervision.carrier import Carrier as Carrier
from supervision.childspec import AutoShutdown as AutoShutdown
from supervision.childspec import Backoff as Backoff
from supervision.childspec import ChildLike as ChildLike
from supervision.childspec import ChildSpec as ChildSpec
from supervision.childspec import Restart as Restart
from supervision.childspec import check_child_specs as check_child_specs
from supervision.clock import Clock as Clock
from supervision.dynamic_supervisor import DynamicSupervisor as DynamicSupervisor
from supervision.errors import ActorExited as ActorExited
from supervision.errors import AlreadyPresent as AlreadyPresent
from supervision.errors import AlreadyRegistered as AlreadyRegistered
from supervision.errors import AlreadyReplied as AlreadyReplied
from supervision.errors import AlreadyStarted as AlreadyStarted
from supervision.errors import ApplicationAlreadyStarted as ApplicationAlreadyStarted
from supervision.errors import ApplicationError as ApplicationError
from supervision.errors import ApplicationFailed as ApplicationFailed
from supervision.errors import ApplicationNotStarted as ApplicationNotStarted
from supervision.errors import BadApplication as BadApplication
from supervision.errors import BadBackoff as BadBackoff
from supervision.errors import BadBudget as BadBudget
from supervision.errors import BadChildSpec as BadChildSpec
from supervision.errors import BadHandler as BadHandler
from supervision.errors import BadMailbox as BadMailbox
from supervision.errors import BadName as BadName
from supervision.errors import BadOption as BadOption
from supervision.errors import BadStrategy as BadStrategy
from supervision.errors import BadTime as BadTime
from supervision.errors import BadTransition as BadTransition
from supervision.errors import CallbackFailed as CallbackFailed
from supervision.errors import CallCycle as CallCycle
from supervision.errors import CallError as CallError
from supervision.errors import CallTimeout as CallTimeout
from supervision.errors import ChildError as ChildError
from supervision.errors import ChildNotFound as ChildNotFound
from supervision.errors import ChildRestarting as ChildRestarting
from supervision.errors import ChildRunning as ChildRunning
from supervision.errors import MailboxFull as MailboxFull
from supervision.errors import MaxChildren as MaxChildren
from supervision.errors import NoPartitions as NoPartitions
from supervision.errors import NoProcess as NoProcess
from supervision.errors import NotOffered as NotOffered
from supervision.errors import NotOwner as NotOwner
from supervision.errors import NotRunning as NotRunning
from supervision.errors import Refuse as Refuse
from supervision.errors import SpecError as SpecError
from supervision.errors import StartError as StartError
from supervision.errors import StartIgnored as StartIgnored
from supervision.errors import Stop as Stop
from supervision.errors import SupervisionError as SupervisionError
from supervision.errors import TaskExited as TaskExited
from supervision.errors import TaskTimeout as TaskTimeout
from supervision.errors import UnhandledMessage as UnhandledMessage
from supervision.errors import UnknownApplication as UnknownApplication
from supervision.mailbox import Mailbox as Mailbox
from supervision.mailbox import MailboxStatistics as MailboxStatistics
from supervision.messages import Down as Down
from supervision.messages import Exit as Exit
from supervision.messages import IdleTimeout as IdleTimeout
from supervision.messages import Message as Message
from supervision.messages import Request as Request
from supervision.monitor import Monitor as Monitor
from supervision.partition_supervisor import PartitionSupervisor as PartitionSupervisor
from supervision.partition_supervisor import partition as partition
from supervision.partition_supervisor import partitions as partitions
from supervision.partition_supervisor import resize as resize
from supervision.reasons import KILL as KILL
from supervision.reasons import KILLED as KILLED
from supervision.reasons import NOPROC as NOPROC
from supervision.reasons import NORMAL as NORMAL
from supervision.reasons import SHUTDOWN as SHUTDOWN
from supervision.reasons import Abnormal as Abnormal
from supervision.reasons import ApplicationEnded as ApplicationEnded
from supervision.reasons import BadReturnValue as BadReturnValue
from supervision.reasons import Crashed as Crashed
from supervision.reasons import ExitReason as ExitReason
from supervision.reasons import FailedCallback as FailedCallback
from supervision.reasons import FailedToStartChild as FailedToStartChild
from supervision.reasons import Killed as Killed
from supervision.reasons import ProcessExited as ProcessExited
from supervision.reasons import Shutdown as Shutdown
from supervision.reasons import StartTimeout as StartTimeout
from supervision.ref import Address as Address
from supervision.ref import Name as Name
from supervision.ref import Ref as Ref
from supervision.reports import Reports as Reports
from supervision.resend import call_when_ready as call_when_ready
from supervision.runtime import ActorInfo as ActorInfo
from supervision.runtime import Runtime as Runtime
from supervision.runtime import RuntimeStatistics as RuntimeStatistics
from supervision.runtime import ZombieInfo as ZombieInfo
from supervision.state_machine import Enter as Enter
from supervision.state_machine import EventTimeout as EventTimeout
from supervision.state_machine import NamedTimeout as NamedTimeout
from supervision.state_machine import StateMachine as StateMachine
from supervision.state_machine import StateTimeout as StateTimeout
from supervision.state_machine import state as state
from supervision.supervisor import Strategy as Strategy
from supervision.supervisor import Supervisor as Supervisor
from supervision.timers import Timer as Timer

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
