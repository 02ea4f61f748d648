"""Language models that pay for each answer once, and wait while they are unavailable."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from agents.durability import MemoryStorage, StorageError
from dspex import Gateway, gateway_lm
from dspex._compat import is_infrastructure, lm15, plain_response
from dspex.models.call_log import CallLimit, CallLog, SharedAnswers, call_scope
from dspex.models.local.adapter import CompactAdapter
from dspex.models.selection import embedded_lm
from dspex.teams import WithProbabilities
from dspex.teleprompt.errors import ModelUnavailable, OptimisationError
from dspex.teleprompt.events import OptimisationSuspended
from dspex.teleprompt.report import OptimisationReport, Trial
from dspex.teleprompt.suspension import ModelSuspension
from dspex.testing.engine import Outage, ScriptedEngine, scripted_lm
from dspex.workflow.journal import Journal
from supervision import Runtime
from tests.dspex.fake_llama import FakeLlama

LABELS = {"text 0": "yes", "text 1": "no"}


class Books:
    """A journal in memory, and what is written in it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.storage = MemoryStorage()

    async def open(self, **options: Any) -> CallLog:
        """Open the books, as after a crash."""
        journal = Journal(self.storage, "optimisation")
        await journal.open({"test": 1})
        return CallLog(journal, ModelSuspension(self.runtime, **{"first": 0.001, **options}), ModelUnavailable)


@pytest.fixture
async def books(runtime: Runtime) -> Books:
    """Books, still empty."""
    return Books(runtime)


class Plain(dspy.BaseLM):  # type: ignore[misc]
    """A language model of the old kind: sync only."""

    def __init__(self) -> None:
        super().__init__("plain", cache=False)
        self.calls = 0

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """Answer."""
        self.calls += 1
        text = f"[[ ## label ## ]]\nyes {self.calls}\n\n[[ ## completed ## ]]"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return {"id": "1", "object": "chat.completion", "model": "plain", "choices": [choice], "usage": {}}


class PlainAsync(Plain):
    """The same, with an async engine."""

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """Answer."""
        return self.forward(prompt, messages, **kwargs)


def sync_only() -> Any:
    """An engine without an async one."""
    return dspy.LM("known/model", engine=ScriptedEngine(LABELS, base=1.0), cache=False)


def http(llama: FakeLlama) -> Any:
    """A model behind HTTP, by DSPy's own client."""
    llama.reply = "[[ ## label ## ]]\nyes\n\n[[ ## completed ## ]]"
    return dspy.LM("openai/smol", api_base=f"{llama.url}/v1", api_key="k", cache=False)


MODELS: dict[str, Any] = {
    "engine": lambda _: scripted_lm(ScriptedEngine(LABELS, base=1.0)),
    "sync engine": lambda _: sync_only(),
    "http": http,
    "dummy": lambda _: DummyLM([{"label": "yes"}, {"label": "yes"}]),
    "old": lambda _: Plain(),
    "old, async": lambda _: PlainAsync(),
}


OLD = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


@OLD
@pytest.mark.parametrize("name", MODELS)
async def test_any_model_pays_once(books: Books, llama: FakeLlama, name: str) -> None:
    """Sync and async, a repeated run has its answers from the journal; DSPy's books are kept as ever."""
    program = dspy.Predict("text -> label")
    answers = []
    for _ in range(2):
        call_log = await books.open()
        lm = call_log.durable(given := MODELS[name](llama))
        assert call_log.durable(given) is call_log.durable(lm) is lm
        assert call_log.original(lm) is given
        assert call_log.durable(None) is None
        assert "api_key" not in lm.kwargs
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()), dspy.track_usage():
            first = await program.acall(text="text 0")
            second = await asyncio.to_thread(lambda: program(text="text 0"))
        assert len(lm.history) == 2
        answers.append((first.label, second.label, call_log.calls + call_log.replayed))
        paid = call_log.calls
    assert answers[0] == answers[1]
    assert answers[0][2] == 2
    assert paid == 0


