"""How many calls a runtime's programs have had, by version and how they ended, for the metrics."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from dspex._compat import error_name
from dspex.serving.calls import FinishedCall, cause_of
from dspex.telemetry.conventions import ERRORS, OTHER
from dspex.telemetry.version_counter import VersionCounter
from foundation.programs import Busy, InvalidInputs
from foundation.telemetry.collectors import MetricSample
from supervision import Refuse, Runtime

#: Calls that have failed by themselves, and are no errors.
_NO_ERROR = ("answered", "cancelled")


class CallCounts:
    """Counts the calls of the programs of a runtime. It belongs to the runtime."""

    def __init__(self) -> None:
        self._counts = VersionCounter()

    @classmethod
    def of(cls, runtime: Runtime) -> CallCounts:
        """Return that of a runtime."""
        found: CallCounts = runtime.shared.setdefault(cls, cls())
        return found

    def ended(self, program: str, call: FinishedCall) -> None:
        """Count a call that has ended."""
        error = "" if call.error is None or call.record.outcome in _NO_ERROR else _kind(call.error)
        self._counts.add(program, call.record.version, call.record.outcome, error)

    @contextmanager
    def turned_away(self, program: str, version: int) -> Generator[None]:
        """Count a call that is refused in a ``with`` block, before it has begun: it has no record."""
        try:
            yield
        except Refuse as refused:
            kinds = ((InvalidInputs, "invalid"), (Busy, "busy"))
            outcome = next((word for kind, word in kinds if isinstance(refused.error, kind)), "failed")
            self._counts.add(program, version, outcome, OTHER if outcome == "failed" else "")
            raise

    def samples(self) -> Iterator[MetricSample]:
        """Return the counts."""
        text = "Calls of programs, by how they ended."
        for program, version, (outcome, error), count in self._counts:
            labels = (("program", program), ("version", version), ("outcome", outcome), ("error", error))
            yield MetricSample("calls", text, "counter", labels, count, "dspex")


def _kind(error: BaseException) -> str:
    name = error_name(cause_of(error))
    return name if name in ERRORS else OTHER
