"""The contract of compatibility, clause by clause: a program in an agent is, to any caller, the bare program."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import dspy
import pytest

from dspex import (
    AgentDown,
    ProgramOverloaded,
    ProgramTimeout,
    UsageTotals,
    agent,
    agents_supervisor,
    start_program_pool,
)
from dspex import start_program_agent as started
from dspex._compat import bare_call, routed_class, unrouted
from dspex.agents.background import BackgroundRuntime, _runtimes, background_runtime
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task
from supervision import KILLED, Runtime, Supervisor
from supervision.errors import BadOption
from tests.compat.places import LABELS, Talker
from tests.compat.programs import Chain, Fans, Nested, Own, Raises, Typed

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime in which agents can be started."""
    async with Runtime(reports=False) as made:
        await made.spawn(Supervisor, [agents_supervisor()])
        yield made


def model() -> Any:
    """A language model that answers whatever it is asked."""
    return scripted_lm(Talker(LABELS))


class Gate(dspy.Module):  # type: ignore[misc]
    """Waits until it is let on; notes how its runs end."""

    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()
        self.open = asyncio.Event()
        self.ends: list[str] = []

    async def aforward(self) -> Any:
        """Wait."""
        self.came.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        self.ends.append("done")
        return dspy.Prediction(done=True)


class SlowThread(dspy.Module):  # type: ignore[misc]
    """Waits in a thread until it is let on, then asks."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")
        self.came = threading.Event()
        self.open = threading.Event()

    def forward(self, text: str) -> Any:
        """Wait, and ask."""
        self.came.set()
        self.open.wait(20)
        return self.ask(text=text)


# -- 1: type -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: dspy.Predict(Typed), Nested])
def test_c01_it_is_a_module_of_the_programs_class(make: Any) -> None:
    """It is the program to ``isinstance``, in its parameters, its copies, its repr; what is changed in it counts."""
    program = make()
    proxy = agent(program)
    assert isinstance(proxy, type(program))
    assert (type(proxy).__name__, type(proxy).__module__) == (type(program).__name__, type(program).__module__)
    assert inspect.getsource(type(proxy)) == inspect.getsource(type(program))
    assert [name for name, _ in proxy.named_parameters()] == [name for name, _ in program.named_parameters()]
    assert repr(proxy) == repr(program)
    assert program.dump_state() == proxy.dump_state()
    proxy.set_lm(lm := model())
    assert proxy.get_lm() is program.get_lm() is lm
    for predictor in proxy.predictors():
        predictor.demos = [dspy.Example(text="text 0", label="yes")]
    twin = proxy.deepcopy()
    assert type(twin) is type(proxy)
    assert twin.predictors()[0].demos == proxy.predictors()[0].demos
    assert twin.predictors()[0] is not proxy.predictors()[0]
    assert proxy.reset_copy().predictors()[0].demos == []
    assert copy.copy(unrouted(proxy)) is not program
    proxy._compiled = True
    assert program._compiled


def test_c01_what_is_assigned_counts_from_the_next_call_on() -> None:
    """An attribute that is set on the proxy is the program's, and the agent runs with it."""
    proxy = agent(Chain())
    engine = Talker(LABELS)
    with dspy.context(lm=scripted_lm(engine)):
        assert proxy(text="text 0").label == "yes"
        proxy.second = dspy.Predict("text -> label: int")
        with pytest.raises(dspy.AdapterParseError):
            proxy(text="text 0")


# -- 2: calls ------------------------------------------------------------------------------------------------


async def test_c02_from_any_thread_task_and_loop(runtime: Runtime) -> None:
    """Sync and async, from the agent's own loop and thread and from others: it answers."""
    proxy = await started(runtime, Chain())

    def other_loop() -> Any:
        return asyncio.run(proxy.acall(text="text 0"))

    with dspy.context(lm=model()):
        assert proxy(text="text 0").label == "yes"
        assert (await proxy.acall(text="text 1")).label == "no"
        assert (await asyncio.to_thread(lambda: proxy(text="text 0"))).label == "yes"
        assert (await asyncio.to_thread(other_loop)).label == "yes"


