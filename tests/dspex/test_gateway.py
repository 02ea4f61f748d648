"""The gateway: who answers, what it costs, and what happens when nobody may, or can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from structlog.testing import capture_logs

from dspex import ProgramActor, UsageTotals, gateway_lm
from dspex._compat import lm15, plain_response, streamed_words, token_price
from dspex.models.gateway import (
    BadGateway,
    BudgetSpent,
    Configure,
    DescribeModels,
    Endpoint,
    FellBack,
    Gateway,
    Model,
    Price,
)
from dspex.models.gateway.actor import WriteUsage
from dspex.models.gateway.router import router_of
from dspex.models.selection import BadSetting, select_lm
from dspex.testing.engine import ScriptedEngine
from foundation.events import BreakerChanged
from foundation.programs import Busy, RunProgram, Unavailable
from foundation.telemetry.collectors import collect_samples
from supervision import ChildSpec, Runtime, StartError, Supervisor
from supervision.events import Event, Restarted
from tests.dspex.fake_llama import FakeLlama

ANSWER = "[[ ## label ## ]]\nyes\n\n[[ ## completed ## ]]"
BAD_REQUEST = lm15.InvalidRequestError("no such parameter")
BUSY = lm15.RateLimitError("slow down", retry_after=7.0)
GONE = lm15.TransportError("gone")


class Script:
    """An engine that does what its ``steps`` say, one a request, and the last for all that follow."""

    supports_response_schema = False

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.requests: list[Any] = []
        self.cancelled = 0
        self.asked = asyncio.Semaphore(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Script:
        return self

    def _step(self, request: Any) -> Any:
        self.requests.append(request)
        self.asked.release()
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    async def complete(self, request: Any) -> Any:
        """Answer, raise, or wait for an event and then answer."""
        step = self._step(request)
        if isinstance(step, asyncio.Event):
            try:
                await step.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            step = ANSWER
        if isinstance(step, Exception):
            raise step
        return plain_response(request, step)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        """Answer in words; a step that is a tuple gives its words, and then raises the error at its end."""
        step = self._step(request)
        if isinstance(step, Exception):
            raise step
        words, error = step if isinstance(step, tuple) else (step, None)
        for event in streamed_words(plain_response(request, words)):
            if error is not None and event.type == "end":
                raise error
            yield event

    def lm(self, name: str = "known/script") -> Any:
        """Return it as a ``dspy.LM``."""
        engine = ScriptedEngine({})
        return dspy.LM(name, engine=engine, async_engine=self, cache=False, num_retries=0)


Start = Callable[..., Any]


@pytest.fixture
async def start(runtime: Runtime) -> Start:
    """Start a gateway; scripts stand for endpoints."""

    async def begin(endpoints: dict[str, Any], chain: list[str] | None = None, **model: Any) -> Any:
        found = {
            name: {"lm": given.lm(f"known/{name}")} if isinstance(given, Script) else given
            for name, given in endpoints.items()
        }
        models = {"fast": {"endpoints": chain or list(endpoints), **model}}
        await runtime.spawn(Supervisor, [ChildSpec("gateway", Gateway, (found, models), name="gateway")])
        return gateway_lm(runtime, "fast")

    return begin


@pytest.fixture
def events(runtime: Runtime) -> list[Event]:
    """What was told."""
    found: list[Event] = []
    runtime.subscribe(found.append, FellBack, BudgetSpent, BreakerChanged)
    return found


async def ask(lm: Any, **settings: Any) -> str:
    """Run a program with a language model."""
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), **settings):
        return str((await dspy.Predict("text -> label").acall(text="hello")).label)


def reading(runtime: Runtime, name: str, **labels: str) -> float:
    """Return a number of the metrics."""
    return sum(
        each.value
        for each in collect_samples(runtime)
        if each.name == name and labels.items() <= dict(each.labels).items()
    )


# -- the chain -----------------------------------------------------------------------------------------------


async def test_a_program_cannot_tell_it_from_a_language_model(start: Start, runtime: Runtime) -> None:
    """Sync and async; history, usage and cache are DSPy's."""
    lm = await start({"a": Script(ANSWER)})
    sync = await start_second(runtime)
    assert await ask(lm) == "yes"
    assert len(lm.history) == 1
    assert lm.model == "gateway/fast"
    assert await asyncio.to_thread(lambda: asyncio.run(ask(lm))) == "yes"
    with dspy.context(lm=sync, adapter=dspy.ChatAdapter(), track_usage=True):
        found = await asyncio.to_thread(lambda: dspy.Predict("text -> label")(text="hello"))
        again = await asyncio.to_thread(lambda: dspy.Predict("text -> label")(text="hello"))
    assert found.label == again.label == "yes"
    assert set(found.get_lm_usage()) == {"gateway/slow"}
    assert reading(runtime, "lm_requests", endpoint="b") == 1


