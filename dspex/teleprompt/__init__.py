"""Teleprompters: optimisers of programs whose work survives."""

# Optimisers (BEACON needs Optuna: `dspex.teleprompt.beacon`).
from dspex.teleprompt.durable import Durable as Durable
from dspex.teleprompt.errors import BadOptimisationJournal as BadOptimisationJournal
from dspex.teleprompt.errors import BadTrainset as BadTrainset
from dspex.teleprompt.errors import ModelUnavailable as ModelUnavailable

# Errors.
from dspex.teleprompt.errors import OptimisationError as OptimisationError
from dspex.teleprompt.errors import OtherOptimisation as OtherOptimisation

# Events.
from dspex.teleprompt.events import CandidateScored as CandidateScored
from dspex.teleprompt.events import OptimisationResumed as OptimisationResumed
from dspex.teleprompt.events import OptimisationSuspended as OptimisationSuspended
from dspex.teleprompt.events import WorkerLost as WorkerLost

# What they have found out.
from dspex.teleprompt.report import OptimisationReport as OptimisationReport
from dspex.teleprompt.report import Trial as Trial
from dspex.teleprompt.simba import SIMBA as SIMBA
from dspex.teleprompt.teleprompter import DurableTeleprompter as DurableTeleprompter
