"""A workflow under supervision: it goes on where it was, says how far it is, and two never write one log."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agents.durability import MemoryStorage, StorageConflict
from dspex.workflow import CancelWorkflow, GetResult, RetryPolicy, StepCancelled, StepFailed, Workflow, WorkflowActor
from foundation.tree import load_tree, running_tree
from foundation.tree.view import view_tree
from supervision import Backoff, ChildSpec, Runtime, StartError, Supervisor
from supervision.errors import BadOption

STEADY = RetryPolicy(attempts=2, backoff=Backoff(0.5, 30.0, jitter=0.0))


class Work:
    """The code of a workflow, and what it has done."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.done: Counter[str] = Counter()
        self.errors: list[Exception] = []

    async def body(self, flow: Workflow, **parameters: Any) -> list[str]:
        """Do three steps, each a second long."""
        return [await flow.step("work", self._step, name, key=name, undo=self._undo) for name in "abc"]

    async def _step(self, name: str) -> str:
        await self.runtime.sleep(1)
        if name == "b" and self.errors:
            raise self.errors.pop(0)
        self.done[name] += 1
        return name

    def _undo(self, name: str) -> None:
        self.done[f"undone {name}"] += 1


@pytest.fixture
def work(runtime: Runtime) -> Work:
    return Work(runtime)


async def started(work: Work, store: Any, **options: Any) -> None:
    """Start the workflow under a supervisor."""
    spec = ChildSpec("flow", WorkflowActor, (work.body, store), {"retry": STEADY, **options}, name="flow")
    await work.runtime.spawn(Supervisor, [spec], name="top")


async def result(runtime: Runtime) -> Any:
    return await runtime.name("flow").call(GetResult(), timeout=None)


def shown(runtime: Runtime) -> dict[str, str]:
    [node] = [node for node in view_tree(runtime).walk() if node.id == "flow"]
    return node.summary


async def test_it_returns_what_its_body_returns_and_stays(work: Work) -> None:
    await started(work, MemoryStorage())
    assert await result(work.runtime) == ["a", "b", "c"]
    assert await result(work.runtime) == ["a", "b", "c"]
    assert shown(work.runtime)["state"] == "done"


@pytest.mark.parametrize("file", [False, True])
async def test_killed_it_goes_on_where_it_was(work: Work, tmp_path: Path, file: bool) -> None:
    runtime = work.runtime
    await started(work, tmp_path / "log" / "flow.sqlite" if file else MemoryStorage())
    asking = asyncio.ensure_future(result(runtime))
    for _ in range(2):
        await runtime.sleep(1.2)
        killed = runtime.whereis("flow")
        assert killed is not None
        killed.kill()
        await runtime.sleep(0.01)
    with pytest.raises(Exception, match="killed"):
        await asking
    assert await result(runtime) == ["a", "b", "c"]
    assert work.done == {"a": 1, "b": 1, "c": 1}
    assert shown(runtime)["resumed"] == "yes"


