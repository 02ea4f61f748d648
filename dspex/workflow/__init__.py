"""Durable workflows: the ground under whatever takes long, costs money, and must not be done twice."""

# A workflow, and the step in which code runs.
from dspex.workflow.actor import CancelWorkflow as CancelWorkflow
from dspex.workflow.actor import GetResult as GetResult

# A workflow in a tree.
from dspex.workflow.actor import WorkflowActor as WorkflowActor
from dspex.workflow.batch import BatchResult as BatchResult
from dspex.workflow.batch import WithUsage as WithUsage

# Many items.
from dspex.workflow.batch import run_items as run_items
from dspex.workflow.degradation import ChosenRung as ChosenRung

# Graceful degradation.
from dspex.workflow.degradation import DegradationLadder as DegradationLadder
from dspex.workflow.degradation import DegradationReason as DegradationReason
from dspex.workflow.degradation import Rung as Rung
from dspex.workflow.errors import BadJournal as BadJournal
from dspex.workflow.errors import BadStepKey as BadStepKey
from dspex.workflow.errors import CannotUndo as CannotUndo
from dspex.workflow.errors import DuplicateStep as DuplicateStep
from dspex.workflow.errors import JournalFull as JournalFull
from dspex.workflow.errors import NotEncodable as NotEncodable
from dspex.workflow.errors import NoUsableCheckpoint as NoUsableCheckpoint
from dspex.workflow.errors import OtherRun as OtherRun
from dspex.workflow.errors import StaleFence as StaleFence
from dspex.workflow.errors import StepCancelled as StepCancelled
from dspex.workflow.errors import StepChanged as StepChanged
from dspex.workflow.errors import StepFailed as StepFailed
from dspex.workflow.errors import StepTrimmed as StepTrimmed
from dspex.workflow.errors import UndoFailed as UndoFailed
from dspex.workflow.errors import UnsupportedVersion as UnsupportedVersion

# Errors.
from dspex.workflow.errors import WorkflowError as WorkflowError
from dspex.workflow.errors import WorkflowSuspended as WorkflowSuspended
from dspex.workflow.events import CheckpointUnreadable as CheckpointUnreadable
from dspex.workflow.events import ItemLost as ItemLost
from dspex.workflow.events import RoundClosed as RoundClosed

# Events.
from dspex.workflow.events import StepEnded as StepEnded
from dspex.workflow.events import StepRetried as StepRetried
from dspex.workflow.items import Claim as Claim
from dspex.workflow.items import WorkItem as WorkItem
from dspex.workflow.items import WorkItems as WorkItems

# What stands on workflows.
from dspex.workflow.journal import Journal as Journal
from dspex.workflow.retry import RetryPolicy as RetryPolicy
from dspex.workflow.retry import is_transient as is_transient
from dspex.workflow.rounds import Byzantine as Byzantine
from dspex.workflow.rounds import QuorumRound as QuorumRound
from dspex.workflow.rounds import RoundResult as RoundResult

# Quorum rounds.
from dspex.workflow.rounds import hold_round as hold_round
from dspex.workflow.steps import CurrentStep as CurrentStep
from dspex.workflow.steps import current_step as current_step
from dspex.workflow.suspension import Suspension as Suspension
from dspex.workflow.workflow import Workflow as Workflow
