"""The actor that owns the evaluations of a served program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from dspex.evaluate.spec import EvaluationJobSpec, path_within
from dspex.evaluate.work import FOUND, EvaluationWork
from dspex.jobs.owner import JobOwner, bad_order
from dspex.jobs.spending import Spending
from dspex.jobs.work import JobSettings, WorkNews
from foundation.jobs import Job, JobError
from foundation.programs import ListVersions, program_name
from supervision import CallError, call_when_ready

#: Seconds that a program has to say which versions there are.
_LIST = 5.0


class Evaluations(JobOwner[EvaluationJobSpec]):
    """Owns the evaluations of a served program. Under the name ``evaluations:PROGRAM`` it is found over HTTP.

    Each evaluates one version of the program on examples, and compares it with another one, if it is told to. One runs
    at a time, under a supervisor; others wait in their order. All is kept in ``folder``: whoever is started on it next
    goes on where it was, and asks no language model twice.

    Args:
        program: the name of the program.
        folder: where the evaluations are kept.
        specs: what may be ordered, by name: an `EvaluationJobSpec` each, or its fields. Who orders one may choose the
            ``version``, and another one ``against`` it, the file of the ``devset``, and limits that are no higher.
        data: the folder of the files of examples: nothing outside of it is read.
        lm: the language model, or its model string, if a specification names none; None for the one with which the
            program is served, or, if it is not, for what the environment says.
        server: under which name the embedded language model is found.

    Raises:
        BadSpec: at its start, if there is something wrong in a specification.
        WorkflowError, StorageError: at its start, if the folder cannot be used.
    """

    kind = "evaluations"
    choices = ("version", "against", "devset")

    @staticmethod
    def specification(where: str, given: Any) -> EvaluationJobSpec:
        """Return a specification, checked."""
        return EvaluationJobSpec.of(where, given)

    @staticmethod
    def examples(spec: EvaluationJobSpec) -> str | None:
        """Return the path of the file of examples."""
        return spec.devset.path

    def chosen(self, spec: EvaluationJobSpec, order: Mapping[str, Any]) -> EvaluationJobSpec:
        """Return a specification with the versions, and the examples, of an order."""
        numbers = {name: order[name] for name in ("version", "against") if order.get(name) is not None}
        for name, number in numbers.items():
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise bad_order(name, "give the number of a version")
        made = msgspec.structs.replace(spec, **numbers)
        path = order.get("devset", spec.devset.path)
        try:
            devset = msgspec.structs.replace(spec.devset, path=path_within(self.data, path))
        except ValueError as error:
            raise bad_order("devset", str(error)) from None
        return msgspec.structs.replace(made, devset=devset)

    async def completed(self, spec: EvaluationJobSpec, order: dict[str, Any]) -> dict[str, Any]:
        """Return an order with the version that serves now, if it names none."""
        try:
            address = self.runtime.name(program_name(self.program))
            found = await call_when_ready(address, ListVersions(), _LIST)
        except CallError as error:
            why = f"program {self.program!r} does not say which versions it has: {error}; try again"
            raise JobError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", why) from error
        numbers = {each.number for each in found}
        current = next(each.number for each in found if each.current)
        version = current if spec.version is None else spec.version
        for name, number in (("version", version), ("against", spec.against)):
            if number is not None and number not in numbers:
                raise bad_order(name, f"there is no version {number}; there are {', '.join(map(str, sorted(numbers)))}")
        if version == spec.against:
            raise bad_order("against", "give another version than the one that is evaluated")
        against = {} if spec.against is None else {"against": spec.against}
        return {**order, "version": version, **against}

    def work(
        self,
        job: Job,
        spec: EvaluationJobSpec,
        folder: Path,
        settings: JobSettings,
        spending: Spending,
        told: Callable[[WorkNews], object],
    ) -> EvaluationWork:
        """Return the work on an evaluation."""
        return EvaluationWork(self.runtime, self.program, spec, folder, self.data, settings, spending, told)

    def made(self, id: str) -> dict[str, Any]:
        """Return what an evaluation has found."""
        found: dict[str, Any] = msgspec.json.decode((self.folder / id / FOUND).read_bytes())
        return found
