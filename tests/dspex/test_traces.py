"""Traces, metrics and events of programs, by OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import dspy
import httpx
import pytest
from dspy.utils.dummies import DummyLM
from opentelemetry import context as otel
from opentelemetry import metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from dspex._compat import Attempt, BaseCallback, lm15
from dspex.agents.background import agents_supervisor
from dspex.agents.dispatcher import ProgramTimeout
from dspex.agents.pool import start_program_pool
from dspex.agents.usage import ProgramRan
from dspex.models.gateway.actor import Gateway
from dspex.models.gateway.endpoint import FellBack
from dspex.serving.calls import CallRecords
from dspex.serving.pool import ProgramPool
from dspex.serving.program import ProgramActor
from dspex.telemetry import content, conventions
from dspex.telemetry.callback import SpanCallback
from dspex.telemetry.content import CAPTURE, Capture
from dspex.telemetry.providers import Telemetry, telemetry_of
from dspex.telemetry.spans import RunSpans, error_type
from foundation.feedback import GiveFeedback
from foundation.http import application
from foundation.programs import RunProgram, StreamProgram, Unanswered
from foundation.telemetry.tracing import Tracing
from supervision import ChildSpec, Runtime, Supervisor
from supervision.testing import settled
from tests.dspex import traced_programs
from tests.dspex.fixed_engine import QUESTION, SECRET, FixedEngine, fields, fixed_lm


class Seen:
    """What was told to OpenTelemetry."""

    def __init__(self, keep: float = 1.0, processor: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(processor or SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(keep, tracer=provider.get_tracer("test"))
        self.metrics = InMemoryMetricReader()
        self.logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        logger = LoggerProvider()
        logger.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        meter = MeterProvider([self.metrics])
        self.telemetry = Telemetry(self.tracing, meter_provider=meter, logger_provider=logger)
        self.close = [provider.shutdown, meter.shutdown, logger.shutdown]

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans, the first to begin first."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, beginning: str) -> list[ReadableSpan]:
        """The spans of a name."""
        return [span for span in self.spans if span.name.startswith(beginning)]

    def one(self, beginning: str) -> ReadableSpan:
        """The only span of a name."""
        (span,) = self.named(beginning)
        return span

    def above(self, span: ReadableSpan) -> list[str]:
        """The names of the spans above one, the nearest first."""
        by_id = {each.context.span_id: each for each in self.spans if each.context}
        found = []
        while span.parent is not None and span.parent.span_id in by_id:
            span = by_id[span.parent.span_id]
            found.append(span.name)
        return found

    def tree(self) -> list[str]:
        """Each span with those above it, but for the times."""
        return sorted(" < ".join([span.name, *self.above(span)]) for span in self.spans)

    def traces(self) -> int:
        """How many traces there are with a program or a model in them."""
        theirs = [*self.named("invoke_workflow"), *self.named("chat")]
        return len({span.context.trace_id for span in theirs if span.context})

    def points(self, name: str) -> list[Any]:
        """The values of a metric."""
        found = self.metrics.get_metrics_data()
        resources = [] if found is None else found.resource_metrics
        metrics = [metric for each in resources for scope in each.scope_metrics for metric in scope.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def everything(self) -> str:
        """All that was told, as a text."""
        data = self.metrics.get_metrics_data()
        spans = [span.to_json() for span in self.spans]
        events = [
            each.log_record.to_json() if hasattr(each.log_record, "to_json") else str(each) for each in self.events
        ]
        return "\n".join([*spans, *events, "" if data is None else data.to_json()])

    @property
    def events(self) -> Any:
        """The events."""
        return self.logs.get_finished_logs()


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What is told in a test."""
    made = Seen()
    yield made
    for close in made.close:
        close()


async def running(seen: Seen, *children: ChildSpec) -> Runtime:
    """A runtime with children, that tells OpenTelemetry of itself. The test has to leave it."""
    runtime = Runtime(watchdog=None, reports=False, seed=1, propagator=seen.tracing)
    await runtime.__aenter__()
    runtime.shared[Telemetry] = seen.telemetry
    await runtime.spawn(Supervisor, [agents_supervisor(), *children])
    return runtime


@pytest.fixture
async def runtimes(processes: None) -> AsyncIterator[list[Runtime]]:
    """Runtimes that are to be left."""
    made: list[Runtime] = []
    yield made
    for runtime in made:
        await runtime.__aexit__(None, None, None)


def program(program: Any, kind: Any = ProgramActor, **options: Any) -> ChildSpec:
    """A program of a tree."""
    return ChildSpec("qa", kind, (program,), options, name="program:qa")


