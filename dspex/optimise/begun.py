"""What a job of the command was begun with, and which of those that are kept does what is asked for now."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agents.durability import SqliteStorage
from dspex.jobs.history import JobHistory
from dspex.models.cause import REFUSED
from dspex.optimise.spec import OptimisationSpec
from foundation.jobs import FINAL, Job

#: What of an order says what the job was begun with.
BEGUN_WITH = "begun_with"
#: What of a specification does not change what comes out.
_LIMITS = ("budget", "max_calls", "price")


class OtherJob(ValueError):
    """A job that is not over was begun with something else."""

    def __init__(self, job: Job, differing: Sequence[str]) -> None:
        self.job, self.differing = job, differing
        super().__init__(
            f"job {job.id}, begun {moment(job.created)}, is {job.state}, and was begun with another"
            f" {', '.join(differing)}: put that back to go on with it, or give --fresh to cancel it and begin a new one"
        )


class Kept(NamedTuple):
    """A ``job`` that is kept, and what of it ``differs`` from what is asked for."""

    job: Job
    differs: Sequence[str]


def begun_with(spec: OptimisationSpec, data: Path) -> dict[str, Any]:
    """Return what tells an optimisation from others: its specification, and the digest of its file of examples."""
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    for name in _LIMITS:
        fields.pop(name)
    for name in ("options", "compile"):
        fields[name].pop("num_threads", None)
    if spec.trainset.path is not None:
        fields["trainset"]["content"] = None
        with suppress(OSError), (data / spec.trainset.path).open("rb") as file:
            fields["trainset"]["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    return fields


def differing(was: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Name what differs, such as ``options.bsize``."""
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from differing(before, after, f"{where}{name}.")
        elif before != after:
            yield where + name


async def read_kept(folder: Path, program: str, now: Mapping[str, Any], at: float, *, fresh: bool) -> Kept | None:
    """Return the latest job in a folder that does what is asked for, or else the latest that has done something else.

    One of which it is not kept what it was begun with is taken for it. Those that failed, or were cancelled, are none,
    but for one that failed because its language model was refused, and that does what is asked for.

    Args:
        folder: where the jobs are; nobody else may be at work there.
        program: whose they are.
        now: what is asked for, see `begun_with`.
        at: the time, in seconds since the epoch.
        fresh: whether a new one is wanted: those that are not over are cancelled, and none is returned.

    Raises:
        OtherJob: one that is not over was begun with something else.
        WorkflowError, StorageError: they cannot be read.
    """
    if not (folder / "jobs.sqlite").exists():
        return None
    storage = SqliteStorage(folder / "jobs.sqlite")
    try:
        history = JobHistory(storage, program)
        await history.open()
        jobs = [Kept(job, list(differing(job.order.get(BEGUN_WITH, now), now))) for job in history.all()[::-1]]
        for job, differs in jobs:
            if job.state in FINAL:
                continue
            if fresh:
                moved = {"state": "cancelled", "why": "a new one was asked for", "at": at}
                await history.tell(job.id, "moved", moved)
            elif differs:
                raise OtherJob(job, differs)
    finally:
        storage.close()
    done = [] if fresh else [each for each in jobs if _goes_on(each, history)]
    return min(done, key=lambda each: bool(each.differs), default=None)


def _goes_on(kept: Kept, history: JobHistory) -> bool:
    if kept.job.state != "failed":
        return kept.job.state != "cancelled"
    last = [event for event in history.events(kept.job.id, 0) if event.kind == "moved"][-1]
    return last.data.get("cause") == REFUSED and not kept.differs


def moment(at: float) -> str:
    """Return a time, in seconds since the epoch, as text."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
