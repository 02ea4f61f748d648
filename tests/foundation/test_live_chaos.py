"""Chaos on a live tree: what can be asked for, who is hit, how often, and that it is healed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from foundation.run.chaos import ChaosSettings, LiveChaos, opted_in
from foundation.run.settings import BadInput, read_settings
from supervision import ChildSpec, Runtime, Supervisor, start_child
from supervision.testing import ChaosPlan, ChaosStep, Hang, Kill, advance, settled
from tests.supervision.probes import Note, Probe


def test_settings_are_read_from_one_line() -> None:
    text = "seed=7, rate=30,for=90,max=5,faults=kill+hang,tag=wild,mode=unlimited,dry=true"
    assert ChaosSettings.of(text) == ChaosSettings(7, 30.0, 90.0, 5, ("kill", "hang"), "wild", "unlimited", dry=True)
    assert read_settings(["--chaos", "seed=1"], {}).chaos == ChaosSettings(seed=1)
    assert read_settings([], {"FOUNDATION_CHAOS": "seed=2"}).chaos == ChaosSettings(seed=2)
    assert read_settings([], {}).chaos is None


def test_a_plan_is_read_from_its_file(tmp_path: Path) -> None:
    plan = ChaosPlan((ChaosStep(1, Kill(), "/app/*"),))
    plan.save(tmp_path / "plan.json")
    settings = ChaosSettings.of(f"{tmp_path / 'plan.json'},dry=false")
    assert (settings.plan, settings.dry) == (plan, False)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "give the file of a plan, or seed=..., rate=..."),
        ("speed=1", "speed: there is no such setting; there are seed, rate, for"),
        ("rate=fast", "rate=fast: give a number from 0"),
        ("max=1.5", "max=1.5: give a whole number from 0"),
        ("rate=inf", "rate=inf: give a number"),
        ("faults=kill+sneeze", "choose one of kill, exit, crash, hang, late_reply, suspend"),
        ("mode=wild", "choose one of within_budget, edge, unlimited"),
        ("dry=maybe", "choose one of true, false"),
        ("/nowhere/plan.json", "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_there_is(text: str, remedy: str) -> None:
    with pytest.raises(BadInput, match=r"--chaos") as caught:
        read_settings(["--chaos", text], {})
    assert remedy in str(caught.value)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with a tree in which some have opted in."""
    async with Runtime(watchdog=None, reports=False) as made:
        below = ChildSpec("below", Supervisor, ([ChildSpec("deep", Probe)],), tags=("chaos",))
        tame, wild = ChildSpec("tame", Probe), ChildSpec("wild", Probe, tags=("chaos",), name="wild")
        await made.spawn(Supervisor, [tame, wild, below], name="app", max_restarts=100)
        yield made


async def let_in(runtime: Runtime, **settings: Any) -> list[Any]:
    """Let chaos in until it is over; return what was logged."""
    with capture_logs() as entries:
        sup = await runtime.spawn(Supervisor, name="chaos")
        spec = ChildSpec("live", LiveChaos, (ChaosSettings(**settings),), restart="temporary")
        ref = await start_child(sup, spec)
        assert ref is not None
        await ref.join()
        await sup.stop()
    return entries


async def test_only_those_who_opted_in_are_hit_them_or_a_supervisor_above(runtime: Runtime) -> None:
    assert opted_in(runtime, "chaos") == ["/app/below/deep", "/app/wild"]
    entries = await let_in(runtime, seed=1, rate=30, seconds=120.0, most=1000)
    assert {entry["actor"] for entry in entries[:-1]} == {"/app/below/deep", "/app/wild"}
    assert all((entry["event"], entry["fault"]) == ("chaos", "kill") for entry in entries[:-1])
    over = entries[-1]
    assert (over["event"], over["done"], over["kills"]) == ("chaos_over", len(entries) - 1, len(entries) - 1)
    assert over["held_back"] + over["done"] == 60
    assert runtime.clock.time() == pytest.approx(120)


async def test_there_is_a_limit_for_any_minute(runtime: Runtime) -> None:
    entries = await let_in(runtime, rate=60, seconds=180.0, most=3)
    assert len(entries) - 1 in range(7, 10)


async def test_a_dry_run_only_tells(runtime: Runtime) -> None:
    before = set(runtime.actors())
    entries = await let_in(runtime, rate=6, seconds=60.0, dry=True)
    assert all(entry["dry"] for entry in entries[:-1])
    assert entries[-1]["kills"] == 0
    assert before <= set(runtime.actors())


async def test_a_plan_hits_only_those_who_opted_in(runtime: Runtime) -> None:
    entries = await let_in(runtime, plan=ChaosPlan((ChaosStep(0, Kill(), "/app/*"), ChaosStep(1, Kill(), "/app"))))
    assert [entry.get("actor") for entry in entries] == ["/app/below", "/app/wild", None]


async def test_when_nobody_opts_in_nothing_happens(runtime: Runtime) -> None:
    entries = await let_in(runtime, tag="none", seconds=60.0)
    assert [entry["event"] for entry in entries] == ["chaos_over"]


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_what_lasts_is_healed_when_it_ends_or_is_killed(runtime: Runtime, end: str) -> None:
    with capture_logs():
        plan = ChaosPlan((ChaosStep(0, Hang(1000), "/app/wild", until=5000),))
        sup = await runtime.spawn(Supervisor, name="chaos")
        live = ChildSpec("live", LiveChaos, (ChaosSettings(plan=plan),), restart="temporary")
        ref = await start_child(sup, live)
        assert ref is not None
        await advance(1)
        wild = runtime.whereis("wild")
        assert wild is not None
        wild.cast(Note("waits"))
        await advance(1)
        assert wild.mailbox_statistics().length == 0
        if end == "kill":
            ref.kill()
        else:
            await sup.stop()
        await settled(runtime, wild)
        assert (wild.alive, runtime.clock.time() < 100) == (True, True)
        assert asyncio.get_running_loop().time() < 100
