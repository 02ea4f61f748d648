"""The actor that owns the jobs of a kind for a program: it starts, pauses, cancels and resumes them."""

from __future__ import annotations

import asyncio
import shutil
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from agents.durability import OutcomeUnknown, SqliteStorage, StorageError
from dspex._tasks import on_end
from dspex.agents.background import PROGRAM_AGENTS, agents_supervisor
from dspex.jobs.events import BudgetReached, JobMoved
from dspex.jobs.history import JobHistory
from dspex.jobs.job import JobActor, WorkEnded
from dspex.jobs.selection import job_settings
from dspex.jobs.spending import OverBudget, Spending, checked_budget, checked_calls
from dspex.jobs.work import JobSettings, JobWork, WorkNews
from dspex.models.cause import LONGEST, without_secrets
from dspex.models.local.server import LANGUAGE_MODEL
from dspex.serving.arguments import check_folder
from foundation.jobs import (
    FINAL,
    DeleteJob,
    GetJob,
    GetJobEvents,
    GetJobResult,
    Job,
    JobError,
    ListJobs,
    MoveJob,
    StartJob,
)
from supervision import (
    Actor,
    ChildNotFound,
    ChildSpec,
    DynamicSupervisor,
    Message,
    NoProcess,
    Refuse,
    ReplyTo,
    Supervisor,
    handle,
    start_child,
    terminate_child,
)
from supervision.errors import BadOption
from supervision.logs import get_logger
from supervision.messages import cut

_log: Any = get_logger("dspex")

#: From which states a job can be moved to which, by whom asks.
_MOVES: Mapping[str, frozenset[str]] = {
    "paused": frozenset({"queued", "running", "suspended"}),
    "running": frozenset({"paused", "over_budget", "failed"}),
    "cancelled": frozenset({"queued", "running", "suspended", "paused", "stopping"}),
}


class WorkTold(Message, frozen=True):
    """To itself: work has told its progress, or that its model is away, or back (None)."""

    job: str
    told: WorkNews


class JobSpec(Protocol):
    """What can be ordered: who orders it may set lower limits."""

    @property
    def lm(self) -> str | None:
        """A model string; None for what the owner, or the environment, says."""

    @property
    def budget(self) -> float | None:
        """Dollars."""

    @property
    def max_calls(self) -> int | None:
        """Calls of language models."""


S = TypeVar("S", bound=JobSpec)


