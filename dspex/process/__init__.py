"""Programs that run in an OS process of their own, while all that belongs to their caller stays with the caller."""

from dspex.process.passage import NotTransferable as NotTransferable
from dspex.process.runner import ProcessRunner as ProcessRunner
from dspex.process.runner import runner_of as runner_of
from dspex.process.values import Unsent as Unsent
