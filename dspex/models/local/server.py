"""The embedded language model as an actor that owns its process, and the address at which it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING

from dspex._compat import lm15
from dspex._tasks import on_end
from dspex.models.local.process import ProcessEnd, ServerProcess, command
from dspex.models.local.weights import find_model
from supervision import Abnormal, Actor, Message, Request, handle

if TYPE_CHECKING:
    from supervision import ExitReason, Ref, Runtime


#: Under which name a runtime's embedded language model is found, unless set otherwise.
LANGUAGE_MODEL = "language-model"


class GetBaseUrl(Request[str], frozen=True):
    """Where does the language model serve? Answered with its base URL, such as ``http://127.0.0.1:41917``."""


class ServerProcessEnded(Message, frozen=True):
    """The process has ended by itself."""

    end: ProcessEnd


class LanguageModelServer(Actor):
    """Runs the embedded model in a process of its own, and answers `GetBaseUrl`.

    When the process ends by itself, the actor ends too, with the reason ``Abnormal(ProcessEnd(status,
    last_words))``, so that its supervisor starts both anew; the model then serves on another port, which
    `dspex.models.local.server.Locator` finds under the actor's name. When the actor ends, by whatever means, so
    does the process.

    Args:
        model: the model's file (GGUF); the embedded one if None.
        threads: threads that compute; more than there are idle processors makes it slower.
        slots: requests served at the same time.
        context: tokens of context, shared out among the slots.
        start_timeout: seconds until the model must be ready.
        stop_timeout: seconds that the process has to end in order.
        arguments: the whole command instead, for another server with the contract of `dspex.models.local.serve`.

    Raises:
        ModelMissing: at its start, if the model is not installed.
        NotReady: at its start, if the process failed or took too long.
    """

    trap_exit = True

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        threads: int = 1,
        slots: int = 2,
        context: int = 4096,
        start_timeout: float = 60.0,
        stop_timeout: float = 2.0,
        arguments: list[str] | None = None,
    ) -> None:
        self._model = model
        self._options = [f"--threads={threads}", f"--slots={slots}", f"--context={context}"]
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._arguments = arguments
        #: Of the process, once it is there.
        self._pid: int | None = None

    async def init(self) -> None:
        """Start the process and wait until it serves."""
        process = self._process = await ServerProcess.start(self._arguments or self._command())
        self._pid = process.pid
        self._guard = on_end(self.ref, process.kill)
        self._url = await process.ready(self._start_timeout)
        publish_address(self.ref, self._url)
        self._watch = asyncio.get_running_loop().create_task(_report(process, self.ref), context=Context())

    def _command(self) -> list[str]:
        model = find_model() if self._model is None else Path(self._model)
        return command(model, *self._options)

    @handle
    def get_base_url(self, request: GetBaseUrl) -> str:
        """Say where the model serves."""
        return self._url

    def summary(self) -> Mapping[str, object]:
        """Return which process it has, for ``/tree``."""
        return {} if self._pid is None else {"pid": self._pid}

    @handle
    def process_ended(self, message: ServerProcessEnded) -> None:
        """End for the same reason as the process."""
        self.stop(Abnormal(message.end))

    async def terminate(self, reason: ExitReason) -> None:
        """End the process in order."""
        await self._process.stop(self._stop_timeout)


async def _report(process: ServerProcess, ref: Ref) -> None:
    """Send an actor a message when its process has ended by itself."""
    end = await process.ended()
    if not process.stopping:
        ref.cast(ServerProcessEnded(end))


class Locator:
    """Finds the address of the server that holds a name: at each call anew, from any thread, without waiting.

    Args:
        runtime: where the server runs.
        name: the server's name.
    """

    def __init__(self, runtime: Runtime, name: str = LANGUAGE_MODEL) -> None:
        self._runtime = runtime
        self._name = name

    def __call__(self) -> str:
        """Return the base URL.

        Raises:
            NotServing: there is no such server at this moment.
        """
        ref = self._runtime.whereis(self._name)
        url: str | None = self._runtime.shared.get(_PUBLISHED, {}).get(ref) if ref is not None and ref.alive else None
        if url is None:
            raise NotServing(self._name)
        return url


#: Where a runtime has which server serves where. The table is replaced, never changed, so that a reader sees all of it.
_PUBLISHED = "addresses of language models"


def publish_address(ref: Ref, url: str) -> None:
    """Say where the server ``ref`` serves. Servers that have ended are forgotten."""
    known = ref.runtime.shared.get(_PUBLISHED, {})
    ref.runtime.shared[_PUBLISHED] = {**{other: at for other, at in known.items() if other.alive}, ref: url}


class NotServing(lm15.TransportError):  # type: ignore[misc]
    """Nobody serves a language model under this name now. Worth another try: it may restart."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"no language model serves under the name {name!r} now: it is restarting, or was never started"
        )
