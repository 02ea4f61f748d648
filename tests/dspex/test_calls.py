"""The records of calls: what is kept of each, for how long, and who is told."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import dspy
import msgspec
import pytest
from structlog.testing import capture_logs

from dspex._compat import lm15
from dspex.agents.usage import ProgramRan
from dspex.serving.calls import Assignment, CallRecords, CallRequest, FinishedCall, key_digest
from dspex.serving.pool import ProgramPool
from dspex.serving.program import ProgramActor
from foundation.call_ids import call_ids
from foundation.call_records import CallContent, CallRecord
from foundation.programs import Busy, InvalidInputs, RunProgram, StreamProgram, Unavailable
from supervision import ActorExited, CallTimeout, ChildSpec, Runtime, Supervisor
from supervision.errors import BadOption
from supervision.testing import settled
from tests.dspex.fixed_engine import QUESTION, SECRET, FixedEngine, fields, fixed_lm
from tests.dspex.samples import Gate, Raising, Returning, scripted


def unanswered(kind: type[Any] = lm15.ServerError) -> Any:
    """An error of an engine after which DSPy asks again at once."""
    return kind("it is the model's fault", retry_after=0)


class Telling(ProgramActor):
    """A program's actor that shows its records to the test."""

    shown: list[CallRecords]

    async def init(self) -> None:
        """Show them."""
        await super().init()
        type(self).shown.append(self.calls)


class TellingPool(ProgramPool):
    """The same with several agents."""

    shown: list[CallRecords]

    async def init(self) -> None:
        """Show them."""
        await super().init()
        type(self).shown.append(self.calls)


async def recorded(runtime: Runtime, program: object, kind: Any = Telling, **options: Any) -> tuple[Any, CallRecords]:
    """Serve a program, and return its name and its records."""
    options.setdefault("lm", scripted())
    shown: list[CallRecords] = []
    spec = ChildSpec("p", type("Shown", (kind,), {"shown": shown}), (program,), options, name="program:p")
    await runtime.spawn(Supervisor, [spec])
    return runtime.name("program:p"), shown[0]


def only(records: CallRecords) -> CallRecord:
    """The record of the only call."""
    (record,) = records.latest(10)
    return record


@pytest.mark.parametrize("kind", [Telling, TellingPool])
async def test_a_call_is_recorded_with_its_figures_and_without_its_content(runtime: Runtime, kind: Any) -> None:
    """Version, time, tokens, and who asked as a digest; no word of question or answer."""
    program = dspy.ChainOfThought("question -> answer")
    name, records = await recorded(runtime, program, kind, lm=fixed_lm(FixedEngine()))
    began = runtime.clock.wall_time()
    await name.call(RunProgram({"question": QUESTION}, call="c1", key="ada"))
    record = only(records)
    assert (record.id, record.version, record.arm, record.outcome) == ("c1", 0, None, "answered")
    assert (record.retries, record.error, record.key) == (0, None, key_digest("p", "ada"))
    assert record.tokens["openai/m"]["prompt_tokens"] == 5
    assert began <= record.at
    assert record.seconds >= 0
    said = msgspec.json.encode(record).decode()
    assert "Freedonia" not in said
    assert SECRET not in said
    assert "ada" not in said


async def test_a_call_that_brings_no_id_gets_one(runtime: Runtime) -> None:
    """As the front would have given it; and nobody's key has no digest."""
    name, records = await recorded(runtime, Returning(1))
    await name.call(RunProgram({}))
    assert call_ids(runtime).has_issued(only(records).id)
    assert only(records).key is None


@pytest.mark.parametrize("streamed", [False, True])
async def test_attempts_that_fail_are_counted_below_dspys_retries(runtime: Runtime, streamed: bool) -> None:
    """DSPy asks again; the record says how often, and why first."""
    engine = FixedEngine(unanswered(), unanswered(lm15.RateLimitError), fields(reasoning="r", answer="a"))
    program = dspy.ChainOfThought("question -> answer")
    name, records = await recorded(runtime, program, lm=fixed_lm(engine, num_retries=3))

    async def send(piece: object) -> None:
        """Take a piece."""

    inputs = {"question": QUESTION}
    answer = await name.call(StreamProgram(inputs, send) if streamed else RunProgram(inputs))
    assert answer.outputs["answer"] == "a"
    record = only(records)
    assert (record.outcome, record.retries, record.error) == ("answered", 2, "LMServerError")


