"""Attempts at language models: seen below retries and cache, whatever kind of engine answers, in one piece or not."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex._compat import DirectLM, lm15
from dspex._compat.attempts import OBSERVER, AsyncObservedEngine, Attempt, ObservedEngine, error_name, observer
from dspex.telemetry.observation import Observation, current_observation
from tests.dspex.fixed_engine import QUESTION, FixedEngine, fields, fixed_lm

REQUEST = lm15.Request(model="openai/m", messages=(lm15.Message.user("?"),))


class Noting:
    """An observer that notes everything."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.told: list[Any] = []

    @contextmanager
    def attempt(self, attempt: Attempt) -> Generator[Any]:
        """Note it."""
        self.attempts.append(attempt)
        try:
            yield self
        except GeneratorExit:
            self.told.append("closed")
            raise
        except BaseException as error:
            self.failed(error)
            raise

    def piece(self) -> None:
        """Note a piece."""
        self.told.append("piece")

    def answered(self, response: Any) -> None:
        """Note an answer."""
        self.told.append(getattr(response, "id", None) or type(response).__name__)

    def failed(self, error: BaseException) -> None:
        """Note a failure."""
        self.told.append(error_name(error))

    def cache_hit(self) -> None:
        """Note a hit."""
        self.told.append("cached")


@pytest.fixture
def noting() -> Iterator[Noting]:
    """The observer of what a test runs."""
    made = Noting()
    with dspy.context(**{OBSERVER: made}):
        yield made


async def test_an_engine_is_observed_in_both_worlds(noting: Noting) -> None:
    """With what was asked, whom, and what came of it."""
    lm = fixed_lm(FixedEngine())
    lm("hello")
    await lm.acall("hello")
    assert noting.told == ["resp1", "resp1"]
    assert [(each.lm.model, each.streamed, each.legacy) for each in noting.attempts] == [("openai/m", False, {})] * 2
    assert noting.attempts[0].request.messages[0].text == "hello"


@pytest.mark.filterwarnings("ignore:Implementing custom LMs")
async def test_dspys_older_contract_is_observed_too(noting: Noting) -> None:
    """Its dummy, and models of one's own."""

    class Own(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            raise dspy.LMServerError("down")

    await DummyLM([{"answer": "1"}]).acall("hello")
    DummyLM([{"answer": "1"}])("hello")
    with pytest.raises(dspy.LMServerError):
        Own("own")("hello")
    assert noting.told == ["CallResult", "CallResult", "LMServerError"]
    assert [each.request for each in noting.attempts] == [None] * 3
    assert noting.attempts[0].legacy["messages"]


def test_each_retry_is_an_attempt(noting: Noting) -> None:
    """And an answer from the cache is none."""
    engine = FixedEngine(lm15.ServerError("down", retry_after=0), "up")
    lm = fixed_lm(engine, num_retries=1, cache=True)
    assert [lm(QUESTION), lm(QUESTION)] == [["up"], ["up"]]
    assert noting.told == ["LMServerError", "resp1", "cached"]


async def test_a_model_that_is_asked_past_dspy_is_observed_as_well(noting: Noting) -> None:
    """As a gateway and a worker's process do it."""
    engine = FixedEngine()
    await DirectLM(fixed_lm(engine)).ask(REQUEST)
    await DirectLM(dspy.LM("openai/m", engine=engine)).ask(REQUEST)
    assert [event.type async for event in DirectLM(fixed_lm(engine)).stream(REQUEST)][-1] == "end"
    assert [told for told in noting.told if told != "piece"] == ["resp1"] * 3
    assert noting.told[2:4] == ["piece", "piece"]
    assert [each.streamed for each in noting.attempts] == [False, False, True]


def test_without_an_observer_nothing_is_in_between() -> None:
    """The engine is asked as ever."""
    assert observer() is None
    assert current_observation() is None
    assert fixed_lm(FixedEngine("a"))("hello") == ["a"]


class Events:
    """An engine that streams what it is told."""

    def __init__(self, *events: Any) -> None:
        self._events = events
        self.closed = False

    def stream(self, request: Any) -> Iterator[Any]:
        """Stream."""
        try:
            for event in self._events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed = True


class AsyncEvents(Events):
    """The same for ``acall``."""

    async def stream(self, request: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        """Stream."""
        for event in super().stream(request):
            yield event


START, DELTA = lm15.StreamStartEvent("resp1", "m"), lm15.StreamDeltaEvent(lm15.TextDelta("a"))
END = lm15.StreamEndEvent("stop")
BROKEN = lm15.StreamErrorEvent(lm15.ErrorDetail("server", "down"))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((START, DELTA, DELTA, END), ["piece", "piece", "resp1"]),
        ((START, END), ["resp1"]),
        ((START, BROKEN), ["LMServerError"]),
        ((START, KeyError("k")), ["KeyError"]),
        ((5, END), ["AttributeError", "Response"]),
    ],
)
async def test_streams_are_observed_to_their_end(events: tuple[Any, ...], told: list[str]) -> None:
    """What is no event is passed on all the same; somebody else judges it."""
    noting, both = Noting(), Noting()
    sync = ObservedEngine(Events(*events), None, None, noting)
    asynchronous = AsyncObservedEngine(AsyncEvents(*events), None, None, both)
    seen: list[Any] = []
    try:
        seen.extend(sync.stream(REQUEST))
    except KeyError:
        seen.append(None)
    try:
        assert [event async for event in asynchronous.stream(REQUEST)] == seen
    except KeyError:
        seen.append(None)
    assert noting.told == both.told == told


