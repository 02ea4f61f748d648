"""Programs as actors: any ``dspy.Module``, as it is, supervised, answering requests concurrently."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import dspy

from dspex._compat import OVERLOADED, UNREACHABLE, StreamedPiece, is_async, passing_pieces, retry_hint, settings
from dspex.agents.agent import load
from dspex.agents.runner import ProgramRunner, run_module
from dspex.models.gateway.client import gateway_lm
from dspex.models.local.server import LANGUAGE_MODEL, Locator
from dspex.models.selection import GATEWAY_PREFIX, SelectedLM, select_lm
from dspex.serving.interface import Contract
from dspex.serving.versions import VersionChanged, Versions
from foundation.programs import (
    Answer,
    BadVersion,
    Busy,
    Chunk,
    DescribeProgram,
    Interface,
    InvalidInputs,
    ListVersions,
    ProgramStatus,
    RunProgram,
    SendPiece,
    StreamProgram,
    Swap,
    Unavailable,
    UseVersion,
    Version,
)
from supervision import Refuse, handle

#: The name of the output of a program that returns something else than fields.
RESULT = "result"


class ProgramActor(ProgramRunner):
    """Runs a program on request: `RunProgram` runs it, `DescribeProgram` describes its inputs and outputs.

    The context of a request goes with it, so that ``dspy.context`` around the call counts for the program, and so do
    the caller's trace, callbacks, and log and trace bindings.

    Up to ``concurrency`` requests run at the same time, each with its own settings; more wait in turn, and
    those whose callers have given up are left out. A program with ``aforward`` runs in a task; any other in a
    worker thread out of as many. What the program raises is its caller's error and does not end the actor.
    When the actor ends, its callers learn it at once, and tasks are cancelled. Threads cannot be cancelled; their
    results are dropped.

    The settings of a run are, the strongest first: what the caller has overridden with ``dspy.context``, the
    ``settings`` of this actor, and what ``dspy.configure`` has set. ``dspy.configure`` is never called.

    Args:
        program: see `dspex.agents.agent.load`. A class, function or string makes a new program after each restart; a
            module that is given itself is used again, with what it has in it.
        lm: the language model: a ``dspy.BaseLM`` or its model string, or ``gateway/NAME`` for a model of the tree's
            `dspex.Gateway`. By default what the environment says, see `dspex.models.selection`.
        adapter: a ``dspy.Adapter``, or ``package.module:Class``. By default what suits the language model.
        settings: further settings for ``dspy.context``.
        concurrency: how many requests run at the same time.
        waiting: how many more may wait; the next is refused (`Busy`). None for any number.
        versions: a folder in which versions are kept (`dspex.serving.versions`): the current one serves again after a
            restart. None to keep them until then.
        version_settings: which settings of its predictors, such as ``temperature``, a version may set that is given as
            a saved state. By default none: what a state says of the language model, or its address, is refused.
        signature: describes inputs and outputs, if the program does not do so itself; see `Contract`.
        server: under which name the embedded language model is found.
        environ: the environment; that of the process if None.

    Raises:
        BadProgram: at its start, if there is no such program.
        BadSetting, ModelMissing, BadGateway: at its start, if there is no such language model.
        BadVersion: at its start, if a version that was kept does not fit the program.
    """

    def __init__(
        self,
        program: object,
        *,
        lm: Any = None,
        adapter: Any = None,
        settings: Mapping[str, Any] | None = None,
        concurrency: int = 4,
        waiting: int | None = None,
        versions: str | Path | None = None,
        version_settings: Collection[str] = (),
        signature: Any = None,
        server: str = LANGUAGE_MODEL,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(concurrency, waiting)
        self._versions = Versions(load(program), versions, version_settings)
        self._contract = Contract(self._versions.program, signature)
        self.settings = {
            **self._select(lm, server, environ).settings(),
            **_given(adapter),
            **(settings or {}),
        }
        self.asynchronous = is_async(self._versions.program)

    def _select(self, lm: Any, server: str, environ: Mapping[str, str] | None) -> SelectedLM:
        if lm is not None:
            return SelectedLM(self._named(lm, {}) if isinstance(lm, str) else lm, None)
        found = os.environ if environ is None else environ
        return select_lm(found, Locator(self.runtime, server), chance=self.runtime.random, make=self._named)

    def _named(self, model: str, options: Mapping[str, Any]) -> Any:
        if model.startswith(GATEWAY_PREFIX):
            return gateway_lm(self.runtime, model.removeprefix(GATEWAY_PREFIX), **options)
        return dspy.LM(model, **options)

    @property
    def program(self) -> Any:
        """The program, in the version that serves."""
        return self._versions.program

    @property
    def label(self) -> str:
        """What the program is called in errors and events."""
        return self._contract.interface.program

    @handle
    def describe(self, request: DescribeProgram) -> Interface:
        """Describe inputs and outputs."""
        return self._contract.interface

    @handle
    def run(self, request: RunProgram) -> None:
        """Run the program, as soon as it is this request's turn."""
        self._take(request, None)

    @handle
    def stream(self, request: StreamProgram) -> None:
        """Run the program, as soon as it is this request's turn, and send the pieces of its answer."""
        self._take(request, request.send)

    def _take(self, request: RunProgram | StreamProgram, send: SendPiece | None) -> None:
        self.concurrency_limit.check()
        try:
            inputs = self._contract.check(request.inputs)
        except InvalidInputs as error:
            raise Refuse(error) from None
        self.concurrency_limit.add(self.defer_reply(begun=False), request.context, partial(self._answer, inputs, send))

    @handle
    def swap(self, request: Swap) -> Version:
        """Serve another version from now on."""
        return self._changed(lambda: self._versions.add(request.program))

    @handle
    def use_version(self, request: UseVersion) -> Version:
        """Serve a version that is there already."""
        return self._changed(lambda: self._versions.use(request.number))

    def _changed(self, change: Callable[[], Version]) -> Version:
        try:
            found = change()
        except (BadVersion, OSError) as error:
            raise Refuse(error) from None
        self.runtime.events.emit(
            VersionChanged, ref=self.ref, path=self.ref.path, program=self.label, version=found.number
        )
        return found

    @handle
    def list_versions(self, request: ListVersions) -> list[Version]:
        """Say which versions there are."""
        return self._versions.list()

    def summary(self) -> Mapping[str, object]:
        """Return how busy it is, and with which version, for ``/tree``."""
        return {**super().summary(), "version": self._versions.number}

    async def _answer(self, inputs: dict[str, Any], send: SendPiece | None) -> Answer:
        with self.measured(self.label, settings(self.settings)) as used:
            try:
                if send is None:
                    result = await self.perform(inputs)
                else:
                    async with passing_pieces(self.program, _pieces(send)):
                        result = await self.perform(inputs)
            except OVERLOADED as error:
                hint = retry_hint(error)
                raise Busy(f"its language model takes no more: {error}", 1.0 if hint is None else hint) from error
            except UNREACHABLE as error:
                raise Unavailable(f"its language model cannot be reached: {error}") from error
        return Answer(_outputs(result), used.meter.get_total_tokens())

    async def perform(self, inputs: dict[str, Any]) -> Any:
        """Run the program, and return what it returns."""
        return await run_module(self.program, (), inputs, asynchronous=self.asynchronous, limiter=self.limiter)


def _pieces(send: SendPiece) -> Callable[[StreamedPiece], Awaitable[None]]:
    """Return what takes DSPy's pieces, and sends them on as the platform's."""

    async def take(piece: StreamedPiece) -> None:
        if isinstance(piece, str):
            await send(ProgramStatus(piece))
        else:
            await send(Chunk(piece.signature_field_name, piece.chunk, piece.predict_name, piece.is_last_chunk))

    return take


def _given(adapter: Any) -> dict[str, Any]:
    if adapter is None:
        return {}
    return {"adapter": resolve_name(adapter)() if isinstance(adapter, str) else adapter}


def _outputs(result: Any) -> dict[str, Any]:
    if isinstance(result, (dspy.Example, Mapping)):
        return dict(result.items())
    return {RESULT: result}