async def test_attempts_of_a_sync_program_are_counted_in_its_thread(runtime: Runtime) -> None:
    """And in those that DSPy starts itself."""

    class Both(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            pairs = [(self.ask, {"question": f"{question} {n}"}) for n in range(2)]
            both = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            return dspy.Prediction(answers=[found.answer for found in both])

    engine = FixedEngine(unanswered(), fields(answer="a"))
    name, records = await recorded(runtime, Both(), lm=fixed_lm(engine, num_retries=1))
    answer = await name.call(RunProgram({"question": QUESTION}))
    assert answer.outputs == {"answers": ["a", "a"]}
    assert only(records).retries == 1


class Bare(dspy.Module):
    """Asks a question."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self) -> Any:
        """Ask."""
        return await self.ask.acall(question=QUESTION)


@pytest.mark.parametrize(
    ("script", "outcome", "error", "raised"),
    [
        (unanswered(), "unavailable", "LMServerError", Unavailable),
        (unanswered(lm15.RateLimitError), "busy", "LMRateLimitError", Busy),
        (lm15.AuthError("no"), "refused", "LMAuthError", dspy.LMAuthError),
        (lm15.LM15Error("it"), "failed", "LMUnexpectedError", Exception),
        ("gibberish", "unparsed", "AdapterParseError", Exception),
    ],
)
async def test_how_a_call_ended_is_told_apart(
    runtime: Runtime, script: Any, outcome: str, error: str, raised: type[Exception]
) -> None:
    """What is the model's, what is the program's, and what is nobody's fault."""
    name, records = await recorded(runtime, Bare(), lm=fixed_lm(FixedEngine(script)))
    with pytest.raises(raised):
        await name.call(RunProgram({}))
    assert (only(records).outcome, only(records).error) == (outcome, error)


async def test_an_error_of_the_program_is_its_failure(runtime: Runtime) -> None:
    """Also one that it makes by cancelling itself."""
    for error, told in ((KeyError("k"), "KeyError"), (asyncio.CancelledError(), "CancelledError")):
        actor = await runtime.spawn(type("Shown", (Telling,), {"shown": []}), Raising(error), lm=scripted())
        with pytest.raises(Exception, match=r"k|cancelled itself"):
            await actor.call(RunProgram({}))
        await settled(runtime)
        record = only(actor.kind.shown[0])  # type: ignore[attr-defined]
        assert (record.outcome, record.error) == ("failed", told)


async def test_a_caller_that_goes_away_has_cancelled_its_call_and_one_that_waited_too_long_has_not(
    runtime: Runtime,
) -> None:
    """The first is nobody's fault; the second is the program's."""
    gate = Gate()
    name, records = await recorded(runtime, gate)
    call = asyncio.ensure_future(name.call(RunProgram({"name": "a"}, call="left")))
    await gate.arrivals.get()
    call.cancel()
    with pytest.raises(CallTimeout):
        await name.call(RunProgram({"name": "b"}, call="late"), 0.01)
    await settled(runtime)
    assert {record.id: record.outcome for record in records.latest(10)} == {"left": "cancelled", "late": "timeout"}


async def test_a_call_whose_actor_is_killed_was_unavailable_and_its_record_outlives_it(runtime: Runtime) -> None:
    """Records belong to the runtime, as long as the actor has a name; listeners are those of the incarnation."""
    gate = Gate()
    name, records = await recorded(runtime, gate)
    told: list[FinishedCall] = []
    records.add_listener(told.append)
    call = asyncio.ensure_future(name.call(RunProgram({"name": "a"}, call="killed")))
    await gate.arrivals.get()
    runtime.whereis("program:p").kill()  # type: ignore[union-attr]
    with pytest.raises(ActorExited):
        await call
    while runtime.whereis("program:p") is None:
        await runtime.sleep(0.001)
    gate.open.set()
    await name.call(RunProgram({"name": "b"}, call="after"))
    assert {record.id: record.outcome for record in records.latest(10)} == {
        "killed": "unavailable",
        "after": "answered",
    }
    assert [call.record.id for call in told] in ([], ["killed"])


async def test_what_was_refused_is_no_call(runtime: Runtime) -> None:
    """Wrong inputs, and a queue that is full, leave no record."""
    gate = Gate()
    name, records = await recorded(runtime, gate, concurrency=1, waiting=0)
    with pytest.raises(InvalidInputs):
        await name.call(RunProgram({}))
    call = asyncio.ensure_future(name.call(RunProgram({"name": "a"})))
    await gate.arrivals.get()
    with pytest.raises(Busy):
        await name.call(RunProgram({"name": "b"}))
    gate.open.set()
    await call
    assert len(records) == 1


async def test_a_listener_is_told_of_each_call_once_and_can_harm_nobody(runtime: Runtime) -> None:
    """With the record, and what the call was about; one that raises is logged; one that is removed hears no more."""
    name, records = await recorded(
        runtime, dspy.Predict("question -> answer"), lm=fixed_lm(FixedEngine(fields(answer=1)))
    )
    told: list[FinishedCall] = []

    def broken(call: FinishedCall) -> None:
        raise RuntimeError(f"no room for {call.inputs}")

    records.add_listener(broken)
    remove = records.add_listener(told.append)
    with capture_logs() as logs:
        await name.call(RunProgram({"question": QUESTION}))
    assert [entry["event"] for entry in logs] == ["call_listener_failed"]
    assert "Freedonia" not in str(logs)
    (call,) = told
    assert (call.record, call.inputs, call.outputs, call.error) == (
        only(records),
        {"question": QUESTION},
        {"answer": "1"},
        None,
    )
    remove()
    remove()
    await name.call(RunProgram({"question": QUESTION}))
    assert len(told) == 1


async def test_a_call_can_be_given_to_another_version_and_arm(runtime: Runtime) -> None:
    """Which is what runs, and what record, event and answer say."""

    class Choosing(Telling):
        def assign(self, call: CallRequest, inputs: Mapping[str, Any]) -> Assignment:
            return Assignment(Returning(f"{call.id} {call.key}"), 7, "canary")

    ran: list[ProgramRan] = []
    runtime.subscribe(ran.append, ProgramRan)
    name, records = await recorded(runtime, Returning("as ever"), Choosing)
    answer = await name.call(RunProgram({}, call="c", key="k"))
    assert (answer.outputs, answer.version) == ({"result": "c k"}, 7)
    assert (only(records).version, only(records).arm) == (7, "canary")
    assert [(event.call, event.version, event.arm) for event in ran] == [("c", 7, "canary")]


async def test_the_agents_of_a_pool_tell_to_which_call_a_run_belongs(runtime: Runtime) -> None:
    """Though they know nothing of calls."""
    ran: list[ProgramRan] = []
    runtime.subscribe(ran.append, ProgramRan)
    name, _ = await recorded(runtime, Returning(1), TellingPool, size=2)
    await name.call(RunProgram({}, call="c"))
    assert [(event.call, event.version, event.arm) for event in ran] == [("c", 0, None)]


# -- how many, how long, and what ------------------------------------------------------------------------------------


def hide(record: CallRecord) -> CallRecord:
    """Hide the question."""
    assert record.content is not None
    content = CallContent({**record.content.inputs, "question": "***"}, record.content.outputs)
    return msgspec.structs.replace(record, id="another", content=content)


def hide_nothing(record: CallRecord) -> Any:
    """Return no record."""


def hide_badly(record: CallRecord) -> CallRecord:
    """Fail."""
    raise ValueError(str(record))


async def asked(runtime: Runtime, **calls: Any) -> tuple[CallRecord, list[Any]]:
    """Ask a program that keeps its calls in this way; return the record and what was logged."""
    program = dspy.Predict("question -> answer")
    name, records = await recorded(runtime, program, lm=fixed_lm(FixedEngine(fields(answer=SECRET))), calls=calls)
    with capture_logs() as logs:
        await name.call(RunProgram({"question": QUESTION}, call="c"))
    return only(records), logs


async def test_content_is_kept_if_somebody_wants_it(runtime: Runtime) -> None:
    """As plain data."""
    record, _ = await asked(runtime, keep="content")
    content = record.content
    assert content is not None
    assert (content.inputs, content.outputs) == ({"question": QUESTION}, {"answer": SECRET})
    (conversation,) = content.conversations
    assert conversation["model"] == "m"
    assert [message["role"] for message in conversation["input"]] == ["system", "user"]
    assert SECRET in conversation["output"][0]["parts"][0]["content"]


async def test_content_is_redacted_before_it_is_kept(runtime: Runtime) -> None:
    """By a function that is named in the tree file, and can change nothing else."""
    record, _ = await asked(runtime, keep="content", redact="tests.dspex.test_calls:hide")
    assert (record.id, record.content) == ("c", CallContent({"question": "***"}, {"answer": SECRET}))


@pytest.mark.parametrize("redact", [hide_badly, hide_nothing])
async def test_what_cannot_be_redacted_is_not_kept(runtime: Runtime, redact: Any) -> None:
    """Nor logged; the record is there all the same."""
    record, logs = await asked(runtime, keep="content", redact=redact)
    assert (record.outcome, record.content) == ("answered", None)
    assert [entry["event"] for entry in logs] == ["call_not_redacted"]
    assert SECRET not in str(logs)


class Odd:
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "kept"), [(lm15, str(lm15)), (Odd(), None), (dspy.Image(url="http://x"), "http://x")]
)
async def test_content_is_kept_as_json_has_it(runtime: Runtime, value: Any, kept: Any) -> None:
    """What has no text is not kept, and the call does not suffer."""
    name, records = await recorded(runtime, Returning(value), calls={"keep": "content"})
    with capture_logs() as logs:
        await name.call(RunProgram({}))
    content = only(records).content
    assert (content is None) == (kept is None) == bool(logs)
    assert content is None or str(kept) in str(content.outputs)


