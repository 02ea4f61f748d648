"""The test kit: virtual time, barriers, seeded schedules, faults, plans, checks and reports.

`run`, `advance`, `barrier` and `settled` replace sleeping. `Chaos` carries out a `Plan` of faults. The fixtures of the
pytest plugin are in `pytest_foundation`.
"""

from supervision.testing.barrier import NotSettled as NotSettled
from supervision.testing.barrier import barrier as barrier
from supervision.testing.barrier import settled as settled
from supervision.testing.census import Census as Census
from supervision.testing.chaos import Chaos as Chaos
from supervision.testing.checks import Expected as Expected
from supervision.testing.checks import Violation as Violation
from supervision.testing.checks import exact_order as exact_order
from supervision.testing.checks import must_hold as must_hold
from supervision.testing.checks import partial_order as partial_order
from supervision.testing.client import Client as Client
from supervision.testing.client import Requests as Requests
from supervision.testing.event_log import EventLog as EventLog
from supervision.testing.explorer import BrokenByInterruption as BrokenByInterruption
from supervision.testing.explorer import Exploration as Exploration
from supervision.testing.explorer import Failure as Failure
from supervision.testing.explorer import explore as explore
from supervision.testing.faults import BlockLoop as BlockLoop
from supervision.testing.faults import ChaosCrash as ChaosCrash
from supervision.testing.faults import Crash as Crash
from supervision.testing.faults import Delay as Delay
from supervision.testing.faults import Drop as Drop
from supervision.testing.faults import Duplicate as Duplicate
from supervision.testing.faults import Exhaust as Exhaust
from supervision.testing.faults import Exit as Exit
from supervision.testing.faults import FailStart as FailStart
from supervision.testing.faults import Fault as Fault
from supervision.testing.faults import Hang as Hang
from supervision.testing.faults import Kill as Kill
from supervision.testing.faults import KillDuring as KillDuring
from supervision.testing.faults import LateReply as LateReply
from supervision.testing.faults import RefuseStop as RefuseStop
from supervision.testing.faults import Sigkill as Sigkill
from supervision.testing.faults import SlowStop as SlowStop
from supervision.testing.faults import Suspend as Suspend
from supervision.testing.faults import SwallowCancel as SwallowCancel
from supervision.testing.injector import Injector as Injector
from supervision.testing.interruption import Outcome as Outcome
from supervision.testing.interruption import Run as Run
from supervision.testing.ledger import Ledger as Ledger
from supervision.testing.nasty import NASTY as NASTY
from supervision.testing.nasty import MissingHypothesis as MissingHypothesis
from supervision.testing.nasty import Spite as Spite
from supervision.testing.nasty import nasty as nasty
from supervision.testing.plan import BadPlan as BadPlan
from supervision.testing.plan import Plan as Plan
from supervision.testing.plan import Step as Step
from supervision.testing.report import Report as Report
from supervision.testing.schedule import SeededQueue as SeededQueue
from supervision.testing.shrink import shrink as shrink
from supervision.testing.survival import NeverEnds as NeverEnds
from supervision.testing.survival import NotSurvived as NotSurvived
from supervision.testing.survival import survives as survives
from supervision.testing.victims import Victims as Victims
from supervision.testing.virtual_clock import LoopRunning as LoopRunning
from supervision.testing.virtual_clock import Standstill as Standstill
from supervision.testing.virtual_clock import VirtualClockLoop as VirtualClockLoop
from supervision.testing.virtual_clock import advance as advance
from supervision.testing.virtual_clock import run as run
