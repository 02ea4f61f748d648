"""The command ``python -m dspex.optimise SPEC.toml``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec

from agents.durability import StorageError
from dspex.jobs.owner import is_spent
from dspex.models.local.server import LANGUAGE_MODEL, LanguageModelServer
from dspex.models.selection import uses_embedded
from dspex.optimise.actor import KIND, Optimisations
from dspex.optimise.begun import BEGUN_WITH, Kept, OtherJob, begun_with, moment, read_kept
from dspex.optimise.spec import BadOptimisationSpec, OptimisationSpec, read_spec
from dspex.teleprompt.errors import LogDirInUse, OptimisationStorageError
from dspex.teleprompt.journals import alone_in
from dspex.workflow.errors import WorkflowError
from foundation.jobs import FINAL, GetJobEvents, Job, JobEvent, ListJobs, MoveJob, StartJob, jobs_name
from supervision import ChildSpec, Runtime, Supervisor

#: Seconds that one question about the job waits for news.
_WAIT = 60.0
_ENDS = {"succeeded": 0, "over_budget": 3}
_NAME = "main"
_ABOUT = """
Makes the program of a specification better, and saves it. What is done is kept: run again after a crash or Ctrl-C, it
goes on; run again after it is done, it says what is known. Changed in what may change the program (not its budget,
max_calls, price or number of threads), it is another optimisation, and begins anew. Exit status: 0 a program was made,
1 failed, 2 wrong usage, 3 the budget is spent: with a higher one, or max_calls, in the file, it goes on; 130 Ctrl-C.
"""


class Optimised(NamedTuple):
    """The ``job``, now that it is over, and whether it was ``known`` before: then nothing was done."""

    job: Job
    known: bool


class _Optimisations(Optimisations):
    """Those of the command, whose orders say what they were begun with."""

    choices: ClassVar[tuple[str, ...]] = ("seed", BEGUN_WITH)


async def optimise(
    spec: OptimisationSpec,
    folder: Path,
    data: Path,
    show: Callable[[JobEvent], object],
    *,
    lm: Any = None,
    fresh: bool = False,
) -> Optimised:
    """Do an optimisation, or go on with it, and return the job when it is over.

    Args:
        spec: what is to be done. A job whose budget was spent goes on if there is a higher one now; one that has
            failed because its language model was refused goes on.
        folder: where it is kept.
        data: the folder from which the paths of the specification are taken.
        show: is called with each of its events.
        lm: the language model; None for what the specification, or the environment, says.
        fresh: whether to begin anew, whatever is kept.

    Raises:
        LogDirInUse: another one is at work in the folder.
        OtherJob: one that is not over was begun with something else.
        OptimisationStorageError, WorkflowError, StorageError: the folder cannot be used.
    """
    with alone_in(folder):
        begun = begun_with(spec, data)
        async with Runtime(reports=False) as runtime:
            kept = await read_kept(folder, _NAME, begun, runtime.clock.wall_time(), fresh=fresh)
            limits: dict[str, Any] = {}
            if kept is not None and kept.differs:
                _say(f"another {', '.join(kept.differs)} than job {kept.job.id} ({kept.job.state}): a new one is begun")
            elif kept is not None:
                limits = _raised(kept.job, spec)
                if kept.job.state in FINAL - {"failed"} and not limits:
                    return Optimised(kept.job, True)
            name = jobs_name(KIND, _NAME)
            options = {"data": data, "lm": lm}
            children = [ChildSpec("jobs", _Optimisations, (_NAME, folder, {_NAME: spec}), options, name=name)]
            if lm is None and spec.lm is None and uses_embedded(os.environ):
                children.insert(0, ChildSpec(LANGUAGE_MODEL, LanguageModelServer, name=LANGUAGE_MODEL))
            await runtime.spawn(Supervisor, children)
            jobs = runtime.name(name)
            job = await _begun(jobs, kept, {BEGUN_WITH: begun}, limits)
            return Optimised(await _over(jobs, job, show), False)


async def _over(jobs: Any, job: Job, show: Callable[[JobEvent], object]) -> Job:
    """Show the events of a job, and return it when it is over."""
    after = 0
    while True:
        for event in await jobs.call(GetJobEvents(job.id, after, _WAIT), _WAIT + 10):
            after = event.number
            show(event)
        job = next(each for each in await jobs.call(ListJobs()) if each.id == job.id)
        if job.state in FINAL and after == job.number:
            return job


def _raised(job: Job, spec: OptimisationSpec) -> dict[str, Any]:
    """Return the limits with which a job that had spent what it might goes on; none if it cannot."""
    given = {"budget": spec.budget, "max_calls": spec.max_calls}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    after = msgspec.structs.replace(job, **limits)
    return limits if job.state == "over_budget" and not is_spent(after) else {}


async def _begun(jobs: Any, kept: Kept | None, order: dict[str, Any], limits: Mapping[str, Any]) -> Job:
    """Return the job of a specification: the one that is kept, or a new one."""
    if kept is None or kept.differs:
        made: Job = await jobs.call(StartJob(order))
        return made
    if limits or kept.job.state in ("paused", "failed"):
        moved: Job = await jobs.call(MoveJob(kept.job.id, "running", **limits))
        return moved
    return kept.job


def main(arguments: Sequence[str] | None = None, *, lm: Any = None) -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser("python -m dspex.optimise", description=_ABOUT)
    parser.add_argument(
        "spec", type=Path, metavar="SPEC.toml", help="what is to be done: program, metric, trainset, optimiser, budget"
    )
    parser.add_argument("--folder", type=Path, help="where it is kept (SPEC.runs beside the file)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to save the program, too, such as better.json")
    parser.add_argument("--json", action="store_true", help="print each event, and the job at the end, as JSON")
    parser.add_argument("--fresh", action="store_true", help="begin a new one, beside what is kept")
    given = parser.parse_args(arguments)
    try:
        return _done(given, lm)
    except (BadOptimisationSpec, OtherJob, _BadOption) as error:
        _say(str(error))
        return 2
    except LogDirInUse as error:
        _say(f"{error.path}: another optimisation is at work in this folder; wait for it, or give another --folder")
    except (OptimisationStorageError, StorageError, WorkflowError) as error:
        _say(str(error))
    except KeyboardInterrupt:
        _say("interrupted; what is done is kept: run it again to go on")
        return 130
    return 1


class _BadOption(ValueError):
    """An option of the command line makes no sense."""


def _checked(given: argparse.Namespace) -> Path:
    """Return the folder of the jobs.

    Raises:
        _BadOption: it is none, or the program cannot be saved where it is wanted.
    """
    folder: Path = given.folder or given.spec.with_suffix(".runs")
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path())
    if not there.is_dir():
        raise _BadOption(f"--folder {folder}: {there} is a file; give a folder")
    if given.out is not None and given.out.is_dir():
        raise _BadOption(f"--out {given.out}: this is a folder; give a file, such as better.json")
    if given.out is not None and not given.out.parent.is_dir():
        raise _BadOption(f"--out {given.out}: there is no folder {given.out.parent}; make it, or give another")
    return folder


def _done(given: argparse.Namespace, lm: Any) -> int:
    """Do what is asked for, say what came of it, and return the exit code."""
    spec, folder = read_spec(given.spec), _checked(given)
    show = _show_json if given.json else _show
    job, known = asyncio.run(optimise(spec, folder, given.spec.parent, show, lm=lm, fresh=given.fresh))
    made = folder / job.id / "program.json"
    if job.state == "succeeded" and given.out is not None:
        try:
            made = Path(shutil.copyfile(made, given.out))
        except OSError as error:
            print(f"--out: {error}; {made} has the program", file=sys.stderr)
            return 1
    if given.json:
        file = str(made) if job.state == "succeeded" else None
        print(json.dumps({**msgspec.to_builtins(job), "file": file, "known": known}))
        return _ENDS.get(job.state, 1)
    if known:
        why = f": {job.why}" if job.why else ""
        print(f"job {job.id} is {job.state} since {moment(job.moved)}{why}; nothing was done now (--fresh begins anew)")
    if job.state == "succeeded":
        print(f"{made} has the program; ${job.spent:.4f} spent")
    return _ENDS.get(job.state, 1)


def _say(what: str) -> None:
    print(f"dspex.optimise: {what}", file=sys.stderr)


def _show(event: JobEvent) -> None:
    data = event.data
    if event.kind == "moved":
        print(data["state"] + (f": {data['why']}" if data["why"] else ""), flush=True)
    elif "model" in data:
        print(f"asks {data['model'] or 'the language models of its predictors'}", flush=True)
    else:
        print(f"candidate {data['candidates']}: {data['score']:.3f}, best {data['best']:.3f}", flush=True)


def _show_json(event: JobEvent) -> None:
    print(json.dumps(msgspec.to_builtins(event)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
