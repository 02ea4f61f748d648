"""Services out of numbers: right ones, which must survive whatever chaos does within the budgets, and wrong ones.

A number decides the tree (strategies, depth, budgets, restart types, shutdown limits, back-off), who does what in it,
and how it is used: jobs that are acknowledged once they are written down, jobs in an order, answers that can be checked,
work that is passed on, monitors that are kept up, sessions that come and go. A *flaw* is one mistake in one such
service, of a kind that people make; everything else in it stays as it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from random import Random
from typing import Any

from supervision import (
    Actor,
    CallError,
    ChildSpec,
    Down,
    DynamicSupervisor,
    Message,
    Ref,
    Refuse,
    Request,
    Runtime,
    SupervisionError,
    Supervisor,
    handle,
    start_child,
)
from supervision.childspec import Backoff
from supervision.events import GaveUp
from supervision.ref import Address
from supervision.supervisor import Child
from supervision.testing import (
    Chaos,
    Client,
    Crash,
    Delay,
    Drop,
    Duplicate,
    Exit,
    FailStart,
    Fault,
    Hang,
    Kill,
    KillDuring,
    LateReply,
    SlowStop,
    Suspend,
    SwallowCancel,
)

#: Virtual seconds in which faults happen, and after which a service has to be as it should be.
SECONDS = 20.0
AFTER = 200.0
STEPS = 30
JOBS = 10


# -- what is done ------------------------------------------------------------------------------------------------------


class Put(Request[int], frozen=True):
    """A job: to be written down once, however often it is sent, and answered with `answer`."""

    id: int


class Append(Request[int], frozen=True):
    """The next job of a row: to be written down after those before."""

    n: int


class Tick(Message, frozen=True):
    """A note to itself: there is something left to do."""


class Late(Message, frozen=True):
    """A note to itself: something was put off."""

    what: Callable[[], object]


def answer(id: int) -> int:
    """Return what is to be answered to a job."""
    return 7 * id + 3


class Disk:
    """What outlives every actor of a service."""

    def __init__(self) -> None:
        #: Who wrote down which job, how often.
        self.written: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.rows: defaultdict[str, list[int]] = defaultdict(list)
        self.outbox: defaultdict[str, list[int]] = defaultdict(list)
        self.starts: Counter[str] = Counter()
        self.locked: set[str] = set()
        self.steps: defaultdict[str, list[int]] = defaultdict(list)


class Part(Actor):
    """An actor of a service, which knows its name and the disk."""

    def __init__(self, disk: Disk, key: str, pause: float) -> None:
        self.disk = disk
        self.key = key
        self.pause = pause

    def init(self) -> Any:
        """Count the start."""
        self.disk.starts[self.key] += 1

    @handle
    def late(self, message: Late) -> None:
        """Do what was put off."""
        message.what()


class Store(Part):
    """Writes jobs down before it answers."""

    def write(self, id: int) -> None:
        """Write a job down, unless it is there."""
        if not self.disk.written[self.key][id]:
            self.disk.written[self.key][id] += 1

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down."""
        await self.runtime.sleep(self.pause)
        self.write(request.id)
        await self.runtime.sleep(self.pause)
        return answer(request.id)


class Prompt(Store):
    """One that takes no time."""

    @handle
    def put(self, request: Put) -> int:  # type: ignore[override]
        """Write a job down."""
        self.write(request.id)
        return answer(request.id)


class Deferring(Store):
    """One that answers later, in the meantime takes other jobs."""

    @handle
    def put(self, request: Put) -> None:  # type: ignore[override]
        """Write a job down."""
        self.write(request.id)
        owed = self.defer_reply()
        self.send_after(self.pause, Late(lambda: owed.reply(answer(request.id))))


class Slow(Store):
    """One that takes its time to start and to stop."""

    trap_exit = True

    async def init(self) -> None:
        """Start slowly."""
        super().init()
        await self.runtime.sleep(self.pause)

    async def terminate(self, reason: object) -> None:
        """Stop slowly."""
        await self.runtime.sleep(self.pause)


