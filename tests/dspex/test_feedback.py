"""Calls that are looked at, and what people say of them: over HTTP, on the disk, in a trainset."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from dspex.fingerprints import content_digest
from dspex.serving import call_store, observed
from dspex.serving.call_store import FILE, CallStore, CallStoreError
from dspex.serving.calls import CallRecords, key_digest
from dspex.serving.feedback import Feedback, FeedbackGiven, trainset
from dspex.serving.program import ProgramActor
from dspex.telemetry.providers import Telemetry
from foundation.access import Access
from foundation.call_records import CallRecord
from foundation.feedback import (
    BadFeedback,
    CallGone,
    FeedbackTaken,
    ForgetCalls,
    GetCall,
    GiveFeedback,
    ListCalls,
    ListFeedback,
    UnknownCall,
)
from foundation.http import application
from foundation.programs import RunProgram
from supervision import Name, Runtime, StartError
from tests.dspex.documented import DocumentedTransport
from tests.dspex.fixed_engine import QUESTION, SECRET, FixedEngine, fields, fixed_lm

TOKEN = "0123456789abcdef"
TRUSTED = {"authorization": f"Bearer {TOKEN}"}

Start = Callable[..., Awaitable[Name]]


@pytest.fixture
def start(runtime: Runtime, tmp_path: Path) -> Start:
    """Starts a program that keeps its calls in a folder."""

    async def start(**calls: Any) -> Name:
        before = runtime.whereis("program:qa")
        if before is not None:
            await before.stop()
        lm = fixed_lm(FixedEngine(fields(answer=SECRET)))
        calls = {"folder": str(tmp_path), **calls}
        await runtime.spawn(ProgramActor, dspy.Predict("question -> answer"), lm=lm, calls=calls, name="program:qa")
        return runtime.name("program:qa")

    return start


async def client_of(runtime: Runtime, token: str | None = TOKEN) -> httpx.AsyncClient:
    """A client of the HTTP server."""
    access = Access(token=token, protect="changes") if token else Access()
    transport = DocumentedTransport(application(runtime, access=access))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost/programs")


async def asked(name: Name, *calls: str, key: str = "", question: str = QUESTION) -> None:
    """Make calls."""
    for call in calls:
        await name.call(RunProgram({"question": question}, call=call, key=key))


# -- calls -------------------------------------------------------------------------------------------------------------


async def test_the_last_calls_are_shown_to_whoever_has_the_token(runtime: Runtime, start: Start) -> None:
    """Figures only, unless content is kept; the last to end comes first."""
    name = await start()
    async with await client_of(runtime) as client:
        made = [
            await client.post("/qa", json={"question": QUESTION}, headers={"x-session-key": "ada"}) for _ in range(2)
        ]
        assert (await client.get("/qa/calls")).status_code == 401
        shown = (await client.get("/qa/calls", headers=TRUSTED)).json()["calls"]
        assert [call["id"] for call in shown] == [each.headers["x-call-id"] for each in reversed(made)]
        assert shown[0]["content"] is None
        assert (shown[0]["outcome"], shown[0]["version"], shown[0]["retries"]) == ("answered", 0, 0)
        assert len((await client.get("/qa/calls?number=1", headers=TRUSTED)).json()["calls"]) == 1
        one = await client.get(f"/qa/calls/{shown[0]['id']}", headers=TRUSTED)
        assert one.json() == shown[0]
        for number in ("0", "x", "1001", "-1", "1" * 9):
            assert (await client.get(f"/qa/calls?number={number}", headers=TRUSTED)).status_code == 400
    assert len(await name.call(ListCalls(10**6))) == 2
    assert await name.call(ListCalls(-1)) == []


async def test_a_call_shows_prompt_and_answer_if_they_are_kept(runtime: Runtime, start: Start) -> None:
    """As the model saw and wrote them."""
    await start(keep="content")
    async with await client_of(runtime) as client:
        made = await client.post("/qa", json={"question": QUESTION})
        call = (await client.get(f"/qa/calls/{made.headers['x-call-id']}", headers=TRUSTED)).json()
    content = call["content"]
    assert (content["inputs"], content["outputs"]) == ({"question": QUESTION}, {"answer": SECRET})
    (conversation,) = content["conversations"]
    assert QUESTION in conversation["input"][-1]["parts"][0]["content"]
    assert call["tokens"]["openai/m"]["prompt_tokens"] == 5


async def test_without_a_token_calls_are_not_shown(runtime: Runtime, start: Start) -> None:
    """Feedback is taken all the same: once for each call."""
    await start()
    async with await client_of(runtime, None) as client:
        for path in ("/qa/calls", "/qa/calls/x", "/qa/feedback"):
            assert (await client.get(path)).json()["type"] == "about:blank#calls-not-served"
        made = await client.post("/qa", json={"question": QUESTION})
        given = {"call": made.headers["x-call-id"], "value": True}
        assert (await client.post("/qa/feedback", json=given, headers=TRUSTED)).status_code == 201
        assert (await client.post("/qa/feedback", json=given)).status_code == 401


async def test_calls_outlive_the_process(runtime: Runtime, start: Start) -> None:
    """As far as they may still be kept; and content only if it is still to be."""
    name = await start(keep="content")
    await asked(name, "a", "b", "c")
    await name.call(ListFeedback())
    runtime.shared.pop((CallRecords, "program:qa"))
    name = await start(last=2)
    shown = await name.call(ListCalls())
    assert [call["id"] for call in shown] == ["c", "b"]
    assert [call["content"] for call in shown] == [None, None]
    assert await (await start(last=2)).call(ListCalls()) == shown


async def test_records_that_the_disk_cannot_follow_are_left_out_and_counted(
    runtime: Runtime, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls themselves do not wait."""
    name = await start()
    monkeypatch.setattr(call_store, "MOST_WAITING", 0)
    await asked(name, "a")
    assert (await name.call(GetCall("a")))["id"] == "a"
    dropped = CallStore(None)
    dropped.add_call("a", 0.0, None, b"")
    assert dropped.dropped == 1
    dropped.close()