def test_a_stream_that_is_closed_early_closes_its_engine() -> None:
    """As it would without an observer."""
    noting, engine = Noting(), Events(START, DELTA, END)
    events = ObservedEngine(engine, None, None, noting).stream(REQUEST)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert (engine.closed, noting.told) == (True, ["closed"])


def test_errors_have_dspys_names() -> None:
    """Also those of engines, and those of nobody."""
    errors = [lm15.TimeoutError("t"), lm15.ContextLengthError("c"), lm15.LM15Error("?"), KeyError("k")]
    names = ["LMTimeoutError", "ContextWindowExceededError", "LMUnexpectedError", "KeyError"]
    assert [error_name(error) for error in errors] == names


def test_an_observation_counts() -> None:
    """Attempts, failures with the first of them, and hits; a copy of it is itself, as settings are copied."""
    seen = Observation("c", 1, "canary")
    engine = FixedEngine(lm15.ServerError("down", retry_after=0), lm15.RateLimitError("full", retry_after=0), "up")
    with dspy.context(**{OBSERVER: seen}):
        assert current_observation() is seen
        lm = fixed_lm(engine, num_retries=2, cache=True)
        assert [lm("count"), lm("count")] == [["up"], ["up"]]
    assert (seen.attempts, seen.failures, seen.cache_hits, seen.first_error) == (3, 2, 1, "LMServerError")
    assert copy.deepcopy(seen) is seen


def test_of_what_is_said_of_an_attempt_the_first_word_counts() -> None:
    """An answer that fails on its way to the program was an answer."""
    seen = Observation()
    engine = ObservedEngine(Events(START, DELTA, END, KeyError("late")), None, None, seen)
    with pytest.raises(KeyError):
        list(engine.stream(REQUEST))
    engine = ObservedEngine(Events(BROKEN, KeyError("late")), None, None, seen)
    with pytest.raises(KeyError):
        list(engine.stream(REQUEST))
    assert (seen.attempts, seen.failures, seen.first_error) == (2, 1, "LMServerError")


def test_a_program_that_streams_in_a_thread_is_observed(noting: Noting) -> None:
    """DSPy streams there by the engine's own generator."""
    listener: Any = dspy.streaming.StreamListener
    program: Any = dspy.streamify(
        dspy.Predict("question -> answer"), stream_listeners=[listener("answer")], async_streaming=False
    )
    with dspy.context(lm=fixed_lm(FixedEngine(fields(answer="a")))):
        pieces = list(program(question=QUESTION))
    assert pieces[-1].answer == "a"
    assert noting.told[0] == "piece"
    assert noting.told[-1] == "resp1"