class Delegate(Part):
    """Passes jobs on to a store, until that has done them."""

    def __init__(self, disk: Disk, key: str, pause: float, target: str) -> None:
        super().__init__(disk, key, pause)
        self.target = target

    def address(self) -> Address:
        """Return to whom jobs are passed on."""
        return self.runtime.name(self.target)

    @handle
    async def put(self, request: Put) -> int:
        """Pass a job on; who has sent it has to try again if there is no answer."""
        error: CallError | None = None
        for _ in range(3):
            try:
                return await self.address().call(request, timeout=5.0)
            except CallError as failed:
                error = failed
                await self.runtime.sleep(0.1)
        raise Refuse(error)


class Row(Part):
    """Takes jobs into an outbox on the disk, and writes them down from there, in their order."""

    def init(self) -> None:
        """Go on with what is left in the outbox."""
        super().init()
        self.send_after(self.pause, Tick())

    @handle
    def append(self, request: Append) -> int:
        """Take a job."""
        outbox, row = self.disk.outbox[self.key], self.disk.rows[self.key]
        if request.n not in outbox and request.n not in row:
            outbox.append(request.n)
        return answer(request.n)

    @handle
    def tick(self, message: Tick) -> None:
        """Write the oldest one down."""
        outbox = self.disk.outbox[self.key]
        if outbox:
            self.disk.rows[self.key].append(outbox[0])
            del outbox[0]
        self.send_after(self.pause, Tick())


class Watched(Request[Ref | None], frozen=True):
    """The question whom a watcher watches."""


class Watcher(Part):
    """Keeps a monitor on whoever has a name."""

    watching: Ref | None = None

    def __init__(self, disk: Disk, key: str, pause: float, target: str) -> None:
        super().__init__(disk, key, pause)
        self.target = target

    def init(self) -> None:
        """Begin to watch."""
        super().init()
        self.continue_with(Tick())

    @handle
    def tick(self, message: Tick) -> None:
        """Watch the next incarnation, if it is there."""
        self.watching = self.runtime.whereis(self.target)
        if self.watching is None:
            self.send_after(0.1, Tick())
        else:
            self.monitor(self.watching)

    @handle
    def watched(self, request: Watched) -> Ref | None:
        """Tell."""
        return self.watching

    @handle
    def down(self, message: Down) -> None:
        """Watch the next one."""
        self.watching = None
        self.continue_with(Tick())


class Session(Part):
    """Does three things and ends; when it is restarted, it goes on where it was."""

    def init(self) -> None:
        """Begin."""
        super().init()
        self.continue_with(Tick())

    @handle
    async def tick(self, message: Tick) -> None:
        """Do the next thing."""
        done = self.disk.steps[self.key]
        step = len(done)
        if step < 3:
            await self.runtime.sleep(self.pause)
            if step not in done:  # one that was killed, and caught its cancellation, may have done it
                done.append(step)
            self.continue_with(message)
        else:
            self.stop()


# -- flaws -------------------------------------------------------------------------------------------------------------


class LostJob(Store):
    """Answers before it has written."""

    @handle
    async def put(self, request: Put) -> int:
        """Put the writing off."""
        await self.runtime.sleep(self.pause)
        self.send_after(1.0, Late(lambda: self.write(request.id)))
        return answer(request.id)


class DoubleWork(Store):
    """Does not look whether it has done a job."""

    def write(self, id: int) -> None:
        """Write a job down."""
        self.disk.written[self.key][id] += 1


class WrongAnswer(Store):
    """Counts jobs itself, from its start."""

    count = 0

    @handle
    async def put(self, request: Put) -> int:
        """Answer by the count."""
        await self.runtime.sleep(self.pause)
        self.write(request.id)
        self.count += 1
        return answer(self.count - 1)


