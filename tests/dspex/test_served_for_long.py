"""A program that is served for long keeps no more than one that has just begun, and works for nobody who has gone."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import anyio
import anyio.to_thread
import dspy
import httpx
import pytest
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.dsp.utils.settings import main_thread_config

from dspex import ProgramActor, ProgramPool, ProgramRan
from dspex._compat import plain_response
from dspex._compat.settings import HISTORY
from dspex._compat.usage import RunScope, check_wanted, metered, wait_wanted
from dspex.agents.runner import run_module
from dspex.models.gateway import Gateway, gateway_lm
from foundation.events import Serving
from foundation.http import HttpServer
from foundation.programs import DescribeProgram, RunProgram
from supervision import Ref, Runtime
from tests.dspex.samples import SlowThread, ask, scripted

TIMES = HISTORY + 20


class Waiting:
    """Both engines of a model that answers at once, or keeps its caller waiting, and knows who has gone."""

    supports_response_schema = False

    def __init__(self) -> None:
        self.asked = 0
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.asked_in_a_thread = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.at_once = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Waiting:
        return self

    def lm(self, *, threads: bool = False) -> Any:
        """The model; with ``threads`` it has nothing else than an engine that blocks."""
        engines = {"engine": Blocking(self)} if threads else {"engine": Blocking(self), "async_engine": self}
        return dspy.LM("local/waiting", cache=False, num_retries=0, **engines)

    async def complete(self, request: Any) -> Any:
        """Wait, and tell whether the caller has gone."""
        self.asked += 1
        self.arrived.set()
        if not self.at_once:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.gone.set()
                raise
        return plain_response(request, "[[ ## answer ## ]]\nblue")


class Blocking:
    """The engine that blocks its thread."""

    supports_response_schema = False

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    def __deepcopy__(self, memo: dict[int, Any]) -> Blocking:
        return self

    def complete(self, request: Any) -> Any:
        """Block."""
        self._waiting.asked += 1
        self._waiting.asked_in_a_thread.release()
        assert self._waiting.go_on.wait(20)
        return plain_response(request, "[[ ## answer ## ]]\nblue")


class Twice(dspy.Module):
    """Asks twice, in a thread; and tells how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = ask()
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def forward(self, question: str) -> Any:
        """Ask."""
        try:
            return self.ask(question=self.ask(question=question).answer)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()


@pytest.fixture
def clean() -> None:
    """DSPy's history of the process, as it is at its start."""
    GLOBAL_HISTORY.clear()


async def asked(actor: Ref, times: int = TIMES) -> None:
    """Run a program many times."""
    for number in range(times):
        assert (await actor.call(RunProgram({"question": str(number)}), 60)).outputs == {"answer": "blue"}


# -- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ProgramActor, ProgramPool])
async def test_histories_do_not_grow_with_calls_and_accounts_do(
    runtime: Runtime, kind: type[ProgramActor], clean: None
) -> None:
    """Of the model, of the program, and of the process; what was used is counted for all calls."""
    ran: list[ProgramRan] = []
    runtime.subscribe(ran.append, ProgramRan)  # type: ignore[arg-type]
    model = Waiting()
    model.at_once = True
    lm, program = model.lm(), ask()
    await asked(await runtime.spawn(kind, program, lm=lm))
    assert [len(lm.history), len(program.history), len(GLOBAL_HISTORY)] == [HISTORY] * 3
    assert len(ran) == TIMES
    assert all(event.tokens["local/waiting"]["total_tokens"] > 0 for event in ran)


async def test_histories_in_a_process_of_its_own_do_not_grow(runtime: Runtime, clean: None) -> None:
    """Neither here, nor there."""
    model = Waiting()
    model.at_once = True
    lm = model.lm()
    actor = await runtime.spawn(ProgramPool, Counting, lm=lm, size=1, isolation="process")
    counts = [(await actor.call(RunProgram({"question": "?"}), 60)).outputs["kept"] for _ in range(TIMES)]
    assert max(counts) == HISTORY + 1  # the last one's own answer
    assert [len(lm.history), len(GLOBAL_HISTORY)] == [HISTORY] * 2


class Counting(dspy.Module):
    """Tells how long DSPy's history is where it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = ask()

    async def aforward(self, question: str) -> Any:
        """Count."""
        await self.ask.acall(question=question)
        return dspy.Prediction(kept=len(GLOBAL_HISTORY))


async def test_whoever_wants_longer_histories_has_them(
    runtime: Runtime, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program's settings say so, or the configuration."""
    lm = scripted(*["blue"] * 99)
    await asked(await runtime.spawn(ProgramActor, ask, lm=lm, settings={"max_history_size": 5}), 9)
    assert len(lm.history) == 5
    monkeypatch.setitem(main_thread_config, "max_history_size", 7)
    await asked(await runtime.spawn(ProgramActor, ask, lm=lm), 9)
    assert len(GLOBAL_HISTORY) == 7


# -- whoever has gone ------------------------------------------------------------------------------------------------


@pytest.fixture
async def url(runtime: Runtime) -> AsyncIterator[str]:
    """A real server: it notices who has gone."""
    urls: list[str] = []
    runtime.subscribe(lambda event: urls.append(event.url), Serving)  # type: ignore[attr-defined]
    server = await runtime.spawn(HttpServer, port=0)
    yield urls[0]
    await server.stop()