async def start_second(runtime: Runtime) -> Any:
    """Add a model with an engine that is sync, and DSPy's cache."""
    lm = dspy.LM("known/sync", engine=ScriptedEngine({"hello": "yes"}, base=1.0))
    change = Configure({"b": {"lm": lm}}, {"slow": {"endpoints": ["b"]}})
    await runtime.name("gateway").call(change)
    return gateway_lm(runtime, "slow", temperature=0.5)


async def test_the_next_endpoint_answers_if_one_fails(start: Start, runtime: Runtime, events: list[Event]) -> None:
    """Each is asked as itself, by its own name."""
    first, second = Script(GONE), Script(ANSWER)
    lm = await start({"a": first, "b": second})
    assert await ask(lm) == "yes"
    assert [first.requests[0].model, second.requests[0].model] == ["known/a", "known/b"]
    assert events[0] == FellBack(seq=events[0].seq, time=events[0].time, model="fast", endpoint="a", error="gone")
    assert reading(runtime, "lm_failures", endpoint="a") == 1
    assert reading(runtime, "lm_fallbacks", model="fast") == 1


@pytest.mark.usefixtures("quiet")
async def test_a_bad_request_is_its_senders_own(start: Start, events: list[Event]) -> None:
    """Nobody else is asked."""
    second = Script(ANSWER)
    lm = await start({"a": Script(BAD_REQUEST), "b": second}, hedge=10.0)
    with pytest.raises(dspy.LMError, match="no such parameter"):
        await ask(lm)
    assert second.requests == []
    assert events == []


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("errors", "kind", "hint"),
    [
        ((BUSY, lm15.RateLimitError("me too", retry_after=3.0)), dspy.LMRateLimitError, 3.0),
        ((BUSY, GONE), dspy.LMTransportError, None),
        ((GONE, lm15.ServerError("broken")), dspy.LMServerError, None),
    ],
)
async def test_the_last_error_counts(
    start: Start, errors: tuple[Exception, Exception], kind: type[Exception], hint: float | None
) -> None:
    """Unless all have said that they are busy: then the one that is soonest ready says when."""
    lm = await start({"a": Script(errors[0]), "b": Script(errors[1])})
    with pytest.raises(kind) as caught:
        await ask(lm)
    assert getattr(caught.value, "retry_after", None) == hint


@pytest.mark.usefixtures("quiet")
async def test_an_endpoint_that_fails_too_often_is_left_alone(
    start: Start, runtime: Runtime, events: list[Event]
) -> None:
    first = Script(GONE)
    breaker = {"failures": 2, "reset_after": 1000.0}
    lm = await start({"a": {"lm": first.lm(), "breaker": breaker}})
    for _ in range(2):
        with pytest.raises(dspy.LMTransportError, match="gone"):
            await ask(lm)
    await runtime.name("gateway").call(DescribeModels())
    with pytest.raises(dspy.LMTransportError, match="fail too often") as caught:
        await ask(lm)
    assert 990 < caught.value.retry_after <= 1000
    assert len(first.requests) == 2
    assert reading(runtime, "lm_available", endpoint="a") == 0
    assert [event.after for event in events if isinstance(event, BreakerChanged)] == ["open"]