async def test_the_last_calls_are_kept_by_number_and_by_age(runtime: Runtime) -> None:
    """The oldest go first; a call that is gone is not found."""
    now = 0.0

    class Clock:
        time = staticmethod(runtime.clock.time)
        wall_time = staticmethod(lambda: now)

    records = CallRecords("p", Clock(), call_ids(runtime), last=2, days=1)  # type: ignore[arg-type]
    for number in range(3):
        records._add(CallRecord(str(number), 0.0, 0, None, None, "answered", 0.0, {}, 0.0, 0, None))
    assert [record.id for record in records.latest(10)] == ["2", "1"]
    assert [record.id for record in records.latest(1)] == ["2"]
    assert records.find("0") is None
    now = 86_400.0
    assert records.find("1") is not None
    now += 1
    assert records.find("1") is None
    assert len(records) == 0


async def test_one_id_is_one_record(runtime: Runtime) -> None:
    """The last call of that name counts."""
    name, records = await recorded(runtime, Returning(1))
    for key in ("a", "b"):
        await name.call(RunProgram({}, call="same", key=key))
    assert only(records).key == key_digest("p", "b")


async def test_content_goes_when_it_is_not_to_be_kept_any_more(runtime: Runtime) -> None:
    """The figures stay."""
    _, records = await recorded(runtime, Returning(1), calls={"keep": "content"})
    await runtime.name("program:p").call(RunProgram({}))
    assert only(records).content is not None
    records.configure()
    assert only(records).content is None


@pytest.mark.parametrize(
    "calls",
    [
        {"last": -1},
        {"last": True},
        {"last": 2.0},
        {"days": 0},
        {"days": math.nan},
        {"days": math.inf},
        {"days": 10**400},
        {"days": True},
        {"keep": "all"},
        {"redact": "no.such:thing"},
        {"redact": "no module"},
        {"redact": 5},
        {"forget": 1},
    ],
)
async def test_a_way_to_keep_calls_that_makes_no_sense_is_refused_at_the_start(
    runtime: Runtime, calls: dict[str, Any]
) -> None:
    """With the name of what is wrong."""
    with pytest.raises(BadOption, match=f"({next(iter(calls))}|calls) = "):
        await runtime.spawn(ProgramActor, Returning(1), lm=scripted(), calls=calls)