async def test_the_file_is_tidied_while_calls_come(
    runtime: Runtime, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not grow with all the calls there ever were."""
    monkeypatch.setattr(observed, "FORGET_EVERY", 2)
    name = await start(last=1)
    await asked(name, *"abcd")
    await name.call(ListFeedback())
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("SELECT id FROM calls").fetchall() == [("d",)]
    database.close()


# -- feedback ----------------------------------------------------------------------------------------------------------


async def test_E066_feedback_is_joined_with_its_call(runtime: Runtime, start: Start) -> None:
    """Whose version, arm and asker count; it is told as an event, to the runtime and in the trace of the call."""
    told: list[FeedbackGiven] = []
    runtime.subscribe(told.append, FeedbackGiven)
    logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    runtime.shared[Telemetry] = Telemetry(logger_provider=provider)
    name = await start()
    await asked(name, "c", key="ada")
    id = await name.call(GiveFeedback("c", False, comment="wrong", who="bob", source="expert"))
    ((number, said),) = await name.call(ListFeedback())
    assert number == 1
    assert (said["id"], said["call"], said["program"], said["version"]) == (id, "c", "qa", 0)
    assert (said["value"], said["comment"], said["who"], said["source"]) == (False, "wrong", "bob", "expert")
    assert said["key"] == key_digest("qa", "ada")
    assert "inputs" not in said
    (event,) = told
    assert (event.call, event.version, event.arm, event.name, event.value) == ("c", 0, None, "helpful", False)
    (result,) = [each.log_record for each in logs.get_finished_logs()]
    assert result.event_name == "gen_ai.evaluation.result"
    assert result.attributes is not None
    assert result.attributes["gen_ai.evaluation.score.value"] == 0.0
    assert f"{result.trace_id:032x}" == (await name.call(GetCall("c")))["trace"] or result.trace_id == 0
    provider.shutdown()


async def test_what_a_text_says_is_in_no_event(runtime: Runtime, start: Start) -> None:
    """It is what somebody has written."""
    told: list[FeedbackGiven] = []
    runtime.subscribe(told.append, FeedbackGiven)
    name = await start()
    await asked(name, "c")
    await name.call(GiveFeedback("c", SECRET))
    assert told[0].value is None
    assert SECRET not in str(told)


async def test_feedback_that_cannot_be_told_is_kept_all_the_same(runtime: Runtime, start: Start) -> None:
    """And the failure counted."""
    telemetry = runtime.shared[Telemetry] = Telemetry()
    telemetry.event = None  # type: ignore[method-assign,assignment]
    name = await start()
    await asked(name, "c")
    assert await name.call(GiveFeedback("c", 0.5))
    assert telemetry.failures == 1


async def test_E066_a_call_that_nobody_made_and_one_that_is_gone_are_told_apart(runtime: Runtime, start: Start) -> None:
    """Without a list of all calls that there ever were."""
    await start(last=1)
    async with await client_of(runtime) as client:
        made = [(await client.post("/qa", json={"question": QUESTION})).headers["x-call-id"] for _ in range(2)]
        statuses = []
        for call in ("0" * 32, *made):
            given = await client.post("/qa/feedback", json={"call": call, "value": True}, headers=TRUSTED)
            looked = await client.get(f"/qa/calls/{call}", headers=TRUSTED)
            statuses.append((given.status_code, looked.status_code))
    assert statuses == [(404, 404), (410, 410), (201, 200)]


async def test_E066_what_one_says_twice_is_kept_twice(runtime: Runtime, start: Start) -> None:
    """And the last counts; with the token."""
    await start(keep="content")
    async with await client_of(runtime) as client:
        call = (await client.post("/qa", json={"question": QUESTION})).headers["x-call-id"]
        for value in (True, False):
            given = {"call": call, "value": value, "who": "ada"}
            assert (await client.post("/qa/feedback", json=given, headers=TRUSTED)).status_code == 201
        told = await client.get("/qa/feedback", headers=TRUSTED)
    assert told.headers["content-type"] == "application/jsonl"
    lines = [json.loads(line) for line in told.text.splitlines()]
    assert [line["value"] for line in lines] == [True, False]
    assert trainset([Feedback(**line) for line in lines]).examples == []


async def test_whoever_was_given_a_call_may_say_what_they_think_of_it_once(runtime: Runtime, start: Start) -> None:
    """Two at the same time are one and one too many; and nobody speaks for others without the token."""
    await start()
    async with await client_of(runtime) as client:
        call = (await client.post("/qa", json={"question": QUESTION})).headers["x-call-id"]
        both = await asyncio.gather(*(client.post("/qa/feedback", json={"call": call, "value": v}) for v in (1, 2)))
        assert sorted(each.status_code for each in both) == [201, 401]
        wrong = {"authorization": "Bearer wrong-wrong-wrong"}
        assert (await client.post("/qa/feedback", json={"call": call, "value": 1}, headers=wrong)).status_code == 401
        for more in ({"who": "ada"}, {"source": "expert"}):
            given = {"call": call, "value": 1, **more}
            assert (await client.post("/qa/feedback", json=given)).status_code == 401


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 400),
        ({"value": True, "more": 1}, 400),
        ({"value": None}, 400),
        ({"value": True, "source": "nobody"}, 400),
        ({"value": "x" * 10_001}, 422),
        ({"value": True, "name": ""}, 422),
        ({"value": True, "name": "n" * 101}, 422),
        ({"value": True, "comment": "c" * 10_001}, 422),
        ({"value": True, "correction": {"colour": "red"}}, 422),
        ({"value": True, "correction": {"answer": "red"}}, 201),
        ({"value": True, "correction": {"answer": 5}}, 422),
        ({"value": True, "correction": {"answer": "x" * 100_000}}, 413),
        ({"value": True, "correction": "red"}, 400),
        ({"value": 0.5}, 201),
    ],
)
async def test_feedback_that_makes_no_sense_is_refused(
    runtime: Runtime, start: Start, given: dict[str, Any], status: int
) -> None:
    """Before anything is kept."""
    await start()
    async with await client_of(runtime) as client:
        call = (await client.post("/qa", json={"question": QUESTION})).headers["x-call-id"]
        answer = await client.post("/qa/feedback", json={"call": call, **given}, headers=TRUSTED)
        assert answer.status_code == status
        told = await client.get("/qa/feedback", headers=TRUSTED)
        assert bool(told.text) == (status == 201)
        assert (await client.post("/qa/feedback", content="x", headers=TRUSTED)).status_code == 415


def nested(depth: int) -> Any:
    """Lists in lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "said",
    [
        {"value": math.nan},
        {"value": math.inf},
        {"value": 10**400},
        {"source": "nobody"},
        {"correction": "red"},
        {"correction": {5: "red"}},
        {"correction": {"answer": object()}},
        {"correction": {"answer": "\ud800"}},
        {"correction": {"answer": nested(100_000)}},
    ],
)
async def test_messages_are_checked_as_well(runtime: Runtime, start: Start, said: dict[str, Any]) -> None:
    """Whoever sends them."""
    name = await start()
    await asked(name, "c")
    with pytest.raises(BadFeedback):
        await name.call(GiveFeedback("c", **{"value": True, **said}))
    with pytest.raises(UnknownCall):
        await name.call(GiveFeedback("d", True))


