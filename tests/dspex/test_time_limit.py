"""Programs with a time limit: whoever takes too long is cancelled, and its caller told, however it takes that."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
import httpx
import pytest

from dspex import ProgramActor, ProgramPool, ProgramRan
from dspex.serving.calls import CallRecords
from foundation.http.app import application
from foundation.programs import OutOfTime, RunProgram
from supervision import ChildSpec, Ref, Runtime, Supervisor
from supervision.errors import BadOption
from tests.dspex.documented import DocumentedTransport
from tests.dspex.parsing.engine import Parrot
from tests.dspex.samples import Gate, SlowThread, scripted

pytestmark = pytest.mark.usefixtures("quiet")

SOON = 0.05


async def served(runtime: Runtime, program: Any, kind: Any = ProgramActor, **options: Any) -> Ref:
    """A program with a time limit."""
    options = {"lm": scripted(), "timeout": SOON, **options}
    await runtime.spawn(Supervisor, [ChildSpec("x", kind, (program,), options, name="program:x")])
    found = runtime.whereis("program:x")
    assert found is not None
    return found


class Stubborn(dspy.Module):  # type: ignore[misc]
    """Does not let itself be cancelled at once."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.ended = asyncio.Event()

    async def aforward(self, name: str) -> Any:
        """Wait."""
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            await self.open.wait()
        self.ended.set()
        if name == "raise":
            raise LookupError(name)
        return dspy.Prediction(name=name)


@pytest.mark.parametrize("kind", [ProgramActor, ProgramPool])
async def test_a_run_that_takes_too_long_is_cancelled_and_its_place_is_free(runtime: Runtime, kind: Any) -> None:
    """It counts as one that has failed, and not as one that its caller has given up."""
    gate = Gate()
    ran: list[str] = []
    runtime.subscribe(lambda event: ran.append(event.outcome), ProgramRan)
    actor = await served(runtime, gate, kind, concurrency=1)
    with pytest.raises(OutOfTime, match=r"no answer within 0\.05 s"):
        await actor.call(RunProgram({"name": "slow"}))
    gate.open.set()
    assert (await actor.call(RunProgram({"name": "fast"}))).outputs == {"name": "fast"}
    assert gate.cancelled == ["slow"]
    assert [record.outcome for record in runtime.shared[CallRecords, "program:x"].latest(2)] == ["answered", "timeout"]
    if kind is ProgramActor:
        assert ran == ["raised", "returned"]


async def test_who_waits_too_long_is_told_too_and_never_run(runtime: Runtime) -> None:
    """The time that a request waits for its turn counts."""
    program = Stubborn()
    actor = await served(runtime, program, concurrency=1)
    calls = [actor.call(RunProgram({"name": name})) for name in ("first", "second")]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [OutOfTime, OutOfTime]
    assert runtime.info(actor) is not None
    program.open.set()
    await program.ended.wait()
    assert (await actor.call(RunProgram({"name": "third"}))).outputs == {"name": "third"}


@pytest.mark.parametrize("name", ["return", "raise"])
async def test_a_program_that_does_not_let_itself_be_cancelled_keeps_nobody_waiting(
    runtime: Runtime, name: str
) -> None:
    """What it says at last is dropped."""
    program = Stubborn()
    actor = await served(runtime, program)
    with pytest.raises(OutOfTime):
        await actor.call(RunProgram({"name": name}))
    program.open.set()
    await program.ended.wait()
    assert (await actor.call(RunProgram({"name": "next"}))).outputs == {"name": "next"}


async def test_a_thread_is_left_alone_and_asks_nothing_any_more(runtime: Runtime) -> None:
    """It cannot be stopped; but what it asks of a model is not asked again when nobody waits."""
    asked, go_on, done = threading.Event(), threading.Event(), threading.Event()

    class Slow(Parrot):
        def complete(self, request: Any) -> Any:
            asked.set()
            go_on.wait()
            return super().complete(request)

    class Thread(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("q -> a: int")

        def forward(self, q: str) -> Any:
            try:
                return self.ask(q=q)
            finally:
                done.set()

    parrot = Slow("gibberish")
    actor = await served(runtime, Thread, lm=parrot.lm())
    with pytest.raises(OutOfTime):
        await actor.call(RunProgram({"q": "?"}))
    assert await asyncio.to_thread(asked.wait, 10)
    go_on.set()
    assert await asyncio.to_thread(done.wait, 10)
    assert parrot.calls == 1


async def test_over_http_it_is_a_504(runtime: Runtime) -> None:
    """Of the same kind as that of the server's own limit."""
    program = SlowThread()
    await served(runtime, program)
    transport = DocumentedTransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post("/programs/x", json={"name": "a"})
    program.open.set()
    assert (response.status_code, response.json()["type"]) == (504, "about:blank#timeout")


async def test_a_caller_that_gives_up_first_is_nobodys_time_out(runtime: Runtime) -> None:
    """While it waits, and while it runs; and so it is if the actor ends."""
    gate = Gate()
    actor = await served(runtime, gate, concurrency=1, timeout=3600.0)
    calls = [asyncio.ensure_future(actor.call(RunProgram({"name": name}))) for name in ("a", "b")]
    await gate.arrivals.get()
    for call in reversed(calls):
        call.cancel()
    await asyncio.wait(calls)
    gate.open.set()
    assert (await actor.call(RunProgram({"name": "c"}))).outputs == {"name": "c"}
    assert gate.came == ["a", "c"]
    gate.open.clear()
    left = [asyncio.ensure_future(actor.call(RunProgram({"name": name}))) for name in ("d", "e")]
    await gate.arrivals.get()
    await gate.arrivals.get()
    actor.kill()
    await asyncio.gather(*left, return_exceptions=True)
    assert gate.came == ["a", "c", "d"]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), pytest.param(10**400, id="huge"), "1", True])
def test_a_time_limit_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(BadOption, match="timeout"):
        ProgramActor(Gate, timeout=timeout)