@pytest.mark.parametrize("arguments", [{}, {"texts": "x"}, {"text": "x", "more": 1}])
async def test_c02_wrong_arguments_fail_as_without_an_agent(runtime: Runtime, arguments: dict[str, Any]) -> None:
    """The very error that the bare program raises."""
    program = Chain()
    proxy = await started(runtime, Chain())
    with pytest.raises(TypeError) as bare:
        await program.acall(**arguments)
    with pytest.raises(TypeError) as seen:
        await proxy.acall(**arguments)
    assert str(seen.value) == str(bare.value)


# -- 4: exceptions -------------------------------------------------------------------------------------------


async def test_c04_what_a_program_raises_is_raised(runtime: Runtime) -> None:
    """The same object, with the program's frames in its traceback."""
    error = dspy.LMRateLimitError("slow down")
    proxy = await started(runtime, Raises(error))
    with dspy.context(lm=model()), pytest.raises(dspy.LMRateLimitError) as caught:
        await proxy.acall(text="text 0")
    assert caught.value is error
    assert any(frame.name == "aforward" for frame in caught.traceback)


async def test_c04_only_the_infrastructure_has_errors_of_its_own(runtime: Runtime) -> None:
    """An agent that is gone, slow or busy: each is worth another try, says DSPy."""
    gate = Gate()
    slow = await started(runtime, gate, timeout=0.01)
    with pytest.raises(ProgramTimeout, match=r"has not answered within 0\.01 s") as timeout:
        await slow.acall()
    while not gate.ends:
        await runtime.sleep(0.001)
    assert gate.ends == ["cancelled"]
    busy = await started(runtime, Gate(), concurrency=1, waiting=0)
    first = asyncio.ensure_future(busy.acall())
    await busy.came.wait()
    with pytest.raises(ProgramOverloaded, match="runs 1 requests, and 0 wait") as full:
        await busy.acall()
    busy.open.set()
    assert (await first).done
    gone = await started(runtime, Gate(), name="gone", retries=0, patience=0.0)
    call = asyncio.ensure_future(gone.acall())
    await gone.came.wait()
    address = runtime.whereis("gone")
    assert address is not None
    address.kill()
    with pytest.raises(AgentDown, match="died under this call, 1 times") as down:
        await call
    for caught in (timeout.value, full.value, down.value):
        assert dspy.is_retryable_lm_error(caught)
    supervisor = runtime.whereis("dspex.agents")
    assert supervisor is not None
    await runtime.shut_down(supervisor, 1.0)


async def test_c04_an_agent_without_supervisor_is_down(runtime: Runtime) -> None:
    """Whoever calls learns it, after a while."""
    proxy = await started(runtime, Gate(), name="lonely", patience=0.02)
    runtime.unregister("lonely")
    with pytest.raises(AgentDown, match="does not run; is its supervisor up"):
        await proxy.acall()
    hasty = await started(runtime, Gate(), name="hasty", timeout=0.02)
    runtime.unregister("hasty")
    with pytest.raises(AgentDown, match="does not run"):
        await hasty.acall()


async def test_c04_errors_of_other_actors_are_the_programs(runtime: Runtime) -> None:
    """A program that calls actors itself, and gets no answer, has raised."""
    from supervision import ActorExited, CallTimeout, NoProcess

    nobody = runtime.name("nobody")
    for error in (NoProcess(nobody, "x"), CallTimeout(nobody, "x", 1.0), ActorExited(nobody, "x", KILLED)):
        proxy = await started(runtime, Raises(error))
        with dspy.context(lm=model()), pytest.raises(type(error)) as caught:
            await proxy.acall(text="text 0")
        assert caught.value is error


# -- 5, 6: settings and restart ------------------------------------------------------------------------------


class Tell(dspy.Module):  # type: ignore[misc]
    """Tells its settings."""

    async def aforward(self) -> Any:
        """Tell."""
        found = dspy.settings
        return dspy.Prediction(lm=found.lm, adapter=found.adapter, errors=found.max_errors)