@pytest.mark.usefixtures("quiet")
async def test_an_endpoint_that_is_too_slow_is_given_up(start: Start, runtime: Runtime) -> None:
    """What was sent to it is paid for all the same."""
    slow = Script(asyncio.Event())
    lm = await start({"a": {"lm": slow.lm(), "timeout": 0.01, "price": {"input": 1e6, "output": 1e6}}})
    with pytest.raises(dspy.LMTimeoutError):
        await ask(lm)
    assert slow.cancelled == 1
    assert reading(runtime, "lm_dollars") > 10
    assert reading(runtime, "lm_in_flight") == 0


async def test_an_endpoint_is_tried_again_before_the_next_one(start: Start) -> None:
    first, second = Script(GONE, ANSWER), Script(ANSWER)
    lm = await start({"a": {"lm": first.lm(), "retries": 1}, "b": second})
    assert await ask(lm) == "yes"
    assert (len(first.requests), len(second.requests)) == (2, 0)


async def test_an_endpoint_that_refuses_is_not_tried_again_but_the_next_one_is_asked(start: Start) -> None:
    first, second = Script(lm15.AuthError("wrong key")), Script(ANSWER)
    lm = await start({"a": {"lm": first.lm(), "retries": 5}, "b": second})
    assert await ask(lm) == "yes"
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_so_many_at_once_and_no_more(start: Start) -> None:
    """The next one goes to the next endpoint."""
    gate = asyncio.Event()
    first, second = Script(gate), Script(ANSWER)
    lm = await start({"a": {"lm": first.lm(), "at_once": 1}, "b": second})
    waiting = asyncio.create_task(ask(lm))
    await first.asked.acquire()
    assert await ask(lm) == "yes"
    assert len(second.requests) == 1
    gate.set()
    assert await waiting == "yes"


# -- hedging -------------------------------------------------------------------------------------------------


async def test_a_slow_request_is_sent_to_the_next_one_as_well(start: Start, runtime: Runtime) -> None:
    """The first answer counts; the other request is called off."""
    slow, quick = Script(asyncio.Event()), Script(ANSWER)
    lm = await start({"a": slow, "b": quick}, hedge=0.001)
    assert await ask(lm) == "yes"
    assert slow.cancelled == 1
    assert reading(runtime, "lm_hedges", model="fast") == 1
    assert reading(runtime, "lm_in_flight") == 0


@pytest.mark.usefixtures("quiet")
async def test_if_one_of_two_fails_the_other_is_waited_for(start: Start) -> None:
    """If both fail, the chain has failed, once."""
    gate = asyncio.Event()
    slow, broken = Script(gate), Script(GONE)
    lm = await start({"a": slow, "b": broken}, hedge=0.001)
    waiting = asyncio.create_task(ask(lm))
    # The second request falls back from b to a, and waits there too.
    await slow.asked.acquire()
    await slow.asked.acquire()
    gate.set()
    assert await waiting == "yes"
    assert len(broken.requests) == 1


@pytest.mark.usefixtures("quiet")
async def test_a_chain_that_fails_at_once_is_not_walked_again(start: Start) -> None:
    first = Script(GONE)
    lm = await start({"a": first}, hedge=100.0)
    with pytest.raises(dspy.LMTransportError):
        await ask(lm)
    assert len(first.requests) == 1


@pytest.mark.usefixtures("quiet")
async def test_of_two_that_fail_the_last_error_counts(start: Start) -> None:
    class Late(Script):
        async def complete(self, request: Any) -> Any:
            await super().complete(request)
            raise GONE

    gate = asyncio.Event()
    late = Late(gate)
    lm = await start({"a": late}, hedge=0.001)
    waiting = asyncio.create_task(ask(lm))
    await late.asked.acquire()
    await late.asked.acquire()
    gate.set()
    with pytest.raises(dspy.LMTransportError, match="gone"):
        await waiting


