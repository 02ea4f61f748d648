"""What the death of an agent, or of a program's actor, costs: the runs in hand, and not those that wait."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Any

import pytest

from dspex import AgentDown, ProgramActor, ProgramPool, start_program_agent
from dspex.agents.dispatcher import Dispatcher
from dspex.agents.pool import PoolDispatcher
from foundation.programs import Answer, RunProgram
from supervision import (
    ActorExited,
    Backoff,
    CallCycle,
    ChildSpec,
    Ref,
    Runtime,
    Supervisor,
    call_when_ready,
    terminate_child,
)
from tests.dspex.samples import Gate, scripted

pytestmark = pytest.mark.usefixtures("quiet")


def found(runtime: Runtime, name: str) -> Ref:
    """Whoever is called so."""
    ref = runtime.whereis(name)
    assert ref is not None
    return ref


async def test_requests_that_wait_for_their_turn_are_run_by_the_next_incarnation(runtime: Runtime) -> None:
    """A program's actor has them in a queue of its own; the one that runs is lost with it."""
    gate = Gate()
    options = {"lm": scripted(), "concurrency": 1}
    await runtime.spawn(Supervisor, [ChildSpec("p", ProgramActor, (gate,), options, name="program:p")])
    name = runtime.name("program:p")
    asked = [asyncio.ensure_future(call_when_ready(name, RunProgram({"name": str(n)}), None)) for n in range(4)]
    await gate.arrivals.get()
    found(runtime, "program:p").kill()
    gate.open.set()
    lost, *answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(lost, ActorExited)
    assert lost.begun
    assert [answer.outputs["name"] for answer in answers if isinstance(answer, Answer)] == ["1", "2", "3"]
    assert gate.came == ["0", "1", "2", "3"]


@pytest.mark.usefixtures("supervised")
async def test_a_call_that_waits_is_not_counted_as_one_under_which_the_agent_died(runtime: Runtime) -> None:
    """However often it dies; one that runs is not made again if it may not."""
    gate = Gate()
    program = await start_program_agent(runtime, gate, concurrency=1, retries=0, name="agent")
    calls = [asyncio.ensure_future(program.acall(name=str(n))) for n in range(3)]
    for n in range(2):
        assert await gate.arrivals.get() == str(n)
        found(runtime, "agent").kill()
        with pytest.raises(AgentDown, match="died under this call, 1 times"):
            await calls[n]
    gate.open.set()
    assert (await calls[2]).name == "2"
    assert gate.came == ["0", "1", "2"]


async def test_a_call_does_not_wait_for_an_agent_that_will_not_come_back(runtime: Runtime) -> None:
    """It hears of it at once, long before its patience is over."""
    spec = ChildSpec("p", ProgramActor, (Gate(),), {"lm": scripted()}, name="agent", backoff=Backoff(600.0, 600.0))
    supervisor = await runtime.spawn(Supervisor, [spec])
    found(runtime, "agent").kill()
    dispatcher = Dispatcher(runtime, runtime.name("agent"), patience=600.0)
    call = asyncio.ensure_future(dispatcher.ask(Gate(), True, (), {"name": "a"}, copy_context()))
    while not runtime.vacancies.waiting:
        await runtime.sleep(0.001)
    await terminate_child(supervisor, "p")
    async with asyncio.timeout(20):
        with pytest.raises(AgentDown, match="does not run"):
            await call


async def test_a_call_waits_for_an_agent_that_is_not_there_as_long_as_its_patience_lasts(runtime: Runtime) -> None:
    """And takes the first that comes."""
    impatient = Dispatcher(runtime, runtime.name("agent"), patience=0.0)
    context = copy_context()
    with pytest.raises(AgentDown, match="does not run"):
        await impatient.ask(Gate(), True, (), {"name": "a"}, context)
    gate = Gate()
    gate.open.set()
    dispatcher = PoolDispatcher(runtime, runtime.name("pool"), ["one", "two"], patience=600.0)
    call = asyncio.ensure_future(dispatcher.ask(gate, True, (), {"name": "a"}, context))
    while not runtime.vacancies.waiting:
        await runtime.sleep(0.001)
    spec = ChildSpec("runner", ProgramActor, (Gate(),), {"lm": scripted()}, name="two")
    await runtime.spawn(Supervisor, [spec])
    assert (await call).name == "a"
    assert runtime.vacancies.waiting == 0


async def test_a_ring_of_calls_is_not_made_again(runtime: Runtime) -> None:
    """Though nobody has begun the call that would close it."""

    class Ringing(ProgramActor):
        async def perform(self, program: Any, inputs: dict[str, Any]) -> Any:
            error = CallCycle(self.ref, RunProgram({}), (self.ref,), begun=False)
            raise error

    await runtime.spawn(Supervisor, [ChildSpec("p", Ringing, (Gate(),), {"lm": scripted()}, name="program:p")])
    with pytest.raises(CallCycle):
        await call_when_ready(runtime.name("program:p"), RunProgram({"name": "a"}))


async def test_what_waits_for_the_agents_of_a_pool_outlives_them(runtime: Runtime) -> None:
    """All of them die again and again, with no retries, and a pause before they are back."""
    gate = Gate()
    options = {"lm": scripted(), "concurrency": 2, "size": 2, "retries": 0}
    await runtime.spawn(
        Supervisor, [ChildSpec("p", ProgramPool, (gate,), options, name="program:p", backoff=Backoff(0.01, 0.01))]
    )
    name = runtime.name("program:p")
    asked = [asyncio.ensure_future(call_when_ready(name, RunProgram({"name": str(n)}), None)) for n in range(8)]
    for _ in range(2):
        await gate.arrivals.get()
    found(runtime, "program:p").kill()
    for _ in range(2):
        await gate.arrivals.get()
    gate.open.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [ActorExited] * 2 + [Answer] * 6
    assert sorted(gate.came) == [str(n) for n in range(8)]