async def test_a_successor_that_is_there_at_once_takes_the_log_from_who_was_killed(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it begins before the end of the other one was heard of."""
    late: list[Any] = []
    monkeypatch.setattr("dspex.workflow.actor.on_end", lambda ref, action: late.append(action))
    storage = MemoryStorage()
    first = await work.runtime.spawn(WorkflowActor, work.body, storage, name="flow")
    await work.runtime.sleep(1.5)
    first.kill()
    await work.runtime.spawn(WorkflowActor, work.body, storage, name="flow")
    late[0]()
    assert await result(work.runtime) == ["a", "b", "c"]
    assert work.done == {"a": 1, "b": 1, "c": 1}


async def test_the_tree_shows_its_steps(work: Work) -> None:
    await started(work, MemoryStorage(), workflow="report")
    await work.runtime.sleep(1.5)
    expected = {"state": "running", "workflow": "report", "resumed": "no", "steps": "2 begun", "running": 'work["b"]'}
    assert shown(work.runtime) == expected


async def test_killed_while_it_is_being_opened_it_leaves_nothing(work: Work) -> None:
    class Slow(MemoryStorage):
        async def read(self, key: str) -> Any:
            await work.runtime.sleep(5)
            return await super().read(key)

    storage = Slow()
    starting = asyncio.ensure_future(started(work, storage))
    await asyncio.wait([starting], timeout=1)
    killed = work.runtime.whereis("flow")
    assert killed is not None
    killed.kill()
    with pytest.raises(StartError):
        await starting
    await started(work, storage)
    assert await result(work.runtime) == ["a", "b", "c"]


async def test_suspended_it_tries_again_by_itself(work: Work) -> None:
    work.errors = [ConnectionError("gone")] * 3
    await started(work, MemoryStorage(), resume_after=20)
    await work.runtime.sleep(10)
    assert shown(work.runtime)["state"].startswith('suspended: work["b"] has found what it needs unavailable')
    assert await result(work.runtime) == ["a", "b", "c"]
    assert work.done == {"a": 1, "b": 1, "c": 1}


async def test_a_step_that_fails_for_good_is_told_to_who_asks_and_what_was_done_is_undone(work: Work) -> None:
    work.errors = [ValueError("bad")]
    await started(work, MemoryStorage())
    for _ in range(2):
        with pytest.raises(StepFailed, match="ValueError: bad"):
            await result(work.runtime)
    assert work.done == {"a": 1, "undone a": 1}
    assert shown(work.runtime)["state"].startswith("failed: ")


async def test_an_error_of_the_code_ends_the_actor_and_its_supervisor_decides(work: Work) -> None:
    runs = 0

    async def body(flow: Workflow) -> int:
        nonlocal runs
        runs += 1
        await flow.step("a", work._step, "a")
        if runs == 1:
            raise RuntimeError("a bug")
        return runs

    spec = ChildSpec("flow", WorkflowActor, (body, MemoryStorage()), name="flow")
    await work.runtime.spawn(Supervisor, [spec], name="top")
    await work.runtime.sleep(2)
    assert await result(work.runtime) == 2
    assert work.done == {"a": 1}


async def test_it_is_cancelled_for_good_and_undone(work: Work) -> None:
    await started(work, MemoryStorage())
    await work.runtime.sleep(1.5)
    with pytest.raises(BadOption):
        await work.runtime.name("flow").call(CancelWorkflow(""))
    await work.runtime.name("flow").call(CancelWorkflow("too dear"))
    with pytest.raises(StepCancelled, match="too dear"):
        await result(work.runtime)
    assert work.done == {"a": 1, "undone a": 1}


async def test_who_gives_up_waiting_is_forgotten(work: Work) -> None:
    await started(work, MemoryStorage())
    with pytest.raises(TimeoutError):
        await work.runtime.name("flow").call(GetResult(), timeout=0.5)
    assert await result(work.runtime) == ["a", "b", "c"]


async def test_two_actors_never_run_one_workflow(work: Work) -> None:
    storage = MemoryStorage()
    await started(work, storage)
    with pytest.raises(Exception, match="flow runs it already"):
        await work.runtime.spawn(WorkflowActor, work.body, storage, workflow="flow", name="second")
    other = await work.runtime.spawn(WorkflowActor, work.body, storage, workflow="other", name="third")
    assert await other.call(GetResult(), timeout=None) == ["a", "b", "c"]


async def test_T083_who_has_lost_its_log_to_another_process_ends_its_work_and_says_so(work: Work) -> None:
    storage = MemoryStorage()
    await started(work, storage)
    await work.runtime.sleep(0.5)
    other = await Workflow.open(work.runtime, storage, "flow")
    await other.step("other", lambda: 1)
    with pytest.raises(StorageConflict):
        await result(work.runtime)
    assert shown(work.runtime)["state"] == "superseded: another process writes this log"
    assert await other.step("more", lambda: 2) == 2


async def test_a_log_of_another_run_or_a_spoilt_one_is_refused_at_the_start(work: Work, tmp_path: Path) -> None:
    storage = MemoryStorage()
    await Workflow.open(work.runtime, storage, "flow", {"seed": 1})
    with pytest.raises(StartError, match="seed: 1 there, 2 here"):
        await work.runtime.spawn(WorkflowActor, work.body, storage, parameters={"seed": 2}, name="flow")
    (tmp_path / "text").write_text("this is no database, and long enough to be seen as none" * 100)
    with pytest.raises(StartError, match="cannot be opened"):
        await work.runtime.spawn(WorkflowActor, work.body, tmp_path / "text", name="flow")


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ("tests.dspex.workflow.bodies:nobody", {}),
        ("tests.dspex.workflow.bodies:NOTHING", {}),
        ("no colon", {}),
        (5, {}),
        ("tests.dspex.workflow.bodies:double", {"resume_after": 0}),
        ("tests.dspex.workflow.bodies:double", {"workflow": ""}),
        ("tests.dspex.workflow.bodies:double", {"retry": 5}),
        ("tests.dspex.workflow.bodies:double", {"store": 5}),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(runtime: Runtime, body: Any, options: dict[str, Any]) -> None:
    with pytest.raises((BadOption, StartError), match=r"WorkflowActor|Workflow\.open"):
        given = {"store": MemoryStorage(), **options}
        await runtime.spawn(WorkflowActor, body, given.pop("store"), name="flow", **given)


async def test_a_tree_file_can_hold_one(tmp_path: Path) -> None:
    tree = tmp_path / "tree.toml"
    tree.write_text(
        f"""
        [[children]]
        id = "flow"
        start = "dspex.workflow:WorkflowActor"
        args = ["tests.dspex.workflow.bodies:double", "{tmp_path}/flow.sqlite"]
        kwargs = {{ parameters = {{ number = 21 }} }}
        name = "flow"
        """
    )
    for _ in range(2):
        async with running_tree(load_tree(tree), reports=False) as running:
            assert await result(running.runtime) == 42
            assert shown(running.runtime)["steps"] == "1 begun"
