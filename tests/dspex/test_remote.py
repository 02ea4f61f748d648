"""Programs in a process of their own: what is left of them when it ends, and what stays with the caller.

That an observer cannot tell them from the bare ones is shown by ``tests/compat``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex import AgentDown, NotSendable, ProgramPool, ProgramTimeout, proxy, start_program_agent
from dspex._compat import lm15, note_unparsed, send_piece
from dspex.agents.dispatcher import Dispatcher
from dspex.agents.process import ProcessRunner, Unsent
from dspex.testing.engine import AsyncScriptedEngine, ScriptedEngine, exact, scripted_lm, task
from foundation.programs import RunProgram
from supervision import KILLED, ChildSpec, ExitReason, Runtime, StartError, Supervisor
from supervision.errors import BadOption
from supervision.events import Exited
from supervision.reasons import ProcessExited
from tests.dspex.remote_programs import Says

pytestmark = pytest.mark.usefixtures("quiet", "supervised")

LABELS = {"text 1": "yes", "hello": "no"}


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds the tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def test_what_nobody_wants_to_know_is_told_to_nobody() -> None:
    """That an answer could not be read, outside of a program that reports it."""
    note_unparsed(object())


async def test_a_piece_of_no_predictor_goes_to_the_stream_as_it_is() -> None:
    """Such as a status."""
    sent: list[Any] = []

    class Stream:
        async def send(self, piece: Any) -> None:
            sent.append(piece)

    with dspy.context(send_stream=Stream()):
        await send_piece("a status", None)
    assert sent == ["a status"]


async def away(runtime: Runtime, **options: Any) -> Any:
    """A program in a process of its own."""
    return await start_program_agent(runtime, Says(), isolation="process", **options)


async def told(program: Any, text: str) -> Any:
    """Run it in a thread."""
    return await asyncio.to_thread(lambda: program(text=text))


async def test_it_runs_elsewhere_and_its_attributes_stay(runtime: Runtime) -> None:
    """Each run has a copy of the program as it is now."""
    program = await away(runtime)
    first, second = await told(program, "pid"), await told(program, "pid")
    assert first.pid == second.pid != os.getpid()
    assert (first.calls, second.calls, program.calls) == (1, 1, 0)
    program.calls = 7
    assert (await told(program, "pid")).calls == 8


async def test_when_the_process_ends_the_call_is_made_again(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next process; a call under which it ends again and again has failed, and others go on."""
    monkeypatch.setenv("AWAY_FOLDER", str(tmp_path))
    reasons: list[ExitReason] = []
    runtime.subscribe(lambda event: reasons.append(event.reason), Exited)
    program = await away(runtime, retries=1)
    assert (await program.acall(text="once")).lives == 2
    assert ProcessExited(9) in reasons
    with pytest.raises(AgentDown):
        await told(program, "die")
    assert (await told(program, "pid")).calls == 1


async def test_a_process_that_is_killed_ends_its_agent_and_the_other_way_round(runtime: Runtime) -> None:
    pids = []
    program = await away(runtime)
    for _ in range(2):
        pids.append((await told(program, "pid")).pid)
        os.kill(pids[-1], signal.SIGKILL)
    agent = next(ref for ref in runtime.actors() if type(ref) is not Supervisor and "Says" in str(ref.path))
    pids.append((await told(program, "pid")).pid)
    assert len(set(pids)) == 3
    agent = next(ref for ref in runtime.actors() if "Says" in str(ref.path))
    agent.kill()
    assert await agent.join() == KILLED
    assert (await told(program, "pid")).pid not in pids


async def test_a_pool_of_processes_serves_a_program(runtime: Runtime) -> None:
    """One that is killed is not noticed; language models are asked here."""
    lm = scripted_lm(ScriptedEngine(LABELS, base=1.0))
    pool = await runtime.spawn(ProgramPool, Says, lm=lm, size=2, isolation="process")
    pid = RunProgram({"text": "pid"})
    pids = {answer.outputs["pid"] for answer in await asyncio.gather(*(pool.call(pid) for _ in range(4)))}
    assert len(pids) == 2
    assert os.getpid() not in pids
    os.kill(pids.pop(), signal.SIGKILL)
    answers = await asyncio.gather(*(pool.call(RunProgram({"text": "hello"}), 60) for _ in range(8)))
    assert {answer.outputs["label"] for answer in answers} == {"no"}
    assert len(lm.history) == 8
    with pytest.raises(BadOption, match="choose one of none, process"):
        await start_program_agent(runtime, Says(), isolation="thread")