class KeptState(Store):
    """Remembers what it has begun in a place that outlives it, and takes that for done."""

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down, unless it was begun."""
        begun = self.runtime.shared.setdefault(("begun", self.key), set())
        if request.id not in begun:
            begun.add(request.id)
            await self.runtime.sleep(self.pause)
            self.write(request.id)
        return answer(request.id)


class Deadlock(Store):
    """Takes a lock that nobody gives back if it dies."""

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down under the lock."""
        while self.key in self.disk.locked:
            await self.runtime.sleep(0.2)
        self.disk.locked.add(self.key)
        await self.runtime.sleep(self.pause)
        self.write(request.id)
        self.disk.locked.discard(self.key)
        return answer(request.id)


class NeverStarts(Store):
    """Waits, when it starts for the second time, for what comes only once."""

    async def init(self) -> None:
        """Wait."""
        super().init()
        if self.disk.starts[self.key] > 1:
            await asyncio.Event().wait()


class LeaksActors(Store):
    """Starts a helper that belongs to nobody."""

    def init(self) -> None:
        """Start it."""
        super().init()
        self.runtime.spawn_nowait(Actor)


class LeaksTasks(Store):
    """Starts a task that never ends."""

    def init(self) -> None:
        """Start it."""
        super().init()
        self.task = asyncio.get_running_loop().create_task(asyncio.Event().wait())


