"""What a run is observed by: it is told of each attempt at a language model, from any thread and process of the run."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dspex._compat import OBSERVER, Attempt, Attempted, error_name, observer, run_callbacks
from dspex.telemetry import content
from dspex.telemetry import conventions as names
from supervision import Runtime

if TYPE_CHECKING:
    from dspex.telemetry.spans import ChatSpan, RunSpans

#: So many attempts of one call are kept with what was asked and answered.
MOST_KEPT = 100


class Observation:
    """Counts the attempts that a run makes at language models, and traces them if that is wanted.

    Args:
        call: the id of the call that the run belongs to; None if it is none of a served program.
        version: the number of the program's version; None as above.
        arm: which arm of a rollout the version stands for; None if there is none.
        keep: whether what is asked and answered is kept.

    Attributes:
        attempts: how many were made.
        failures: how many of them have failed.
        cache_hits: how many answers DSPy's cache had.
        first_error: the class of the error of the first that has failed.
        conversations: what was asked and answered, if that is kept.
        spans: those of the run; None if nobody wants them.
    """

    #: One for all: it is held for a moment, and a run has many objects to be looked at by the collector as it is.
    _lock = threading.Lock()

    def __init__(
        self, call: str | None = None, version: int | None = None, arm: str | None = None, *, keep: bool = False
    ) -> None:
        self.call = call
        self.version = version
        self.arm = arm
        self.attempts = 0
        self.failures = 0
        self.cache_hits = 0
        self.first_error: str | None = None
        self.conversations: Sequence[dict[str, Any]] = ()
        self.spans: RunSpans | None = None
        self.trace: str | None = None
        self._keep = keep

    def __deepcopy__(self, memo: dict[int, Any]) -> Observation:
        return self

    def attempt(self, attempt: Attempt) -> AbstractContextManager[Attempted]:
        """Count an attempt, which is made in a ``with`` block."""
        with self._lock:
            self.attempts += 1
        return _Outcome(self, attempt, None if self.spans is None else self.spans.attempt(attempt))

    def cache_hit(self) -> None:
        """Count an answer that nobody was asked for."""
        with self._lock:
            self.cache_hits += 1
        if self.spans is not None:
            self.spans.cache_hit()

    def note_failure(self, error: BaseException) -> None:
        """Count an attempt that has failed."""
        with self._lock:
            self.failures += 1
            self.first_error = self.first_error or error_name(error)

    def note_answer(self, attempt: Attempt, response: Any) -> None:
        """Keep what was asked and answered, if that is wanted."""
        if self._keep and len(self.conversations) < MOST_KEPT:
            said = {
                "model": content.model_of(attempt),
                "input": content.input_messages(attempt),
                "output": content.output_messages(response),
            }
            self.conversations = [*self.conversations, said]


class _Outcome(AbstractContextManager[Attempted]):
    """What came of an attempt: the first word counts."""

    __slots__ = ("_attempt", "_error", "_observation", "_span", "_told")

    def __init__(self, observation: Observation, attempt: Attempt, span: ChatSpan | None) -> None:
        self._observation = observation
        self._attempt = attempt
        self._span = span
        self._told = False
        self._error: BaseException | None = None

    def piece(self) -> None:
        if self._span is not None:
            self._span.piece()

    def answered(self, response: Any) -> None:
        self._told = True
        if self._span is not None:
            self._span.answered(response)
        self._observation.note_answer(self._attempt, response)

    def failed(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            self._error = error
            if isinstance(error, Exception):
                self._observation.note_failure(error)

    def __enter__(self) -> Attempted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.failed(error)
        if self._span is not None:
            self._span.end(self._error)


def current_observation() -> Observation | None:
    """Return what observes the run that this code belongs to."""
    found = observer()
    return found if isinstance(found, Observation) else None


def observing(
    runtime: Runtime, workflow: str, observation: Observation, settings: Mapping[str, Any]
) -> AbstractContextManager[dict[str, Any]]:
    """Observe a run in a ``with`` block, and trace it if somebody wants to know: see `dspex.telemetry.providers`.

    Args:
        runtime: where it runs.
        workflow: the name of what runs, of which there are few.
        observation: what it is observed by.
        settings: of the run.

    Returns:
        The settings under which the run is observed.
    """
    observed = {**settings, OBSERVER: observation}
    telemetry = _telemetry_of(runtime)
    return nullcontext(observed) if telemetry is None else _tracing(runtime, telemetry, workflow, observation, observed)


@contextmanager
def _tracing(
    runtime: Runtime, telemetry: Any, workflow: str, observation: Observation, observed: dict[str, Any]
) -> Generator[dict[str, Any]]:
    from dspex.telemetry.tracing import traced

    common = {
        names.CALL_ID: observation.call,
        names.VERSION: observation.version,
        names.ARM: observation.arm,
    }
    said = {name: value for name, value in common.items() if value is not None}
    with traced(runtime, telemetry, workflow, said, content.capture_of(os.environ)) as (spans, callback):
        observation.spans = spans
        observation.trace = spans.trace_id
        yield {**observed, "callbacks": [*run_callbacks(observed), callback]}


def tell_evaluation(
    runtime: Runtime, name: str, score: float | None, source: str, about: Mapping[str, Any], trace: str | None
) -> None:
    """Tell OpenTelemetry what somebody thinks of a call, as an event in its trace, if anybody wants to know.

    Args:
        runtime: where the call was.
        name: what is judged.
        score: how good it was; None if that was said in words, which are not told.
        source: who says it.
        about: attributes of the call.
        trace: the id of its trace.
    """
    telemetry = _telemetry_of(runtime)
    if telemetry is None:
        return
    said = {names.EVALUATION_NAME: name, names.EVALUATION_SCORE: score, names.FEEDBACK_SOURCE: source, **about}
    told = {key: value for key, value in said.items() if value is not None}
    try:
        telemetry.event(names.EVALUATION_RESULT, told, trace=trace)
    except Exception as error:
        telemetry.failed("evaluation", error)


def _telemetry_of(runtime: Runtime) -> Any:
    """Return where a runtime tells of its programs; None if nobody wants to know, or OpenTelemetry is not there."""
    try:
        from dspex.telemetry.providers import telemetry_of
    except ModuleNotFoundError:
        return None
    return telemetry_of(runtime)