async def test_how_probable_an_answer_is_is_kept_with_it(books: Books, llama: FakeLlama) -> None:
    """A team's rule is fitted to probabilities: evaluated without them, or gone on with, it would be another."""
    llama.weights = {"red": 0.2, "blue": 0.6}
    colour = dspy.Signature("text -> label").with_updated_fields("label", type_=Literal["red", "blue"])
    program = WithProbabilities(dspy.Predict(colour))
    for calls in (1, 0):
        call_log = await books.open()
        with dspy.context(lm=call_log.durable(embedded_lm(llama.endpoint)), adapter=CompactAdapter()):
            found = await program.acall(text="text 0")
        assert (found.label, found.probabilities) == ("blue", pytest.approx({"red": 0.25, "blue": 0.75}))
        assert call_log.calls == calls


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_streams_are_paid_for_as_well(books: Books, asynchronous: bool) -> None:
    """They come in one piece, and the second time from the journal."""
    engine = ScriptedEngine(LABELS, base=1.0)
    for _ in range(2):
        call_log = await books.open()
        program = dspy.streamify(dspy.Predict("text -> label"), is_async_program=asynchronous)
        with dspy.context(lm=call_log.durable(scripted_lm(engine)), adapter=dspy.ChatAdapter()):
            *_, last = [each async for each in program(text="text 0")]
        assert last.label == "yes"
    assert engine.calls == 1


async def test_dspys_cache_still_counts(books: Books) -> None:
    """A model that caches is not asked twice; DSPy's own cache answers."""
    call_log = await books.open()
    engine = ScriptedEngine(LABELS, base=1.0)
    lm = call_log.durable(scripted_lm(engine, cache=True))
    with dspy.context(lm=lm):
        for _ in range(2):
            await dspy.Predict("text -> label").acall(text="text 0")
    assert engine.calls == 1


@OLD
async def test_equal_requests_are_told_apart(books: Books) -> None:
    """By the piece of work that asks, by the rollout, and by how often it has asked."""
    call_log = await books.open()
    lm = call_log.durable(MODELS["old, async"](None))
    program = dspy.Predict("text -> label")

    async def ask(name: str, **options: Any) -> str:
        with call_scope(name), dspy.context(lm=lm.copy(**options), adapter=dspy.ChatAdapter()):
            return str((await program.acall(text="text 0")).label)

    first = [await ask("a"), await ask("b"), await ask("a", rollout_id=1, temperature=1.0)]
    assert len(set(first)) == 3
    assert [await ask("a"), await ask("b")] == first[:2]
    assert (call_log.calls, call_log.replayed) == (3, 2)


async def test_a_call_outlives_whoever_made_it(books: Books) -> None:
    """When the caller dies, the call goes on; who asks the same again waits for it, and it is paid once."""
    came, let = asyncio.Event(), asyncio.Event()

    class Slow:
        async def complete(self, request: Any) -> Any:
            came.set()
            await let.wait()
            return plain_response(request, "[[ ## label ## ]]\nyes\n\n[[ ## completed ## ]]")

    call_log = await books.open()
    lm = call_log.durable(dspy.LM("slow/model", engine=ScriptedEngine(LABELS), async_engine=Slow(), cache=False))

    async def ask() -> Any:
        with call_scope("job"), dspy.context(lm=lm):
            return await dspy.Predict("text -> label").acall(text="text 0")

    first = asyncio.ensure_future(ask())
    await came.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(ask())
    while call_log.in_flight and not let.is_set():
        await asyncio.wait([second], timeout=0.01)
        let.set()
    assert (await second).label == "yes"
    assert (call_log.calls, call_log.in_flight) == (1, 0)
    let.clear()
    third = asyncio.ensure_future(_other(lm))
    came.clear()
    await came.wait()
    await call_log.close(OptimisationError("the optimisation has ended"))
    with pytest.raises(asyncio.CancelledError):
        await third
    with pytest.raises(dspy.LMUnexpectedError, match="the optimisation has ended"):
        await _other(lm)


async def _other(lm: Any) -> Any:
    with call_scope("other"), dspy.context(lm=lm):
        return await dspy.Predict("text -> label").acall(text="text 1")


