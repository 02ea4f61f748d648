"""Trees that run: started, seen, stopped and forced; and how they look meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.tree import RunningTree, explain, left_out, load_tree, running_tree
from foundation.tree.view import Degraded, TreeNode, TreeView, view_tree
from supervision import (
    Actor,
    Backoff,
    ChildSpec,
    Crashed,
    DynamicSupervisor,
    NotRunning,
    Ref,
    Runtime,
    Shutdown,
    StartError,
    Supervisor,
    start_child,
    terminate_child,
)
from supervision.reasons import FailedToStartChild
from supervision.testing import advance, settled
from tests.foundation.parts import Do, Failing, Probe, Unwilling, Worker, degraded


async def never(actor: Any) -> None:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()


class Slow(Actor):
    """Takes its time, to start and to end."""

    trap_exit = True
    shutdown = 100.0

    async def init(self) -> None:
        """Take two seconds."""
        await advance(2)

    async def terminate(self, reason: object) -> None:
        """Take ten."""
        await advance(10)


def states(now: TreeView) -> dict[str, str]:
    return {node.path: node.state for node in now.walk()}


async def test_a_tree_runs_inside_a_block_and_is_stopped_in_order_after_it() -> None:
    log: list[str] = []

    class Ends(Actor):
        trap_exit = True

        def __init__(self, name: str) -> None:
            self.name = name

        def terminate(self, reason: object) -> None:
            log.append(self.name)

    async with running_tree([ChildSpec(n, Ends, args=(n,)) for n in "abc"], reports=False) as tree:
        assert tree.root.path == "/tree"
        assert tree.left_out == ()
        assert tree.gave_up == ""
    assert log == ["c", "b", "a"]


async def test_a_tree_that_is_stuck_is_ended_by_force_and_named() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        tree = RunningTree(load_tree([ChildSpec("slow", Slow), ChildSpec("w", Worker)]), runtime)
        with pytest.raises(NotRunning, match="not been started"):
            _ = tree.root
        assert await tree.stop(1) == ()
        await tree.start()
        began = asyncio.get_running_loop().time()
        assert await tree.stop(3) == ("/tree", "/tree/slow")
        assert asyncio.get_running_loop().time() == pytest.approx(began + 3)
        assert not tree.root.alive
        assert await tree.stop(1) == ()


async def test_a_tree_that_does_not_start_leaves_nothing_behind() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        tree = RunningTree(load_tree([ChildSpec("w", Worker), ChildSpec("f", Failing)]), runtime)
        with pytest.raises(StartError) as caught:
            await tree.start()
        assert explain(caught.value.reason).startswith("f: ValueError: no luck at parts.py:")
        assert list(runtime.actors()) == []


async def test_a_root_that_gives_up_says_why_in_one_line() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        tree = RunningTree(load_tree([ChildSpec("w", Probe, name="w")]), runtime)
        await tree.start()
        for _ in range(4):
            runtime.name("w").cast(Do(lambda actor: 1 / 0))
            await settled(runtime)
        assert str(await tree.join()) == "shutdown"
        assert tree.gave_up.startswith(
            "/tree gave up: more than 3 restarts in 5 s; last, child 'w' ended: ZeroDivision"
        )


async def test_a_supervisor_below_that_gives_up_is_not_the_root() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        below = ChildSpec("s", Supervisor, args=([ChildSpec("w", Probe, name="w")],), kwargs={"max_restarts": 0})
        tree = RunningTree(load_tree([below]), runtime)
        await tree.start()
        runtime.name("w").cast(Do(lambda actor: 1 / 0))
        await settled(runtime)
        assert tree.gave_up == ""
        assert tree.root.alive
        await tree.stop(1)


class Quick(Supervisor):
    """Has no children, and starts without waiting."""

    def init(self) -> None:  # type: ignore[override]
        """Do nothing."""


async def test_a_root_that_need_not_be_waited_for_runs_at_once() -> None:
    async with running_tree(Quick, reports=False) as tree:
        assert tree.root.path == "/Quick"


# -- optional groups -------------------------------------------------------------------------------------


def group(tmp_path: Path, start: str) -> Path:
    file = tmp_path / "shop.toml"
    file.write_text(
        f"""
        [[children]]
        id = "w"
        start = "tests.foundation.parts:Worker"
        [[children]]
        id = "o"
        optional = true
        max_restarts = 0
        [[children.children]]
        id = "inner"
        start = "tests.foundation.parts:{start}"
        name = "inner"
        """
    )
    return file


async def test_an_optional_group_that_does_not_start_is_left_out_and_the_rest_runs(tmp_path: Path) -> None:
    async with running_tree(group(tmp_path, "Failing"), reports=False) as tree:
        (part,) = tree.left_out
        assert part == left_out(tree.runtime)[0]
        assert str(part).startswith("/shop/o is left out: inner: ValueError: no luck")
        assert states(view_tree(tree.runtime)) == {"/shop": "running", "/shop/w": "running", "/shop/o": "stopped"}
        assert degraded(view_tree(tree.runtime)) == []


async def test_an_optional_group_that_has_run_once_is_restarted_like_any_other(tmp_path: Path) -> None:
    async with running_tree(group(tmp_path, "Probe"), reports=False) as tree:
        old = tree.runtime.whereis("inner")
        tree.runtime.name("inner").cast(Do(lambda actor: 1 / 0))
        await settled(tree.runtime)
        assert tree.runtime.whereis("inner") not in (None, old)
        assert tree.left_out == ()


async def test_an_optional_group_that_cannot_be_started_again_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        tree = RunningTree(load_tree(group(tmp_path, "Probe")), runtime)
        await tree.start()

        def fail(actor: Probe) -> None:
            raise ValueError("not again")

        monkeypatch.setattr("tests.foundation.parts.Probe.init", fail)
        monkeypatch.setattr(Probe.__behaviour__, "has_init", True)
        monkeypatch.setattr(Probe.__behaviour__, "has_start", True)
        runtime.name("inner").cast(Do(lambda actor: 1 / 0))
        await settled(runtime)
        assert "/shop gave up" in tree.gave_up
        assert tree.left_out == ()


# -- the view --------------------------------------------------------------------------------------------


async def test_the_view_shows_each_actor_with_all_there_is_to_know() -> None:
    specs = [ChildSpec("d", DynamicSupervisor, name="d"), ChildSpec("b", Probe, name="b")]
    async with running_tree(specs, reports=False, watchdog=None, node="n1") as tree:
        runtime = tree.runtime
        await start_child(runtime.name("d"), ChildSpec("x", Worker, restart="temporary"))
        await advance(5)
        runtime.name("b").cast(Do(never))
        runtime.name("b").cast(Do(never))
        await settled(runtime)
        now = view_tree(runtime)
        (root,) = now.tree
        assert (now.node, now.actors, now.runnable, now.zombies, now.dead_letters) == ("n1", 4, 0, 0, {})
        assert (root.path, root.kind, root.uptime, root.restart) == ("/tree", "Supervisor", 5.0, None)
        assert msgspec.to_builtins(root.budget) == {"used": 0, "allowed": 3, "left": 3, "seconds": 5.0}
        dynamic, busy = root.children
        assert [(child.path, child.restart) for child in dynamic.children] == [("/tree/d/x", "temporary")]
        assert (busy.name, busy.mailbox, busy.restart, busy.budget) == ("b", 1, "permanent", None)
        ref = runtime.whereis("b")
        assert ref is not None
        assert busy.incarnation == ref.id
        ref.kill()


async def test_restarts_are_counted_and_taken_from_the_budget() -> None:
    async with running_tree([ChildSpec("w", Probe, name="w")], reports=False, watchdog=None) as tree:
        runtime = tree.runtime
        for _ in range(2):
            runtime.name("w").cast(Do(lambda actor: 1 / 0))
            await settled(runtime)
        (root,) = view_tree(runtime).tree
        assert root.budget is not None
        assert (root.budget.used, root.budget.left) == (2, 1)
        assert root.children[0].restarts == 2
        await advance(6)
        (root,) = view_tree(runtime).tree
        assert root.budget is not None
        assert root.budget.left == 3


async def test_what_starts_restarts_or_stops_is_degraded_and_what_was_stopped_on_purpose_is_not() -> None:
    backoff = Backoff(initial=3.0, jitter=0.0)
    specs = [
        ChildSpec("slow", Slow),
        ChildSpec("w", Probe, name="w", backoff=backoff),
        ChildSpec("u", Unwilling),
    ]
    async with Runtime(watchdog=None, reports=False) as runtime:
        assert degraded(view_tree(runtime)) == [Degraded("/", "not started")]
        tree = RunningTree(load_tree(specs), runtime)
        starting = asyncio.ensure_future(tree.start())
        await advance(1)
        assert states(view_tree(runtime)) == {
            "/tree": "starting",
            "/tree/slow": "starting",
            "/tree/w": "starting",
            "/tree/u": "starting",
        }
        assert [trouble.path for trouble in degraded(view_tree(runtime))] == [
            "/tree",
            "/tree/slow",
            "/tree/w",
            "/tree/u",
        ]
        await starting
        assert degraded(view_tree(runtime)) == []
        runtime.name("w").cast(Do(lambda actor: 1 / 0))
        await advance(1)
        assert degraded(view_tree(runtime)) == [Degraded("/tree/w", "restarting")]
        await advance(3)
        assert degraded(view_tree(runtime)) == []
        await terminate_child(tree.root, "w")
        assert degraded(view_tree(runtime)) == []
        stopping = asyncio.ensure_future(tree.stop(60))
        await advance(1)
        assert Degraded("/tree/slow", "stopping") in degraded(view_tree(runtime))
        await stopping


async def test_actors_that_no_supervisor_lists_are_shown_too() -> None:
    async with running_tree([ChildSpec("b", Probe, name="b")], reports=False, watchdog=None) as tree:

        async def have_a_child(actor: Actor) -> None:
            await actor.spawn_link(Worker)

        tree.runtime.name("b").cast(Do(have_a_child))
        alone = await tree.runtime.spawn(Worker, name="alone")
        await settled(tree.runtime)
        now = view_tree(tree.runtime)
        assert [root.path for root in now.tree] == ["/tree", "/alone"]
        assert [node.kind for node in now.walk()] == ["Supervisor", "Probe", "Worker", "Worker"]
        alone.kill()


async def linked(actor: type[Actor]) -> Ref:
    """Start a child by a function."""
    from supervision import spawn_link

    return await spawn_link(actor)


async def test_a_child_that_a_function_starts_is_called_after_the_function_until_it_is_there() -> None:
    spec = ChildSpec("f", linked, args=(Worker,))
    async with running_tree([spec], reports=False, watchdog=None) as tree:
        assert [node.path for node in view_tree(tree.runtime).walk()] == ["/tree", "/tree/f"]
        await terminate_child(tree.root, "f")
        node: TreeNode = view_tree(tree.runtime).tree[0].children[0]
        assert (node.kind, node.state) == ("linked", "stopped")


def test_a_reason_is_explained_down_to_the_child_that_failed() -> None:
    assert explain(Shutdown(FailedToStartChild("a", Crashed("ValueError", "x")))) == "a: ValueError: x"
    assert explain(Shutdown("note")) == "shutdown (note)"