async def test_what_cannot_be_sent_is_named(runtime: Runtime) -> None:
    """Before anything has happened, or instead of the answer."""
    program = await away(runtime)
    lock = threading.Lock()
    with pytest.raises(NotSendable, match="an argument cannot be sent to another process"):
        await program.acall(text=lock)
    with dspy.context(mine=lock), pytest.raises(NotSendable, match="the setting 'mine'"):
        await program.acall(text="hello")
    with pytest.raises(NotSendable, match="what it returned"):
        await told(program, "lock")
    with pytest.raises(NotSendable, match=r"ValueError: it holds a lock.* cannot pickle"):
        await told(program, "error with a lock")
    program.lock = lock
    with pytest.raises(NotSendable, match="the program Says"):
        await told(program, "pid")


async def test_what_is_no_data_is_shown_by_its_name_where_calls_are_looked_at(runtime: Runtime) -> None:
    """Nothing of it is made here."""
    program = await away(runtime)
    trace: list[Any] = []
    with dspy.context(trace=trace):
        assert (await told(program, "fragile")).toDict() == {}
    assert [entry[2] for entry in trace] == [Unsent("tests.dspex.remote_programs.Fragile", "<Fragile>")] * 2
    assert trace[0][0] is program.label
    assert (await told(program, "pid")).calls == 1


async def test_errors_tell_where_they_come_from(runtime: Runtime) -> None:
    program = await away(runtime)
    with pytest.raises(ValueError, match="because") as caught:
        await told(program, "caused")
    assert isinstance(caught.value.__cause__, KeyError)
    assert "remote_programs.py" in caught.value.__notes__[0]


async def test_language_models_are_asked_here(runtime: Runtime) -> None:
    """From a task, a thread, and an event loop of the program's own; a copy of the model, too."""
    engine = ScriptedEngine(LABELS, base=1.0)
    lm = scripted_lm(engine, api_key=None)
    program = await away(runtime)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        assert (await program.acall(text="hello")).label == "no"
        for text in ("async inside", "loop of its own", "side by side", "best of several", "replaced"):
            assert (await told(program, text)).label == "yes"
    assert engine.calls == 7
    assert len(lm.history) == 5  # those of copies are their own


async def test_async_code_has_to_await(runtime: Runtime) -> None:
    """As the process could not hear the answer."""
    program = await away(runtime)
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS))):
        for text in ("block", "block and stream"):
            with pytest.raises((dspy.LMError, lm15.ConfigurationError), match="Use acall there"):
                await program.acall(text=text)


async def test_what_a_language_model_raises_is_raised(runtime: Runtime) -> None:
    class Refusing:
        async def complete(self, request: Any) -> Any:
            raise lm15.RateLimitError("slow down", retry_after=3.0)

    program = await away(runtime)
    lm = dspy.LM("a/b", engine=ScriptedEngine({}), async_engine=Refusing(), cache=False, num_retries=0)
    with dspy.context(lm=lm), pytest.raises(dspy.LMRateLimitError) as caught:
        await program.acall(text="hello")
    assert caught.value.retry_after == 3.0


async def test_a_call_that_is_given_up_is_given_up_there(runtime: Runtime) -> None:
    """And so is what was asked for it here."""
    asked, given_up = asyncio.Event(), asyncio.Event()

    class Hanging:
        async def complete(self, request: Any) -> Any:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

    program = await away(runtime)
    lm = dspy.LM("a/b", engine=ScriptedEngine({}), async_engine=Hanging(), cache=False)
    with dspy.context(lm=lm):
        task = asyncio.create_task(program.acall(text="hello"))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])
    await given_up.wait()
    assert task.cancelled()
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS, base=1.0))):
        assert (await program.acall(text="hello")).label == "no"
        waiting = asyncio.create_task(program.acall(text="wait"))
        await asyncio.wait([waiting], timeout=0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped(runtime: Runtime) -> None:
    """Whether the program has given up one question, or the caller the whole call, which goes on in its thread."""
    let, gate = asyncio.Event(), threading.Event()

    def wait(_: int) -> None:
        if not let.is_set():
            gate.wait()

    class Late:
        async def complete(self, request: Any) -> Any:
            if "first" in request.messages[-1].parts[0].text:
                await let.wait()
            else:
                let.set()
                await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.05)
            return known.complete(request)

    known = ScriptedEngine(LABELS, base=1.0, before=wait)
    lm = dspy.LM("a/b", engine=known, async_engine=Late(), cache=False)
    program = await away(runtime, timeout=5.0)
    program.label.lm = lm
    with dspy.context(lm=lm):
        assert (await program.acall(text="impatient")).label in LABELS.values()
    let.clear()
    program.label.lm = None
    hasty = proxy(program, Dispatcher(runtime, program.dspex_dispatcher.address, timeout=0.2))
    quiet = dspy.utils.callback.BaseCallback()
    with dspy.context(lm=sync_only(known), callbacks=[quiet]), pytest.raises(ProgramTimeout):
        await told(hasty, "threads end")
    gate.set()
    ended = await told(program, "wait for the thread")
    assert ["the caller has given the call up" in error for error in ended.errors] == [True, True]


