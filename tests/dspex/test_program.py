"""Programs as actors: answers, errors, settings, concurrency and death."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from typing import Any

import dspy
import pytest

from dspex.agents.agent import BadProgram, load
from dspex.agents.concurrency import ProgramCancelled
from dspex.models.local.adapter import CompactAdapter
from dspex.models.local.server import NotServing
from dspex.models.selection import BadSetting
from dspex.parsing.adapter import unguarded
from dspex.serving.declaration import RESULT
from dspex.serving.program import ProgramActor
from foundation.programs import Answer, DescribeProgram, InvalidInputs, RunProgram, Unavailable
from supervision import (
    KILLED,
    NORMAL,
    ActorExited,
    CallTimeout,
    ChildSpec,
    Ref,
    Runtime,
    StartError,
    Supervisor,
)
from supervision.errors import BadOption
from supervision.testing import settled
from tests.dspex.samples import (
    BINDING,
    READY,
    Gate,
    Probe,
    Raising,
    RaisingThread,
    Returning,
    SlowThread,
    ask,
    scripted,
)


async def served(runtime: Runtime, program: object, **options: Any) -> Ref:
    """A program as an actor, with a language model that is not needed unless the test gives one."""
    options.setdefault("lm", scripted())
    return await runtime.spawn(ProgramActor, program, **options)


# -- answers and errors --------------------------------------------------------------------------------------


async def test_a_program_answers_with_its_fields_and_its_usage(runtime: Runtime) -> None:
    """The answer is the output fields as a plain mapping, and what the language model counted."""
    actor = await served(runtime, ask, lm=scripted("red"))
    answer = await actor.call(RunProgram({"question": "Which colour?"}))
    assert answer.outputs == {"answer": "red"}
    assert answer.usage["dummy"]["total_tokens"] == 0


async def test_a_sync_program_runs_in_a_worker_thread(runtime: Runtime) -> None:
    """A program without `aforward` runs in a thread of AnyIO, never in the loop's default executor."""
    program = SlowThread()
    program.open.set()
    actor = await served(runtime, program)
    assert (await actor.call(RunProgram({"name": "a"}))).outputs["name"] == "a"
    assert program.threads == ["AnyIO worker thread"]


@pytest.mark.parametrize(
    ("value", "outputs"),
    [(dspy.Prediction(a=1), {"a": 1}), ({"b": 2}, {"b": 2}), ([3], {RESULT: [3]}), (None, {RESULT: None})],
)
async def test_whatever_a_program_returns(runtime: Runtime, value: object, outputs: dict[str, Any]) -> None:
    """Predictions and mappings are their fields; anything else comes under one name."""
    actor = await served(runtime, Returning(value))
    assert await actor.call(RunProgram({})) == Answer(outputs, {}, version=0)


async def test_wrong_inputs_are_refused(runtime: Runtime) -> None:
    """Inputs that do not fit are their caller's error; the program is not run and the actor lives on."""
    lm = scripted("red", "blue")
    actor = await served(runtime, ask, lm=lm)
    with pytest.raises(InvalidInputs, match=r"missing: question; unexpected: query"):
        await actor.call(RunProgram({"query": "x"}))
    assert lm.history == []
    assert (await actor.call(RunProgram({"question": "x"}))).outputs == {"answer": "red"}


@pytest.mark.parametrize("error", [KeyError("k"), dspy.LMAuthError("whose key?")])
async def test_errors_of_the_program_are_the_callers(runtime: Runtime, error: BaseException) -> None:
    """What a program raises is raised at the call, the same object, and the actor lives on."""
    actor = await served(runtime, Raising(error))
    with pytest.raises(type(error)) as caught:
        await actor.call(RunProgram({}))
    assert caught.value is error
    assert actor.alive


async def test_errors_in_a_thread_are_the_callers(runtime: Runtime) -> None:
    """What a sync program raises is raised at the call."""
    actor = await served(runtime, RaisingThread())
    with pytest.raises(KeyError, match="in a thread"):
        await actor.call(RunProgram({}))