async def test_c05_the_callers_settings_win_then_those_of_the_start(runtime: Runtime) -> None:
    """What the caller overrides counts first, then what was set where the agent was started, then the global."""
    with dspy.context(lm="start", adapter="start"):
        proxy = await started(runtime, Tell(), name="tell")
    for _ in range(2):
        with dspy.context(lm="caller"):
            found = await proxy.acall()
        assert (found.lm, found.adapter, found.errors) == ("caller", "start", 10)
        # 6: the next incarnation, which its supervisor has started, says the same.
        ref = runtime.whereis("tell")
        assert ref is not None
        ref.kill()
    both = await asyncio.gather(*(_with_lm(proxy, str(n)) for n in range(20)))
    assert [found.lm for found in both] == [str(n) for n in range(20)]


async def _with_lm(proxy: Any, lm: str) -> Any:
    with dspy.context(lm=lm):
        return await proxy.acall()


# -- 7-10: trace, callbacks, history, usage (see also the differential suite) --------------------------------


async def test_c07_the_trace_has_the_callers_own_predictors(runtime: Runtime) -> None:
    """Each entry's predictor is the one that the caller can name."""
    proxy = await started(runtime, Nested())
    trace: list[Any] = []
    with dspy.context(lm=model(), trace=trace):
        await asyncio.to_thread(lambda: proxy(text="text 0"))
    named = {id(predictor) for predictor in proxy.predictors()}
    assert len(trace) == 5
    assert all(id(predictor) in named for predictor, _, _ in trace)


@pytest.mark.parametrize("program", [Fans, lambda: dspy.Predict("text -> label")])
async def test_c10_usage_is_counted_however_it_fans_out(runtime: Runtime, program: Any) -> None:
    """Calls in threads of DSPy's count as well; and each counts once, for the caller and for the agent."""
    accounts = UsageTotals(runtime)
    engine = Talker(LABELS)
    proxy = await started(runtime, program(), name="worker")
    calls = 0
    with dspy.context(lm=scripted_lm(engine)), dspy.track_usage() as usage:
        for _ in range(3):
            await asyncio.to_thread(lambda: proxy(text="text 0"))
            calls += 1
    total = usage.get_total_tokens()["known/model"]["total_tokens"]
    assert accounts.of("/").runs == calls
    assert accounts.of("/").tokens["known/model"]["total_tokens"] == total > 0
    ref = runtime.whereis("worker")
    assert ref is not None
    assert accounts.of(ref.path) == accounts.of("/Supervisor-1/dspex.agents") == accounts.of()
    assert accounts.of("/elsewhere").runs == 0
    with dspy.context(lm=model(), track_usage=True):
        found = await asyncio.to_thread(lambda: proxy(text="text 0"))
    assert found.get_lm_usage()["known/model"]["total_tokens"] == total // calls
    accounts.close()
    with dspy.context(lm=model()):
        await asyncio.to_thread(lambda: proxy(text="text 0"))
    assert accounts.of().runs == calls + 1


async def test_c10_failures_and_costs_are_counted(runtime: Runtime) -> None:
    """A run that raises is one; the price of an answer is that of DSPy's history; one from a cache costs nothing."""
    accounts = UsageTotals(runtime)
    proxy = await started(runtime, Raises(KeyError("x")))
    with dspy.context(lm=model()), pytest.raises(KeyError):
        await proxy.acall(text="text 0")
    assert accounts.of().failures == 1

    class Priced(dspy.Module):  # type: ignore[misc]
        async def aforward(self) -> Any:
            for entry in ({"usage": {"total_tokens": 1}, "cost": 0.25}, {"usage": {}, "cost": 9.0}):
                dspy.settings.caller_modules[0].history.append(entry)
            return dspy.Prediction()

    await (await started(runtime, Priced())).acall()
    assert accounts.of().cost == 0.25


