"""Examples to learn from that people have given, by what they have said of the answers of a served program."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import dspy
import msgspec

from dspex.data.examples import BadExamples, read_examples
from dspex.fingerprints import content_digest
from dspex.serving.call_store import FILE, CallStoreError
from dspex.serving.calls import DAY
from dspex.serving.feedback import Feedback, trainset
from foundation.feedback import ListFeedback
from foundation.options import above_zero, whole
from foundation.programs import program_name
from supervision import CallError, Runtime, call_when_ready

#: Where a job keeps the examples that it has taken of feedback: it goes on with these, whatever is said meanwhile.
TAKEN = "feedback.jsonl"
#: Seconds that a program has to list feedback.
_LIST = 30.0


class FeedbackExamples(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which feedback becomes examples: corrections, and answers that were found good; see `trainset`.

    Attributes:
        program: whose feedback; by default that of the program whose jobs these are.
        folder: of the program's ``calls``, where it is read instead of asking the program, which need not run then.
        name: what is judged; None for whatever it is.
        days: how old it may be; None for any age.
        least: so many examples there have to be of it.
        most: so many of the newest are taken; None for all.
        tests: a file of examples, as `read_examples` reads it, whose inputs are never learned from.
        models: whether what metrics and models say counts, too.
    """

    program: str | None = None
    folder: str | None = None
    name: str | None = None
    days: float | None = None
    least: int = 1
    most: int | None = None
    tests: str | None = None
    models: bool = False

    def __post_init__(self) -> None:
        whole("feedback: least", self.least)
        if self.most is not None:
            whole("feedback: most", self.most, self.least)
        if self.days is not None:
            above_zero("feedback: days", self.days)

    async def read(self, runtime: Runtime, program: str, data: Path, inputs: Sequence[str]) -> list[Any]:
        """Return the examples, the oldest first.

        Args:
            runtime: where the program runs.
            program: its name, unless there is another here.
            data: the folder from which paths are taken.
            inputs: the fields that the program is given.

        Raises:
            BadExamples: they cannot be had, or are too few: what is missing is said.
        """
        where = f"feedback on {self.program or program}" if self.folder is None else f"{data / self.folder / FILE}"
        given = await self._given(runtime, program, data, where)
        oldest = 0.0 if self.days is None else runtime.clock.wall_time() - self.days * DAY
        counted = [each for each in given if each.at >= oldest and self.name in (None, each.name)]
        tests = await asyncio.to_thread(self._tests, data, inputs)
        found = trainset(counted, tests=tests, models=self.models)
        for example in found.examples:
            if set(example.inputs().keys()) != set(inputs):
                fields = ", ".join(example.inputs().keys())
                raise BadExamples(where, None, f"it is about inputs {fields}, and not {', '.join(inputs)}")
        if len(found.examples) < self.least:
            why = (
                f"{len(found.examples)} examples, and at least {self.least} are needed. Of {len(given)} opinions, "
                f"{len(given) - len(counted)} are too old or about something else, {found.uncorrected} are neither "
                f"good nor corrected, and {found.without_inputs} on calls whose content is not kept "
                f'(keep = "content" keeps it); {found.refused} inputs are of the tests'
            )
            raise BadExamples(where, None, why)
        return found.examples if self.most is None else found.examples[-self.most :]

    async def _given(self, runtime: Runtime, program: str, data: Path, where: str) -> list[Feedback]:
        try:
            if self.folder is not None:
                rows = await asyncio.to_thread(_rows, data / self.folder / FILE)
                return [msgspec.json.decode(body, type=Feedback) for body in rows]
            return await _listed(runtime, self.program or program)
        except (sqlite3.Error, msgspec.MsgspecError, CallError, CallStoreError) as error:
            remedy = "have the program run here, or name the folder of its calls"
            raise BadExamples(where, None, f"it cannot be read: {error}; {remedy}") from error

    def _tests(self, data: Path, inputs: Sequence[str]) -> set[str]:
        if self.tests is None:
            return set()
        return {content_digest(dict(each.inputs())) for each in read_examples(data / self.tests, inputs)}


async def _listed(runtime: Runtime, program: str) -> list[Feedback]:
    """Ask a program for all that was said of it."""
    actor = runtime.name(program_name(program))
    found: list[Feedback] = []
    after = 0
    while page := await call_when_ready(actor, ListFeedback(after), _LIST):
        after = page[-1][0]
        found += [msgspec.convert(said, Feedback) for _, said in page]
    return found


def _rows(file: Path) -> list[bytes]:
    """Read a file that a program may be writing to at the same time."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return [body for (body,) in database.execute("SELECT body FROM feedback ORDER BY number")]


def read_taken(folder: Path, inputs: Sequence[str]) -> list[Any] | None:
    """Return the examples that a job has taken before; None if it has not."""
    file = folder / TAKEN
    if not file.exists():
        return None
    lines = map(msgspec.json.decode, file.read_bytes().splitlines())
    return [dspy.Example(**line).with_inputs(*inputs) for line in lines]


def save_taken(folder: Path, examples: Sequence[Any]) -> None:
    """Keep the examples that a job takes."""
    new = folder / f"{TAKEN}.new"
    new.write_bytes(b"".join(msgspec.json.encode(each.toDict()) + b"\n" for each in examples))
    new.replace(folder / TAKEN)


def with_feedback(examples: Sequence[Any], said: Sequence[Any]) -> list[Any]:
    """Return examples of a file or table, and those of feedback on other inputs: what was written down counts more."""
    known = {content_digest(dict(each.inputs())) for each in examples}
    return [*examples, *(each for each in said if content_digest(dict(each.inputs())) not in known)]