# -- limits and budgets --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("limit", "title"),
    [
        ({"requests_per_minute": 2}, "requests per minute"),
        ({"tokens_per_minute": 600}, "tokens per minute"),
        ({"budgets": [{"requests": 2, "per": 3600}]}, "requests per hour"),
        ({"budgets": [{"tokens": 600, "per": 90}]}, "tokens per 90 s"),
        ({"budgets": [{"dollars": 3.5, "per": "day"}]}, "dollars per day"),
    ],
)
async def test_what_is_used_up_is_used_up(
    start: Start, runtime: Runtime, events: list[Event], limit: dict[str, Any], title: str
) -> None:
    """Whoever asks learns when there is room again; it is told once; and is seen in the metrics."""

    class Dear(Script):
        async def complete(self, request: Any) -> Any:
            answer = await super().complete(request)
            usage = lm15.Usage(200, 50, 250)
            return lm15.Response("1", request.model, answer.message, "stop", usage)

    script = Dear(ANSWER)
    price = {"input": 5000, "output": 10_000}  # 1.5 dollars for each answer
    lm = await start({"a": {"lm": script.lm(), "price": price, **limit}})
    lm = lm.copy(max_tokens=60)
    for _ in range(2):
        assert await ask(lm) == "yes"
    for _ in range(2):
        with pytest.raises(dspy.LMRateLimitError, match=title) as caught:
            await ask(lm)
    period = {"minute": 60, "hour": 3600, "90 s": 90, "day": 86_400}[title.rpartition("per ")[2]]
    assert period - 5 < caught.value.retry_after <= period
    assert len(script.requests) == 2
    assert [event.budget for event in events if isinstance(event, BudgetSpent)] == [title]
    left = {"requests": 0, "tokens": 100, "dollars": 0.5}[title.split(maxsplit=1)[0]]
    assert reading(runtime, "lm_budget_left", budget=title) == pytest.approx(left)
    assert reading(runtime, "lm_dollars") == pytest.approx(3.0)
    assert reading(runtime, "lm_tokens", type="input") == 400


async def test_what_was_spent_is_not_forgotten_by_a_restart(start: Start, runtime: Runtime) -> None:
    """Nor is a change of the configuration."""
    script = Script(ANSWER)
    lm = await start({"a": {"lm": script.lm(), "requests_per_minute": 5}, "b": Script(ANSWER)}, ["a"])
    assert await ask(lm) == "yes"
    await runtime.name("gateway").call(Configure({"a": {"lm": script.lm(), "requests_per_minute": 1}}))
    again = asyncio.Event()
    runtime.subscribe(lambda _: again.set(), Restarted)
    gateway = runtime.whereis("gateway")
    assert gateway is not None
    gateway.kill()
    await again.wait()
    with pytest.raises(dspy.LMRateLimitError):
        await ask(lm)
    assert reading(runtime, "lm_requests", endpoint="a") == 1


async def test_what_was_spent_is_kept_in_a_file(tmp_path: Path) -> None:
    """A budget for an hour is not new because the process is; but an hour later it is."""
    path = tmp_path / "kept" / "usage.json"
    script = Script(ANSWER)
    endpoints = {"a": {"lm": script.lm(), "budgets": [{"requests": 2, "per": "hour"}, {"tokens": 9999}]}}

    async def again(pause: float, more: int, **changed: Any) -> list[float]:
        """Begin anew some seconds later, ask so often, and tell how many requests are left before and after."""
        clock = Clock(pause)
        async with Runtime(reports=False, clock=clock) as runtime:
            models = {"fast": {"endpoints": list({**endpoints, **changed})}}
            actor = await runtime.spawn(Gateway, {**endpoints, **changed}, models, usage_file=str(path))
            found = [reading(runtime, "lm_budget_left", budget="requests per hour")]
            for _ in range(more):
                await ask(gateway_lm(runtime, "fast"))
            found.append(reading(runtime, "lm_budget_left", budget="requests per hour"))
            await actor.stop()
            return found

    assert await again(0, 1) == [2, 1]
    written = path.stat().st_mtime_ns
    assert await again(60, 0) == [1, 1]
    assert path.stat().st_mtime_ns == written
    assert await again(120, 1) == [1, 0]
    assert await again(3601, 0) == [1, 1]  # the first request is an hour old
    assert await again(3800, 0, a={"lm": script.lm()}) == [0, 0]  # it has no such budget any more
    assert await again(3800, 0) == [2, 2]
    endpoints["b"] = endpoints.pop("a")
    assert await again(120, 0) == [2, 2]
    path.write_text("{")
    with pytest.raises(StartError, match="remove it") as caught:
        await again(0, 0)
    assert isinstance(caught.value.__cause__, BadGateway)


