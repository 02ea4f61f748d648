"""Programs that run in an OS process of their own, while all that belongs to their caller stays with the caller."""

# Programs in an OS process of their own.
from dspex.agents.process.protocol import Unsent as Unsent
from dspex.agents.process.runner import ProcessRunner as ProcessRunner
from dspex.agents.process.runner import runner_of as runner_of
from dspex.agents.process.serialization import NotSendable as NotSendable
