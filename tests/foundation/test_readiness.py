"""Readiness, kept by events: it says what a look at all actors would say, and costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.http import application
from foundation.programs import Answer, RunProgram, program_name
from foundation.tree import NoSuchPath, readiness_of, view_part, view_tree
from foundation.tree.readiness import Readiness
from supervision import (
    Actor,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Message,
    Runtime,
    Supervisor,
    handle,
    pending_children,
    start_child,
    supervisor_info,
    system,
    terminate_child,
)
from supervision.supervisors.administration import RestartChild
from supervision.testing import VirtualClockLoop, advance, settled
from tests.foundation.parts import degraded


class End(Message, frozen=True):
    """An order to end: by itself, or by a crash."""

    crash: bool = False


class Slow(Actor):
    """Takes a second to start, and one to stop."""

    async def init(self) -> None:
        await self.runtime.sleep(1.0)

    async def terminate(self, reason: Any) -> None:
        await self.runtime.sleep(1.0)

    @handle
    def end(self, message: End) -> None:
        """End."""
        if message.crash:
            raise ValueError("asked to")
        self.stop("asked to")


class Quick(Actor):
    """Starts and stops at once."""

    @handle
    def end(self, message: End) -> None:
        """End."""
        if message.crash:
            raise ValueError("asked to")
        self.stop("asked to")

    @handle
    def run(self, request: RunProgram) -> Answer:
        """Answer."""
        return Answer({})


NAMES = ["slow", "program:quick", "late", "patient"]


def tree() -> list[ChildSpec]:
    return [
        ChildSpec("slow", Slow, name="slow"),
        ChildSpec("quick", Quick, name="program:quick"),
        ChildSpec("late", Quick, name="late", backoff=Backoff(initial=1.5, jitter=0.0)),
        ChildSpec("patient", Slow, name="patient", restart="transient"),
        ChildSpec("many", DynamicSupervisor, name="many", kwargs={"max_restarts": 100}),
    ]


async def step(runtime: Runtime, what: str, which: int) -> None:
    """Do something to the tree."""
    name = NAMES[which % len(NAMES)]
    ref = runtime.whereis(name)
    if what == "wait":
        await advance(0.5)
    elif what == "start":
        kind = (Slow, Quick)[which % 2]
        starting = start_child(runtime.name("many"), {"id": which, "start": kind, "backoff": Backoff(initial=1.0)})
        pending.append(asyncio.ensure_future(starting))
    elif what == "terminate":
        pending.append(asyncio.ensure_future(terminate_child(runtime.name("top"), name.removeprefix("program:"))))
    elif what == "revive":
        pending.append(asyncio.ensure_future(runtime.name("top").call(RestartChild(name.removeprefix("program:")))))
    elif ref is not None and what == "kill":
        ref.kill()
    elif ref is not None and what in ("end", "crash"):
        ref.cast(End(what == "crash"))
    elif ref is not None:
        change = system.suspend if what == "suspend" else system.resume
        pending.append(asyncio.ensure_future(change(ref)))


pending: list[asyncio.Future[Any]] = []
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "start", "terminate", "revive", "kill", "end", "crash", "suspend", "resume"]),
        st.integers(0, 7),
    ),
    max_size=25,
)


@given(STEPS, st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]))
def test_it_says_what_a_look_at_all_actors_says(steps: list[tuple[str, int]], strategy: Any) -> None:
    """Whatever happens, in whatever order, and also if it began in the middle."""

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            early = readiness_of(runtime)
            await runtime.spawn(Supervisor, tree(), strategy=strategy, max_restarts=1000, name="top")
            for what, which in steps:
                await step(runtime, what, which)
                await settled(runtime)
                late = Readiness(runtime)
                expected = {(trouble.path, trouble.state) for trouble in degraded(view_tree(runtime))}
                for readiness in (early, late):
                    found = readiness.degraded()
                    assert {(trouble.path, trouble.state) for trouble in found} == expected
                    assert len(found) == len({trouble.path for trouble in found})
                    assert readiness.ready is (not expected)
            await asyncio.gather(*pending, return_exceptions=True)
            pending.clear()

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main())


async def test_no_tree_is_not_ready() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        readiness = readiness_of(runtime)
        assert not readiness.ready
        assert [(trouble.path, trouble.state) for trouble in readiness.degraded()] == [("/", "not started")]
        await runtime.spawn(Quick)
        assert readiness.ready
        assert readiness_of(runtime) is readiness


async def test_programs_are_those_that_run_and_those_that_come() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        await runtime.spawn(Quick, name=program_name("first"))
        readiness = readiness_of(runtime)
        specs = [ChildSpec("s", Slow), ChildSpec("q", Quick, name=program_name("second"))]
        starting = asyncio.ensure_future(runtime.spawn(Supervisor, specs))
        await advance(0.5)
        assert readiness.programs() == ["first", "second"]
        await starting
        ref = runtime.whereis(program_name("first"))
        assert ref is not None
        ref.kill()
        await settled(runtime)
        assert readiness.programs() == ["second"]


async def test_only_so_many_troubles_are_named() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        for _ in range(30):
            runtime.spawn_nowait(Slow)
        await advance(0.5)
        assert len(readiness_of(runtime).degraded(10)) == 10
        assert len(readiness_of(runtime).degraded()) == 30


class Lingering(Actor):
    """Takes a second to give up its start."""

    async def init(self) -> None:
        try:
            await self.runtime.sleep(100.0)
        finally:
            await self.runtime.sleep(1.0)


async def test_what_has_given_up_is_no_trouble_even_if_its_code_still_runs() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        await runtime.spawn(Quick)
        ref = runtime.spawn_nowait(Lingering)
        await advance(0.5)
        assert not readiness_of(runtime).ready
        ref.exit("enough")
        await settled(runtime)
        assert readiness_of(runtime).ready
        assert degraded(view_tree(runtime)) == []
        await advance(2)
        assert readiness_of(runtime).ready


async def test_what_comes_is_told_by_supervisors_alone() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        assert pending_children(await runtime.spawn(Quick)) == []
        assert pending_children(await runtime.spawn(Supervisor, [ChildSpec("q", Quick)])) == []


async def test_the_parent_of_an_actor_is_a_live_one() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        top = await runtime.spawn(Supervisor, [ChildSpec("q", Quick, name="q")])
        ref = runtime.whereis("q")
        assert ref is not None
        assert runtime.parent(ref) is top
        assert runtime.parent(top) is None
        await top.stop()
        assert runtime.parent(ref) is None


# -- parts of a tree -----------------------------------------------------------------------------------------


@pytest.fixture
def many() -> Callable[[Runtime, int], Any]:
    """Start a tree with one supervisor of many, and one beside it."""

    async def start(runtime: Runtime, count: int) -> None:
        children = [ChildSpec(str(number), Quick, restart="temporary") for number in range(count)]
        specs = [ChildSpec("many", DynamicSupervisor, (children,)), ChildSpec("last", Quick)]
        await runtime.spawn(Supervisor, specs, name="top")

    return start


async def test_a_part_of_a_tree_is_as_large_as_is_asked_for(many: Any) -> None:
    """One supervisor with very many children leaves room for those after it; what is not shown is counted."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        await many(runtime, 500)
        (top,) = (await view_part(runtime, limit=100)).tree
        assert [node.id for node in top.children] == ["many", "last"]
        assert 10 < len(top.children[0].children) < 98
        assert top.children[0].more == 500 - len(top.children[0].children)
        assert sum(1 for _ in (await view_part(runtime, limit=1)).walk()) == 1
        whole = await view_part(runtime, limit=1000)
        assert len(list(whole.walk())) == 503
        assert [node.path for node in whole.walk()] == [node.path for node in view_tree(runtime).walk()]
        (shallow,) = (await view_part(runtime, depth=1)).tree
        assert (shallow.children, shallow.more) == ((), 2)
        (below,) = (await view_part(runtime, path="/top/many", depth=2)).tree
        assert len(below.children) == 500
        with pytest.raises(NoSuchPath, match="no actor at '/nowhere'"):
            await view_part(runtime, path="/nowhere")
        supervisor = runtime.find("/top/many")
        assert supervisor is not None
        known = supervisor_info(supervisor, 3)
        assert known is not None
        assert (len(known.children), known.size) == (3, 500)