async def test_many_opinions_are_streamed(runtime: Runtime, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page."""
    name = await start()
    await asked(name, "c")
    await asyncio.gather(*(name.call(GiveFeedback("c", n)) for n in range(1200)))
    with pytest.raises(FeedbackTaken):
        await name.call(GiveFeedback("c", True, first=True))
    async with await client_of(runtime) as client:
        told = (await client.get("/qa/feedback", headers=TRUSTED)).text.splitlines()
    assert [json.loads(line)["value"] for line in told] == list(range(1200))


async def test_a_caller_that_is_cut_off_takes_back_nothing(runtime: Runtime, start: Start) -> None:
    """Neither its own nor what others wait for."""
    name = await start()
    await asked(name, "c")
    calls = [asyncio.ensure_future(name.call(GiveFeedback("c", n))) for n in range(20)]
    await runtime.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    kept = {said["value"] for _, said in await name.call(ListFeedback())}
    assert set(range(1, 20, 2)) <= kept


WORKER = """\
import asyncio, sys
import dspy
from dspy.utils.dummies import DummyLM
from dspex import ProgramActor
from foundation.feedback import GiveFeedback
from foundation.programs import RunProgram
from supervision import Runtime

async def main():
    async with Runtime(watchdog=None) as runtime:
        options = {"lm": DummyLM([{"answer": "a"}]), "calls": {"folder": sys.argv[1]}}
        actor = await runtime.spawn(ProgramActor, dspy.Predict("question -> answer"), **options, name="program:qa")
        await actor.call(RunProgram({"question": "?"}, call="c"))
        async def give(n):
            await actor.call(GiveFeedback("c", n))
            print(n, flush=True)
        await asyncio.gather(*(give(n) for n in range(1000)))
        print("all", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def killed_in_the_middle(folder: Path) -> list[str]:
    """Have a process take opinions, kill it, and return what it has acknowledged."""
    command = [sys.executable, "-c", WORKER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        return acknowledged + process.stdout.read().split()


async def test_E066_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    """A thousand opinions, and SIGKILL in the middle of them."""
    acknowledged = killed_in_the_middle(tmp_path)
    store = CallStore(tmp_path)
    await store.open()
    kept = {str(json.loads(body)["value"]) for _, body in await store.feedback(0, 10_000)}
    store.close()
    assert len(acknowledged) >= 300
    assert set(acknowledged) - {"all"} <= kept


async def test_E066_who_wants_to_be_forgotten_is(runtime: Runtime, start: Start, tmp_path: Path) -> None:
    """Neither what they asked nor a digest of who they are is in any file; others stay."""
    name = await start(keep="content")
    await asked(name, "a1", "a2", key="ada", question="Where is Adaland?")
    await asked(name, "b", key="bob")
    for call in ("a1", "b"):
        await name.call(GiveFeedback(call, True, comment=f"of {call}"))
    digest = key_digest("qa", "ada").encode()

    def everything() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert digest in everything()
    assert b"Adaland" in everything()
    async with await client_of(runtime) as client:
        assert (await client.delete("/qa/calls", headers=TRUSTED)).status_code == 400
        assert (await client.delete("/qa/calls?key=ada")).status_code == 401
        gone = await client.delete("/qa/calls?key=ada", headers=TRUSTED)
        assert gone.json() == {"forgotten": 3}
        assert digest not in everything()
        assert b"Adaland" not in everything()
        assert b"of a1" not in everything()
        assert [call["id"] for call in await name.call(ListCalls())] == ["b"]
        assert (await client.delete("/qa/calls/b", headers=TRUSTED)).json() == {"forgotten": 2}
    assert await name.call(ForgetCalls("b")) == 0
    assert key_digest("qa", "bob").encode() not in everything()


async def test_a_file_that_is_none_is_named_with_what_to_do(runtime: Runtime, start: Start, tmp_path: Path) -> None:
    """And a folder that cannot be made; the program does not start as if nothing were."""
    (tmp_path / FILE).write_text("this is no database, and long enough to be told from one" * 100)
    with pytest.raises(StartError, match="move it away"):
        await start()
    with pytest.raises(StartError, match="mend the folder"):
        await start(folder=str(tmp_path / FILE / "below"))


async def test_a_disk_that_fails_is_told_to_whoever_waits(
    runtime: Runtime, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged; calls go on, and the next write is tried."""
    name = await start()
    await asked(name, "c")
    await name.call(ListFeedback())

    def full(self: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(CallStore, "_there", full)
        with pytest.raises(CallStoreError, match="disk is full"):
            await name.call(GiveFeedback("c", True))
        await asked(name, "d")
    assert await name.call(GiveFeedback("d", True))
    async with await client_of(runtime) as client:
        monkeypatch.setattr(CallStore, "_there", full)
        failed = await client.post("/qa/feedback", json={"call": "d", "value": 1}, headers=TRUSTED)
    assert failed.status_code == 500
    assert "disk" not in failed.json()["detail"]


async def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """And one after the end finds no file."""
    store = CallStore(tmp_path)
    await store.open()

    def broken(database: sqlite3.Connection) -> None:
        database.execute("INSERT INTO feedback (call, at, body) VALUES ('x', 0, x'')")
        database.execute("no SQL")

    with pytest.raises(CallStoreError, match="syntax"):
        await store._do(broken)

    def rolled_back(database: sqlite3.Connection) -> None:
        database.execute("INSERT INTO feedback (call, at, body) VALUES ('x', 0, x'')")
        database.execute("ROLLBACK")  # as SQLite does by itself
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(CallStoreError, match="database or disk is full"):
        await store._do(rolled_back)
    assert await store.feedback(0, 10) == []
    store.close()
    with pytest.raises(CallStoreError):
        await store.feedback(0, 10)
    CallStore(None).close()


async def test_a_store_that_was_never_opened_says_so() -> None:
    """Instead of waiting."""
    store = CallStore(None)
    with pytest.raises(CallStoreError, match="not open"):
        await store.feedback(0, 1)
    store.close()


# -- a trainset --------------------------------------------------------------------------------------------------------


def said(call: str, value: Any = True, **more: Any) -> Feedback:
    """Feedback on a call with content."""
    plain = {"name": "helpful", "source": "user", "at": 0.0, "inputs": {"question": call}, "outputs": {"answer": "old"}}
    return Feedback("id", call, "qa", 0, None, value=value, **{**plain, **more})


def labels(*feedback: Feedback, **options: Any) -> dict[str, str]:
    """The labels that a trainset gives to questions."""
    return {example.question: example.answer for example in trainset(feedback, **options).examples}


def test_E066_corrections_are_labels_and_answers_found_good_too() -> None:
    """An expert's counts more than a user's, and that more than an answer found good; what was only bad is none."""
    expert = said("a", False, correction={"answer": "expert"}, source="expert", who="e")
    user = said("a", False, correction={"answer": "user"}, at=9.0, who="u")
    good, bad = said("b"), said("c", False)
    assert labels(user, expert, good, bad) == {"a": "expert", "b": "old"}
    assert labels(expert, user) == {"a": "expert"}
    assert labels(said("a", who="x"), user) == {"a": "user"}
    assert trainset([good]).examples[0].inputs().toDict() == {"question": "b"}


def test_E066_one_input_is_one_example() -> None:
    """The latest counts; that they differed is told."""
    first = said("a", correction={"answer": "first"}, at=1.0, inputs={"question": "q"})
    second = said("b", correction={"answer": "second"}, at=2.0, inputs={"question": "q"})
    found = trainset([second, first])
    assert [example.answer for example in found.examples] == ["second"]
    assert found.conflicts == 1
    assert trainset([first, first]).conflicts == 0


def test_E066_inputs_of_tests_are_never_for_training() -> None:
    """By their content."""
    tests = {content_digest({"question": "a"})}
    found = trainset([said("a"), said("b")], tests=tests)
    assert [example.question for example in found.examples] == ["b"]
    assert found.refused == 1


def test_models_and_metrics_are_not_people() -> None:
    """Unless somebody says so; and a call without content gives no example."""
    judged = said("a", source="model")
    assert labels(judged) == {}
    assert labels(judged, models=True) == {"a": "old"}
    assert trainset([said("b", inputs=None)]).without_inputs == 1


def test_a_split_keeps_what_one_has_asked_together() -> None:
    """Whatever the share; and the same split comes again."""
    feedback = [said(str(n), key=f"key {n % 50}") for n in range(200)] + [said("alone")]
    found = trainset(feedback)
    training, validation = found.split(0.3)
    assert len(training) + len(validation) == 201
    assert 20 < len(validation) < 120
    keys = [{int(each.question) % 50 for each in part if each.question != "alone"} for part in (training, validation)]
    assert not keys[0] & keys[1]
    assert found.split(0.3)[1] == validation
    assert found.split(0.0)[1] == []
    assert found.split(1.0)[0] == []


def test_a_record_that_is_known_is_not_read_again() -> None:
    """What is in memory is newer."""
    assert CallRecord("a", 0.0, 0, None, None, "answered", 0.0, {}, 0.0, 0, None).content is None
    assert isinstance(CallGone("x"), LookupError)