# -- 11: streaming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_c11_streams_are_the_same(runtime: Runtime, where: str, asynchronous: bool) -> None:
    """The same chunks in the same order, wherever the agent lives."""

    async def chunks(program: Any) -> list[Any]:
        listener = dspy.streaming.StreamListener(signature_field_name="label")
        stream = dspy.streamify(program, stream_listeners=[listener], is_async_program=asynchronous)
        with dspy.context(lm=model(), adapter=dspy.ChatAdapter()):
            return [item.chunk if hasattr(item, "chunk") else item.label async for item in stream(text="text 0")]

    expected = await chunks(dspy.Predict("text -> label"))
    assert len(expected) > 1
    program = dspy.Predict("text -> label")
    proxy = await started(runtime, program) if where == "loop" else await anyio.to_thread.run_sync(agent, program)
    assert await chunks(proxy) == expected


async def test_c11_a_consumer_that_leaves_ends_the_run(runtime: Runtime) -> None:
    """The agent's work is cancelled with its stream."""
    gate = Gate()
    proxy = await started(runtime, gate)

    async def consume() -> None:
        async for _ in dspy.streamify(proxy, is_async_program=True)():
            pass

    consumer = asyncio.ensure_future(consume())
    await gate.came.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert gate.ends == ["cancelled"]


# -- 12: state -----------------------------------------------------------------------------------------------


def test_c12_files_are_dspys_own(tmp_path: Path) -> None:
    """What one has saved the other loads; the bytes are the same; a pickle is the bare program's."""
    program, proxy = Nested(), agent(Nested())
    for found in (program, proxy):
        for number, predictor in enumerate(found.predictors()):
            predictor.demos = [dspy.Example(text=f"text {number}", label="yes")]
    program.save(tmp_path / "bare.json")
    proxy.save(tmp_path / "agent.json")
    assert (tmp_path / "bare.json").read_bytes() == (tmp_path / "agent.json").read_bytes()
    fresh = agent(Nested())
    fresh.load(tmp_path / "bare.json")
    bare = Nested()
    bare.load(tmp_path / "agent.json")
    assert fresh.dump_state() == bare.dump_state() == program.dump_state()
    proxy.save(tmp_path / "whole", save_program=True)
    loaded = dspy.load(tmp_path / "whole", allow_pickle=True)
    assert type(loaded) is Nested
    assert loaded.dump_state() == program.dump_state()
    own = agent(Own(3))
    again = pickle.loads(pickle.dumps(own))
    assert (type(again), again.number) == (Own, 3)
    assert (type(copy.copy(own)), copy.copy(own).number) == (type(own), 3)


# -- 13: optimisers ------------------------------------------------------------------------------------------

EXAMPLES, RIGHT = task(24)


def _bootstrap(workers: int) -> Any:
    return dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=2, max_labeled_demos=2)


def _labelled(workers: int) -> Any:
    return dspy.LabeledFewShot(k=3)


def _random_search(workers: int) -> Any:
    return dspy.BootstrapFewShotWithRandomSearch(metric=exact, num_candidate_programs=2, num_threads=workers)


def _simba(workers: int) -> Any:
    return dspy.SIMBA(metric=exact, bsize=8, num_candidates=2, max_steps=2, num_threads=workers)


def _copro(workers: int) -> Any:
    return dspy.COPRO(metric=exact, breadth=2, depth=1)


def _mipro(workers: int) -> Any:
    return dspy.MIPROv2(
        metric=exact, auto=None, num_candidates=2, num_threads=workers, max_bootstrapped_demos=1, max_labeled_demos=1
    )


def _gepa(workers: int) -> Any:
    def metric(example: Any, prediction: Any, trace: Any, name: Any, pred_trace: Any) -> Any:
        return dspy.Prediction(score=exact(example, prediction), feedback="look again")

    return dspy.GEPA(metric=metric, max_metric_calls=40, num_threads=workers, reflection_lm=scripted_lm(_engine()))