def qa() -> Any:
    """Thinks, and answers."""
    return dspy.ChainOfThought("question -> answer")


async def asked(seen: Seen, runtimes: list[Runtime], spec: ChildSpec, **headers: str) -> httpx.Response:
    """Ask a program over HTTP."""
    runtime = await running(seen, spec)
    runtimes.append(runtime)
    transport = httpx.ASGITransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post("/programs/qa", json={"question": QUESTION}, headers=headers)


async def test_E001_one_trace_goes_from_the_request_to_the_model(seen: Seen, runtimes: list[Runtime]) -> None:
    """With what the model says of itself, and who the program's version is on every span."""
    response = await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine(), temperature=0.5)))
    assert response.status_code == 200
    chat = seen.one("chat m")
    assert chat.kind is SpanKind.CLIENT
    said = dict(chat.attributes or {})
    assert {name: said[name] for name in said if name.startswith(("gen_ai.usage", "gen_ai.response"))} == {
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.id": "resp1",
        "gen_ai.response.finish_reasons": ("stop",),
    }
    assert (said["gen_ai.operation.name"], said["gen_ai.provider.name"]) == ("chat", "openai")
    assert (said["gen_ai.request.model"], said["gen_ai.request.temperature"]) == ("m", 0.5)
    above = seen.above(chat)
    assert above == ["Predict", "ChainOfThought", "invoke_workflow qa", "POST /programs/{name}"]
    assert seen.traces() == 1
    call = response.headers["x-call-id"]
    ours = [span for span in seen.spans if "messaging.system" not in (span.attributes or {})][1:]
    assert {str((span.attributes or {})["dspex.call_id"]) for span in ours} == {call}
    assert {str((span.attributes or {})["dspex.version"]) for span in ours} == {"0"}
    record = runtimes[0].shared[CallRecords, "program:qa"].find(call)
    assert chat.context is not None
    assert record.trace == f"{chat.context.trace_id:032x}"


async def test_E002_no_word_of_question_or_answer_is_told(
    seen: Seen, runtimes: list[Runtime], caplog: pytest.LogCaptureFixture
) -> None:
    """In no attribute, event, log line, metric, page or record, unless somebody asks for it."""
    told: list[Any] = []
    with capture_logs() as logs, caplog.at_level(logging.DEBUG):
        response = await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine())))
        runtimes[0].subscribe(told.append)
        transport = httpx.ASGITransport(application(runtimes[0]))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.post("/programs/qa", json={"question": QUESTION})
            pages = [(await client.get(path)).text for path in ("/metrics", "/tree", "/programs", "/programs/qa")]
    assert SECRET in response.text
    records = runtimes[0].shared[CallRecords, "program:qa"].latest(10)
    everything = "\n".join([seen.everything(), str(logs), caplog.text, str(told), str(records), *pages])
    assert "gen_ai.request.model" in everything
    assert "Freedonia" not in everything
    assert SECRET not in everything


async def test_an_answer_that_cannot_be_read_is_told_without_a_word_of_it(seen: Seen, runtimes: list[Runtime]) -> None:
    """Though DSPy's error has it, and what it led to: on no span, and in no log."""
    with capture_logs() as logs:
        response = await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine(f"I say {SECRET}"))))
    assert response.status_code >= 500
    assert SECRET not in seen.everything()
    assert SECRET not in str(logs)
    assert (seen.one("invoke_workflow").attributes or {})["error.type"] == "AdapterParseError"
    assert seen.one("POST").status.status_code is StatusCode.ERROR


async def test_E003_messages_are_told_if_somebody_asks_for_them(
    seen: Seen, runtimes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On spans as JSON; DSPy's instructions are the first message."""
    monkeypatch.setenv(CAPTURE, "span_only")
    await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine())))
    said = seen.one("chat m").attributes or {}
    sent = json.loads(str(said["gen_ai.input.messages"]))
    assert [message["role"] for message in sent] == ["system", "user"]
    assert QUESTION in sent[1]["parts"][0]["content"]
    (written,) = json.loads(str(said["gen_ai.output.messages"]))
    assert (written["role"], written["finish_reason"]) == ("assistant", "stop")
    assert SECRET in written["parts"][0]["content"]
    assert seen.events == ()