async def test_no_more_calls_are_made_than_there_may_be(books: Books) -> None:
    """One more waits for those on their way, and is made if one of them fails. Who begins again has not asked yet."""
    came, let = asyncio.Event(), asyncio.Event()
    fails = [True, False]

    class Slow:
        async def complete(self, request: Any) -> Any:
            came.set()
            await let.wait()
            if fails.pop(0):
                raise lm15.InvalidRequestError("too long")
            return plain_response(request, "[[ ## label ## ]]\nyes\n\n[[ ## completed ## ]]")

    call_log = await books.open()
    call_log.limit = CallLimit(1, error=lambda: OptimisationError("that was all"))
    lm = call_log.durable(dspy.LM("slow/model", engine=ScriptedEngine(LABELS), async_engine=Slow(), cache=False))

    async def ask(name: str) -> Any:
        with call_scope(name), dspy.context(lm=lm):
            return await dspy.Predict("text -> label").acall(text="text 0")

    asked = [asyncio.ensure_future(ask(name)) for name in ("first", "second", "third")]
    await came.wait()
    call_log.reopen(OptimisationError)
    let.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], dspy.LMInvalidRequestError)
    assert getattr(found[1], "label", None) == "yes"
    assert "that was all" in str(found[2])
    call_log.check()  # the third had asked before it was begun again
    with pytest.raises(dspy.LMUnexpectedError, match="that was all"):
        await ask("third")
    with pytest.raises(OptimisationError, match="that was all"):
        call_log.check()
    call_log.reopen(ModelUnavailable)
    assert call_log.broken is not None
    call_log.reopen(OptimisationError)
    assert (await ask("second")).label == "yes"
    assert (call_log.calls, call_log.replayed) == (1, 1)


