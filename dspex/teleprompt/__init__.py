"""Teleprompters: optimisers of programs whose work survives a crash.

- `teleprompter` is their base: it opens the journal, starts workers and a coordinator, and writes the report. `simba`,
  `beacon` and `durable` are the optimisers; what they call is `run`.
- `run` makes rollouts, and asks language models. `rollouts` has the workers; `dspex.models.call_log` keeps every answer
  of a language model, and waits while a model is unavailable. With `guard`, DSPy's own optimisers see no outage either.
- `identity` says what an optimisation is, and `journals` where it is kept.
- `report` says what was found, also while the optimisation runs.

The journal, the suspension and the pool of workers are those of `dspex.workflow`.
"""

from typing import Any

# Optimisers; BEACON needs Optuna, and is imported when it is asked for.
from dspex.teleprompt.simba import SIMBA as SIMBA
from dspex.teleprompt.durable import Durable as Durable
from dspex.teleprompt.teleprompter import DurableTeleprompter as DurableTeleprompter

# What they have found out.
from dspex.teleprompt.report import OptimisationReport as OptimisationReport
from dspex.teleprompt.report import Trial as Trial

# Events.
from dspex.teleprompt.events import CandidateScored as CandidateScored
from dspex.teleprompt.events import OptimisationSuspended as OptimisationSuspended
from dspex.teleprompt.events import OptimisationResumed as OptimisationResumed
from dspex.teleprompt.events import WorkerLost as WorkerLost

# Errors.
from dspex.teleprompt.errors import OptimisationError as OptimisationError
from dspex.teleprompt.errors import ModelUnavailable as ModelUnavailable
from dspex.teleprompt.errors import ModelRefused as ModelRefused
from dspex.teleprompt.errors import EveryExampleFailed as EveryExampleFailed
from dspex.teleprompt.errors import OtherOptimisation as OtherOptimisation
from dspex.teleprompt.errors import BadOptimisationJournal as BadOptimisationJournal
from dspex.teleprompt.errors import OptimisationStorageError as OptimisationStorageError
from dspex.teleprompt.errors import LogDirInUse as LogDirInUse
from dspex.teleprompt.errors import BadTrainset as BadTrainset


def __getattr__(name: str) -> Any:
    if name != "BEACON":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dspex.teleprompt.beacon import BEACON

    return BEACON
