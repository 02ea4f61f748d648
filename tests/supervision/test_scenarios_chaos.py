"""Chaos runs: scenarios S319 to S325 and S330 of the reference, and more of the same kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervision import (
    Actor,
    ChildSpec,
    DynamicSupervisor,
    Message,
    Name,
    Request,
    Runtime,
    Supervisor,
    count_children,
    groups,
    handle,
    start_child,
    terminate_child,
)
from supervision.events import LoopBlocked
from supervision.testing import (
    BadChaosPlan,
    Chaos,
    ChaosPlan,
    ChaosStep,
    Client,
    Crash,
    EventLog,
    ExitFault,
    FailStart,
    Hang,
    Kill,
    KillDuring,
    LateReply,
    SeededQueue,
    Suspend,
    Victims,
    run,
    settled,
)
from tests.supervision.probes import Probe, Tidy, rec


def five(log: list[Any], **fields: Any) -> list[ChildSpec]:
    """Return the specifications of five workers."""
    return [rec(log, n, **fields) for n in range(5)]


async def test_S319_kills_beyond_the_budget_make_a_supervisor_give_up_and_its_parent_restart_it(
    runtime: Runtime,
) -> None:
    log: list[Any] = []
    sub = ChildSpec("sub", Supervisor, (five(log),), {"max_restarts": 1})
    top = await runtime.spawn(Supervisor, [sub], max_restarts=5, name="top")
    plan = ChaosPlan(
        (ChaosStep(1, Kill(), "/top/sub/0"), ChaosStep(2, Kill(), "/top/sub/1"), ChaosStep(3, Kill(), "/top/sub/9"))
    )
    async with Chaos(runtime) as chaos:
        report = await chaos.run(ChaosPlan(plan.steps, mode="unlimited"))
    assert (report.kills, report.done, report.missed, report.complete) == (2, 2, 1, True)
    assert [each.path for each in report.gave_up] == ["/top/sub"]
    assert top.alive
    assert (await count_children(top)).active == 1
    names = {ref.path for ref in runtime.actors()}
    assert names == {"/top", "/top/sub", *(f"/top/sub/{n}" for n in range(5))}
    assert report.violations == ()


async def test_S320_no_faults_do_nothing(runtime: Runtime) -> None:
    log: list[Any] = []
    await runtime.spawn(Supervisor, five(log), name="top")
    before, text = set(runtime.actors()), list(log)
    async with Chaos(runtime) as chaos:
        plan = ChaosPlan.random(runtime, 1, steps=0, seconds=10)
        report = await chaos.run(plan)
    assert (report.kills, report.replacements, report.planned) == (0, 0, 0)
    assert set(runtime.actors()) == before
    assert log == text


async def test_S322_what_is_restarted_along_with_a_victim_is_a_cascade(runtime: Runtime) -> None:
    log: list[Any] = []
    top = await runtime.spawn(Supervisor, [rec(log, id) for id in "abc"], strategy="one_for_all", name="top")
    async with Chaos(runtime) as chaos:
        report = await chaos.run(ChaosPlan((ChaosStep(0, Kill(), "/top/b"),)))
    assert (report.kills, report.replacements, report.cascades) == (1, 3, 2)
    assert top.runtime.info(top) is not None
    assert report.recovery.number == 1


def a_run(seed: int, faults: Any, mode: Any = "within_budget") -> tuple[str, str, list[str]]:
    """Run a random plan; return it, and the digest and the lines of what happened."""

    async def main() -> tuple[str, str, list[str]]:
        async with Runtime(watchdog=None, reports=False, seed=seed, run_queue=SeededQueue(seed)) as runtime:
            events = EventLog(runtime)
            inner = ChildSpec("inner", Supervisor, (five([]),), {"strategy": "one_for_all"})
            await runtime.spawn(Supervisor, [*five([]), inner], max_restarts=10, name="top")
            plan = ChaosPlan.random(runtime, seed, faults=faults, steps=50, seconds=100, mode=mode)
            assert plan == ChaosPlan.random(runtime, seed, faults=faults, steps=50, seconds=100, mode=mode)
            async with Chaos(runtime, log=events) as chaos:
                report = await chaos.run(plan)
            assert report.violations == ()
            return str(plan), report.digest, events.tail(10_000)

    return run(main())


EVERYTHING = (
    Kill(),
    ExitFault(),
    ExitFault("shutdown"),
    Crash(),
    Hang(2),
    LateReply(2),
    Suspend(2),
    FailStart(),
    KillDuring(),
)


@pytest.mark.parametrize(("faults", "mode"), [((Kill(),), "within_budget"), (EVERYTHING, "unlimited")])
def test_S324_one_seed_gives_one_plan_and_one_run(faults: Any, mode: Any) -> None:
    plan, digest, lines = a_run(1, faults, mode)
    again = a_run(1, faults, mode)
    assert again[2] == lines
    assert again == (plan, digest, lines)
    other = a_run(2, faults, mode)
    assert other[0] != plan
    assert other[1] != digest


class Put(Request[int], frozen=True):
    """A request with an id, to be written down before it is answered."""

    id: int


class Journal(Actor):
    """Writes ids into a journal that outlives it."""

    def __init__(self, journal: dict[int, int]) -> None:
        self.journal = journal

    @handle
    async def put(self, request: Put) -> int:
        """Write it down, and answer with what was written first under this id."""
        number = self.journal.setdefault(request.id, len(self.journal))
        await self.runtime.sleep(0.1)
        return number


async def test_S325_what_was_acknowledged_is_not_lost(runtime: Runtime) -> None:
    journal: dict[int, int] = {}
    specs = [ChildSpec(n, Journal, (journal,), name=f"w{n}") for n in range(5)]
    await runtime.spawn(Supervisor, specs, name="top", max_restarts=100)
    answers: dict[int, int] = {}
    async with Chaos(runtime) as chaos:
        clients = [chaos.client(timeout=2.0) for _ in range(5)]

        async def work(number: int) -> None:
            for id in range(number, 200, 5):
                answers[id] = await clients[number].call(runtime.name(f"w{number}"), Put(id))

        plan = ChaosPlan.random(runtime, 3, steps=40, seconds=4)
        report, *_ = await asyncio.gather(chaos.run(plan), *(work(n) for n in range(5)))
        report = chaos.report()
    assert report.kills == 40
    assert len(answers) == 200
    assert answers == journal
    assert (report.requests.answered, report.requests.lost) == (200, 0)
    assert report.requests.sent == 200 + sum(report.requests.failed.values())
    assert report.requests.failed["ActorExited"] > 5


class Hello(Message, frozen=True):
    """A greeting."""


class Member(Actor):
    """Joins a group, and has a name."""

    async def init(self) -> None:
        """Join."""
        await groups.join(self.runtime.name("groups"), "members")


async def test_S330_infrastructure_that_is_killed_comes_back_with_all_that_depends_on_it(runtime: Runtime) -> None:
    members = [ChildSpec(n, Member, name=f"m{n}") for n in range(5)]
    scope = ChildSpec("groups", groups.Groups, name="groups")
    registry = ChildSpec("registry", Probe, name="registry")
    await runtime.spawn(Supervisor, [registry, scope, *members], strategy="rest_for_one", max_restarts=5, name="top")
    for path in ("/top/registry", "/top/groups"):
        async with Chaos(runtime) as chaos:
            report = await chaos.run(ChaosPlan((ChaosStep(0, Kill(), path),)))
        assert (report.kills, report.lost) == (1, ())
        refs = {runtime.whereis(f"m{n}") for n in range(5)}
        assert None not in refs
        assert set(groups.members(runtime.name("groups"), "members")) == refs


# -- plans -------------------------------------------------------------------------------------------------------------


async def test_a_plan_within_the_budget_never_makes_a_supervisor_give_up(runtime: Runtime) -> None:
    inner = ChildSpec("inner", Supervisor, (five([]),), {"strategy": "one_for_all", "max_restarts": 2})
    temporary = ChildSpec("short", Probe, restart="temporary")
    await runtime.spawn(Supervisor, [*five([]), inner, temporary], name="top")
    async with Chaos(runtime) as chaos:
        plan = ChaosPlan.random(runtime, 5, steps=300, seconds=60)
        report = await chaos.run(plan)
    assert report.gave_up == ()
    assert report.held_back > 50
    assert report.kills > 50
    assert report.lost == ("/top/short",)
    assert report.violations == ()


async def test_kills_in_one_instant_are_counted_before_the_supervisor_has_heard_of_them(runtime: Runtime) -> None:
    await runtime.spawn(Supervisor, five([]), name="top", max_restarts=3)
    async with Chaos(runtime) as chaos:
        report = await chaos.run(ChaosPlan((ChaosStep(0, Kill(), "/top/*"),)))
    assert (report.done, report.held_back, report.gave_up) == (3, 2, ())


async def test_starts_that_are_to_fail_count_too(runtime: Runtime) -> None:
    await runtime.spawn(Supervisor, five([]), name="top", max_restarts=3)
    steps = (
        ChaosStep(0, FailStart(times=2), "/top/0"),
        ChaosStep(1, FailStart(times=4), "/top/1"),
        ChaosStep(2, Kill(), "/top/0"),
    )
    async with Chaos(runtime) as chaos:
        report = await chaos.run(ChaosPlan(steps))
    assert (report.done, report.missed, report.held_back, report.gave_up, report.kills) == (2, 1, 0, (), 1)


async def test_a_supervisor_can_be_brought_to_its_edge_and_beyond(runtime: Runtime) -> None:
    sub = ChildSpec("sub", Supervisor, (five([]),), {"max_restarts": 4})
    await runtime.spawn(Supervisor, [sub], name="top")
    plan = ChaosPlan.edge(runtime, "/top/sub")
    assert (len(plan.steps), plan.mode) == (4, "edge")
    async with Chaos(runtime) as chaos:
        assert (await chaos.run(plan)).gave_up == ()
        await runtime.sleep(10)
        report = await chaos.run(ChaosPlan.edge(runtime, "/top/sub", beyond=True))
    assert [each.path for each in report.gave_up] == ["/top/sub"]
    assert report.kills == 9


@pytest.mark.parametrize("path", ["/top/none", "/top/sub/0", "/top/empty"])
async def test_only_a_supervisor_with_a_permanent_child_has_an_edge(runtime: Runtime, path: str) -> None:
    short = [ChildSpec("short", Probe, restart="temporary")]
    sub, empty = ChildSpec("sub", Supervisor, (five([]),)), ChildSpec("empty", Supervisor, (short,))
    await runtime.spawn(Supervisor, [sub, empty], name="top")
    with pytest.raises(BadChaosPlan, match="edge"):
        ChaosPlan.edge(runtime, path)


async def test_a_plan_is_text_and_back(tmp_path: Any) -> None:
    steps = (
        ChaosStep(1.5, Crash("x", skip=2, only="Put"), "/a/*", until=9),
        ChaosStep(2, Kill(), "/b", on="Restarted"),
    )
    plan = ChaosPlan(steps, 7, "unlimited")
    assert ChaosPlan.of(str(plan)) == plan
    plan.save(tmp_path / "plan.json")
    assert ChaosPlan.load(tmp_path / "plan.json") == plan
    assert plan.duration == 9
    assert ChaosPlan().duration == 0


@pytest.mark.parametrize("text", ["", "{", '{"steps":[{"at":1,"fault":{"fault":"sneeze"},"path":"/a"}]}', '{"x":1}'])
def test_what_is_no_plan_is_refused_with_the_reason(text: str, tmp_path: Any) -> None:
    with pytest.raises(BadChaosPlan, match="this is no plan"):
        ChaosPlan.of(text)
    (tmp_path / "plan").write_text(text)
    with pytest.raises(BadChaosPlan, match="this is no plan"):
        ChaosPlan.load(tmp_path / "plan")
    with pytest.raises(BadChaosPlan, match="cannot be read"):
        ChaosPlan.load(tmp_path / "none")


async def test_a_random_plan_needs_victims_and_faults(runtime: Runtime) -> None:
    with pytest.raises(BadChaosPlan, match="no supervised actor"):
        ChaosPlan.random(runtime, 1)
    await runtime.spawn(Supervisor, five([]), name="top")
    with pytest.raises(BadChaosPlan, match="at least one"):
        ChaosPlan.random(runtime, 1, faults=())


async def test_victims_are_chosen_by_path_class_tag_restart_type_and_depth(runtime: Runtime) -> None:
    inner = ChildSpec("inner", Supervisor, ([rec([], "deep", restart="transient")],))
    tagged = ChildSpec("tagged", Tidy, tags=("chaos",))
    await runtime.spawn(Supervisor, [rec([], "a"), tagged, inner, ChildSpec("groups", groups.Groups)], name="top")
    await runtime.spawn(Probe, name="alone")

    def chosen(victims: Victims) -> list[str]:
        return [cell.path for cell in victims.among(runtime)]

    assert chosen(Victims()) == ["/top/a", "/top/inner/deep", "/top/tagged"]
    assert chosen(Victims("/top/inner/*")) == ["/top/inner/deep"]
    assert chosen(Victims(kind="Tidy")) == ["/top/tagged"]
    assert chosen(Victims(tag="chaos")) == ["/top/tagged"]
    assert chosen(Victims(restart="transient")) == ["/top/inner/deep"]
    assert chosen(Victims(depth=2)) == ["/top/a", "/top/tagged"]
    assert chosen(Victims(depth=2, infrastructure=True)) == ["/top/a", "/top/groups", "/top/inner", "/top/tagged"]


# -- runs --------------------------------------------------------------------------------------------------------------


async def test_a_fault_waits_for_the_event_it_is_to_strike_at(runtime: Runtime) -> None:
    await runtime.spawn(Supervisor, five([]), name="top")
    steps = (
        ChaosStep(0, Kill(), "/top/0"),
        ChaosStep(0, Kill(), "/top/1", on="Exited"),
        ChaosStep(0, Kill(), "/top/[23]", on="Started"),
        ChaosStep(0, Kill(), "/top/4", on="Restarted"),
        ChaosStep(1, Kill(), "/top/2"),
    )
    async with Chaos(runtime) as chaos:
        report = await chaos.run(ChaosPlan(steps, mode="unlimited"))
    assert report.kills == 3
    assert not report.complete


async def test_actors_can_be_spared_and_a_dry_run_hits_nobody(runtime: Runtime) -> None:
    await runtime.spawn(Supervisor, five([]), name="top")
    plan = ChaosPlan((ChaosStep(0, Kill(), "/top/*"),), mode="unlimited")
    told: list[str] = []
    async with Chaos(runtime, dry=True, before=lambda step, ref: told.append(ref.path)) as chaos:
        report = await chaos.run(plan)
    assert (report.done, report.kills) == (5, 0)
    assert told == [f"/top/{n}" for n in range(5)]
    async with Chaos(runtime, may_hit=lambda ref: ref.path in told[:2]) as chaos:
        report = await chaos.run(plan)
    assert (report.done, report.held_back, report.kills) == (2, 3, 2)


async def test_what_lasts_is_healed_at_its_time_and_when_the_block_is_left(runtime: Runtime) -> None:
    await runtime.spawn(Supervisor, five([]), name="top")
    hang = Hang(1000)
    steps = (
        ChaosStep(0, hang, "/top/0", until=1),
        ChaosStep(0, hang, "/top/1"),
        ChaosStep(0, Kill(), "/top/2", on="never"),
    )
    async with Chaos(runtime) as chaos:
        running = asyncio.ensure_future(chaos.run(ChaosPlan(steps)))
        await runtime.sleep(0.5)
        for ref in runtime.actors():
            ref.cast(Hello())
    report = await running
    assert report.kills == 0
    await settled(runtime, *runtime.actors())
    assert runtime.clock.time() < 10


async def test_a_report_is_an_object_json_and_a_table(runtime: Runtime) -> None:
    top = await runtime.spawn(Supervisor, five([]), name="top")
    async with Chaos(runtime) as chaos:
        report = await chaos.run(ChaosPlan((ChaosStep(0, Kill(), "/top/0"),), seed=7))
    assert '"kills":1' in report.json()
    table = report.table()
    assert "kills          1\n" in table
    assert "seed, mode     7, within_budget\n" in table
    assert table.endswith(report.digest)
    await terminate_child(top, 0)
    await start_child(top, rec([], "late"))


async def test_children_of_dynamic_supervisors_are_victims_too_also_with_one_id(runtime: Runtime) -> None:
    top = await runtime.spawn(DynamicSupervisor, name="top", max_restarts=9)
    first = await start_child(top, ChildSpec("same", Probe))
    assert first is not None
    await start_child(top, ChildSpec("same", Probe))
    steps = (ChaosStep(0, Kill(), "/top/same"), ChaosStep(1, Kill(), "/top/*"), ChaosStep(2, Kill(), "/top/same"))
    async with Chaos(runtime) as chaos:
        report = await chaos.run(ChaosPlan(steps))
        await first.stop()
        await settled(runtime)
    assert (report.kills, report.replacements, report.violations) == (3, 3, ())
    assert (await count_children(top)).active == 2


async def test_a_blocked_loop_is_in_the_report(runtime: Runtime) -> None:
    async with Chaos(runtime) as chaos:
        for path in ("/a", None):
            runtime.events.emit(LoopBlocked, path=path, seconds=1.0, file="f", line=1, stack="")
            runtime.events.emit(LoopBlocked, path=path, seconds=1.5, file="f", line=1, stack="", again=True)
    report = chaos.report()
    assert report.blocked == {"/a": 1.5, "?": 1.5}
    assert "loop blocked   /a 1.500 s, ? 1.500 s\n" in report.table()


# -- clients -----------------------------------------------------------------------------------------------------------


class Odd(Request[int], frozen=True):
    """A request that nobody handles."""


async def test_a_client_gives_up_after_its_attempts_and_at_once_if_no_attempt_can_help(runtime: Runtime) -> None:
    client = Client(runtime, attempts=3, pause=1.0)
    with pytest.raises(Exception, match="nobody holds this name"):
        await client.call(Name(runtime, "nobody"), Odd())
    assert runtime.clock.time() == pytest.approx(2.0)
    puppet = await runtime.spawn(Probe)
    with pytest.raises(Exception, match="no handler"):
        await client.call(puppet, Odd())
    assert client.requests.failed == {"NoProcess": 3, "UnhandledMessage": 1}
    assert str(client.requests) == "4 sent, 0 answered, 2 lost (3 NoProcess, 1 UnhandledMessage)"
