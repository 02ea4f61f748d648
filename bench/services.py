"""Services out of numbers: right ones, which must survive whatever chaos does within the budgets, and wrong ones.

A number decides the tree (strategies, depth, budgets, restart types, shutdown limits, back-off), who does what in it,
and how it is used: jobs that are acknowledged once they are written down, jobs in an order, answers that can be
checked, work that is passed on, monitors that are kept up, sessions that come and go. A *flaw* is one mistake in one
such service, of a kind that people make; everything else in it stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from random import Random
from typing import Any

from bench.flaws import DELEGATES, STORES, SUPERVISORS, LostMonitor, WrongOrder
from bench.parts import (
    Append,
    Deferring,
    Delegate,
    Disk,
    Part,
    Prompt,
    Put,
    Row,
    Session,
    Slow,
    Store,
    Watched,
    Watcher,
    answer,
)
from supervision import (
    ChildSpec,
    DynamicSupervisor,
    Request,
    Runtime,
    SupervisionError,
    Supervisor,
    start_child,
)
from supervision.events import GaveUp
from supervision.supervisors.restarts import Backoff
from supervision.testing import (
    Chaos,
    Client,
    Crash,
    Delay,
    Drop,
    Duplicate,
    ExitFault,
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
#: What may happen to a right service.
FAULTS: tuple[Fault, ...] = (
    Crash(),
    Crash(skip=2),
    ExitFault(),
    ExitFault("shutdown"),
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
        await runtime.sleep(max(10.0, SECONDS + 20.0 - runtime.clock.time()))  # what is left in outboxes is done
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