class Clock:
    """A clock in a process that has begun so many seconds after the others; an hour there is none here."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        """Seconds of this process."""
        return 5.0

    def wall_time(self) -> float:
        """Seconds since 1970."""
        return 1e9 + self._pause

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_spending_is_written_every_second(runtime: Runtime, tmp_path: Path) -> None:
    """If that fails, the gateway goes on, and says so."""
    path = tmp_path / "usage.json"
    models = {"fast": {"endpoints": ["a"]}}
    actor = await runtime.spawn(Gateway, {"a": {"lm": Script(ANSWER).lm()}}, models, usage_file=path)
    await ask(gateway_lm(runtime, "fast"))
    actor.cast(WriteUsage())
    await actor.call(DescribeModels())
    assert path.exists()
    await actor.stop()
    actor = await runtime.spawn(Gateway, {"a": {"lm": Script(ANSWER).lm()}}, models, usage_file=path)
    path.unlink()
    path.mkdir()
    await ask(gateway_lm(runtime, "fast"))
    actor.cast(WriteUsage())
    with capture_logs() as logs:
        assert await actor.call(DescribeModels())
    assert [entry["event"] for entry in logs] == ["usage_not_written"]


async def test_the_configuration_is_changed_while_it_is_used(start: Start, runtime: Runtime) -> None:
    """What is not named stays; what makes no sense changes nothing."""
    lm = await start({"a": Script(ANSWER)})
    gateway = runtime.name("gateway")
    second = Script(ANSWER)
    await gateway.call(Configure({"b": Endpoint(second.lm())}, {"fast": Model(("b",))}))
    assert await ask(lm) == "yes"
    assert len(second.requests) == 1
    router = router_of(runtime, "gateway")
    assert router is not None
    kept = router.endpoints["a"]
    with pytest.raises(BadGateway, match="choose among a, b"):
        await gateway.call(Configure(models={"fast": Model(("c",))}))
    await gateway.call(Configure(endpoints={"b": {"lm": second.lm(), "breaker": {"failures": 1}}}))
    assert await gateway.call(DescribeModels()) == {"fast": Model(("b",))}
    assert router.endpoints["a"] is kept
    actor = gateway.resolve()
    assert actor is not None
    info = runtime.info(actor)
    assert info is not None
    assert info.summary == {"fast": "b"}


@pytest.mark.usefixtures("quiet")
async def test_a_model_that_is_gone_says_so(start: Start, runtime: Runtime) -> None:
    lm = await start({"a": Script(ANSWER)})
    router = router_of(runtime, "gateway")
    assert router is not None
    router.models = {}
    with pytest.raises(dspy.LMError, match="choose among none"):
        await ask(lm)


# -- configuration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "model", "complaint"),
    [
        ({"lm": ""}, {}, "give a dspy.BaseLM"),
        ({"lm": 7}, {}, "give a dspy.BaseLM"),
        ({"lm": "openai/"}, {}, "no model id"),
        ({"lm": "a/b", "options": {"num_retries": -1}}, {}, "num_retries"),
        ({"lm": "a/b", "timeout": 0}, {}, "Expected `float` > 0"),
        ({"lm": "a/b", "colour": "red"}, {}, "unknown field `colour`"),
        ({"lm": "a/b", "breaker": {"failures": 0}}, {}, "give failures above 0"),
        ({"lm": "a/b", "budgets": [{"dollars": 1, "per": "year"}]}, {}, "minute, hour, day, week"),
        ({"lm": "a/b", "budgets": [{"dollars": 1}]}, {}, "a budget in dollars says nothing"),
        ({"lm": "a/b"}, {"endpoints": []}, "name at least one"),
        ({"lm": "a/b"}, {"endpoints": ["z"]}, "choose among a"),
        ({"lm": "a/b"}, {"endpoints": ["a"], "hedge": -1}, "hedge"),
    ],
)
async def test_bad_configuration_is_named(
    runtime: Runtime, endpoint: dict[str, Any], model: dict[str, Any], complaint: str
) -> None:
    models = {"fast": {"endpoints": ["a"], **model}}
    with pytest.raises(Exception, match=complaint) as caught:
        await runtime.spawn(Gateway, {"a": endpoint}, models)
    assert "BadGateway" in repr(caught.value) + repr(caught.value.__cause__)


async def test_prices_are_those_that_dspy_knows(runtime: Runtime) -> None:
    """A model string gives a language model of DSPy's; its price may be known."""
    endpoints: dict[str, Any] = {
        "known": {"lm": "openai/gpt-4o-mini", "options": {"api_key": "k"}, "budgets": [{"dollars": 1.0}]},
        "given": {"lm": "openai/gpt-4o-mini", "price": Price(1.0, 2.0), "budgets": [{"dollars": 1.0}]},
        "local": {"lm": "local"},
    }
    await runtime.spawn(Gateway, endpoints, {"fast": {"endpoints": list(endpoints)}})
    router = router_of(runtime, "gateway")
    assert router is not None
    assert router.endpoints["known"].lm.kwargs["api_key"] == "k"
    assert token_price(router.endpoints["known"].lm) == pytest.approx((0.15, 0.6))
    assert router.endpoints["local"].lm.model == "local/smollm2"
    assert token_price(dspy.LM("nobody/knows")) is None
    declared = dspy.LM("ollama_chat/some")
    assert token_price(declared) is None


