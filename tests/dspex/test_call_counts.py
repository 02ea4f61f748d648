"""How many calls a program has had, by version and outcome, as Prometheus has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from prometheus_client import CollectorRegistry

from dspex import ProgramActor
from dspex._compat import lm15
from dspex.agents.concurrency import ProgramExited
from dspex.serving.call_counts import CallCounts
from dspex.serving.pool import ProgramPool
from foundation.programs import Busy, InvalidInputs, RunProgram, Swap
from foundation.telemetry.metrics import Metrics
from supervision import CallTimeout, ChildSpec, Refuse, Runtime, Supervisor, call_when_ready
from tests.dspex.samples import scripted

pytestmark = pytest.mark.usefixtures("quiet")


class Told(dspy.Module):  # type: ignore[misc]
    """Does what its input says."""

    def __init__(self, acts: dict[str, Callable[[], Any]]) -> None:
        super().__init__()
        self.acts = acts

    def __deepcopy__(self, memo: Any) -> Told:
        return Told(self.acts)

    async def aforward(self, what: str) -> Any:
        """Do it."""
        found = self.acts[what]()
        return await found if asyncio.iscoroutine(found) else found


def raising(error: BaseException) -> Callable[[], Any]:
    """What raises an error."""

    def act() -> Any:
        raise error

    return act


def counted(runtime: Runtime) -> dict[tuple[str, str, str], float]:
    """The counts of the program, by version, outcome and error."""
    registry = runtime.shared["registry"]
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "dspex_calls_total":
                labels = sample.labels
                assert set(labels) == {"program", "version", "outcome", "error"}
                assert labels["program"] == "told"
                found[labels["version"], labels["outcome"], labels["error"]] = sample.value
    return found


async def serve(runtime: Runtime, acts: dict[str, Callable[[], Any]], kind: Any = ProgramActor, **options: Any) -> Any:
    """Serve a program, with the metrics; return its name."""
    runtime.shared["registry"] = registry = CollectorRegistry()
    await runtime.spawn(Metrics, registry)
    spec = ChildSpec("told", kind, (Told(acts),), {"lm": scripted(), **options}, name="program:told")
    await runtime.spawn(Supervisor, [spec])
    return runtime.name("program:told")


@pytest.mark.parametrize("kind", [ProgramActor, ProgramPool])
async def test_calls_are_counted_by_version_and_by_how_they_ended(runtime: Runtime, kind: Any) -> None:
    """Errors by their class, if it is one that conventions name: any number of others is one label."""
    acts = {
        "answer": lambda: 1,
        "fail": raising(ValueError("no")),
        "fail too": raising(LookupError("no")),
        "away": raising(dspy.LMTransportError("away")),
        "busy": raising(dspy.LMRateLimitError("slow")),
        "refuse": raising(dspy.LMAuthError("wrong key")),
        "engine": raising(lm15.BillingError("no money")),
    }
    name = await serve(runtime, acts, kind)
    for what in (*acts, "answer"):
        await asyncio.gather(name.call(RunProgram({"what": what})), return_exceptions=True)
    with pytest.raises(InvalidInputs):
        await name.call(RunProgram({}))
    assert counted(runtime) == {
        ("0", "answered", ""): 2,
        ("0", "failed", "_OTHER"): 2,
        ("0", "unavailable", "LMTransportError"): 1,
        ("0", "busy", "LMRateLimitError"): 1,
        ("0", "refused", "LMAuthError"): 1,
        ("0", "refused", "LMBillingError"): 1,
        ("0", "invalid", ""): 1,
    }


async def test_calls_that_are_cut_off_or_find_no_room_are_counted(runtime: Runtime) -> None:
    begun, never = asyncio.Semaphore(0), asyncio.Event()

    async def wait() -> Any:
        begun.release()
        return await never.wait()

    name = await serve(runtime, {"wait": wait}, concurrency=1, waiting=0)
    late = asyncio.ensure_future(name.call(RunProgram({"what": "wait"}), 0.01))
    await begun.acquire()
    with pytest.raises(Busy):
        await name.call(RunProgram({"what": "wait"}))
    with pytest.raises(CallTimeout):
        await late
    while not any(outcome == "timeout" for _, outcome, _ in counted(runtime)):
        await runtime.sleep(0.001)
    left = asyncio.ensure_future(name.call(RunProgram({"what": "wait"})))
    await begun.acquire()
    left.cancel()
    while ("0", "cancelled", "") not in counted(runtime):
        await runtime.sleep(0.001)
    assert counted(runtime) == {
        ("0", "busy", ""): 1,
        ("0", "timeout", "_OTHER"): 1,
        ("0", "cancelled", ""): 1,
    }


async def test_the_last_versions_are_told_apart_and_a_restart_counts_on(runtime: Runtime) -> None:
    """However many there were: the labels stay few."""
    name = await serve(runtime, {"answer": lambda: 1})
    for number in range(1, 9):
        await name.call(RunProgram({"what": "answer"}))
        assert (await name.call(Swap(Told({"answer": lambda: 1})))).number == number
    name.resolve().kill()
    await call_when_ready(name, RunProgram({"what": "answer"}), 30.0)
    versions = {version: count for (version, _, _), count in counted(runtime).items()}
    assert versions.pop("other") >= 3
    assert len(versions) == 5
    assert sum(found for key, found in counted(runtime).items()) == 9


def test_what_a_validator_does_to_the_process_is_a_failure() -> None:
    """It is neither the caller's fault, nor a want of room."""
    counts = CallCounts()
    for error in (ProgramExited("p", SystemExit()), Busy("full")):
        with pytest.raises(Refuse), counts.turned_away("p", 0):
            raise Refuse(error)
    told = [dict(sample.labels) for sample in counts.samples()]
    assert [(each["outcome"], each["error"]) for each in told] == [("failed", "_OTHER"), ("busy", "")]