class _Writer(ScriptedEngine):
    """Classifies, and writes whatever else it is asked for."""

    def answer(self, messages: Any) -> str:
        """Answer."""
        if "`label` (" in messages[0]["content"]:
            return super().answer(messages)
        return Talker.answer(self, messages)  # type: ignore[arg-type]

    def _text(self, messages: Any) -> str:
        return ""


def _engine() -> ScriptedEngine:
    return _Writer(RIGHT)


@pytest.mark.parametrize("workers", [1, 4, 8])
@pytest.mark.parametrize("make", [_bootstrap, _labelled, _random_search, _simba, _copro, _mipro, _gepa])
def test_c13_optimisers_make_the_same_program(make: Any, workers: int) -> None:
    """For the same seed and the same answers, from the proxy as from the bare program."""
    options: dict[str, Any] = {"trainset": EXAMPLES}
    if make is _copro:
        options["eval_kwargs"] = {"num_threads": workers, "display_progress": False}
    if make is _mipro:
        options |= {"num_trials": 3, "minibatch": False, "valset": EXAMPLES}
    states = []
    for wrap in (lambda program: program, agent):
        engine = _engine()
        with dspy.context(lm=scripted_lm(engine)):
            found = make(workers).compile(wrap(Chain() if make is _simba else _student()), **options)
        states.append((found.dump_state(), engine.calls))
    assert states[0] == states[1]


def _student() -> Any:
    return dspy.Predict("text -> label")


# -- 14: evaluation ------------------------------------------------------------------------------------------


def test_c14_a_death_costs_no_example() -> None:
    """Agents are killed while ``dspy.Evaluate`` runs; the score is that of the bare program, and no example failed."""
    background = background_runtime()
    examples, labels = task(60)

    def kill(number: int) -> None:
        if number % 9 == 0:
            background.loop.call_soon_threadsafe(_kill, background.runtime)

    evaluate = dspy.Evaluate(devset=examples, metric=exact, num_threads=4, display_progress=False)
    with dspy.context(lm=scripted_lm(ScriptedEngine(labels))):
        expected = evaluate(dspy.Predict("text -> label"))
    proxy = agent(dspy.Predict("text -> label"), name="victim", retries=99)
    with dspy.context(lm=scripted_lm(ScriptedEngine(labels, before=kill))):
        seen = evaluate(proxy)
    assert seen.score == expected.score
    assert [score for _, _, score in seen.results] == [score for _, _, score in expected.results]
    assert all(prediction.keys() for _, prediction, _ in seen.results)


def _kill(runtime: Runtime) -> None:
    ref = runtime.whereis("victim")
    if ref is not None:
        ref.kill()


# -- 15: cancellation ----------------------------------------------------------------------------------------


async def test_c15_cancelling_a_call_cancels_the_work(runtime: Runtime) -> None:
    """In this loop, and from another."""
    for place in ("loop", "thread"):
        gate = Gate()
        proxy = await started(runtime, gate)
        if place == "loop":
            call: Any = asyncio.ensure_future(proxy.acall())
        else:
            loop = asyncio.get_running_loop()
            stop = threading.Event()

            def other(proxy: Any = proxy, stop: threading.Event = stop) -> None:
                async def body() -> None:
                    mine = asyncio.ensure_future(proxy.acall())
                    await asyncio.to_thread(stop.wait, 20)
                    mine.cancel()
                    await asyncio.gather(mine, return_exceptions=True)

                asyncio.run(body())

            call = loop.run_in_executor(None, other)
        await gate.came.wait()
        if place == "loop":
            call.cancel()
        else:
            stop.set()
        await asyncio.gather(call, return_exceptions=True)
        while not gate.ends:
            await runtime.sleep(0.001)
        assert gate.ends == ["cancelled"]