async def test_a_program_that_cancels_itself(runtime: Runtime) -> None:
    """A program that raises a cancellation of its own leaves nobody waiting."""
    actor = await served(runtime, Raising(asyncio.CancelledError()))
    with pytest.raises(ProgramCancelled, match="Raising cancelled itself"):
        await actor.call(RunProgram({}))


async def test_unreadable_answers_are_dspys_error(runtime: Runtime) -> None:
    """An answer that the adapter cannot read is DSPy's own error."""
    actor = await served(runtime, lambda: dspy.Predict("question: str -> answer: int"), lm=scripted("red", "blue"))
    with pytest.raises(dspy.AdapterParseError):
        await actor.call(RunProgram({"question": "How many?"}, contextvars.Context()))


async def test_describe(runtime: Runtime) -> None:
    """`DescribeProgram` says what the program takes and gives."""
    interface = await (await served(runtime, ask)).call(DescribeProgram())
    assert [field.name for field in interface.inputs + interface.outputs] == ["question", "answer"]


# -- which program, which language model ---------------------------------------------------------------------


def test_programs_by_import_path() -> None:
    """A string leads to a program, or to what makes one."""
    assert isinstance(load("tests.dspex.samples:ask"), dspy.Predict)
    assert load("tests.dspex.samples:READY") is READY
    assert isinstance(load(Probe), Probe)


@pytest.mark.parametrize(
    "source",
    ["no.such.module:x", "tests.dspex.samples:missing", "not a path", "tests.dspex.samples:FIVE", 5, dict],
)
def test_what_is_no_program(source: object) -> None:
    """Something that leads to no program is refused, by its name."""
    with pytest.raises(BadProgram, match=r"program .*: "):
        load(source)


async def test_a_bad_program_does_not_start(runtime: Runtime) -> None:
    """The actor does not start without a program, nor with no room for a request."""
    with pytest.raises(StartError, match="FIVE"):
        await served(runtime, "tests.dspex.samples:FIVE")
    with pytest.raises(BadOption, match="concurrency = 0"):
        await served(runtime, ask, concurrency=0)


