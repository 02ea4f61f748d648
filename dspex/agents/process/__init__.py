"""Programs that run in an OS process of their own, while all that belongs to their caller stays with the caller.

In the caller's process, `runner` is the actor that owns the worker process, and `remote_run` is one run: it serves
what the worker asks of the caller's language models, callbacks and streams. In the other process, `worker` runs the
program. Both speak `protocol`. Values go to the worker pickled (`serialization`), as they are the caller's own; they
come back as plain data (`encoding`, `decoding`) of classes that the caller has declared, as a program's process is not
trusted.
"""

# Programs in an OS process of their own.
from dspex.agents.process.runner import ProcessRunner as ProcessRunner
from dspex.agents.process.runner import runner_of as runner_of
from dspex.agents.process.serialization import NotSendable as NotSendable
from dspex.agents.process.protocol import Unsent as Unsent
