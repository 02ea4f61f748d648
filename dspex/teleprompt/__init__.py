"""Teleprompters: optimisers of programs whose work survives."""

from dspex.teleprompt.durable import Durable as Durable
from dspex.teleprompt.errors import BadJournal as BadJournal
from dspex.teleprompt.errors import BadTrainset as BadTrainset
from dspex.teleprompt.errors import OptimisationError as OptimisationError
from dspex.teleprompt.errors import OtherOptimisation as OtherOptimisation
from dspex.teleprompt.errors import Suspended as Suspended
from dspex.teleprompt.events import CandidateScored as CandidateScored
from dspex.teleprompt.events import OptimisationResumed as OptimisationResumed
from dspex.teleprompt.events import OptimisationSuspended as OptimisationSuspended
from dspex.teleprompt.events import WorkerLost as WorkerLost
from dspex.teleprompt.report import Report as Report
from dspex.teleprompt.report import Trial as Trial
from dspex.teleprompt.simba import SIMBA as SIMBA
from dspex.teleprompt.teleprompter import DurableTeleprompter as DurableTeleprompter