class JobOwner(Actor, Generic[S]):
    """Owns the jobs of a kind for a program. Under the name ``KIND:PROGRAM`` it is found over HTTP.

    One job runs at a time, under a supervisor; others wait in their order. Their states are kept in ``folder``, each
    before it counts: whoever is started on it next goes on with what was running, and leaves alone what was paused.

    Args:
        program: the name of the program.
        folder: where the jobs are kept.
        specs: what may be ordered, by name.
        data: the folder from which the paths in the specifications are taken.
        lm: the language model, or its model string, if a specification names none; None for the one with which the
            program is served, or, if it is not, for what the environment says.
        server: under which name the embedded language model is found.

    Raises:
        WorkflowError, StorageError: at its start, if the folder cannot be used.
    """

    #: The kind of these jobs.
    kind: ClassVar[str]
    #: What an order may have besides ``spec``, ``budget`` and ``max_calls``.
    choices: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        program: str,
        folder: str | Path,
        specs: Mapping[str, Any],
        *,
        data: str | Path = ".",
        lm: Any = None,
        server: str = LANGUAGE_MODEL,
    ) -> None:
        self._specs = {name: self.specification(f"specs.{name}", given) for name, given in specs.items()}
        self.program, self.folder, self.data = program, Path(folder), Path(data)
        self._lm, self._server = lm, server
        self._job: tuple[str, JobWork] | None = None
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    @classmethod
    def check_arguments(
        cls, program: str, folder: str | Path, specs: Mapping[str, Any], *, data: str | Path = ".", **_: Any
    ) -> None:
        """Check what stands in a tree file: what the specifications name is imported, and nothing runs."""
        if not isinstance(program, str) or not program:
            raise BadOption("program", program, "give the name of the program, as its address has it")
        check_folder("folder", folder)
        check_folder("data", data)
        if not isinstance(specs, Mapping):
            raise BadOption("specs", specs, "give a table of specifications, by their names")
        for name, given in specs.items():
            cls.specification(f"specs.{name}", given)

    @classmethod
    def argument_warnings(
        cls, program: str, _folder: object, specs: Mapping[str, Any], *, data: str | Path = ".", **_: Any
    ) -> Iterator[str]:
        """Return which files of examples are not there yet."""
        for name, given in specs.items():
            path = cls.examples(cls.specification(f"specs.{name}", given))
            if path is not None and not (Path(data) / path).is_file():
                yield f"{cls.kind} of {program}: specs.{name}: there is no file {path!r} in {str(data)!r} yet"

    # -- what differs by kind ------------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def specification(where: str, given: Any) -> S:
        """Return a specification, checked.

        Args:
            where: it stands, for errors.
            given: what stands there.
        """

    @staticmethod
    @abstractmethod
    def examples(spec: Any) -> str | None:
        """Return the path of the file of examples that a specification names; None if it names none."""

    @abstractmethod
    def chosen(self, spec: S, order: Mapping[str, Any]) -> S:
        """Return a specification with what an order has chosen.

        Raises:
            JobError: that cannot be had.
        """

    async def completed(self, spec: S, order: dict[str, Any]) -> dict[str, Any]:
        """Return an order with whatever it has left to be found out, before it counts.

        Raises:
            JobError: that cannot be had.
        """
        return order

    @abstractmethod
    def work(
        self,
        job: Job,
        spec: S,
        folder: Path,
        settings: JobSettings,
        spending: Spending,
        told: Callable[[WorkNews], object],
    ) -> JobWork:
        """Return the work on a job."""

    async def succeeded(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Do what is left to do with what a job has made; return what is to be said, and what the job is told."""
        return "", {}

    @abstractmethod
    def made(self, id: str) -> dict[str, Any]:
        """Return what a job has made, from its folder; called in a thread."""

    # -- its life ------------------------------------------------------------------------------------------------------

    async def init(self) -> None:
        """Read the jobs that were kept, and go on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        storage = SqliteStorage(self.folder / "jobs.sqlite")
        on_end(self.ref, storage.close)
        self._history = JobHistory(storage, self.program)
        await self._history.open()
        children = [ChildSpec("jobs", DynamicSupervisor, kwargs={"max_restarts": 10, "max_seconds": 60.0})]
        if await self._lacks_agents():
            children.insert(0, agents_supervisor())
        # Names of this incarnation alone: those of one that was killed may be held a moment longer.
        self._jobs_name = f"{self.ref.path}#{self.ref.id}/jobs"
        children[-1] = msgspec.structs.replace(children[-1], name=self._jobs_name)
        await self.spawn_link(Supervisor, children, max_restarts=0)
        with self._tolerating():
            for job in self._history.all():
                if job.state == "stopping":
                    await self._move(job.id, "cancelled", "the process ended while it was being stopped")
        await self._go_on()

    async def _lacks_agents(self) -> bool:
        """Return whether the tree has no supervisor for agents. That of an earlier incarnation, which ends, is none."""
        known = self.runtime.whereis(PROGRAM_AGENTS)
        if known is not None and known.path.startswith(f"{self.ref.path}/"):
            await known.join()
            known = None
        return known is None and not self.runtime.expected(PROGRAM_AGENTS)

    # -- requests ------------------------------------------------------------------------------------------------------

    @handle
    async def start(self, request: StartJob) -> Job:
        """Make a job, and begin it as soon as it is its turn."""
        try:
            now = self.runtime.clock.wall_time()
            known = None if request.key is None else self._history.known(request.key, request.order, now)
            if known is not None:
                return known
            spec = self._spec(request.order)
            order = await self.completed(spec, dict(request.order))
        except JobError as error:
            raise Refuse(error) from None
        id = f"{self.runtime.random.getrandbits(96):024x}"
        try:
            if request.key is not None:
                await self._history.remember(request.key, request.order, id, now)
            await self._history.add(id, order, now, {"budget": spec.budget, "max_calls": spec.max_calls})
        except StorageError as error:
            raise Refuse(not_kept(error)) from error
        with self._tolerating():
            await self._move(id, "queued", "")
            await self._go_on()
        return self._history.find(id)

    def _spec(self, order: Mapping[str, Any]) -> S:
        """Return what an order asks for.

        Raises:
            JobError: that cannot be had.
        """
        known = ("spec", *self.choices, "budget", "max_calls")
        unknown = sorted(order.keys() - set(known))
        if unknown:
            raise bad_order(unknown[0], f"an order has {', '.join(known)}")
        spec = self._named(order)
        if spec is None:
            raise bad_order("spec", f"choose one of {', '.join(self._specs) or 'none'}")
        return self._limited(self.chosen(spec, order), order)

    def _named(self, order: Mapping[str, Any]) -> S | None:
        name = order.get("spec", next(iter(self._specs)) if len(self._specs) == 1 else None)
        return self._specs.get(name) if isinstance(name, str) else None

    def _limited(self, spec: S, order: Mapping[str, Any]) -> S:
        """Return a specification with the limits of an order, none of which may be higher."""
        limits = {name: _limit(name, order.get(name), getattr(spec, name)) for name in _LIMITS}
        return msgspec.structs.replace(spec, **limits)  # type: ignore[type-var]

    @handle
    def list(self, request: ListJobs) -> list[Job]:
        """List the jobs, the latest first."""
        found = self._history.all()[::-1]
        if request.before is not None:
            ids = [job.id for job in found]
            found = found[ids.index(request.before) + 1 :] if request.before in ids else []
        return found[: request.limit]

    @handle
    def get(self, request: GetJob) -> None:
        """Say how far a job is, perhaps when it has changed."""
        job = self._found(request.id)
        seen = job.number if request.seen is None and request.wait else request.seen
        ready = job.number != seen or job.state in FINAL
        self._answer_when(ready, request.id, request.wait, lambda: self._history.find(request.id))

    @handle
    def events(self, request: GetJobEvents) -> None:
        """Say what has happened to a job, perhaps when something has."""
        job = self._found(request.id)
        ready = job.number > request.after or job.state in FINAL
        self._answer_when(ready, request.id, request.wait, lambda: self._history.events(request.id, request.after))

    @handle
    async def move(self, request: MoveJob) -> Job:
        """Pause, resume or cancel a job."""
        job = self._found(request.id, request.seen)
        try:
            limits = self._checked_move(job, request)
        except JobError as error:
            raise Refuse(error) from None
        try:
            await self._begin_move(job, request.state, limits)
        except StorageError as error:
            await self._go_on()
            raise Refuse(not_kept(error)) from error
        await self._go_on()
        return self._history.find(job.id)

    async def _begin_move(self, job: Job, state: str, limits: Mapping[str, Any]) -> None:
        if state == "running":
            await self._move(job.id, "queued", "resumed", **limits)
        elif state == "paused":
            await self._stop(job.id)
            await self._move(job.id, "paused", "paused")
        else:
            await self._move(job.id, "stopping", "cancelled")
            await self._stop(job.id)
            await self._move(job.id, "cancelled", "cancelled")

    def _checked_move(self, job: Job, request: MoveJob) -> dict[str, Any]:
        """Return the limits that a job has from now on, as far as they change."""
        if job.state not in _MOVES.get(request.state, frozenset()):
            why = f"job {job.id} is {job.state}, and cannot become {request.state[:50]!r}"
            raise JobError(HTTPStatus.CONFLICT, "bad-move", why, {"state": job.state})
        spec = None if job.state == "over_budget" else self._named(job.order)
        given = {name: getattr(request, name) for name in _LIMITS if getattr(request, name) is not None}
        limits = {name: _limit(name, value, getattr(spec, name, None)) for name, value in given.items()}
        if job.state == "over_budget":
            after = msgspec.structs.replace(job, **limits)
            if not limits or is_spent(after):
                why = f"${job.spent:.4f} are spent, in {job.calls} calls: give a budget above that, or max_calls"
                raise JobError(HTTPStatus.CONFLICT, "over-budget", why, {"state": job.state})
        return limits

    @handle
    async def delete(self, request: DeleteJob) -> None:
        """Forget a job that is over."""
        self._found(request.id, request.seen)
        try:
            await self._history.forget(request.id)
        except JobError as error:
            raise Refuse(error) from None
        except StorageError as error:
            raise Refuse(not_kept(error)) from error
        await asyncio.to_thread(shutil.rmtree, self.folder / request.id, ignore_errors=True)

    @handle
    async def result(self, request: GetJobResult) -> dict[str, Any]:
        """Return what a job has made."""
        job = self._found(request.id)
        if job.state != "succeeded":
            why = f"job {job.id} is {job.state}: it has made nothing yet"
            raise Refuse(JobError(HTTPStatus.CONFLICT, "no-result", why, {"state": job.state}))
        return await asyncio.to_thread(self.made, job.id)

    def _found(self, id: str, seen: int | None = None) -> Job:
        try:
            job = self._history.find(id)
        except JobError as error:
            raise Refuse(error) from None
        if seen is not None and seen != job.number:
            why = f"job {id} has changed: look at it again"
            raise Refuse(JobError(HTTPStatus.PRECONDITION_FAILED, "stale", why, {"state": job.state}))
        return job

    # -- whoever waits for a change ------------------------------------------------------------------------------------

    def _answer_when(self, ready: bool, id: str, wait: float, answer: Callable[[], Any]) -> None:
        reply: ReplyTo[Any] = self.defer_reply()
        if ready or wait <= 0:
            reply.reply(answer())
            return
        waiting = self._waiting.setdefault(id, [])

        def done() -> None:
            timer.cancel()
            waiting.remove(done)
            if reply.waiting:
                reply.reply(answer())

        timer = asyncio.get_running_loop().call_later(wait, done)
        waiting.append(done)
        reply.on_abandoned(lambda: done() if done in waiting else None)

    async def _tell(self, id: str, kind: str, data: Mapping[str, Any]) -> Job:
        job = await self._history.tell(id, kind, data)
        for done in list(self._waiting.get(id, ())):
            done()
        return job

    async def _move(self, id: str, state: str, why: str, **more: Any) -> None:
        before = self._history.find(id)
        data = {"state": state, "why": why, "at": self.runtime.clock.wall_time(), **more}
        await self._tell(id, "moved", data)
        was = before.state if before.number else ""
        about = {"kind": self.kind, "program": self.program, "job": id, "before": was, "state": state, "why": why}
        self.runtime.events.emit(JobMoved, **about)

    # -- the work ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _tolerating(self) -> Generator[None]:
        """Go on although something cannot be kept: it is as it was, and is tried again with the next order or move."""
        try:
            yield
        except StorageError as error:
            _log.warning("job_not_kept", kind=self.kind, program=self.program, error=str(not_kept(error)))

    async def _go_on(self) -> None:
        """Begin the first job that is to run, if none does."""
        if self._job is not None:
            return
        order = {"running": 0, "suspended": 0, "queued": 1}
        ready = [job for job in self._history.all() if job.state in order]
        with self._tolerating():
            for job in sorted(ready, key=lambda job: order[job.state]):
                if await self._begin(job):
                    return

    async def _begin(self, job: Job) -> bool:
        try:
            order = {name: value for name, value in job.order.items() if name not in _LIMITS}
            work = await self._work(job, self._spec(order))
        except (JobError, BadOption, ValueError, OSError) as error:
            await self._move(job.id, "failed", cut(without_secrets(str(error)), LONGEST), cause="order")
            return False
        if job.state != "running":
            await self._move(job.id, "running", "")
        self._job = job.id, work
        name = f"{self._jobs_name}/{job.id}"
        child = ChildSpec(job.id, JobActor, (job.id, work, self.ref), restart="transient", name=name)
        await start_child(self.runtime.name(self._jobs_name), child)
        return True

    async def _work(self, job: Job, spec: S) -> JobWork:
        history, ref = self._history, self.ref
        folder = self.folder / job.id
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        save = partial(history.spend, job.id)
        spending = Spending(job.budget, job.spent, save, max_calls=job.max_calls, calls=job.calls)
        lm = self._lm if spec.lm is None else spec.lm
        settings = partial(job_settings, self.runtime, self.program, lm, self._server)
        told = lambda what: ref.cast(WorkTold(job.id, what))  # noqa: E731
        return self.work(job, spec, folder, settings, spending, told)

    async def _stop(self, id: str) -> None:
        """Stop the work on a job, whoever does it at this moment."""
        if self._job is None or self._job[0] != id:
            return
        (_, work), self._job = self._job, None
        work.over = True
        with suppress(ChildNotFound, NoProcess):  # it has ended by itself meanwhile
            child = self.runtime.name(f"{self._jobs_name}/{id}").resolve()
            await terminate_child(self.runtime.name(self._jobs_name), child)
        await work.stop()

    @handle
    async def told(self, message: WorkTold) -> None:
        """Keep what work has told."""
        if self._job is None or self._job[0] != message.job:
            return
        job = self._history.find(message.job)
        with self._tolerating():
            await self._keep_told(job, message.told)

    async def _keep_told(self, job: Job, told: WorkNews) -> None:
        match told:
            case None:
                if job.state == "suspended":
                    await self._move(job.id, "running", "the language model is back")
            case dict():
                await self._tell(job.id, "progress", {**told, "spent": job.spent})
            case away:
                if job.state == "running":
                    await self._move(job.id, "suspended", away.why)

    @handle
    async def work_ended(self, message: WorkEnded) -> None:
        """Keep how work has ended, and begin the next one."""
        if self._job is None or self._job[1] is not message.work:
            return
        self._job = None
        job = self._history.find(message.job)
        with self._tolerating():
            await self._end(job, message.work, message.error)
            await self._go_on()

    async def _end(self, job: Job, work: JobWork, ended: BaseException | None) -> None:
        match ended:
            case None:
                why, more = await self.succeeded(job)
                await self._move(job.id, "succeeded", why, **more)
            case OverBudget() as error:
                await self._move(job.id, "over_budget", str(error))
                spending = error.spending
                self.runtime.events.emit(
                    BudgetReached,
                    kind=self.kind,
                    program=self.program,
                    job=job.id,
                    budget=spending.budget,
                    spent=spending.spent,
                    max_calls=spending.max_calls,
                    calls=spending.calls,
                )
            case error:
                why, cause = work.failure(error)
                await self._move(job.id, "failed", why, cause=cause)

    def summary(self) -> Mapping[str, object]:
        """Return how many jobs there are, and which one runs, for ``/tree``."""
        return {"jobs": len(self._history.all()), "running": "" if self._job is None else self._job[0]}


#: What limits a job, each with what checks it.
_LIMITS: Mapping[str, Callable[[Any], Any]] = {"budget": checked_budget, "max_calls": checked_calls}


def _limit(name: str, given: Any, most: Any) -> Any:
    """Return a limit that was given, or else the one that there is."""
    if given is None:
        return most
    try:
        limit = _LIMITS[name](given)
    except BadOption as error:
        raise bad_order(name, str(error)) from None
    if most is not None and limit > most:
        raise bad_order(name, f"give at most {most:g}, what its specification allows")
    return limit


def is_spent(job: Job) -> bool:
    """Whether a job has nothing left to spend."""
    if job.max_calls is not None and job.calls >= job.max_calls:
        return True
    return job.budget is not None and job.spent >= job.budget


def not_kept(error: StorageError) -> JobError:
    """Return that what was asked for cannot be kept.

    Raises:
        OutcomeUnknown: perhaps it is kept: whoever is started next reads what is there.
    """
    if isinstance(error, OutcomeUnknown):
        raise error
    why = f"nothing was changed, as it cannot be kept: {error}; make room, or end the other server, and try again"
    return JobError(HTTPStatus.SERVICE_UNAVAILABLE, "not-kept", why)


def bad_order(name: str, why: str) -> JobError:
    """Return that something in an order is wrong."""
    return JobError(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-order", f"{name[:50]}: {why}")