class Immortal(Store):
    """Goes on with a job for long, whatever is done to end it."""

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down."""
        begun = self.runtime.clock.time()
        over = begun + self.pause
        while self.runtime.clock.time() < over:
            try:
                await self.runtime.sleep(self.pause)
            except BaseException:
                over = begun + 2.5 * SECONDS
        self.write(request.id)
        return answer(request.id)


class StaleName(Delegate):
    """Looks its store up once."""

    store: Ref | None = None

    def address(self) -> Address:
        """Return whom it knows."""
        self.store = self.store or self.runtime.whereis(self.target)
        return self.store or self.runtime.name(self.target)


class Swallows(Delegate):
    """Takes no answer for a good one."""

    @handle
    async def put(self, request: Put) -> int:
        """Pass a job on, and hope."""
        try:
            return await self.runtime.name(self.target).call(request, timeout=2.0)
        except CallError:
            return answer(request.id)


class WrongOrder(Row):
    """When it starts again, it deals with what is new before what was left."""

    def init(self) -> None:
        """Put aside what is left."""
        super().init()
        outbox = self.disk.outbox[self.key]
        left = list(outbox)
        outbox.clear()
        self.send_after(3.0, Late(lambda: self.disk.rows[self.key].extend(left)))


class LostMonitor(Watcher):
    """Watches once."""

    @handle
    def down(self, message: Down) -> None:
        """Note the end."""


class _Flawed(Supervisor):
    """A supervisor with a mistake."""


class StartsTwice(_Flawed):
    """Starts a child that was restarted once more."""

    async def _start(self, child: Child) -> None:
        again = child.last is not None
        await super()._start(child)
        if again:
            await super()._start(child)


class WrongRestartOrder(_Flawed):
    """Restarts a group from its end."""

    def _group(self, child: Child) -> list[Child]:
        return super()._group(child)[::-1]


class ForgetsSiblings(_Flawed):
    """Restarts the one that has died, whatever its strategy."""

    def _group(self, child: Child) -> list[Child]:
        return [child]


class WrongStopOrder(_Flawed):
    """Stops its children first to last."""

    async def stop_all(self) -> None:
        """Stop them."""
        await self._stop_many(list(self._children.values())[::-1])


class CountsNothing(_Flawed):
    """Has a budget that is never used up."""

    def spend_restart(self, spec: ChildSpec, last: Any, reason: Any) -> float | None:
        """Forget all restarts before."""
        self.budget._times.clear()
        return super().spend_restart(spec, last, reason)


STORES: dict[str, type[Store]] = {
    "lost job": LostJob,
    "double work": DoubleWork,
    "wrong answer": WrongAnswer,
    "kept state": KeptState,
    "deadlock": Deadlock,
    "never starts": NeverStarts,
    "leak of actors": LeaksActors,
    "leak of tasks": LeaksTasks,
    "cannot be killed": Immortal,
}
DELEGATES: dict[str, type[Delegate]] = {"stale name": StaleName, "swallowed failure": Swallows}
SUPERVISORS: dict[str, type[Supervisor]] = {
    "child started twice": StartsTwice,
    "wrong restart order": WrongRestartOrder,
    "siblings forgotten": ForgetsSiblings,
    "wrong stop order": WrongStopOrder,
    "restarts not counted": CountsNothing,
}
#: All kinds of mistakes.
FLAWS = (*STORES, *DELEGATES, *SUPERVISORS, "wrong order", "lost monitor", "not restarted")

#: What may happen to a right service.
FAULTS: tuple[Fault, ...] = (
    Crash(),
    Crash(skip=2),
    Exit(),
    Exit("shutdown"),
    FailStart(),
    FailStart(2, "refuse"),
    FailStart(how="slow", seconds=2.0),
    FailStart(how="hang"),
    Hang(3.0),
    KillDuring("handler"),
    KillDuring("init"),
    KillDuring("terminate"),
    LateReply(3.0),
    SlowStop(1.0),
    Suspend(2.0),
    SwallowCancel(2),
    Drop(0.5),
    Delay(0.7),
    Duplicate(),
)


# -- a service ---------------------------------------------------------------------------------------------------------


class Service:
    """A service.

    Args:
        number: decides what it is.
        flaw: one of `FLAWS`; None for a right one.
    """

    def __init__(self, number: int, flaw: str | None = None) -> None:
        self._chance = chance = Random(number)
        self.flaw = flaw
        self.disk = Disk()
        #: The names of those that get jobs, and of the stores in which these end up.
        self.puts: dict[str, str] = {}
        self.rows: list[str] = []
        self.watchers: dict[str, str] = {}
        #: The paths of those that must be there in the end, and of those that may be.
        self.permanent: set[str] = set()
        self.optional: set[str] = set()
        self._names: dict[str, str] = {}
        self._number = 0
        self._parts = [self._store, self._row]
        self._parts += chance.choices([self._store, self._row, self._delegate, self._watcher, self._extra], k=3)
        self.faults: tuple[Fault, ...] = (Kill(), Kill(), *chance.sample(FAULTS, chance.randint(0, 4)))
        self._build = self._root()

    def __str__(self) -> str:
        return "\n".join(sorted(self.permanent))

    # -- the tree --------------------------------------------------------------------------------------------

    def _root(self) -> Callable[[], tuple[type[Supervisor], list[ChildSpec], dict[str, Any]]]:
        """Lay the tree out; return what makes its specifications for a new run."""
        chance = self._chance
        # What many mistakes need to show: a store, and who knows it, that are restarted alone; and three that are
        # restarted together.
        knowing = [self._delegate, self._watcher]
        solo = self._group("solo", [self._solo, *knowing, *self._some(1)], "one_for_one", False)
        team = self._group("team", [self._store] * 3, chance.choice(["one_for_all", "rest_for_one"]), True)
        main = [team, *(self._nested(depth) for depth in range(chance.randint(0, 2)))]
        main += [self._dynamic()] if chance.random() < 0.7 else []
        main += [self._placed(part) for part in self._parts]
        chance.shuffle(main)
        strategy = chance.choice(["one_for_one", "one_for_one", "rest_for_one", "one_for_all"])
        children = [solo, self._holding("main", main, self._budget(least=3) | {"strategy": strategy})]
        chance.shuffle(children)
        options = self._budget(least=3)
        return lambda: (Supervisor, [child("/app") for child in children], options)

    def _budget(self, least: int) -> dict[str, Any]:
        chance = self._chance
        return {"max_restarts": chance.randint(least, least + 4), "max_seconds": chance.choice([1.0, 3.0, 5.0, 10.0])}

    def _some(self, number: int) -> list[Any]:
        return self._chance.choices([self._store, self._row, self._extra], k=number)

    def _nested(self, depth: int) -> Callable[[str], ChildSpec]:
        chance = self._chance
        strategy = chance.choice(["one_for_one", "one_for_all", "rest_for_one"])
        parts: list[Any] = self._some(chance.randint(1, 3))
        if depth:
            parts.append(lambda: self._nested(depth - 1))
        return self._group(f"g{self._next()}", parts, strategy, False)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _group(self, id: str, parts: list[Any], strategy: str, flawed: bool) -> Callable[[str], ChildSpec]:
        children = [self._placed(part) for part in parts]
        kind = SUPERVISORS.get(self.flaw or "", Supervisor) if flawed else Supervisor
        return self._holding(id, children, self._budget(least=2) | {"strategy": strategy}, kind)

    def _holding(
        self, id: str, children: list[Any], options: dict[str, Any], kind: type[Supervisor] = Supervisor
    ) -> Callable[[str], ChildSpec]:
        def spec(above: str) -> ChildSpec:
            path = f"{above}/{id}"
            self.permanent.add(path)
            return ChildSpec(id, kind, ([child(path) for child in children],), options)

        return spec

    def _dynamic(self) -> Callable[[str], ChildSpec]:
        children = [self._placed(part) for part in self._some(self._chance.randint(0, 2))]
        options = self._budget(least=2)
        self.sessions = f"sessions{self._next()}"
        self._with_sessions = True
        id = self.sessions

        def spec(above: str) -> ChildSpec:
            self.permanent.add(f"{above}/{id}")
            specs = [child(f"{above}/{id}") for child in children]
            return ChildSpec(id, DynamicSupervisor, (specs,), options, name=id)

        return spec

    _with_sessions = False
    sessions = ""

    def _placed(self, part: Any) -> Callable[[str], ChildSpec]:
        made = part()
        if callable(made):
            return made  # type: ignore[no-any-return]
        kind, name, args, fields = made
        chance = self._chance
        fields = {"restart": "permanent", **fields}
        if chance.random() < 0.3:
            fields["shutdown"] = chance.choice(["brutal_kill", 1.0, "infinity"])
        if chance.random() < 0.2:
            fields["backoff"] = Backoff(initial=0.2, maximum=1.0)
        pause = chance.choice([0.02, 0.05, 0.1])
        if issubclass(kind, Row):
            pause = 0.5
        if name == "solo" and self.flaw is not None:
            pause = 0.8  # so that it is likely to be hit in the middle

        def spec(above: str) -> ChildSpec:
            place = self.permanent if fields["restart"] == "permanent" else self.optional
            place.add(f"{above}/{name}")
            self._names[name] = f"{above}/{name}"
            return ChildSpec(name, kind, (self.disk, name, pause, *args), name=name, **fields)

        return spec

    # -- its parts -------------------------------------------------------------------------------------------

    def _solo(self) -> tuple[Any, ...]:
        """A store that is restarted alone."""
        kind = STORES.get(self.flaw or "", Store)
        self.puts["solo"] = "solo"
        fields = {"restart": "temporary"} if self.flaw == "not restarted" else {}
        return kind, "solo", (), fields

    def _store(self) -> tuple[Any, ...]:
        name = f"store{self._next()}"
        self.puts[name] = name
        return self._chance.choice([Store, Prompt, Deferring, Slow]), name, (), {}

    def _delegate(self) -> tuple[Any, ...]:
        name = f"delegate{self._next()}"
        self.puts[name] = "solo"
        return DELEGATES.get(self.flaw or "", Delegate), name, ("solo",), {}

    def _row(self) -> tuple[Any, ...]:
        name = f"row{self._next()}"
        self.rows.append(name)
        return WrongOrder if self.flaw == "wrong order" else Row, name, (), {}

    def _watcher(self) -> tuple[Any, ...]:
        name = f"watcher{self._next()}"
        self.watchers[name] = "solo"
        return LostMonitor if self.flaw == "lost monitor" else Watcher, name, ("solo",), {}

    def _extra(self) -> tuple[Any, ...]:
        """Somebody who may end, and who nobody needs."""
        return Part, f"extra{self._next()}", (), {"restart": self._chance.choice(["temporary", "transient"])}

    # -- its use ---------------------------------------------------------------------------------------------

    async def start(self, runtime: Runtime) -> None:
        """Start it, with an empty disk."""
        self.disk = Disk()
        self.permanent = {"/app"}
        self.optional = set()
        kind, specs, options = self._build()
        await runtime.spawn(kind, specs, name="app", **options)

    async def use(self, runtime: Runtime, chaos: Chaos) -> None:
        """Use it while faults happen, and look whether all is as it should be."""
        gave_up: list[Any] = []
        runtime.subscribe(gave_up.append, GaveUp)
        await asyncio.gather(*self._work(runtime, chaos))
        await runtime.sleep(max(0.0, SECONDS + 20.0 - runtime.clock.time()))
        assert not gave_up, f"gave up: {gave_up[0].path}"
        self._jobs_are_done()
        await self._everybody_is_there(runtime)

    def _work(self, runtime: Runtime, chaos: Chaos) -> Iterator[Coroutine[Any, Any, None]]:
        for n, name in enumerate([*self.puts, *self.rows]):
            yield self._jobs(runtime, chaos.client(timeout=20.0, pause=0.1), n, name)
        for n in range(2 if self._with_sessions else 0):
            yield self._session(runtime, f"session{n}")

    async def _jobs(self, runtime: Runtime, client: Client, client_number: int, name: str) -> None:
        chance = Random(client_number)
        for n in range(JOBS):
            await runtime.sleep(chance.uniform(0.2, 3.0))
            # Others write into the same store: each has numbers of its own, from 0 for whoever comes first.
            id = n if name in self.rows or name == "solo" else 1000 * (client_number + 1) + n
            request: Request[int] = Append(id) if name in self.rows else Put(id)
            got = await client.call(runtime.name(name), request)
            assert got == answer(id), f"{name} answered {got} to job {id}"

    async def _session(self, runtime: Runtime, key: str) -> None:
        spec = ChildSpec(key, Session, (self.disk, key, 1.5), restart="transient", name=key)
        while self.disk.steps[key] != [0, 1, 2]:
            if runtime.whereis(key) is None:
                with suppress(SupervisionError):  # it is about to be there, or its supervisor is not
                    await start_child(runtime.name(self.sessions), spec)
            await runtime.sleep(0.5)

    def _jobs_are_done(self) -> None:
        for n, (name, store) in enumerate(self.puts.items()):
            for job in range(JOBS):
                id = job if name == "solo" else 1000 * (n + 1) + job
                times = self.disk.written[store][id]
                assert times, f"acknowledged, and lost: job {id} of {name}"
                assert times == 1, f"done {times} times: job {id} of {name}"
        for name in self.rows:
            row = self.disk.rows[name]
            assert row == list(range(JOBS)), f"{name} is not in its order: {row}"
        for key, steps in self.disk.steps.items():
            assert steps == [0, 1, 2], f"{key} did {steps}"

    async def _everybody_is_there(self, runtime: Runtime) -> None:
        paths = [ref.path for ref in runtime.actors()]
        missing = sorted(self.permanent - set(paths))
        assert not missing, f"not there: {missing}"
        left = sorted(set(paths) - self.permanent - self.optional)
        assert not left, f"left over: {left}"
        assert len(paths) == len(set(paths)), f"there twice: {sorted(paths)}"
        for name, path in self._names.items():
            ref = runtime.whereis(name)
            assert path in self.optional or (ref is not None and ref.path == path), f"{name} is not {path}"
        for name, target in self.watchers.items():
            watched = await runtime.name(name).call(Watched())
            assert watched is runtime.whereis(target), f"{name} does not watch {target}"