async def test_E003_messages_are_told_as_events(
    seen: Seen, runtimes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Structured, and then on no span; in the trace of their span."""
    monkeypatch.setenv(CAPTURE, "EVENT_ONLY")
    await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine())))
    (event,) = seen.events
    record = event.log_record
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert record.attributes["gen_ai.input.messages"][0]["role"] == "system"
    assert record.attributes["gen_ai.output.messages"][0]["finish_reason"] == "stop"
    chat = seen.one("chat m")
    assert chat.context is not None
    assert (record.trace_id, record.span_id) == (chat.context.trace_id, chat.context.span_id)
    assert "gen_ai.input.messages" not in (chat.attributes or {})


async def test_E003_a_value_that_nobody_knows_is_none_and_told_once(
    seen: Seen, runtimes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it may have meant."""
    monkeypatch.setenv(CAPTURE, "yes")
    with capture_logs() as logs:
        await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine())))
        await runtimes[0].name("program:qa").call(RunProgram({"question": QUESTION}))
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["unknown_capture"]
    assert SECRET not in seen.everything()


async def test_E004_each_retry_is_a_span(seen: Seen, runtimes: list[Runtime]) -> None:
    """Two that fail, and one that answers; the call is one, and so are its tokens."""
    engine = FixedEngine(
        lm15.ServerError("500", retry_after=0), lm15.ServerError("500", retry_after=0), fields(reasoning="", answer="a")
    )
    ran: list[ProgramRan] = []
    spec = program(qa(), lm=fixed_lm(engine, num_retries=3))
    runtime = await running(seen, spec)
    runtimes.append(runtime)
    runtime.subscribe(ran.append, ProgramRan)
    await runtime.name("program:qa").call(RunProgram({"question": QUESTION}))
    chats = [span.attributes or {} for span in seen.named("chat m")]
    assert [chat["dspex.attempt"] for chat in chats] == [1, 2, 3]
    assert [chat.get("error.type") for chat in chats] == ["LMServerError", "LMServerError", None]
    assert len(ran) == 1
    assert sum(point.count for point in seen.points("gen_ai.client.operation.duration")) == 3
    tokens = {point.attributes["gen_ai.token.type"]: point for point in seen.points("gen_ai.client.token.usage")}
    assert {kind: (point.count, point.sum) for kind, point in tokens.items()} == {"input": (1, 5), "output": (1, 2)}
    assert seen.one("invoke_workflow").status.status_code is not StatusCode.ERROR


async def test_E005_an_endpoint_that_is_down_has_a_span_of_its_own(seen: Seen, runtimes: list[Runtime]) -> None:
    """With its address and provider; the program does not fail."""
    down = dspy.LM("openai/m", api_base="http://localhost:9/v1", api_key="none", num_retries=0, cache=False)
    up = fixed_lm(FixedEngine(), "anthropic/m")
    endpoints = {"down": {"lm": down}, "up": {"lm": up}}
    gateway = ChildSpec("g", Gateway, (endpoints, {"m": {"endpoints": ["down", "up"]}}))
    runtime = await running(seen, gateway, program(qa(), lm="gateway/m"))
    runtimes.append(runtime)
    fell: list[FellBack] = []
    runtime.subscribe(fell.append, FellBack)
    await runtime.name("program:qa").call(RunProgram({"question": QUESTION}))
    first, second = [span.attributes or {} for span in seen.named("chat m")]
    assert (first["gen_ai.provider.name"], first["server.address"], first["server.port"]) == ("openai", "localhost", 9)
    assert (second["gen_ai.provider.name"], second.get("server.address")) == ("anthropic", None)
    assert first["error.type"] == "LMTransportError"
    assert [first["dspex.attempt"], second["dspex.attempt"]] == [1, 2]
    assert len(fell) == 1
    assert seen.above(seen.named("chat m")[1])[-1] == "invoke_workflow qa"
    assert seen.one("invoke_workflow").status.status_code is not StatusCode.ERROR


async def test_E006_an_answer_of_the_cache_is_no_attempt(seen: Seen, runtimes: list[Runtime]) -> None:
    """The predictor says that it had one; tokens and costs stay as they are."""
    lm = fixed_lm(FixedEngine(), cache=True)
    runtime = await running(seen, program(qa(), lm=lm))
    runtimes.append(runtime)
    for _ in range(2):
        await runtime.name("program:qa").call(RunProgram({"question": QUESTION + " E006"}))
    assert len(seen.named("chat m")) == 1
    hits = [(span.attributes or {}).get("dspex.cache_hit") for span in seen.named("Predict")]
    assert hits == [None, True]
    assert sum(point.count for point in seen.points("gen_ai.client.token.usage")) == 2
    cached, asked = runtime.shared[CallRecords, "program:qa"].latest(2)
    assert (cached.cost, cached.tokens) == (0.0, {})
    assert asked.tokens