async def test_an_answer_that_cannot_be_kept_ends_it(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is not used; and no later call is made."""
    call_log = await books.open()
    engine = ScriptedEngine(LABELS, base=1.0)
    lm = call_log.durable(scripted_lm(engine))

    async def fail(*_: Any, **__: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(books.storage, "write", fail)
    for _ in range(2):
        with pytest.raises(dspy.LMUnexpectedError, match="the disk is full"), dspy.context(lm=lm):
            await dspy.Predict("text -> label").acall(text="text 0")
    assert engine.calls == 1
    with pytest.raises(StorageError, match="the disk is full"):
        call_log.check()


async def test_a_refusal_of_one_request_ends_nothing(books: Books) -> None:
    """Unless it is told that this is the end."""
    call_log = await books.open()

    def refuse(number: int) -> None:
        raise lm15.InvalidRequestError("too long")

    lm = call_log.durable(scripted_lm(ScriptedEngine(LABELS, before=refuse)))
    with pytest.raises(dspy.LMInvalidRequestError, match="too long"), dspy.context(lm=lm):
        await dspy.Predict("text -> label").acall(text="text 0")
    call_log.check()
    assert not call_log.over.is_set()


async def test_entries_that_wait_are_written_together(runtime: Runtime) -> None:
    """Many entries at once cost few writes; one that nobody waits for any more is written all the same."""

    class Counting(MemoryStorage):
        writes = 0

        async def write(self, *args: Any, **kwargs: Any) -> None:
            self.writes += 1
            await asyncio.sleep(0)  # noqa: TID251 - a storage takes its time
            if self.writes == 4:
                raise StorageError("full")
            await super().write(*args, **kwargs)

    storage = Counting()
    journal = Journal(storage, "optimisation")
    await journal.open({"a": 1})
    tasks = [asyncio.ensure_future(journal.add("n", str(n), n)) for n in range(50)]
    await asyncio.wait(tasks[:1])
    assert storage.writes <= 3
    await asyncio.gather(*tasks)
    assert journal.count("n") == 50
    storage.writes = 0
    left = asyncio.ensure_future(journal.add("n", "left", 1))
    await asyncio.sleep(0)  # noqa: TID251 - until it waits
    left.cancel()
    await journal.add("n", "last", 2)
    again = Journal(storage, "optimisation")
    assert await again.open({"a": 1})
    assert again.find("n", "left") == 1
    storage.writes = 3
    lost = asyncio.ensure_future(journal.add("n", "lost", 1))
    await asyncio.sleep(0)  # noqa: TID251 - until it waits
    lost.cancel()
    assert journal.find("n", "lost") is None
    with pytest.raises(StorageError):
        storage.writes = 3
        await journal.add("n", "lost too", 1)
    assert runtime is not None


# -- the suspension -------------------------------------------------------------------------------------------


async def test_an_outage_stops_everything_at_once(runtime: Runtime) -> None:
    """Of many callers, those on their way fail; then one looks, the others wait, and all are answered in the end."""
    suspension = ModelSuspension(runtime, first=0.01, most=0.02)
    outage, calls = Outage(3, 9), 0
    assert suspension.suspended is None

    async def call() -> int:
        nonlocal calls
        calls += 1
        if outage.covers(calls):
            await asyncio.sleep(0)  # noqa: TID251 - the others are on their way as well
            raise lm15.ServerError("gone")
        return calls

    async def ask() -> int:
        found = await suspension.run(call)
        await runtime.sleep(0.001)
        return found

    asked = [asyncio.ensure_future(ask()) for _ in range(5)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert suspension.suspended is not None
    late = [asyncio.ensure_future(ask()) for _ in range(20)]
    answers = await asyncio.gather(*asked, *late)
    assert len(set(answers)) == 25
    assert (suspension.outages, suspension.failed_calls, calls) == (1, 7, 32)


async def test_calls_that_wait_for_their_model_are_not_waited_for(books: Books) -> None:
    """Nothing was paid for yet."""
    call_log = await books.open(first=60.0, most=60.0)
    lm = call_log.durable(scripted_lm(ScriptedEngine(LABELS, outage=Outage(1))))
    suspended = asyncio.Event()
    books.runtime.subscribe(lambda _: suspended.set(), OptimisationSuspended)
    asking = asyncio.ensure_future(lm.acall("text 0"))
    await suspended.wait()
    await call_log.drain()
    assert call_log.in_flight == 1
    await call_log.close(OptimisationError("over"))
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_model_says_when_to_come_back(runtime: Runtime) -> None:
    """``Retry-After`` counts more than our own pace; other errors are the caller's, also while looking."""
    suspension = ModelSuspension(runtime, first=30.0)
    errors: list[Any] = [dspy.LMRateLimitError("slow down", retry_after=0.001), None]

    async def call() -> str:
        error = errors.pop(0)
        if error is not None:
            raise error
        return "back"

    assert await suspension.run(call) == "back"
    errors = [dspy.LMRateLimitError("slow down", retry_after=0.001), KeyError("x")]
    with pytest.raises(KeyError):
        await suspension.run(call)
    assert suspension.suspended is None
    errors = [KeyError("y")]
    with pytest.raises(KeyError):
        await suspension.run(call)
    await suspension.pause(dspy.LMRateLimitError("slow down", retry_after=0.001))


async def test_without_patience_it_waits_for_ever(runtime: Runtime) -> None:
    """None is for ever; a number is kept."""
    forever, short = ModelSuspension(runtime, None, first=0.001), ModelSuspension(runtime, 0.005, first=0.002)
    left = 4

    async def call() -> str:
        nonlocal left
        left -= 1
        if left > 0:
            raise dspy.LMServerError("the cable is cut")
        return "back"

    assert await forever.run(call) == "back"
    left = 1000
    with pytest.raises(ModelUnavailable, match="the cable is cut"):
        await short.run(call)


def test_what_is_infrastructure() -> None:
    """A model that is unavailable is; a request that it refuses is not."""
    assert is_infrastructure(dspy.LMTransportError("x"))
    assert is_infrastructure(lm15.RateLimitError("x"))
    assert not is_infrastructure(lm15.InvalidRequestError("x"))
    assert not is_infrastructure(ValueError("x"))


# -- the report ----------------------------------------------------------------------------------------------


def test_a_report_without_pictures(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib there is a page, and no picture in it."""
    report = OptimisationReport("SIMBA", 0, False)
    assert report.best == 0.0
    report.note(Trial(1, 0.5, 10, 1, {"step": 0}))
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    report.save(tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "trials.png" not in page
    assert "| 1 | 0.5000 | 10 | 1 | step: 0 |" in page
    assert not (tmp_path / "trials.png").exists()


async def test_what_it_costs_is_counted_once(books: Books, llama: FakeLlama) -> None:
    """As DSPy estimates it, or as a gateway says; what comes from the journal costs nothing."""
    llama.reply = "[[ ## label ## ]]\nyes\n\n[[ ## completed ## ]]"
    priced = dspy.LM("openai/gpt-4o-mini", api_base=f"{llama.url}/v1", api_key="k", cache=False)
    endpoints = {"a": {"lm": scripted_lm(ScriptedEngine(LABELS)), "price": {"input": 1e6, "output": 0}}}
    await books.runtime.spawn(Gateway, endpoints, {"dear": {"endpoints": ["a"]}})
    dear = gateway_lm(books.runtime, "dear")
    costs = []
    for _ in range(2):
        call_log = await books.open()
        for lm in (priced, dear):
            with dspy.context(lm=call_log.durable(lm), adapter=dspy.ChatAdapter()):
                await dspy.Predict("text -> label").acall(text="text 0")
            costs.append(call_log.dollars)
    assert 0 < costs[0] < 0.01
    assert costs[1] > 10
    assert costs[2:] == [0.0, 0.0]


# -- answers that all share --------------------------------------------------------------------------------------------


async def shared_logs(books: Books, shared: SharedAnswers, count: int = 1) -> list[CallLog]:
    """Several logs of the same work."""
    journal = Journal(books.storage, "optimisation")
    await journal.open({"test": 1})
    waits = [ModelSuspension(books.runtime, first=0.001) for _ in range(count)]
    return [CallLog(journal, one, ModelUnavailable, shared=shared) for one in waits]


@pytest.mark.filterwarnings("ignore:rollout_id has no effect:UserWarning")
async def test_at_temperature_0_an_answer_is_asked_for_once_whoever_asks(books: Books) -> None:
    """In any scope, and again after a restart. One by chance, and one of its own, is asked for by each."""
    engine, program = ScriptedEngine(LABELS, base=1.0), dspy.Predict("text -> label")
    for once in (True, False):
        (call_log,) = await shared_logs(books, SharedAnswers())
        lm = call_log.durable(scripted_lm(engine))
        for name in ("one", "two"):
            with call_scope(name), dspy.context(lm=lm):
                await program.acall(text="text 0")
                await program.acall(text="text 0")
        totals = call_log.totals
        assert (totals.calls, totals.replayed, totals.reused) == (int(once), int(not once), 3)
    before = engine.calls
    for options in ({"temperature": 0.5}, {"temperature": None}, {"rollout_id": 1, "temperature": 0.0}):
        lm = call_log.durable(scripted_lm(engine, **options))
        for name in ("one", "two"):
            with call_scope(name), dspy.context(lm=lm):
                await program.acall(text="text 0")
    assert engine.calls == before + 6


async def test_models_of_one_name_do_not_share_and_are_told_apart_in_the_order_in_which_they_come(books: Books) -> None:
    shared = SharedAnswers()
    one, two = (scripted_lm(ScriptedEngine(LABELS, base=base)) for base in (1.0, 0.0))
    logs = await shared_logs(books, shared, 2)
    assert [shared.number(lm) for lm in (one, two, one)] == [0, 1, 0]
    program, said = dspy.Predict("text -> label"), []
    for call_log, lm in ((logs[1], two), (logs[0], one)):
        with dspy.context(lm=call_log.durable(lm)):
            said.append((await program.acall(text="text 0")).label)
    assert said == ["no", "yes"]
    logs[0].begin()
    assert shared.number(two) == 0


async def test_two_logs_that_ask_at_once_pay_once(books: Books) -> None:
    """If the first one gives up, the other one asks itself."""
    shared, begun, go = SharedAnswers(), asyncio.Event(), asyncio.Event()
    engine = ScriptedEngine(LABELS, base=1.0)

    class Waiting:
        """Answers when it is told to."""

        def __deepcopy__(self, memo: Any) -> Waiting:
            return self

        async def complete(self, request: Any) -> Any:
            begun.set()
            await go.wait()
            return engine.complete(request)

    given = dspy.LM("known/model", engine=engine, async_engine=Waiting(), cache=False, num_retries=0, temperature=0.0)
    logs = await shared_logs(books, shared, 2)
    program = dspy.Predict("text -> label")

    async def ask(call_log: CallLog, text: str) -> Any:
        with dspy.context(lm=call_log.durable(given)):
            return (await program.acall(text=text)).label

    first = asyncio.ensure_future(ask(logs[0], "text 0"))
    await begun.wait()
    others = [asyncio.ensure_future(ask(one, "text 0")) for one in logs]
    go.set()
    assert [await first, *(await asyncio.gather(*others))] == ["yes"] * 3
    assert engine.calls == 1
    begun.clear()
    go.clear()
    waits = asyncio.Event()

    class Watched(dict[str, Any]):
        """Tells when somebody waits for one of them."""

        def __getitem__(self, key: str) -> Any:
            waits.set()
            return super().__getitem__(key)

    shared.under_way = Watched()
    first = asyncio.ensure_future(ask(logs[0], "text 1"))
    await begun.wait()
    other = asyncio.ensure_future(ask(logs[1], "text 1"))
    await waits.wait()
    await logs[0].close(OptimisationError("it has ended"))
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await other == "no"
    assert engine.calls == 2
