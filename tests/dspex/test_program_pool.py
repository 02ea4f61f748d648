"""A program served by several agents behind one name: shared work, death, bounds, versions."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import httpx
import pytest

from dspex import ProgramPool, ProgramRan, Swap
from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.http.app import application
from foundation.programs import Busy, DescribeProgram, InvalidInputs, RunProgram, Unavailable
from supervision import ChildSpec, Ref, Runtime, Supervisor
from supervision.errors import BadOption
from tests.dspex.documented import DocumentedTransport
from tests.dspex.samples import BINDING, Gate, Raising, SlowThread, scripted


async def pool(runtime: Runtime, program: object, **options: Any) -> Ref:
    """A pool under the name of a program, supervised."""
    options.setdefault("lm", scripted())
    await runtime.spawn(Supervisor, [ChildSpec("pool", ProgramPool, (program,), options, name="program:p")])
    found = runtime.whereis("program:p")
    assert found is not None
    return found


def members(runtime: Runtime) -> list[Ref]:
    """The agents of the pool, by number."""
    return [ref for name, ref in sorted(runtime.names().items()) if "/pool#" in name]


def running(runtime: Runtime, ref: Ref) -> object:
    """How many requests an agent runs."""
    info = runtime.info(ref)
    return None if info is None else info.summary["running"]


async def until(runtime: Runtime, true: Any) -> None:
    """Let the others work until something is true."""
    while not true():
        await runtime.sleep(0.001)


async def test_each_request_goes_to_the_idlest_and_a_death_is_not_noticed(runtime: Runtime) -> None:
    """The agents share the requests evenly; what one that is killed was at, another runs; nobody's request fails."""
    gate = Gate()
    actor = await pool(runtime, gate, size=3, concurrency=6)
    told: list[Any] = []
    runtime.subscribe(told.append, ProgramRan)
    asked = [asyncio.ensure_future(actor.call(RunProgram({"name": str(n)}))) for n in range(6)]
    await until(runtime, lambda: [running(runtime, ref) for ref in members(runtime)] == ["2", "2", "2"])
    info = runtime.info(actor)
    assert info is not None
    assert info.summary == {"running": "6", "waiting": "0", "version": "0", "agents": "3 of 3"}
    members(runtime)[1].kill()
    await until(runtime, lambda: len(gate.came) == 8)
    gate.open.set()
    answers = await asyncio.gather(*asked)
    assert sorted(answer.outputs["name"] for answer in answers) == list("012345")
    assert sorted(event.outcome for event in told) == ["cancelled"] * 2 + ["returned"] * 6
    assert {event.ref for event in told} & {actor} == set()


async def test_a_pool_is_bounded(runtime: Runtime) -> None:
    """As many requests wait as may; the next is refused, over HTTP with 429 and when to come again."""
    gate = Gate()
    actor = await pool(runtime, gate, size=2, concurrency=2, waiting=1)
    asked = [asyncio.ensure_future(actor.call(RunProgram({"name": str(n)}))) for n in range(3)]
    await until(runtime, lambda: len(gate.came) == 2)
    with pytest.raises(Busy, match="runs 2 requests, and 1 wait"):
        await actor.call(RunProgram({"name": "late"}))
    transport = DocumentedTransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        found = await client.post("/programs/p", json={"name": "late"})
    assert (found.status_code, found.headers["retry-after"]) == (429, "1")
    gate.open.set()
    assert len(await asyncio.gather(*asked)) == 3


async def test_a_request_whose_caller_gives_up_is_cancelled_in_its_agent(runtime: Runtime) -> None:
    """Cancelling the call reaches the program."""
    gate = Gate()
    actor = await pool(runtime, gate, size=1)
    asked = asyncio.ensure_future(actor.call(RunProgram({"name": "me"})))
    await until(runtime, lambda: gate.came)
    asked.cancel()
    await until(runtime, lambda: gate.cancelled)
    assert gate.cancelled == ["me"]


async def test_a_program_without_aforward_runs_in_threads_of_the_agents(runtime: Runtime) -> None:
    """What is not asynchronous is served too."""
    slow = SlowThread()
    slow.open.set()
    actor = await pool(runtime, slow, size=1)
    BINDING.set("mine")
    outputs = (await actor.call(RunProgram({"name": "a"}))).outputs
    assert (outputs["name"], outputs["binding"]) == ("a", "mine")
    assert slow.threads == ["AnyIO worker thread"]


async def test_a_request_that_kills_every_agent_is_given_up(runtime: Runtime) -> None:
    """It is run again as often as said, and then refused as worth another try, later."""
    gate = Gate()
    actor = await pool(runtime, gate, size=1, retries=1)
    asked = asyncio.ensure_future(actor.call(RunProgram({"name": "me"})))
    for deaths in (1, 2):
        await until(runtime, lambda deaths=deaths: len(gate.came) == deaths)
        members(runtime)[0].kill()
    with pytest.raises(Unavailable, match="died under this call, 2 times"):
        await asked


async def test_what_the_program_raises_is_its_callers(runtime: Runtime) -> None:
    """No agent dies of it; inputs that do not fit are refused before anything runs."""
    actor = await pool(runtime, Raising(KeyError("mine")))
    before = members(runtime)
    with pytest.raises(KeyError, match="mine"):
        await actor.call(RunProgram({}))
    with pytest.raises(InvalidInputs):
        await actor.call(RunProgram({"unknown": 1}))
    assert members(runtime) == before
    assert (await actor.call(DescribeProgram())).program == "Raising"


async def test_versions_are_swapped_for_all_agents_at_once(runtime: Runtime, tmp_path: Any) -> None:
    """From the swap on all agents run the new version; it serves again after the whole pool has died."""

    def student() -> Any:
        return dspy.Predict("text -> label")

    shown: list[int] = []

    class Seen(ScriptedEngine):
        def complete(self, request: Any) -> Any:
            shown.append(sum(message.role == "assistant" for message in request.messages))
            return super().complete(request)

    actor = await pool(runtime, student, size=2, lm=scripted_lm(Seen({"t": "yes"})), versions=tmp_path)
    better = student()
    better.demos = [dspy.Example(text="old", label="no")]
    await actor.call(Swap(better))
    answers = await asyncio.gather(*(actor.call(RunProgram({"text": "t"})) for _ in range(4)))
    assert [answer.outputs for answer in answers] == [{"label": "yes"}] * 4
    assert all(answer.usage for answer in answers)
    actor.kill()
    await until(runtime, lambda: runtime.whereis("program:p") not in (None, actor))
    await runtime.name("program:p").call(RunProgram({"text": "t"}))
    assert shown == [1] * 5


async def test_an_empty_pool_is_refused(runtime: Runtime) -> None:
    """The option and its value are named."""
    with pytest.raises(BadOption, match="size = 0: a pool has at least one agent"):
        await runtime.spawn(ProgramPool, Gate, size=0, lm=scripted())