@pytest.mark.parametrize("kind", ["Parallel", "Evaluate"])
async def test_E007_dspys_own_threads_stay_in_the_trace(seen: Seen, runtimes: list[Runtime], kind: str) -> None:
    """Below the module that started them."""
    made = getattr(traced_programs, kind)()
    response = await asked(seen, runtimes, program(made, lm=fixed_lm(FixedEngine(fields(answer="a")))))
    assert response.status_code == 200
    assert seen.traces() == 1
    assert len(seen.named("chat m")) == 2
    assert all(kind in seen.above(chat) for chat in seen.named("chat m"))


async def test_E007_a_pool_stays_in_the_trace_of_its_caller(seen: Seen, runtimes: list[Runtime]) -> None:
    """Two calls below one span."""
    runtime = await running(seen)
    runtimes.append(runtime)
    pool = await start_program_pool(runtime, qa(), size=2, name="pool")
    with (
        seen.tracing._tracer.start_as_current_span("both"),
        dspy.context(lm=fixed_lm(FixedEngine(fields(reasoning="", answer="a")))),
    ):
        await asyncio.gather(*(pool.acall(question=QUESTION) for _ in range(2)))
    assert seen.traces() == 1
    assert [seen.above(chat)[-1] for chat in seen.named("chat m")] == ["both", "both"]
    assert len(seen.named("invoke_workflow ChainOfThought")) == 2


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_E008_a_program_in_a_process_has_the_same_tree(runtimes: list[Runtime], asynchronous: bool) -> None:
    """It is this process that exports; cache hits, and streams, are told too."""
    trees = []
    for isolation in ("none", "process"):
        seen = Seen()
        made = traced_programs.Twice() if asynchronous else traced_programs.TwiceInAThread()
        lm = fixed_lm(FixedEngine(fields(answer="a")), cache=True)
        runtime = await running(seen, program(made, ProgramPool, lm=lm, size=1, isolation=isolation))
        runtimes.append(runtime)
        dspy.cache.reset_memory_cache()
        await runtime.name("program:qa").call(RunProgram({"question": f"{QUESTION} {asynchronous}"}))
        assert len(seen.named("chat m")) == 1
        assert seen.traces() == 1
        hits = [(span.attributes or {}).get("dspex.cache_hit") for span in seen.named("Predict")]
        theirs = [line for line in seen.tree() if not line.startswith(("call ", "process "))]
        trees.append((theirs, hits))
        begun = {span.context.span_id: span.start_time or 0 for span in seen.spans if span.context}
        for span in seen.spans:
            if span.parent is not None and span.parent.span_id in begun:
                assert (span.start_time or 0) > begun[span.parent.span_id] - 5_000_000
        for close in seen.close:
            close()
    assert trees[0][0] == trees[1][0]
    assert trees[0][1] == trees[1][1] == [None, True]


class Raising(BaseCallback):
    """Raises whenever it is called."""

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Raise."""
        raise RuntimeError("no")


class Hanging(SpanExporter):
    """Does not come back until it may."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        """Hang."""
        self.open.wait(20)
        return SpanExportResult.SUCCESS


async def test_E012_a_callback_that_raises_and_an_exporter_that_hangs_harm_nobody(
    runtimes: list[Runtime], quiet: None
) -> None:
    """Calls are answered as ever; the user's own callbacks are called as ever."""
    hanging = Hanging()
    seen = Seen(
        processor=BatchSpanProcessor(hanging, max_queue_size=4, max_export_batch_size=2, schedule_delay_millis=1)
    )
    settings = {"callbacks": [Raising()]}
    runtime = await running(seen, program(qa(), lm=fixed_lm(FixedEngine()), settings=settings))
    runtimes.append(runtime)
    for _ in range(5):
        answer = await runtime.name("program:qa").call(RunProgram({"question": QUESTION}))
        assert answer.outputs["answer"] == SECRET
    hanging.open.set()
    for close in seen.close:
        close()


class Broken:
    """Fails whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


async def test_E012_telemetry_that_fails_harms_nobody(
    seen: Seen, runtimes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans, metrics, messages: each kind of failure is logged once, and counted."""
    monkeypatch.setattr(seen.telemetry, "measure", Broken().__getattr__)
    monkeypatch.setattr(seen.tracing, "_tracer", Broken())
    with capture_logs() as logs:
        response = await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine())))
        await runtimes[0].name("program:qa").call(RunProgram({"question": QUESTION}))
    assert response.json()["answer"] == SECRET
    assert seen.telemetry.failures > 4
    kinds = [(entry["event"], entry.get("what")) for entry in logs if entry["event"] == "telemetry_failed"]
    assert len(kinds) == len(set(kinds)) > 1


