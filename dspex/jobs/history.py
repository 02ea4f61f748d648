"""What is kept of jobs, and what they are: a job is what its events say, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from agents.durability import Storage
from dspex.workflow.journal import Journal
from foundation.jobs import FINAL, Job, JobError, JobEvent

#: For how long the same request makes the same job, in seconds.
KEY_SECONDS = 86_400.0
#: After how many entries the journal is written anew.
_COMPACT = 5_000


def folded(job: Job, event: JobEvent) -> Job:
    """Return a job after one more event."""
    data = event.data
    if event.kind == "moved":
        known = {name: data[name] for name in ("state", "why", "budget", "max_calls", "version") if name in data}
        return msgspec.structs.replace(job, number=event.number, moved=data["at"], **known)
    return msgspec.structs.replace(job, number=event.number, progress={**job.progress, **data})


class JobHistory:
    """The jobs of a program, and their events.

    Args:
        storage: where they are kept.
        program: whose jobs they are.
    """

    def __init__(self, storage: Storage, program: str) -> None:
        self._journal = Journal(storage, "jobs")
        self._program = program
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list[JobEvent]] = {}

    async def open(self) -> None:
        """Read what is there.

        Raises:
            OtherRun, BadJournal, StorageError: it is something else, or cannot be read.
        """
        await self._journal.open({"jobs of": self._program})
        for id, made in self._journal.entries("job").items():
            self._new(id, made)
        for key, value in self._journal.entries("event").items():
            id, number = key.split("|")
            self._note(id, JobEvent(int(number), value["kind"], value["data"]))
        for id, (spent, calls) in self._journal.entries("spent").items():
            self._jobs[id] = msgspec.structs.replace(self._jobs[id], spent=spent, calls=calls)

    def _new(self, id: str, made: Mapping[str, Any]) -> None:
        at = made["created"]
        self._jobs[id] = Job("queued", id, self._program, made["order"], 0, at, at, **made["limits"])
        self._events[id] = []

    def _note(self, id: str, event: JobEvent) -> None:
        self._events[id].append(event)
        self._jobs[id] = folded(self._jobs[id], event)

    def all(self) -> list[Job]:
        """Return the jobs, the oldest first."""
        return list(self._jobs.values())

    def find(self, id: str) -> Job:
        """Return a job.

        Raises:
            JobError: there is none.
        """
        if id not in self._jobs:
            raise JobError(HTTPStatus.NOT_FOUND, "unknown-job", f"there is no job {id[:50]!r}")
        return self._jobs[id]

    def events(self, id: str, after: int) -> list[JobEvent]:
        """Return the events of a job after one."""
        return self._events[id][after:]

    async def add(self, id: str, order: dict[str, Any], at: float, limits: Mapping[str, Any]) -> None:
        """Keep a new job, with its ``budget`` and ``max_calls``."""
        made = {"order": order, "created": at, "limits": dict(limits)}
        await self._journal.add("job", id, made)
        self._new(id, made)

    async def tell(self, id: str, kind: str, data: Mapping[str, Any]) -> Job:
        """Keep an event, then have it count; return the job."""
        event = JobEvent(self._jobs[id].number + 1, kind, dict(data))
        kept = {"kind": kind, "data": event.data}
        await self._journal.add("event", f"{id}|{event.number}", kept, flush=kind == "moved")
        self._note(id, event)
        return self._jobs[id]

    async def spend(self, id: str, dollars: float, calls: int) -> None:
        """Keep what a job has spent, all in all: dollars, and calls."""
        await self._journal.add("spent", id, [dollars, calls], flush=False)
        self._jobs[id] = msgspec.structs.replace(self._jobs[id], spent=dollars, calls=calls)
        if self._journal.appended > _COMPACT:
            await self._journal.compact(lambda _kind, _key, value: value)

    # -- requests that may come twice ----------------------------------------------------------------------------------

    def known(self, key: str, order: Mapping[str, Any], now: float) -> Job | None:
        """Return the job that a request with this key has made; None if none has.

        Raises:
            JobError: another request has come with this key.
        """
        found = self._journal.find("key", key)
        if found is None or now - found["at"] > KEY_SECONDS or found["job"] not in self._jobs:
            return None
        if found["order"] != order_digest(order):
            why = "another request has come with this Idempotency-Key; give each request its own"
            raise JobError(HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused", why)
        return self._jobs[found["job"]]

    async def remember(self, key: str, order: Mapping[str, Any], id: str, now: float) -> None:
        """Keep that a request with this key makes a job; until the job is there, it has made none."""
        await self._journal.add("key", key, {"order": order_digest(order), "job": id, "at": now})

    async def forget(self, id: str) -> None:
        """Forget a job that is over.

        Raises:
            JobError: it is not over.
        """
        if self.find(id).state not in FINAL:
            why = f"job {id} is {self._jobs[id].state}: cancel it first"
            raise JobError(HTTPStatus.CONFLICT, "not-over", why, {"state": self._jobs[id].state})
        await self._journal.compact(lambda kind, key, value: None if _of(kind, key, value) == id else value)
        del self._jobs[id], self._events[id]


def _of(kind: str, key: str, value: Any) -> str:
    """Return the job that an entry is about."""
    if kind == "key":
        return str(value["job"])
    return key.partition("|")[0]


def order_digest(order: Mapping[str, Any]) -> str:
    """Return what tells orders apart, in whatever order their keys are."""
    return hashlib.sha256(msgspec.json.encode(order, order="deterministic")).hexdigest()