async def hang_up(url: str, arrived: Any) -> None:
    """Ask over HTTP, and go away once a model has been asked."""
    async with httpx.AsyncClient(base_url=url) as client:
        request = asyncio.ensure_future(client.post("/programs/p", json={"question": "?"}))
        await arrived
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(ProgramActor, {}), (ProgramPool, {}), (ProgramPool, {"isolation": "process", "size": 1})],
    ids=["task", "pool", "process"],
)
async def test_hanging_up_reaches_the_model(runtime: Runtime, url: str, kind: Any, options: Any) -> None:
    """Without streaming: in a task of the actor, of a pool's agent, or from a process of its own."""
    model = Waiting()
    await runtime.spawn(kind, ask, lm=model.lm(), name="program:p", **options)
    await hang_up(url, model.arrived.wait())
    await model.gone.wait()


@pytest.mark.parametrize("program", [ask, Twice], ids=["task", "thread"])
async def test_hanging_up_reaches_the_model_behind_the_gateway(runtime: Runtime, url: str, program: Any) -> None:
    """Also from a thread, which is told that nobody waits, and ends."""
    model = Waiting()
    endpoints = {"only": {"lm": model.lm()}}
    await runtime.spawn(Gateway, endpoints, {"m": {"endpoints": ["only"]}}, name="gateway")
    made = program()
    await runtime.spawn(ProgramActor, made, lm=gateway_lm(runtime, "m"), name="program:p")
    await hang_up(url, model.arrived.wait())
    await model.gone.wait()
    if program is Twice:
        assert await asyncio.to_thread(made.ended.wait, 20)
        assert isinstance(made.error, asyncio.CancelledError)
    assert model.asked == 1


@pytest.mark.parametrize("threads", [True, False], ids=["blocking", "both"])
async def test_a_thread_whose_caller_has_gone_asks_no_model_again(runtime: Runtime, url: str, threads: bool) -> None:
    """A call that blocks cannot be stopped, and is the last one."""
    model, program = Waiting(), Twice()
    actor = await runtime.spawn(ProgramActor, program, lm=model.lm(threads=threads), name="program:p")
    await hang_up(url, asyncio.to_thread(model.asked_in_a_thread.acquire, True, 20))
    while actor.actor.concurrency_limit.running:  # type: ignore[attr-defined]
        await runtime.sleep(0.001)
    model.go_on.set()
    assert await asyncio.to_thread(program.ended.wait, 20)
    assert isinstance(program.error, asyncio.CancelledError)
    assert model.asked == 1


async def test_threads_that_nobody_waits_for_are_not_without_number(runtime: Runtime) -> None:
    """They keep their places until they end: as many as may run, and no more; then others wait."""
    program = SlowThread()
    actor = await runtime.spawn(ProgramActor, program, lm=scripted(), concurrency=2)
    for name in "abcd":
        call = asyncio.ensure_future(actor.call(RunProgram({"name": name}), None))
        assert await asyncio.to_thread(program.arrived.acquire, True, 20)
        call.cancel()
    last = actor.call(RunProgram({"name": "e"}), None)
    await actor.call(DescribeProgram())
    await runtime.sleep(0)
    assert len(program.threads) == 4
    program.open.set()
    assert (await last).outputs["name"] == "e"
    assert len(program.threads) == 5


async def test_a_thread_is_told_whatever_becomes_of_the_cancellation() -> None:
    """A limit of time makes another error of it, before anybody else hears of it."""
    program = SlowThread()
    with metered({}):
        run = run_module(program, (), {"name": "a"}, asynchronous=False, limiter=anyio.CapacityLimiter(1))
        task = asyncio.ensure_future(run)
        assert await asyncio.to_thread(program.arrived.acquire, True, 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError, match="nobody waits"):
            check_wanted()
    program.open.set()


async def test_a_thread_whose_caller_goes_before_it_begins_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is free at once; when the thread is there at last, it finds that nobody wants anything."""
    late: list[Any] = []

    async def cut_off(call: Any, **options: Any) -> None:
        late.append(call)
        raise asyncio.CancelledError

    monkeypatch.setattr(anyio.to_thread, "run_sync", cut_off)
    program, limiter = SlowThread(), anyio.CapacityLimiter(1)
    with metered({}), pytest.raises(asyncio.CancelledError):
        await run_module(program, (), {"name": "a"}, asynchronous=False, limiter=limiter)
    assert limiter.borrowed_tokens == 0
    assert late[0]() is None
    assert program.threads == []


def test_who_begins_to_wait_when_all_have_gone_waits_no_more() -> None:
    """And what has been waited for is forgotten."""

    async def main() -> None:
        with metered({}) as used:
            done: Future[str] = Future()
            done.set_result("done")
            assert wait_wanted(done) == "done"
            used.scope.abandon()
            with pytest.raises(asyncio.CancelledError, match="nobody waits"):
                check_wanted()
            with pytest.raises(asyncio.CancelledError):
                wait_wanted(Future())

    asyncio.run(main())
    assert not RunScope().abandoned
