"""A coordinator that is killed, at whatever moment, goes on: nothing counts twice, and nothing of an older round."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.durability import MemoryStorage, StorageConflict, StorageError
from dspex.federated import FederatedAveraging, RunRound, StaleRound, TrainWeights
from dspex.workflow import GetResult
from examples.federation import main
from foundation.tree import load_tree
from supervision import Runtime
from tests.dspex.federated.world import START, World, numbers

ROOT = Path(__file__).parents[3]


@pytest.fixture
def world(runtime: Runtime) -> World:
    return World(runtime)


class Watched(MemoryStorage):
    """A storage that calls something before, or after, what is written the n-th time."""

    def __init__(self, at: int, after: bool, action: Callable[[], None]) -> None:
        super().__init__()
        self.at, self.after, self.action = at, after, action
        self.writes = 0

    async def write(self, *args: Any, **kwargs: Any) -> None:
        self.writes += 1
        due = self.writes == self.at
        if due and not self.after:
            self.action()
        await super().write(*args, **kwargs)
        if due and self.after:
            self.action()


def kill(runtime: Runtime) -> None:
    victim = runtime.whereis("all")
    assert victim is not None
    victim.kill()


async def undisturbed(world: World) -> int:
    """Return how often something is written in a run that nobody disturbs."""
    store = Watched(0, False, lambda: None)
    await world.start(store=store)
    await world.result()
    top = world.runtime.whereis("top of all")
    assert top is not None
    await top.stop()
    return store.writes


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_any_write_it_finds_the_same(world: World, after: bool) -> None:
    """Between any two writes; those of a write that is cut off may be there or not."""
    writes = await undisturbed(world)
    assert writes > 15
    for at in range(3, writes):  # the first two are those of its start
        store = Watched(at, after, lambda: kill(world.runtime))
        await world.start(store=store)
        result = await surviving(world)
        assert numbers(result) == [7.5, 7.5], at
        assert [one.end.counted for one in result.history] == [("c1", "c2", "c3", "c4")] * 3, at
        # Each client has trained once in each round: what it has done is not done again.
        assert world.trained == dict.fromkeys(("c1", "c2", "c3", "c4"), 3), at
        assert result.runs == 120
        fences = [one.end.fence for one in result.history]
        assert fences == sorted(set(fences)), at
        top = world.runtime.whereis("top of all")
        assert top is not None
        await top.stop()


async def surviving(world: World) -> Any:
    """Return the result, whoever is killed while it is waited for."""
    await world.runtime.sleep(100.0)
    return await world.runtime.name("all").call(GetResult(), timeout=None)


async def test_killed_in_the_middle_of_a_round_it_asks_only_who_has_not_reported(world: World) -> None:
    await world.start(plan=FederatedAveraging(initial=START, rounds=1))
    world.steps["c4"].seconds = 30.0
    await world.runtime.sleep(5.0)
    kill(world.runtime)
    result = await surviving(world)
    assert numbers(result) == [2.5, 2.5]
    assert result.history[0].end.fence == 2
    assert world.trained == dict.fromkeys(("c1", "c2", "c3", "c4"), 1)
    assert result.history[0].seconds == pytest.approx(30.0)  # it went on meanwhile


async def test_down_beyond_the_deadline_the_round_is_closed_with_what_was_there(world: World) -> None:
    options: Any = {"plan": FederatedAveraging(initial=START, rounds=1), "rounds": {"enough": 3, "deadline": 10.0}}
    store = MemoryStorage()
    await world.start(store=store, **options)
    world.steps["c4"].seconds = 500.0
    await world.runtime.sleep(5.0)
    top = world.runtime.whereis("top of all")
    assert top is not None
    await top.stop()
    await world.runtime.sleep(60.0)
    await world.start(store=store, **options)
    result = await surviving(world)
    assert numbers(result) == [2.0, 2.0]
    assert result.history[0].end.late == ("c4",)
    assert world.trained.total() == 0  # the new ones were not asked


async def test_a_coordinator_that_was_succeeded_gets_nothing_from_the_clients(world: World) -> None:
    await world.start(steps=1, plan=FederatedAveraging(initial=START, rounds=1))
    await world.result()
    client = world.runtime.name("c1")
    task = TrainWeights(START)
    for fence in (5, 5, 6):  # asked again, it reports what it has reported
        report = await client.call(RunRound("mine", "c1", 1, fence, task))
        assert (report.fence, world.steps["c1"].trained) == (fence, 2)
    with pytest.raises(StaleRound, match="mine asked with fence 5, and 6 was there") as caught:
        await client.call(RunRound("mine", "c1", 1, 5, task))
    assert (caught.value.federation, caught.value.fence, caught.value.seen) == ("mine", 5, 6)
    await client.call(RunRound("mine", "c1", 2, 7, task))
    assert world.steps["c1"].trained == 3
    for number in range(20):  # it remembers some federations, not all that ever were
        await client.call(RunRound(f"other {number}", "c1", 1, 1, task))
    assert len(world.shown("c1")["federations"].split(", ")) == 16


class Full(MemoryStorage):
    """A disk that is full at times."""

    full = False

    async def write(self, *args: Any, **kwargs: Any) -> None:
        if self.full:
            raise StorageError("no space left on device")
        await super().write(*args, **kwargs)

    async def read(self, key: str) -> Any:
        if self.full:
            raise StorageError("no space left on device")
        return await super().read(key)


async def test_with_the_disk_full_it_is_suspended_and_goes_on_when_there_is_room(world: World) -> None:
    store = Full()
    await world.start(store=store, resume_after=10.0)
    await world.runtime.sleep(1.5)
    store.full = True
    await world.runtime.sleep(30.0)
    assert world.shown()["state"].startswith("suspended: ")
    assert "no space left" in world.shown()["state"]
    store.full = False
    assert numbers(await world.result()) == [7.5, 7.5]


async def test_of_two_coordinators_on_one_log_one_ends(world: World) -> None:
    store = MemoryStorage()
    await world.start(store=store)
    async with Runtime(watchdog=None, reports=False, seed=2) as other:
        second = World(other)
        await world.runtime.sleep(1.5)
        await second.start(store=store)
        found = []
        for one in (world, second):
            await one.runtime.sleep(30.0)
            found.append(one.shown()["state"])
        assert sorted(state.partition(":")[0] for state in found) == ["done", "superseded"]
        [loser] = [one for one, state in zip((world, second), found, strict=True) if state != "done"]
        with pytest.raises(StorageConflict):
            await loser.result()
        [winner] = [one for one in (world, second) if one is not loser]
        assert numbers(await winner.result()) == [7.5, 7.5]


# -- the example -------------------------------------------------------------------------------------------------------


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.federation", "--log", str(folder / "log.sqlite"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.once
def test_the_example_goes_on_after_kill_9(tmp_path: Path) -> None:
    process = run(tmp_path, "--die-after", "3")
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert process.stdout.splitlines()[-1] == "round 3: 4 of 4, loss 0.564"
    process = run(tmp_path)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[0] == "round 4: 4 of 4, loss 0.435"
    assert lines[-3:] == [
        "each alone: 33%; best alone: 33%",
        "  together: 57%",
        " one place: 57%, if all tickets were there",
    ]


def test_the_example_says_what_it_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--log", str(tmp_path / "log.sqlite")])
    out = capsys.readouterr().out.splitlines()
    page = (ROOT / "docs/how-to/federate.md").read_text()
    shown = page.partition("$ python -m examples.federation\n")[2].partition("\n```")[0].splitlines()
    assert [line for line in shown if line != "…"] == [out[0], *out[-4:]]


def test_its_tree_can_be_built() -> None:
    assert "/federation/federation" in dict(load_tree(ROOT / "examples/federation.toml").outline())


@pytest.mark.once
def test_its_process_killed_with_kill_9_at_several_writes_it_finds_the_same(tmp_path: Path) -> None:
    """Each process goes on from the file of the one before."""
    file = str(tmp_path / "log.sqlite")
    for at, when in ((3, "after"), (4, "before"), (5, "after"), (8, "before")):
        command = [sys.executable, "-m", "tests.dspex.federated.killed", file, str(at), when]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert process.returncode == -signal.SIGKILL, process.stderr
    command = [sys.executable, "-m", "tests.dspex.federated.killed", file, "0", "before"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(process.stdout)
    assert found["weights"] == pytest.approx([4.0, 4.0])
    assert found["counted"] == [["c1", "c2", "c3"]] * 2
    assert found["fences"] == sorted(set(found["fences"]))