async def test_the_language_model_comes_from_the_environment(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless one is given, the language model is the environment's, read when the actor starts."""
    monkeypatch.setenv("DSPEX_LM", "openai/some-model")
    actor = await runtime.spawn(ProgramActor, Probe)
    assert (await actor.call(RunProgram({}))).outputs["lm"].model == "openai/some-model"
    with pytest.raises(StartError) as caught:
        await runtime.spawn(ProgramActor, Probe, environ={"DSPEX_MAX_TOKENS": "many"})
    assert isinstance(caught.value.__cause__, BadSetting)


async def test_the_embedded_model_brings_its_adapter(runtime: Runtime) -> None:
    """With the embedded model comes the compact adapter."""
    actor = await runtime.spawn(ProgramActor, Probe, environ={})
    outputs = (await actor.call(RunProgram({}))).outputs
    assert outputs["lm"].model == "local/smollm2"
    assert isinstance(outputs["adapter"], CompactAdapter)


async def test_language_model_and_adapter_by_name(runtime: Runtime) -> None:
    """Both can be named by strings, as in a configuration file; an adapter can also be given."""
    actor = await runtime.spawn(ProgramActor, Probe, lm="openai/m", adapter="dspy:JSONAdapter")
    outputs = (await actor.call(RunProgram({}))).outputs
    assert (outputs["lm"].model, type(unguarded(outputs["adapter"]))) == ("openai/m", dspy.JSONAdapter)
    adapter = dspy.ChatAdapter()
    actor = await runtime.spawn(ProgramActor, Probe, lm="openai/m", adapter=adapter)
    assert unguarded((await actor.call(RunProgram({}))).outputs["adapter"]) is adapter


# -- settings ------------------------------------------------------------------------------------------------


async def test_the_callers_overrides_win(runtime: Runtime) -> None:
    """What the caller overrides counts; what it does not override is the actor's; the rest is global."""
    own, mine = scripted(), scripted()
    actor = await served(runtime, Probe, lm=own, settings={"max_errors": 77})
    with dspy.context(lm=mine):
        outputs = (await actor.call(RunProgram({}))).outputs
    assert outputs["lm"] is mine
    assert outputs["errors"] == 77
    with dspy.context(max_errors=3):
        outputs = (await actor.call(RunProgram({}))).outputs
    assert outputs["lm"] is own
    assert outputs["errors"] == 3
    assert type(unguarded(outputs["adapter"])) is dspy.ChatAdapter


async def test_the_context_is_that_of_the_request(runtime: Runtime) -> None:
    """Context variables are those of the request's making; but the actor at work is the actor."""
    actor = await served(runtime, Probe)
    BINDING.set("mine")
    request = RunProgram({})
    BINDING.set("later")
    outputs = (await actor.call(request)).outputs
    assert outputs["binding"] == "mine"
    assert outputs["actor"] == actor


async def test_a_thread_has_the_callers_context(runtime: Runtime) -> None:
    """A sync program sees the settings and the context variables of its caller too."""
    own = scripted()
    program = SlowThread()
    program.open.set()
    actor = await served(runtime, program, lm=own)
    BINDING.set("mine")
    outputs = (await actor.call(RunProgram({"name": "a"}))).outputs
    assert (outputs["lm"], outputs["binding"]) == (own, "mine")


async def test_side_by_side_programs_do_not_mix_their_settings(runtime: Runtime) -> None:
    """Programs with different language models that run interleaved each keep their own."""
    models = [scripted(*(f"{n}" for _ in range(20))) for n in range(4)]
    actors = [await served(runtime, ask, lm=model) for model in models]
    calls = [actor.call(RunProgram({"question": "?"})) for _ in range(5) for actor in actors]
    answers = [(await call).outputs["answer"] for call in calls]
    assert answers == ["0", "1", "2", "3"] * 5


async def test_a_run_has_a_trace_of_its_own(runtime: Runtime) -> None:
    """Without a caller's trace, each run has a fresh one, and the process-wide one does not grow."""
    before = list(dspy.settings.trace)
    actor = await served(runtime, Probe)
    first, second = [(await actor.call(RunProgram({}))).outputs["trace"] for _ in range(2)]
    assert first == second == []
    assert first is not second
    assert dspy.settings.trace == before


async def test_the_callers_trace_is_filled(runtime: Runtime) -> None:
    """A caller that keeps a trace gets the program's steps, with the program's own predictor."""
    program = ask()
    actor = await served(runtime, program, lm=scripted("red"))
    with dspy.context(trace=[]):
        await actor.call(RunProgram({"question": "?"}))
        ((predictor, inputs, prediction),) = dspy.settings.trace
    assert predictor is program
    assert (inputs, prediction.answer) == ({"question": "?"}, "red")


async def test_the_callers_usage_is_counted(runtime: Runtime) -> None:
    """A caller that tracks usage gets the program's, once."""
    actor = await served(runtime, ask, lm=scripted("red"))
    with dspy.track_usage() as usage:
        answer = await actor.call(RunProgram({"question": "?"}))
    assert usage.get_total_tokens() == answer.usage
    assert len(usage.usage_data["dummy"]) == 1


async def test_dspy_is_never_configured(runtime: Runtime) -> None:
    """Running programs leaves DSPy's global settings, and who may set them, alone."""
    module = sys.modules["dspy.dsp.utils.settings"]
    before = (module.config_owner_thread_id, dict(module.main_thread_config))
    await (await served(runtime, ask, lm=scripted("red"))).call(RunProgram({"question": "?"}))
    assert (module.config_owner_thread_id, dict(module.main_thread_config)) == before


# -- concurrency and death -----------------------------------------------------------------------------------


async def test_up_to_concurrency_requests_run_side_by_side(runtime: Runtime) -> None:
    """As many requests run as are declared; the next ones follow in their order."""
    gate = Gate()
    actor = await served(runtime, gate, concurrency=2)
    calls = [actor.call(RunProgram({"name": name})) for name in "abcd"]
    assert [await gate.arrivals.get(), await gate.arrivals.get()] == ["a", "b"]
    await actor.call(DescribeProgram())
    assert gate.came == ["a", "b"]
    gate.open.set()
    assert [(await call).outputs["name"] for call in calls] == ["a", "b", "c", "d"]
    assert gate.came == ["a", "b", "c", "d"]


async def test_threads_are_limited_by_the_actor(runtime: Runtime) -> None:
    """A sync program has as many threads as its concurrency says."""
    program = SlowThread()
    actor = await served(runtime, program, concurrency=2)
    calls = [actor.call(RunProgram({"name": name})) for name in "abc"]
    for _ in range(2):
        await asyncio.to_thread(program.arrived.acquire, True, 20)
    await actor.call(DescribeProgram())
    assert len(program.threads) == 2
    program.open.set()
    assert [(await call).outputs["name"] for call in calls] == ["a", "b", "c"]


async def test_callers_that_gave_up_are_left_out(runtime: Runtime) -> None:
    """A request whose caller has given up before its turn is not run."""
    gate = Gate()
    actor = await served(runtime, gate, concurrency=1)
    first = actor.call(RunProgram({"name": "a"}))
    await gate.arrivals.get()
    with pytest.raises(CallTimeout):
        await actor.call(RunProgram({"name": "b"}), timeout=0.01)
    last = actor.call(RunProgram({"name": "c"}))
    gate.open.set()
    await first
    await last
    assert gate.came == ["a", "c"]


async def test_killing_the_actor_answers_its_callers_at_once(runtime: Runtime) -> None:
    """When the actor is killed, callers in flight and in waiting learn it, and the tasks are cancelled."""
    gate = Gate()
    actor = await served(runtime, gate, concurrency=1)
    calls = [actor.call(RunProgram({"name": name}), timeout=None) for name in "ab"]
    await gate.arrivals.get()
    actor.kill()
    for call in calls:
        with pytest.raises(ActorExited) as caught:
            await call
        assert caught.value.reason == KILLED
    assert await actor.join() == KILLED
    await settled(runtime)
    assert (gate.came, gate.cancelled) == (["a"], ["a"])


async def test_stopping_the_actor_cancels_its_tasks(runtime: Runtime) -> None:
    """When the actor is stopped in order, its tasks end too, and their callers learn why."""
    gate = Gate()
    actor = await served(runtime, gate)
    call = actor.call(RunProgram({"name": "a"}))
    await gate.arrivals.get()
    await actor.stop()
    with pytest.raises(ActorExited) as caught:
        await call
    assert caught.value.reason == NORMAL
    await settled(runtime)
    assert gate.cancelled == ["a"]


async def test_a_thread_outlives_the_actor_to_no_effect(runtime: Runtime) -> None:
    """A thread goes on after the actor's death, of which the caller learns at once."""
    program = SlowThread()
    actor = await served(runtime, program)
    call = actor.call(RunProgram({"name": "a"}))
    await asyncio.to_thread(program.arrived.acquire, True, 20)
    actor.kill()
    with pytest.raises(ActorExited):
        await call
    program.open.set()
    assert threading.active_count() > 1


async def test_a_restarted_actor_has_a_new_program_and_its_settings(runtime: Runtime) -> None:
    """After a restart the program is made anew, and the declared settings hold as before."""
    own = scripted("red", "blue")
    spec = ChildSpec("p", ProgramActor, args=("tests.dspex.samples:ask",), kwargs={"lm": own}, name="p")
    await runtime.spawn(Supervisor, [spec])
    name = runtime.name("p")
    assert (await name.call(RunProgram({"question": "?"}))).outputs == {"answer": "red"}
    first = name.resolve()
    assert first is not None
    first.kill()
    await first.join()
    await settled(runtime)
    assert name.resolve() is not first
    assert (await name.call(RunProgram({"question": "?"}))).outputs == {"answer": "blue"}


async def test_a_language_model_that_cannot_be_reached_makes_the_program_unavailable(runtime: Runtime) -> None:
    """It may be restarting: that is worth another try, and no fault of the program."""
    actor = await served(runtime, Raising(NotServing("language-model")))
    with pytest.raises(Unavailable, match="its language model cannot be reached: no language model serves under"):
        await actor.call(RunProgram({}))