async def test_c15_a_thread_is_left_alone_and_fenced(runtime: Runtime) -> None:
    """The late result of a sync program goes nowhere; the slot is free for the next call; usage is still counted."""
    program = SlowThread()
    proxy = await started(runtime, program, concurrency=1)
    usage = dspy.utils.usage_tracker.UsageTracker()
    with dspy.context(lm=model(), usage_tracker=usage):
        call = asyncio.ensure_future(anyio.to_thread.run_sync(lambda: proxy(text="text 0"), abandon_on_cancel=True))
        await asyncio.to_thread(program.came.wait)
        ref = next(iter(runtime.actors()))
        assert ref.alive
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        program.open.set()
        assert (await asyncio.to_thread(lambda: proxy(text="text 1"))).label == "no"
        while "known/model" not in usage.usage_data or len(usage.usage_data["known/model"]) < 2:
            await runtime.sleep(0.001)


# -- runs within runs, and the rest --------------------------------------------------------------------------


async def test_a_run_within_a_run_takes_no_slot(runtime: Runtime) -> None:
    """A program that calls a copy of itself, in its own threads too, does not wait for itself."""

    class Inside(dspy.Module):  # type: ignore[misc]
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.ask = dspy.Predict("text -> label")
            self.depth = depth
            self.again: Any = None

        def forward(self, text: str) -> Any:
            if self.again is None:
                return self.ask(text=text)
            pairs = [(self.again, {"text": text})] * 2
            found = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            return dspy.Prediction(label=found[0].label)

        async def aforward(self, text: str) -> Any:
            return await (self.ask if self.again is None else self.again).acall(text=text)

    outer = await started(runtime, Inside(1), concurrency=1, timeout=20.0)
    outer.again = outer.deepcopy()
    with dspy.context(lm=model()):
        assert (await asyncio.to_thread(lambda: outer(text="text 0"))).label == "yes"
        assert (await outer.acall(text="text 1")).label == "no"


async def test_a_pool_gives_each_call_to_the_idlest(runtime: Runtime) -> None:
    """Its agents share the calls evenly; one that is killed takes only its own with it, and these are sent again."""
    gate = Gate()
    pool = await start_program_pool(runtime, gate, size=3, name="pool", limit=6)
    dispatcher = type(pool).dspex_dispatcher
    calls = [asyncio.ensure_future(pool.acall()) for _ in range(6)]
    await gate.came.wait()
    while any(_running(runtime, f"pool.{n}") != 2 for n in range(3)):
        await runtime.sleep(0.001)
    with pytest.raises(ProgramOverloaded, match="its 3 agents have 6 calls"):
        await pool.acall()
    victim = runtime.whereis("pool.1")
    assert victim is not None
    victim.kill()
    while len(gate.ends) < 2:
        await runtime.sleep(0.001)
    gate.open.set()
    assert all(found.done for found in await asyncio.gather(*calls))
    assert dispatcher.calls == 0
    with pytest.raises(BadOption, match="size = 0"):
        await start_program_pool(runtime, gate, size=0, name="none")


def _running(runtime: Runtime, name: str) -> object:
    ref = runtime.whereis(name)
    found = None if ref is None else runtime.info(ref)
    return None if found is None else int(found.summary["running"])


def test_a_home_of_ones_own() -> None:
    """A runtime can be opened and closed; the shared one is opened again when it was closed."""
    background = BackgroundRuntime("mine")
    assert background.open
    background.close()
    background.close()
    assert not background.open
    shared = background_runtime()
    shared.close()
    assert background_runtime() is not shared
    assert _runtimes == [background_runtime()]


def test_a_module_may_be_routed_twice() -> None:
    """The dispatcher that counts is the last one; the class is still the program's own."""
    program = Chain()
    twice = agent(agent(program))
    assert type(twice).__mro__[2] is Chain
    assert unrouted(twice).__dict__ is program.__dict__
    assert unrouted(program) is program
    kind = routed_class(Chain, None)
    assert kind.dspex_bare is Chain
    with dspy.context(lm=model()):
        assert bare_call(kind.of(program), (), {"text": "text 0"}).label == "yes"


async def test_bad_options_are_refused(runtime: Runtime) -> None:
    """Before anything is started."""
    before = sum(1 for _ in runtime.actors())
    with pytest.raises(BadOption, match="concurrency = 0"):
        await started(runtime, Chain(), concurrency=0)
    assert sum(1 for _ in runtime.actors()) == before