async def test_others_go_on_while_a_large_tree_is_looked_at(many: Any) -> None:
    """What ends meanwhile is left out."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        await many(runtime, 1000)
        looking = asyncio.ensure_future(view_part(runtime, limit=2000))
        await asyncio.wait([asyncio.ensure_future(runtime.sleep(0.0))])
        assert not looking.done()
        for path in ("/top/many/5", "/top/many/900"):
            victim = runtime.find(path)
            assert victim is not None
            victim.kill()
        shown = [node.path for node in (await looking).walk()]
        assert "/top/last" in shown
        assert not {"/top/many/5", "/top/many/900"} & set(shown)


async def test_of_many_roots_as_many_are_shown_as_may_be() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        for number in range(5):
            await runtime.spawn(Supervisor, [ChildSpec("q", Quick), ChildSpec("r", Quick)], name=f"top{number}")
        shown = await view_part(runtime, limit=4)
        assert [node.path for node in shown.walk()] == ["/top0", "/top0/q", "/top0/r", "/top1"]
        assert (shown.more, shown.tree[1].more) == (3, 2)


async def test_the_tree_over_http_takes_path_depth_and_limit(many: Any) -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        await many(runtime, 300)
        transport = httpx.ASGITransport(application(runtime))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            found = (await client.get("/tree", params={"path": "/top/many", "limit": 50})).json()
            assert list(found)[:2] == ["node", "actors"]
            assert found["tree"][0]["more"] > 200
            page = (await client.get("/tree", params={"limit": 50}, headers={"accept": "text/html"})).text
            assert page.index("303 actors") < page.index("<table>")
            assert '<a href="tree?path=/top/many">' in page
            assert "more</a>" in page
            for wrong in ({"limit": "0"}, {"limit": "many"}, {"depth": "-1"}, {"depth": "9" * 20}, {"limit": "²"}):
                refused = await client.get("/tree", params=wrong)
                assert (refused.status_code, refused.json()["type"]) == (422, "about:blank#bad-parameter")
            refused = await client.get("/tree", params={"path": "/nowhere"})
            assert refused.status_code == 404