def sync_only(engine: ScriptedEngine) -> Any:
    """A language model without an async engine."""
    return dspy.LM("a/b", engine=engine, cache=False)


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_streams_are_those_of_the_callers_predictors(runtime: Runtime, asynchronous: bool) -> None:
    """Which the listeners look for."""
    engine = ScriptedEngine({"hello": "one two three four five six seven eight nine ten eleven"}, base=1.0)
    lm = dspy.LM("a/b", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False)
    program = await away(runtime)
    listeners = [dspy.streaming.StreamListener("label", predict=program.label, predict_name="label")]
    stream = dspy.streamify(program, stream_listeners=listeners, is_async_program=asynchronous)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        pieces = [piece async for piece in stream(text="hello")]
    text = "".join(piece.chunk for piece in pieces if isinstance(piece, dspy.streaming.StreamResponse))
    assert text == pieces[-1].label == "one two three four five six seven eight nine ten eleven"
    assert len(pieces) > 3


async def test_histories_and_traces_are_as_long_as_they_may_be(runtime: Runtime) -> None:
    lm = scripted_lm(ScriptedEngine(LABELS, base=1.0))
    program = await away(runtime)
    trace: list[Any] = []
    with dspy.context(lm=lm, trace=trace, max_history_size=1, max_trace_size=1):
        for text in ("hello", "text 1"):
            await program.acall(text=text)
    assert len(lm.history) == len(program.history) == len(program.label.history) == 1
    assert [entry[1] for entry in trace] == [{"text": "text 1"}]
    assert trace[0][0] is program.label
    with dspy.context(lm=lm, trace=None):
        assert (await program.acall(text="hello")).label == "no"


async def test_an_optimiser_makes_the_same_program_of_it(runtime: Runtime) -> None:
    """As the trace has the caller's own predictors in it."""
    examples, labels = task(12)
    lm = scripted_lm(ScriptedEngine(labels, base=0.9))

    def compiled(student: Any) -> Any:
        teleprompter = dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=3, max_labeled_demos=0)
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            return teleprompter.compile(student, trainset=examples).dump_state()

    program = await away(runtime)
    found = await asyncio.to_thread(lambda: compiled(program))
    assert found == await asyncio.to_thread(lambda: compiled(Says()))
    assert len(found["label"]["demos"]) == 3


async def test_a_callback_that_raises_is_logged(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """As DSPy does it; the program goes on."""

    class Bad(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
        def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            raise ValueError("not today")

    program = await away(runtime)
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS, base=1.0)), callbacks=[Bad()]):
        assert (await program.acall(text="hello")).label == "no"
    assert "not today" in caplog.text


async def test_a_process_that_does_not_start_is_an_agent_that_does_not_start(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex.agents.process.runner._CHILD", "raise SystemExit(7)")
    with pytest.raises(StartError) as caught:
        await runtime.spawn(ProcessRunner)
    assert caught.value.reason == ProcessExited(7)


async def test_one_that_does_not_end_is_killed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while: its thread may be stuck."""
    monkeypatch.setattr("dspex.agents.process.runner._PATIENCE", 0.01)
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("p", ProcessRunner, name="p")])
    runner = runtime.whereis("p")
    assert runner is not None
    os.kill(runtime_pid(runtime), signal.SIGSTOP)
    await supervisor.stop()
    assert not runner.alive


def runtime_pid(runtime: Runtime) -> int:
    """Return the number of the process of the only agent."""
    return int(runtime.info(runtime.whereis("p")).summary["pid"])  # type: ignore[arg-type, union-attr]