async def test_a_gateway_or_model_that_is_not_there(start: Start, runtime: Runtime) -> None:
    with pytest.raises(BadGateway, match="start a dspex"):
        gateway_lm(runtime, "fast")
    await start({"a": Script(ANSWER)})
    with pytest.raises(BadGateway, match="choose among fast"):
        gateway_lm(runtime, "slow")


# -- programs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lm", "environment"])
async def test_a_program_actor_names_it(start: Start, runtime: Runtime, how: str) -> None:
    await start({"a": Script(ANSWER)})
    ways: dict[str, dict[str, Any]] = {
        "lm": {"lm": "gateway/fast"},
        "environment": {"environ": {"DSPEX_LM": "gateway/fast", "DSPEX_TEMPERATURE": "0.5"}},
    }
    options = ways[how]
    actor = await runtime.spawn(ProgramActor, dspy.Predict("text -> label"), **options)
    answer = await actor.call(RunProgram({"text": "hello"}))
    assert answer.outputs == {"label": "yes"}


def test_without_a_tree_there_is_no_gateway() -> None:
    with pytest.raises(BadSetting, match="name a model"):
        select_lm({"DSPEX_LM": "gateway/fast"}, lambda: "")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("error", "refusal", "hint"),
    [(BUSY, Busy, 7.0), (lm15.RateLimitError("so busy"), Busy, 1.0), (lm15.ServerError("broken"), Unavailable, None)],
)
async def test_what_a_model_cannot_do_now_is_not_the_programs_error(
    start: Start, runtime: Runtime, error: Exception, refusal: type[Exception], hint: float | None
) -> None:
    """The HTTP server answers with 429 or 503, and says when to ask again."""
    lm = Script(error).lm()
    actor = await runtime.spawn(ProgramActor, dspy.Predict("text -> label"), lm=lm)
    with pytest.raises(refusal) as caught:
        await actor.call(RunProgram({"text": "hello"}))
    if hint is not None:
        assert getattr(caught.value, "retry_after", None) == hint


