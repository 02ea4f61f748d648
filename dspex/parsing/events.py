"""What is told of answers that could not be read: events, and a counter by program, version and step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from dspex._loops import is_running_here
from dspex.parsing.steps import STEPS
from dspex.telemetry.version_counter import VersionCounter
from foundation.telemetry.collectors import MetricSample
from supervision import Ref, Runtime
from supervision.events import Event


class ParsingReport(NamedTuple):
    """An answer that could not be read at first: what an adapter tells, in whatever thread or process it is.

    Attributes:
        step: what is done about it: the name of a step, or ``none`` if nothing is left.
        repaired: whether that has mended it, without another call.
        attempt: the number of the answer among those to this question, from 1.
        adapter: the name of the adapter's class.
        fields: the output fields with which something is wrong.
    """

    step: str
    repaired: bool
    attempt: int
    adapter: str
    fields: tuple[str, ...]


#: So many fields are told of at most.
_FIELDS = 1000


def checked_report(values: Any) -> ParsingReport:
    """Return a report that a program's process has sent.

    Raises:
        ValueError, TypeError: it is none.
    """
    step, repaired, attempt, adapter, fields = values
    kinds = [(step, str), (repaired, bool), (attempt, int), (adapter, str), (fields, tuple)]
    if any(type(value) is not kind for value, kind in kinds) or any(type(field) is not str for field in fields):
        raise TypeError("no report")
    if step not in STEPS or len(fields) > _FIELDS:
        raise ValueError("no report")
    return ParsingReport(step, repaired, attempt, adapter, fields)


class AnswerUnparsed(Event, frozen=True, kw_only=True):
    """An answer of a language model could not be read.

    Attributes:
        ref: the program's actor.
        path: its place in the tree.
        program: the name of the program's class.
        version: that has asked.
        step: what is done about it: ``repair``, ``reask``, ``adapter``, ``chain``, ``more_tokens``; or ``none``.
        repaired: whether that has mended it, without another call.
        attempt: the number of the answer among those to this question, from 1.
        adapter: the name of the adapter's class.
        fields: the output fields with which something is wrong.
    """

    ref: Ref
    path: str
    program: str
    version: int
    step: str
    repaired: bool
    attempt: int
    adapter: str
    fields: tuple[str, ...]


class AnswerRepaired(Event, frozen=True, kw_only=True):
    """An answer of a language model that could not be read was mended, without another call.

    Attributes:
        ref: the program's actor.
        path: its place in the tree.
        program: the name of the program's class.
        version: that has asked.
        adapter: the name of the adapter's class.
        fields: the output fields with which something was wrong.
    """

    ref: Ref
    path: str
    program: str
    version: int
    adapter: str
    fields: tuple[str, ...]


class UnparsedCounts:
    """Counts the answers of a runtime's programs that could not be read. It belongs to the runtime."""

    def __init__(self) -> None:
        self._counts = VersionCounter()

    @classmethod
    def of(cls, runtime: Runtime) -> UnparsedCounts:
        """Return that of a runtime."""
        found = runtime.shared.setdefault(cls, cls())
        assert isinstance(found, UnparsedCounts)
        return found

    def add(self, program: str, version: int, step: str) -> None:
        """Count an answer."""
        self._counts.add(program, version, step)

    def samples(self) -> Iterator[MetricSample]:
        """Return the counts. Of each program the latest versions have their numbers; all others are ``other``."""
        text = "Answers of language models that could not be read."
        for program, version, (step,), count in self._counts:
            labels = (("program", program), ("version", version), ("step", step))
            yield MetricSample("unparsed", text, "counter", labels, count, "dspex")


class ParsingReporter:
    """Emits what adapters report of one run, wherever they are; made in the loop of the runtime.

    Args:
        runtime: where the program runs.
        ref: the program's actor.
        program: the name of the program's class.
        version: that runs.
    """

    def __init__(self, runtime: Runtime, ref: Ref, program: str, version: int) -> None:
        self._runtime = runtime
        self._ref = ref
        self._program = program
        self._version = version
        self._loop = asyncio.get_running_loop()
        #: Whether somebody still waits for the answer.
        self.wanted = True
        #: How many answers could not be read.
        self.count = 0

    def __call__(self, report: ParsingReport) -> None:
        """Take a report, in any thread."""
        if is_running_here(self._loop):
            self._emit(report)
        else:
            with suppress(RuntimeError):  # a thread that nobody waits for any more may outlive the loop
                self._loop.call_soon_threadsafe(self._emit, report)

    def _emit(self, report: ParsingReport) -> None:
        self.count += 1
        about = {"ref": self._ref, "path": self._ref.path, "program": self._program, "version": self._version}
        UnparsedCounts.of(self._runtime).add(self._program, self._version, report.step)
        events = self._runtime.events
        events.emit(AnswerUnparsed, **about, **report._asdict())
        if report.repaired:
            events.emit(AnswerRepaired, **about, adapter=report.adapter, fields=report.fields)
