"""Programs as actors: any ``dspy.Module``, as it is, supervised, answering requests concurrently."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import anyio
import dspy

from dspex._compat import StreamedPiece, bounded_history, is_async, load_configured, passing_pieces, settings
from dspex.agents.agent import BadProgram, load
from dspex.agents.concurrency import AnswerTimeLimit, ProgramExited, only_this_run
from dspex.agents.runner import run_module
from dspex.models.gateway.client import gateway_lm
from dspex.models.local.server import LANGUAGE_MODEL, Locator
from dspex.models.selection import GATEWAY_PREFIX, SelectedLM, select_lm
from dspex.parsing.events import ParsingReporter
from dspex.serving.arguments import check_adapter, check_folder, check_option_names, import_named
from dspex.serving.calls import Assignment, CallInHand, CallRecords, CallRequest, FinishedCall, checked_options
from dspex.serving.declaration import RESULT
from dspex.serving.guarding import RunGuard, platform_errors
from dspex.serving.interface import Contract
from dspex.serving.model import choose_lm
from dspex.serving.observed import ObservedProgram
from dspex.serving.rollout.shadow import shadow_call
from dspex.serving.rollout.start import check_key
from dspex.serving.versioned import RolloutOptions, versions_of
from dspex.telemetry.observation import observing
from foundation.call_ids import call_ids
from foundation.options import whole
from foundation.programs import (
    Answer,
    Chunk,
    DescribeProgram,
    GetSettings,
    Interface,
    InvalidInputs,
    ProgramStatus,
    RunProgram,
    SendPiece,
    StreamProgram,
)
from foundation.telemetry import bound
from supervision import Refuse, handle


class ProgramActor(ObservedProgram):
    """Runs a program on request: `RunProgram` runs it, `DescribeProgram` describes its inputs and outputs.

    The context of a request goes with it, so that ``dspy.context`` around the call counts for the program, and so do
    the caller's trace, callbacks, and log and trace bindings.

    Up to ``concurrency`` requests run at the same time, each with its own settings; more wait in turn, and
    those whose callers have given up are left out. A program with ``aforward`` runs in a task; any other in a
    worker thread out of as many. What the program raises is its caller's error and does not end the actor.
    When the actor ends, its callers learn it at once, and tasks are cancelled. Threads cannot be cancelled; their
    results are dropped.

    The settings of a run are, the strongest first: what the caller has overridden with ``dspy.context``, the
    ``settings`` of this actor, and what ``dspy.configure`` has set, first of all in the program's own module.
    ``dspy.configure`` is never called.

    Args:
        program: see `dspex.agents.agent.load`. A class, function or string makes a new program after each restart; a
            module that is given itself is used again, with what it has in it.
        lm: the language model: a ``dspy.BaseLM`` or its model string, or ``gateway/NAME`` for a model of the tree's
            `dspex.Gateway`. By default that of the environment, or what is configured: see `dspex.serving.model`.
        adapter: a ``dspy.Adapter``, or ``package.module:Class``. By default what is configured, or suits the model.
        settings: further settings for ``dspy.context``.
        concurrency: how many requests run at the same time.
        waiting: how many more may wait; the next is refused (`Busy`). None for any number.
        versions: a folder in which versions are kept (`dspex.serving.version_folder`): the current one serves again
            after a restart. What in it cannot be used is left out, and told (`VersionSkipped`). None to keep them
            until then.
        version_settings: which settings of its predictors, such as ``temperature``, a version may set that is given as
            a saved state. By default none: what a state says of the language model, or its address, is refused.
        signature: describes inputs and outputs, if the program does not do so itself; see `Contract`.
        unparsed: what is done about answers that cannot be read: a list of steps (`dspex.parsing.steps`), such as
            ``[{step = "repair"}, {step = "reask"}]`` in a tree file. By default they are mended if they can be, and
            else the model is asked once more. DSPy's own second question, by its ``JSONAdapter``, is not asked.
        timeout: seconds that a request may take, waiting included; then it is cancelled (`OutOfTime`), which over HTTP
            is a 504. None for any time.
        server: under which name the embedded language model is found.
        environ: the environment; that of the process if None.
        calls: which records of calls are kept: ``last``, ``days``, ``keep`` and ``redact``, as `CallRecords` has them;
            ``redact`` may be ``package.module:name``. ``folder`` is where they are kept, and what is said of them;
            without one, only until the process ends.
        rollout: how a version is tried on a part of the traffic, unless whoever starts that says otherwise: a table, as
            `foundation.rollouts.Rollout` has it, without ``version``.
        metrics: functions that score answers while a version is tried, or ``package.module:function``, by name.
        shadow_safe: whether the program may be asked twice, as its calls have no effects; by default what its
            ``shadow_safe`` says, or whether it has no tools.

    Raises:
        BadProgram: at its start, if there is no such program.
        BadRollout: at its start, if ``rollout`` or ``metrics`` makes no sense.
        BadSetting, ModelMissing, BadGateway: at its start, if there is no such language model.
        BadOption: at its start, if ``calls``, ``unparsed`` or ``timeout`` make no sense.
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
        unparsed: Any = None,
        timeout: float | None = None,
        server: str = LANGUAGE_MODEL,
        environ: Mapping[str, str] | None = None,
        calls: Mapping[str, Any] | None = None,
        rollout: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        shadow_safe: bool | None = None,
    ) -> None:
        self._guard = RunGuard(unparsed, timeout)
        loaded, configured = load_configured(_module_of(program), lambda: load(program))
        kept = versions_of(self.runtime, loaded, versions, version_settings)
        super().__init__(concurrency, waiting, kept, RolloutOptions(rollout, metrics, shadow_safe), calls)
        self.contract = Contract(self._versions.program, signature)
        check_key((rollout or {}).get("key"), self.contract.input_names)
        given = {**self._given(lm), **_adapter(adapter), **(settings or {})}
        found = os.environ if environ is None else environ
        self._chosen = choose_lm(loaded, given, found, configured, partial(self._select, server))
        self.settings = self._chosen.settings
        self.asynchronous = is_async(self._versions.program)

    @classmethod
    def check_arguments(cls, program: object, /, **options: Any) -> None:
        """Check what stands in a tree file: what it names is imported, and nothing runs."""
        check_option_names(cls, options)
        cls.check_program(program)
        whole("concurrency", options.get("concurrency", 1))
        if options.get("waiting") is not None:
            whole("waiting", options["waiting"], 0)
        RunGuard(options.get("unparsed"), options.get("timeout"))
        RolloutOptions(options.get("rollout"), options.get("metrics"), options.get("shadow_safe"))
        calls = dict(options.get("calls") or {})
        for name, folder in (("versions", options.get("versions")), ("calls.folder", calls.pop("folder", None))):
            if folder is not None:
                check_folder(name, folder)
        checked_options(calls)
        check_adapter(options.get("adapter"))

    @classmethod
    def check_program(cls, source: object) -> None:
        """Check that a program is named, or what makes one.

        Raises:
            BadProgram: it is not.
        """
        found = import_named(source)
        if not callable(found):  # as a ``dspy.Module`` is, and what makes one
            raise BadProgram(source, f"give a dspy.Module, or what makes one, not {type(found).__name__}")

    async def init(self) -> None:
        """Make ready to run."""
        await super().init()
        self._shadow_calls = CallRecords(self.calls.program, self.runtime.clock, call_ids(self.runtime), last=0)
        self._shadow_limiter = anyio.CapacityLimiter(self.concurrency)
        self._chosen.tell(self.runtime, self.ref, self.label)
        await self.start_rollouts(self.shadow_run, self.contract.input_names)

    def _given(self, lm: Any) -> dict[str, Any]:
        return {} if lm is None else {"lm": self._named(lm, {}) if isinstance(lm, str) else lm}

    def _select(self, server: str, environ: Mapping[str, str]) -> SelectedLM:
        return select_lm(environ, Locator(self.runtime, server), chance=self.runtime.random, make=self._named)

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
        return self.contract.interface.program

    @handle
    def describe(self, request: DescribeProgram) -> Interface:
        """Describe inputs and outputs."""
        return self.contract.interface

    @handle
    def get_settings(self, request: GetSettings) -> dict[str, Any]:
        """Say with which settings it runs."""
        return dict(self.settings)

    @handle
    def run(self, request: RunProgram) -> None:
        """Run the program, as soon as it is this request's turn."""
        self._take(request, None)

    @handle
    def stream(self, request: StreamProgram) -> None:
        """Run the program, as soon as it is this request's turn, and send the pieces of its answer."""
        self._take(request, request.send)

    def _take(self, request: RunProgram | StreamProgram, send: SendPiece | None) -> None:
        with self.counts.turned_away(self.calls.program, self._versions.number):
            self.concurrency_limit.check()
            try:
                inputs = self.contract.check(request.inputs)
            except (InvalidInputs, ProgramExited) as error:
                raise Refuse(error) from None
        limit = self._guard.time_limit()
        reply = self.defer_reply(begun=False)
        call = self.calls.request(request, reply, self.ref)
        self.concurrency_limit.add(reply, request.context, partial(self._answer, call, inputs, send, limit), limit)

    def summary(self) -> Mapping[str, object]:
        """Return how busy it is, and with which version, for ``/tree``."""
        return {**super().summary(), **self._versions.summary()}

    async def _answer(
        self, request: CallRequest, inputs: dict[str, Any], send: SendPiece | None, limit: AnswerTimeLimit | None
    ) -> Answer:
        assigned = self.assign(request, inputs)
        with bound(call_id=request.id), self.calls.take(request, assigned, inputs) as call:
            run = partial(self._performed, assigned.program, inputs, send)
            return await self._answered(call, self.label, run, limit)

    async def shadow_run(self, program: Any, version: int, inputs: dict[str, Any], seconds: float) -> FinishedCall:
        """Run a version that answers nobody, and return the call, however it has ended."""
        assigned, label = Assignment(program, version, "shadow"), f"{self.label}:shadow"
        run = partial(self.perform_shadow, program, inputs)
        return await shadow_call(
            self._shadow_calls, self.ref, assigned, inputs, seconds, lambda call: self._answered(call, label, run, None)
        )

    async def _answered(
        self, call: CallInHand, label: str, run: Callable[[], Awaitable[Any]], limit: AnswerTimeLimit | None
    ) -> Answer:
        call.parsing = reporter = ParsingReporter(self.runtime, self.ref, label, call.assigned.version)
        found = self._guard.settings(settings(self.settings), reporter)
        with (
            observing(self.runtime, self.calls.program, call.observation, found) as seen,
            self.measured(label, seen) as call.used,
            bounded_history(),
            platform_errors(limit, reporter),
            only_this_run(self.label),
        ):
            result = await run()
        call.outputs = _outputs(result)
        return Answer(call.outputs, call.used.meter.get_total_tokens(), call.assigned.version)

    async def _performed(self, program: Any, inputs: dict[str, Any], send: SendPiece | None) -> Any:
        if send is None:
            return await self.perform(program, inputs)
        async with passing_pieces(program, _pieces(send)):
            return await self.perform(program, inputs)

    async def perform(self, program: Any, inputs: dict[str, Any]) -> Any:
        """Run a version of the program, and return what it returns."""
        return await run_module(program, (), inputs, asynchronous=self.asynchronous, limiter=self.limiter)

    async def perform_shadow(self, program: Any, inputs: dict[str, Any]) -> Any:
        """Run a version that answers nobody: never in a thread that a request waits for."""
        return await run_module(program, (), inputs, asynchronous=self.asynchronous, limiter=self._shadow_limiter)


def _pieces(send: SendPiece) -> Callable[[StreamedPiece], Awaitable[None]]:
    """Return what takes DSPy's pieces, and sends them on as the platform's."""

    async def take(piece: StreamedPiece) -> None:
        if isinstance(piece, str):
            await send(ProgramStatus(piece))
        else:
            await send(Chunk(piece.signature_field_name, piece.chunk, piece.predict_name, piece.is_last_chunk))

    return take


def _adapter(adapter: Any) -> dict[str, Any]:
    if adapter is None:
        return {}
    return {"adapter": resolve_name(adapter)() if isinstance(adapter, str) else adapter}


def _outputs(result: Any) -> dict[str, Any]:
    if isinstance(result, (dspy.Example, Mapping)):
        return dict(result.items())
    return {RESULT: result}


def _module_of(program: object) -> str:
    """Return the name of the module from which a program comes."""
    if isinstance(program, str):
        return program.partition(":")[0]
    return str(getattr(program, "__module__", ""))