async def test_what_it_costs_is_on_the_programs_bill(start: Start, runtime: Runtime) -> None:
    """DSPy has no price for a language model of one's own; the gateway has."""
    accounts = UsageTotals(runtime)
    await start({"a": {"lm": Script(ANSWER).lm(), "price": {"input": 1e6, "output": 0}}})
    actor = await runtime.spawn(ProgramActor, dspy.Predict("text -> label"), lm="gateway/fast")
    await actor.call(RunProgram({"text": "hello"}))
    assert accounts.of().cost == reading(runtime, "lm_dollars") > 1


@pytest.mark.usefixtures("quiet")
async def test_the_loop_does_not_wait_for_itself(start: Start) -> None:
    lm = await start({"a": Script(ANSWER)})
    with dspy.context(lm=lm), pytest.raises(dspy.LMError, match="Use acall there"):
        dspy.Predict("text -> label")(text="hello")


# -- streams -------------------------------------------------------------------------------------------------


async def streamed(lm: Any, program: Any = None) -> tuple[str, str]:
    """Return the pieces of the label, and the label of the answer; of a program that is given, in a thread."""
    listeners = [dspy.streaming.StreamListener("label")]
    found = program or dspy.Predict("text -> label")
    stream = dspy.streamify(found, stream_listeners=listeners, is_async_program=program is None)
    pieces, label = "", ""
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        async for each in stream(text="hello"):
            if isinstance(each, dspy.Prediction):
                label = each.label
            elif isinstance(each, dspy.streaming.StreamResponse):
                pieces += each.chunk
    return pieces, label


class SyncOnly(dspy.Module):  # type: ignore[misc]
    """A program without ``aforward``: streamify runs it in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.label = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Label a text."""
        return self.label(text=text)


async def test_answers_are_streamed(start: Start, runtime: Runtime) -> None:
    """By the next endpoint, if the first has not begun; what it used is counted."""
    long = ANSWER.replace("yes", "one two three four five six seven eight nine ten eleven twelve thirteen")
    lm = await start({"a": Script(GONE), "b": Script(long)})
    pieces, label = await streamed(lm)
    assert pieces == label == "one two three four five six seven eight nine ten eleven twelve thirteen"
    assert await streamed(lm, SyncOnly()) == (pieces, label)
    with dspy.context(lm=lm):
        found = await asyncio.to_thread(lambda: asyncio.run(streamed(lm)))
    assert found == (pieces, label)
    assert reading(runtime, "lm_tokens", endpoint="b", type="output") > 30


@pytest.mark.usefixtures("quiet")
async def test_a_stream_that_has_begun_is_nobody_elses(start: Start) -> None:
    second = Script(ANSWER)
    lm = await start({"a": Script((ANSWER, GONE)), "b": second})
    with pytest.raises(BaseException) as caught:
        await streamed(lm)
    assert caught.group_contains(dspy.LMTransportError) if isinstance(caught.value, BaseExceptionGroup) else True
    assert second.requests == []


async def test_a_model_that_does_not_stream_answers_at_once(start: Start, runtime: Runtime) -> None:
    await start({"a": Script(ANSWER)})
    await start_second(runtime)
    for program in (SyncOnly(), None):
        assert (await streamed(gateway_lm(runtime, "slow"), program))[1] == "yes"


async def test_models_behind_http_stream(start: Start, llama: FakeLlama) -> None:
    """By DSPy's own client."""
    llama.reply = ANSWER
    lm = await start({"a": {"lm": "openai/smol", "options": {"api_base": f"{llama.url}/v1", "api_key": "k"}}})
    assert (await streamed(lm))[1] == "yes"
    assert await ask(lm) == "yes"