async def test_E014_an_agent_and_its_tools_have_spans(
    seen: Seen, runtimes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends its work is no tool; arguments and results are told only if somebody asks for them."""
    turn = {"next_thought": "t", "next_tool_name": "look_up", "next_tool_args": '{"name": "Freedonia"}'}
    over = {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": "{}"}
    script = (fields(**turn), fields(**over), fields(reasoning="", answer="a"))
    for capture, told in ((None, False), ("SPAN_AND_EVENT", True)):
        monkeypatch.setenv(CAPTURE, capture or "")
        lm = fixed_lm(FixedEngine(*script))
        runtime = await running(seen, program(traced_programs.agent(), lm=lm))
        runtimes.append(runtime)
        await runtime.name("program:qa").call(RunProgram({"question": QUESTION}))
        tool = seen.named("execute_tool")[-1]
        said = tool.attributes or {}
        assert (tool.name, tool.kind) == ("execute_tool look_up", SpanKind.INTERNAL)
        assert said["gen_ai.tool.name"] == "look_up"
        assert ("gen_ai.tool.call.arguments" in said, "gen_ai.tool.call.result" in said) == (told, told)
    assert len(seen.named("execute_tool")) == 2
    agents = seen.named("invoke_agent ReAct")
    assert [(span.attributes or {})["gen_ai.agent.name"] for span in agents] == ["ReAct", "ReAct"]
    assert seen.above(tool)[:2] == ["invoke_agent ReAct", "invoke_workflow qa"]
    assert {
        name: len(seen.points(f"gen_ai.{name}.duration")) for name in ("execute_tool", "invoke_agent", "workflow")
    } == {
        "execute_tool": 1,
        "invoke_agent": 1,
        "workflow": 1,
    }


async def test_a_model_of_a_processs_own_is_asked_there_and_not_seen(seen: Seen, runtimes: list[Runtime]) -> None:
    """What asks it is."""
    spec = program(traced_programs.OwnModel(), ProgramPool, lm=fixed_lm(FixedEngine()), size=1, isolation="process")
    runtime = await running(seen, spec)
    runtimes.append(runtime)
    answer = await runtime.name("program:qa").call(RunProgram({"question": QUESTION}))
    assert answer.outputs == {"answer": "mine"}
    assert len(seen.named("Predict")) == 1
    assert seen.named("chat") == []


async def test_E066_feedback_is_told_in_the_trace_of_its_call(seen: Seen, runtimes: list[Runtime]) -> None:
    """As an evaluation, by the conventions."""
    response = await asked(seen, runtimes, program(qa(), lm=fixed_lm(FixedEngine())))
    call = response.headers["x-call-id"]
    await runtimes[0].name("program:qa").call(GiveFeedback(call, True))
    (event,) = seen.events
    workflow = seen.one("invoke_workflow")
    assert workflow.context is not None
    assert event.log_record.trace_id == workflow.context.trace_id
    assert event.log_record.event_name == "gen_ai.evaluation.result"
    assert event.log_record.attributes["dspex.call_id"] == call


# -- what is cut off, held back, streamed -----------------------------------------------------------------------------


async def test_a_call_that_is_cancelled_is_no_error(seen: Seen, runtimes: list[Runtime]) -> None:
    """Its spans end, and say so."""
    begun, gone = asyncio.Event(), asyncio.Event()

    class Waiting:
        async def complete(self, request: Any) -> Any:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()

    lm = dspy.LM("openai/m", engine=FixedEngine(), async_engine=Waiting(), cache=False, num_retries=0)
    runtime = await running(seen, program(qa(), lm=lm))
    runtimes.append(runtime)
    call = asyncio.ensure_future(runtime.name("program:qa").call(RunProgram({"question": QUESTION})))
    await begun.wait()
    call.cancel()
    await gone.wait()
    await settled(runtime)
    for name in ("chat m", "Predict", "invoke_workflow"):
        span = seen.one(name)
        assert (span.attributes or {})["dspex.outcome"] == "cancelled"
        assert span.status.status_code is StatusCode.UNSET
    assert seen.points("gen_ai.client.operation.duration")[0].attributes.get("error.type") is None


async def test_spans_whose_end_nobody_tells_end_with_their_run(seen: Seen, runtimes: list[Runtime]) -> None:
    """As those of a process that died; and what begins after that ends at once."""
    runtime = await running(seen)
    runtimes.append(runtime)
    spans = RunSpans(seen.telemetry, runtime, Capture.NO_CONTENT, otel.get_current(), "late", {})
    spans.begin("1", "left")
    spans.begin_lm("2")
    spans.close(None)
    spans.begin("3", "late")
    spans.end("3", None)
    spans.end("4", None)
    names = {span.name: (span.attributes or {}).get("dspex.outcome") for span in seen.spans}
    assert {name: names[name] for name in ("left", "late", "invoke_workflow late")} == {
        "left": "cancelled",
        "late": None,
        "invoke_workflow late": None,
    }


async def test_a_stream_is_measured_piece_by_piece(seen: Seen, runtimes: list[Runtime]) -> None:
    """The first, and those that follow."""

    async def send(piece: object) -> None:
        """Take a piece."""

    runtime = await running(seen, program(qa(), lm=fixed_lm(FixedEngine())))
    runtimes.append(runtime)
    await runtime.name("program:qa").call(StreamProgram({"question": QUESTION}, send))
    said = seen.one("chat m").attributes or {}
    assert said["gen_ai.request.stream"] is True
    assert float(str(said["gen_ai.response.time_to_first_chunk"])) >= 0
    assert seen.points("gen_ai.client.operation.time_to_first_chunk")[0].count == 1
    assert seen.points("gen_ai.client.operation.time_per_output_chunk")[0].count > 1


async def test_a_trace_that_is_held_back_is_written_when_it_fails_and_counts_in_any_case(
    runtimes: list[Runtime],
) -> None:
    """Also what happened in other threads before; metrics know nothing of sampling."""
    seen = Seen(keep=0.0)
    engine = FixedEngine(fields(answer="a"), fields(answer="a"), "gibberish")
    runtime = await running(seen, program(traced_programs.TwiceInAThread(), lm=fixed_lm(engine)))
    runtimes.append(runtime)
    await runtime.name("program:qa").call(RunProgram({"question": QUESTION}))
    assert seen.named("chat") == []
    assert sum(point.count for point in seen.points("gen_ai.client.operation.duration")) == 2
    record = runtime.shared[CallRecords, "program:qa"].latest(1)[0]
    assert record.trace is None
    with pytest.raises(Unanswered, match="answer is missing"):
        await runtime.name("program:qa").call(RunProgram({"question": QUESTION}))
    chat = seen.named("chat m")[0]
    assert (chat.attributes or {})["gen_ai.usage.input_tokens"] == 5
    assert seen.above(chat) == ["Predict", "TwiceInAThread", "invoke_workflow qa"]
    for close in seen.close:
        close()


async def test_nobody_is_told_where_nobody_wants_to_know(runtimes: list[Runtime]) -> None:
    """Without a propagator that traces, and without providers, not even callbacks are set."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        actor = await runtime.spawn(ProgramActor, traced_programs.Callbacks(), lm=fixed_lm(FixedEngine()))
        assert telemetry_of(runtime) is None
        assert (await actor.call(RunProgram({}))).outputs == {"callbacks": 0}


async def test_a_process_with_providers_of_its_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the runtime's propagator does not trace."""
    provider = MeterProvider()
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    async with Runtime(watchdog=None, reports=False) as runtime:
        assert telemetry_of(runtime) is not None
    provider.shutdown()


def test_without_opentelemetry_programs_run() -> None:
    """And are told to nobody; the package is an extra."""
    code = """\
import asyncio, sys
for name in ("opentelemetry", "opentelemetry.trace", "opentelemetry._logs"):
    sys.modules[name] = None
import dspex, dspy
from dspy.utils.dummies import DummyLM
from foundation.programs import RunProgram, StreamProgram
from supervision import Runtime
async def main():
    async with Runtime(watchdog=None) as runtime:
        actor = await runtime.spawn(dspex.ProgramActor, dspy.Predict("q -> answer"), lm=DummyLM([{"answer": "yes"}]))
        print((await actor.call(RunProgram({"q": "?"}))).outputs)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'answer': 'yes'}\n"


# -- names -------------------------------------------------------------------------------------------------------------

#: Every attribute, event and metric that is written. A change here is a change for whoever reads traces.
WRITTEN = (
    "gen_ai.operation.name gen_ai.provider.name gen_ai.output.type gen_ai.request.model gen_ai.request.temperature "
    "gen_ai.request.top_p gen_ai.request.top_k gen_ai.request.max_tokens gen_ai.request.seed "
    "gen_ai.request.stop_sequences gen_ai.request.frequency_penalty gen_ai.request.presence_penalty "
    "gen_ai.request.choice.count gen_ai.request.stream gen_ai.response.id gen_ai.response.model "
    "gen_ai.response.finish_reasons gen_ai.response.time_to_first_chunk gen_ai.usage.input_tokens "
    "gen_ai.usage.output_tokens gen_ai.usage.cache_read.input_tokens gen_ai.usage.cache_creation.input_tokens "
    "gen_ai.usage.reasoning.output_tokens gen_ai.usage.audio.input_tokens gen_ai.usage.audio.output_tokens "
    "gen_ai.token.type gen_ai.agent.name gen_ai.workflow.name gen_ai.tool.name gen_ai.tool.type "
    "gen_ai.evaluation.name gen_ai.evaluation.score.value gen_ai.evaluation.score.label error.type server.address "
    "server.port gen_ai.input.messages gen_ai.output.messages gen_ai.tool.call.arguments gen_ai.tool.call.result "
    "dspex.call_id dspex.program dspex.version dspex.arm dspex.attempt dspex.cache_hit dspex.outcome "
    "dspex.feedback.source gen_ai.client.inference.operation.details gen_ai.evaluation.result"
)
MEASURED = {
    "gen_ai.client.operation.duration": "s",
    "gen_ai.client.operation.time_to_first_chunk": "s",
    "gen_ai.client.operation.time_per_output_chunk": "s",
    "gen_ai.execute_tool.duration": "s",
    "gen_ai.client.token.usage": "{token}",
    "gen_ai.invoke_agent.duration": "s",
    "gen_ai.workflow.duration": "s",
}


def test_every_name_is_in_one_table_and_named_here() -> None:
    """Of our own making are only those that begin with our name."""
    values = [value for value in vars(conventions).values() if isinstance(value, str)]
    ours = ("gen_ai.", "dspex.", "error.", "server.")
    named = {value for value in values if value.startswith(ours)} - {conventions.__name__, conventions.__package__}
    assert named == set(WRITTEN.split())
    assert {name: unit for name, unit, _ in conventions.METRICS} == MEASURED
    tokens = {name: buckets for name, _, buckets in conventions.METRICS}["gen_ai.client.token.usage"]
    assert (tokens[0], tokens[-1], len(tokens)) == (1, 67108864, 14)
    assert conventions.OPERATION_DURATION[2][-1] == pytest.approx(81.92)
    assert conventions.AGENT_DURATION[2][-1] == pytest.approx(409.6)
    assert {name for name in named if "messages" in name or "tool.call." in name} == conventions.CONTENT


def test_errors_have_few_names() -> None:
    """Those of DSPy, a time-out, and one for all others."""
    errors = [ProgramTimeout("p"), TimeoutError(), KeyError("k"), lm15.ServerError("s"), lm15.LM15Error("?")]
    names = ["LMTimeoutError", "timeout", "_OTHER", "LMServerError", "LMUnexpectedError"]
    assert [error_type(error) for error in errors] == names


def lm_of(model: str, **options: Any) -> Any:
    """A model at an address."""
    return dspy.LM(model, **options)


@pytest.mark.parametrize(
    ("lm", "said"),
    [
        (lm_of("gemini/g"), {"provider.name": "gcp.gemini", "request.model": "g"}),
        (
            lm_of("azure/x/y", api_base="https://a.example/v1"),
            {"provider.name": "azure.ai.openai", "request.model": "x/y"},
        ),
        (lm_of("own", model_type="text"), {"provider.name": "openai", "operation.name": "text_completion"}),
        (lm_of("openai/m", api_base="http://[::1]:99999/v1"), {"provider.name": "openai"}),
        (DummyLM([]), {"provider.name": "DummyLM", "request.model": "dummy"}),
    ],
)
def test_who_is_asked_is_named_as_the_conventions_do(lm: Any, said: dict[str, str]) -> None:
    """With address and port, if they are known."""
    attempt = Attempt(lm, None, {"model": lm.model}, None, False)
    found = content.who(attempt)
    assert {name: found[f"gen_ai.{name}"] for name in said} == said
    assert found.get("server.port") == (443 if "https" in str(lm.kwargs) else None)


def test_what_is_asked_is_told_in_both_contracts() -> None:
    """What is not said is left out."""
    config = lm15.Config(
        max_tokens=9, temperature=0.1, top_p=0.2, top_k=3, stop=("x",), seed=4, response_format={"type": "json_object"}
    )
    request = lm15.Request(model="m", messages=(lm15.Message.user("?"),), config=config)
    told = content.asked(Attempt(None, request, {}, None, True))
    assert {name.removeprefix("gen_ai."): value for name, value in told.items()} == {
        "request.temperature": 0.1,
        "request.top_p": 0.2,
        "request.top_k": 3,
        "request.max_tokens": 9,
        "request.seed": 4,
        "request.stop_sequences": ["x"],
        "output.type": "json",
        "request.stream": True,
    }
    legacy = content.asked(Attempt(None, None, {"n": 2, "temperature": 0.5, "stop": "y"}, None, False))
    assert {name.removeprefix("gen_ai."): value for name, value in legacy.items()} == {
        "request.temperature": 0.5,
        "request.stop_sequences": ["y"],
        "request.choice.count": 2,
        "output.type": "text",
    }


def test_messages_have_the_schema_of_the_conventions() -> None:
    """Of what is no text, only what it is."""
    parts = (
        lm15.TextPart("t"),
        lm15.ThinkingPart("h"),
        lm15.DataPart({"a": 1}),
        lm15.ToolCallPart("1", "f", {"x": 2}),
        lm15.ImagePart(data="aGk="),
    )
    told = lm15.Message("tool", (lm15.ToolResultPart("1", (lm15.TextPart("r"),)),))
    request = lm15.Request(
        model="m",
        system=(lm15.TextPart("s"),),
        messages=(lm15.Message("assistant", parts), told),
    )
    system, answer, tool = content.input_messages(Attempt(None, request, {}, None, False))
    assert system == {"role": "system", "parts": [{"type": "text", "content": "s"}]}
    assert answer["parts"] == [
        {"type": "text", "content": "t"},
        {"type": "reasoning", "content": "h"},
        {"type": "text", "content": '{"a": 1}'},
        {"type": "tool_call", "id": "1", "name": "f", "arguments": {"x": 2}},
        {"type": "image"},
    ]
    assert tool["parts"] == [{"type": "tool_call_response", "id": "1", "result": [{"type": "text", "content": "r"}]}]
    legacy = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, 5]},
            {"role": "x"},
        ]
    }
    bare = lm15.Request(model="m", messages=(lm15.Message.user("?"),))
    assert [message["role"] for message in content.input_messages(Attempt(None, bare, {}, None, False))] == ["user"]
    first, second = content.input_messages(Attempt(None, None, legacy, None, False))
    assert first["parts"] == [{"type": "text", "content": "a"}, {"type": "image_url"}, {"type": "unknown"}]
    assert second["parts"] == [{"type": "text", "content": ""}]
    old = SimpleNamespace(responses=(), outputs=["a", {"text": "b"}], usage={"prompt_tokens": 3}, response_model="m")
    told = [message["parts"][0]["content"] for message in content.output_messages(old)]
    assert told == ["a", '{"text": "b"}']
    assert content.answered(old, None) == {"gen_ai.response.model": "m", "gen_ai.usage.input_tokens": 3}


def test_an_answer_without_usage_says_nothing_of_it() -> None:
    """Never 0."""
    message = lm15.Message.assistant([lm15.TextPart("a")])
    told = content.answered(lm15.Response(None, "m", message, "length", lm15.Usage()), "openai")
    assert told == {"gen_ai.response.model": "m", "gen_ai.response.finish_reasons": ["length"]}


@pytest.mark.parametrize("script", [(), (lm15.ServerError("500", retry_after=0), fields(reasoning="", answer=SECRET))])
async def test_an_attempt_that_cannot_be_described_harms_nobody(
    seen: Seen, runtimes: list[Runtime], monkeypatch: pytest.MonkeyPatch, script: Any
) -> None:
    """It has no span, and is told as far as it can be."""
    monkeypatch.setenv(CAPTURE, "EVENT_ONLY")
    monkeypatch.setattr(content, "who", Broken().__getattr__)
    lm = fixed_lm(FixedEngine(*script, usage=lm15.Usage()), num_retries=1)
    response = await asked(seen, runtimes, program(qa(), lm=lm))
    assert response.json()["answer"] == SECRET
    assert seen.named("chat") == []
    assert seen.points("gen_ai.client.token.usage") == []
    assert len(seen.events) == 1 + bool(script)


async def test_a_failing_tracer_harms_no_span(seen: Seen, runtimes: list[Runtime]) -> None:
    """Nor does a processor of spans that raises when one ends."""

    class Raising:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("start")

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    broken = Seen(processor=Raising())
    with capture_logs() as logs:
        response = await asked(broken, runtimes, program(qa(), lm=fixed_lm(FixedEngine())))
    assert response.json()["answer"] == SECRET
    assert "span_not_recorded" in [entry["event"] for entry in logs]


def test_a_callback_is_itself_when_it_is_copied() -> None:
    """As settings are."""
    made = SpanCallback(None)  # type: ignore[arg-type]
    assert copy.deepcopy(made) is made
