"""The test kit: virtual time, barriers, seeded schedules, faults, plans, checks and reports.

`run`, `advance`, `barrier` and `settled` replace sleeping. A `Probe` does what a test tells it. `Chaos` carries out a
`ChaosPlan` of faults. The fixtures of the pytest plugin are in `pytest_foundation`.
"""

# Time and rest, instead of sleeping.
from supervision.testing.virtual_time.virtual_loop import run as run
from supervision.testing.virtual_time.virtual_loop import advance as advance
from supervision.testing.barrier import settled as settled
from supervision.testing.barrier import barrier as barrier
from supervision.testing.virtual_time.virtual_loop import VirtualClockLoop as VirtualClockLoop
from supervision.testing.schedule import SeededQueue as SeededQueue
from supervision.testing.barrier import NotSettled as NotSettled
from supervision.testing.virtual_time.virtual_loop import Standstill as Standstill
from supervision.testing.virtual_time.virtual_loop import LoopRunning as LoopRunning

# Actors that do what a test says.
from supervision.testing.probe import Probe as Probe
from supervision.testing.probe import ProbeLog as ProbeLog
from supervision.testing.probe import Do as Do
from supervision.testing.probe import DoAndReply as DoAndReply
from supervision.testing.probe import Note as Note
from supervision.testing.probe import do as do
from supervision.testing.probe import hang as hang
from supervision.testing.probe import error_of as error_of

# Does a service live through faults?
from supervision.testing.fault_injection.survival import survives as survives
from supervision.testing.fault_injection.survival import NotSurvived as NotSurvived
from supervision.testing.fault_injection.survival import NeverEnds as NeverEnds
from supervision.testing.fault_injection.chaos import Chaos as Chaos
from supervision.testing.fault_injection.plan import ChaosPlan as ChaosPlan
from supervision.testing.fault_injection.plan import ChaosStep as ChaosStep
from supervision.testing.fault_injection.victims import Victims as Victims
from supervision.testing.fault_injection.client import Client as Client
from supervision.testing.fault_injection.client import RequestCounts as RequestCounts
from supervision.testing.fault_injection.report import Report as Report
from supervision.testing.fault_injection.plan import BadChaosPlan as BadChaosPlan
from supervision.testing.fault_injection.shrink import shrink as shrink

# Faults.
from supervision.testing.fault_injection.faults import Fault as Fault
from supervision.testing.fault_injection.faults import Kill as Kill
from supervision.testing.fault_injection.faults import Crash as Crash
from supervision.testing.fault_injection.faults import ExitFault as ExitFault
from supervision.testing.fault_injection.faults import KillDuring as KillDuring
from supervision.testing.fault_injection.faults import FailStart as FailStart
from supervision.testing.fault_injection.faults import SlowStop as SlowStop
from supervision.testing.fault_injection.faults import RefuseStop as RefuseStop
from supervision.testing.fault_injection.faults import Hang as Hang
from supervision.testing.fault_injection.faults import BlockLoop as BlockLoop
from supervision.testing.fault_injection.faults import SwallowCancel as SwallowCancel
from supervision.testing.fault_injection.faults import Drop as Drop
from supervision.testing.fault_injection.faults import Delay as Delay
from supervision.testing.fault_injection.faults import Duplicate as Duplicate
from supervision.testing.fault_injection.faults import LateReply as LateReply
from supervision.testing.fault_injection.faults import Suspend as Suspend
from supervision.testing.fault_injection.faults import Exhaust as Exhaust
from supervision.testing.fault_injection.faults import Sigkill as Sigkill
from supervision.testing.fault_injection.faults import ChaosCrash as ChaosCrash
from supervision.testing.fault_injection.injector import Injector as Injector

# Does work hold wherever it is cut off?
from supervision.testing.interruptions.explorer import explore as explore
from supervision.testing.interruptions.scenario import ScenarioRun as ScenarioRun
from supervision.testing.interruptions.scenario import WorkOutcome as WorkOutcome
from supervision.testing.interruptions.explorer import Exploration as Exploration
from supervision.testing.interruptions.explorer import InterruptionFailure as InterruptionFailure
from supervision.testing.interruptions.explorer import BrokenByInterruption as BrokenByInterruption

# What happened, and what must hold.
from supervision.testing.event_log import EventLog as EventLog
from supervision.testing.checks import Expected as Expected
from supervision.testing.checks import exact_order as exact_order
from supervision.testing.checks import partial_order as partial_order
from supervision.testing.checks import must_hold as must_hold
from supervision.testing.checks import Violation as Violation
from supervision.testing.ledger import Ledger as Ledger
from supervision.testing.leaks import ResourceCounts as ResourceCounts

# Arguments that nobody should send.
from supervision.testing.nasty import nasty as nasty
from supervision.testing.nasty import NASTY as NASTY
from supervision.testing.nasty import NastyError as NastyError
from supervision.testing.nasty import MissingHypothesis as MissingHypothesis
