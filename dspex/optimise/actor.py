"""The actor that owns the optimisations of a program."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from dspex.jobs.owner import JobOwner, bad_order
from dspex.jobs.spending import Spending
from dspex.jobs.work import JobSettings, WorkNews
from dspex.optimise.spec import OptimisationSpec
from dspex.optimise.work import MADE, OptimisationWork
from foundation.jobs import Job
from foundation.programs import AddVersion, BadVersion, program_name
from supervision import CallError, call_when_ready

#: The kind of these jobs.
KIND = "optimisations"

#: Seconds that a program has to take a version.
_OFFER = 30.0


class Optimisations(JobOwner[OptimisationSpec]):
    """Owns the optimisations of a program. Under the name ``optimisations:PROGRAM`` it is found over HTTP.

    What a job makes becomes a version of the program, if that runs here: one that serves nobody yet, for a canary. One
    job runs at a time, under a supervisor; others wait in their order. Their states are kept in ``folder``, each before
    it counts: whoever is started on it next goes on with what was running, and leaves alone what was paused.

    Args:
        program: the name of the program.
        folder: where the jobs are kept.
        specs: the optimisations that may be asked for, by name: an `OptimisationSpec` each, or its fields. Who asks for
            one may choose its ``seed``, and a ``budget`` and ``max_calls`` that are no higher.
        data: the folder from which the paths in the specifications are taken.
        lm: the language model, or its model string, if a specification names none; None for the one with which the
            program is served, or, if it is not, for what the environment says.
        server: under which name the embedded language model is found.

    Raises:
        BadOptimisationSpec, BadOption: at its start, if there is something wrong in a specification.
        WorkflowError, StorageError: at its start, if the folder cannot be used.
    """

    kind = KIND
    choices: ClassVar[tuple[str, ...]] = ("seed",)

    @staticmethod
    def specification(where: str, given: Any) -> OptimisationSpec:
        """Return a specification, checked."""
        return OptimisationSpec.of(where, given)

    @staticmethod
    def examples(spec: OptimisationSpec) -> str | None:
        """Return the path of the file of examples, if there is one."""
        return spec.trainset.path

    def chosen(self, spec: OptimisationSpec, order: Mapping[str, Any]) -> OptimisationSpec:
        """Return a specification with the seed of an order."""
        seed = order.get("seed")
        if seed is None:
            return spec
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise bad_order("seed", "give a whole number from 0, below 4294967296")
        return msgspec.structs.replace(spec, seed=seed)

    def work(
        self,
        job: Job,
        spec: OptimisationSpec,
        folder: Path,
        settings: JobSettings,
        spending: Spending,
        told: Callable[[WorkNews], object],
    ) -> OptimisationWork:
        """Return the work on an optimisation."""
        return OptimisationWork(self.runtime, spec, folder, self.data, settings, spending, told, self.program)

    async def succeeded(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Offer what a job has made as a version that serves nobody yet."""
        name = program_name(self.program)
        if self.runtime.whereis(name) is None:
            return "", {"version": None}
        try:
            made = await asyncio.to_thread(self.made, job.id)
            found = await call_when_ready(self.runtime.name(name), AddVersion(made), _OFFER)
        except (BadVersion, CallError, OSError) as error:
            return f"not offered as a version: {error}", {"version": None}
        return "offered as a version", {"version": found.number}

    def made(self, id: str) -> dict[str, Any]:
        """Return the program that a job has made, as DSPy saves it."""
        found: dict[str, Any] = msgspec.json.decode((self.folder / id / MADE).read_bytes())
        return found
