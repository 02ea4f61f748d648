"""Durable workflows: steps run once, across crashes.

- `workflow` is what code is written with; `actor` runs it in a tree.
- `steps` does a step, by the policy of `retry`, and `compensations` undo steps. `state` is the journal folded into what
  is known of a run, and `journal` keeps its entries in a storage, as `encoding` writes them.
- `batch` has supervised workers do many items; `items` are their claims, with leases and fences. `rounds` are quorum
  rounds, and `degradation` which lesser answer is given. These stand on `workflow`.
- `workers` (a pool, and the coordinator of a work) and `suspension` (calls that wait in an outage) know nothing of
  workflows; teleprompters use them.

Nothing here knows DSPy: `dspex` tells `retry` which errors of language models are transient.
"""

# A workflow, and the step in which code runs.
from dspex.workflow.workflow import Workflow as Workflow
from dspex.workflow.steps import current_step as current_step
from dspex.workflow.steps import CurrentStep as CurrentStep
from dspex.workflow.retry import RetryPolicy as RetryPolicy
from dspex.workflow.retry import is_transient as is_transient

# A workflow in a tree.
from dspex.workflow.actor import WorkflowActor as WorkflowActor
from dspex.workflow.actor import GetResult as GetResult
from dspex.workflow.actor import CancelWorkflow as CancelWorkflow

# Many items.
from dspex.workflow.batch import run_items as run_items
from dspex.workflow.batch import BatchResult as BatchResult
from dspex.workflow.batch import WithUsage as WithUsage
from dspex.workflow.items import WorkItems as WorkItems
from dspex.workflow.items import WorkItem as WorkItem
from dspex.workflow.items import Claim as Claim

# Quorum rounds.
from dspex.workflow.rounds import hold_round as hold_round
from dspex.workflow.rounds import RoundResult as RoundResult
from dspex.workflow.rounds import QuorumRound as QuorumRound
from dspex.workflow.rounds import Byzantine as Byzantine

# Graceful degradation.
from dspex.workflow.degradation import DegradationLadder as DegradationLadder
from dspex.workflow.degradation import Rung as Rung
from dspex.workflow.degradation import ChosenRung as ChosenRung
from dspex.workflow.degradation import DegradationReason as DegradationReason

# What stands on workflows.
from dspex.workflow.journal import Journal as Journal
from dspex.workflow.suspension import Suspension as Suspension

# Events.
from dspex.workflow.events import StepEnded as StepEnded
from dspex.workflow.events import StepRetried as StepRetried
from dspex.workflow.events import ItemLost as ItemLost
from dspex.workflow.events import RoundClosed as RoundClosed
from dspex.workflow.events import CheckpointUnreadable as CheckpointUnreadable

# Errors.
from dspex.workflow.errors import WorkflowError as WorkflowError
from dspex.workflow.errors import StepFailed as StepFailed
from dspex.workflow.errors import StepCancelled as StepCancelled
from dspex.workflow.errors import WorkflowSuspended as WorkflowSuspended
from dspex.workflow.errors import StepChanged as StepChanged
from dspex.workflow.errors import DuplicateStep as DuplicateStep
from dspex.workflow.errors import StepTrimmed as StepTrimmed
from dspex.workflow.errors import StaleFence as StaleFence
from dspex.workflow.errors import CannotUndo as CannotUndo
from dspex.workflow.errors import UndoFailed as UndoFailed
from dspex.workflow.errors import OtherRun as OtherRun
from dspex.workflow.errors import UnsupportedVersion as UnsupportedVersion
from dspex.workflow.errors import NotEncodable as NotEncodable
from dspex.workflow.errors import BadStepKey as BadStepKey
from dspex.workflow.errors import BadJournal as BadJournal
from dspex.workflow.errors import NoUsableCheckpoint as NoUsableCheckpoint
from dspex.workflow.errors import JournalFull as JournalFull
