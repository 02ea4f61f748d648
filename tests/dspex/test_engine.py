"""The engines: choosing among a few values, and everything else."""

from __future__ import annotations

import copy
import math
from collections import Counter
from random import Random
from typing import Any

import dspy
import httpx
import pytest

from dspex._compat import lm15
from dspex.models.local.engine import AsyncChoiceEngine, ChoiceEngine, choice_of
from dspex.models.local.server import NotServing
from dspex.models.selection import embedded_lm
from tests.dspex.fake_llama import FakeLlama

LABELS = {"properties": {"mood": {"title": "Mood", "enum": ["good", "bad"]}}}


def asked(schema: dict[str, Any] | None = None, **config: Any) -> Any:
    """A request for a choice by ``schema``, or for free text."""
    format = None if schema is None else {"type": "json_schema", "schema": {"type": "object", **schema}}
    return lm15.Request(
        model="local/fake",
        system="Judge.",
        messages=(lm15.Message.user("Text: fine"),),
        config=lm15.Config(response_format=format, **config),
    )


async def both(llama: FakeLlama, request: Any) -> Any:
    """The answer of the sync engine, after making sure that the async one gives the same."""
    answer = ChoiceEngine(llama.endpoint).complete(request)
    again = await AsyncChoiceEngine(llama.endpoint).complete(request)
    assert (again.message, again.usage) == (answer.message, answer.usage)
    return answer


async def test_the_likeliest_value_is_chosen(llama: FakeLlama) -> None:
    """Without a temperature, the value with the highest probability is the answer, as JSON."""
    llama.weights = {"good": 0.2, "bad": 0.6}
    answer = await both(llama, asked(LABELS))
    assert answer.message.text == '{"mood": "bad"}'
    assert answer.provider_data["choices"] == pytest.approx({"good": 0.25, "bad": 0.75})


async def test_one_pass_over_the_prompt_is_enough(llama: FakeLlama) -> None:
    """Values that begin with different tokens cost one completion of one token, after the title."""
    llama.weights = {"good": 1.0}
    ChoiceEngine(llama.endpoint).complete(asked(LABELS))
    (body,) = llama.asked("/completion")
    assert body["n_predict"] == 1
    assert body["prompt"] == "<system>Judge.\n<user>Text: fine\n<assistant>Mood:"


async def test_usage_is_what_was_read_and_judged(llama: FakeLlama) -> None:
    """The usage counts the tokens of the prompt and the one that was judged."""
    llama.weights = {"good": 1.0}
    usage = (await both(llama, asked(LABELS))).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 1, 8)


async def test_values_with_the_same_beginning_are_scored_whole(llama: FakeLlama) -> None:
    """If first tokens collide, whole values are compared: each costs one completion."""
    llama.weights = {"very": 0.5, "good": 0.1, "bad": 0.4, "fine": 0.2}
    schema = {"properties": {"mood": {"enum": ["very good", "very bad", "fine"]}}}
    answer = await both(llama, asked(schema))
    assert answer.message.text == '{"mood": "very bad"}'
    shares = {"very good": 0.05, "very bad": 0.2, "fine": 0.2}
    assert answer.provider_data["choices"] == pytest.approx({key: value / 0.45 for key, value in shares.items()})
    assert answer.usage.output_tokens == 8
    assert {body["n_predict"] for body in llama.asked("/completion")} == {2, 3}


async def test_values_that_are_not_text(llama: FakeLlama) -> None:
    """Numbers and booleans are offered as JSON writes them, and come back as what they are."""
    llama.weights = {"2": 0.9, "1": 0.1, "false": 1.0}
    answer = await both(llama, asked({"properties": {"stars": {"enum": [1, 2]}}}))
    assert answer.message.text == '{"stars": 2}'
    answer = await both(llama, asked({"properties": {"is_spam": {"type": "boolean"}}}))
    assert answer.message.text == '{"is_spam": false}'
    assert llama.asked("/completion")[-1]["prompt"].endswith("<assistant>Is spam:")


async def test_a_value_without_any_probability_is_never_chosen(llama: FakeLlama) -> None:
    """A value that the server does not even list has probability 0."""
    llama.weights = {"good": 1.0, "bad": 0.0}
    answer = await both(llama, asked(LABELS, temperature=2.0))
    assert answer.provider_data["choices"] == {"good": 1.0, "bad": 0.0}


async def test_a_temperature_draws_from_the_seed(llama: FakeLlama) -> None:
    """Above temperature 0 the value is drawn; the same seed draws the same."""
    llama.weights = {"good": 0.5, "bad": 0.5}
    drawn = [(await both(llama, asked(LABELS, temperature=1.0, seed=seed))).message.text for seed in range(12)]
    assert set(drawn) == {'{"mood": "good"}', '{"mood": "bad"}'}


def test_draws_without_a_seed_follow_the_probabilities(llama: FakeLlama) -> None:
    """Without a seed, draws come from the engine's source of chance, sharper at low temperatures."""
    llama.weights = {"good": 0.8, "bad": 0.2}
    engine = ChoiceEngine(llama.endpoint, chance=Random(5))
    counts = {}
    for temperature in (0.5, 1.0):
        texts = Counter(engine.complete(asked(LABELS, temperature=temperature)).message.text for _ in range(80))
        counts[temperature] = texts['{"mood": "bad"}']
    assert 0 <= counts[0.5] < counts[1.0] < 40


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"properties": {"a": {"enum": ["x", "y"]}, "b": {"enum": ["x", "y"]}}},
        {"properties": {"a": {"type": "string"}}},
    ],
    ids=["text", "no properties", "two properties", "free property"],
)
def test_other_requests_are_no_choice(schema: dict[str, Any] | None) -> None:
    """Free text, several properties and open properties are not choices."""
    assert choice_of(asked(schema)) is None


def test_a_request_with_tools_is_no_choice() -> None:
    """The model may call a tool instead of answering, so the request is a chat."""
    request = asked(LABELS)
    tool = lm15.FunctionTool(name="look", description="", parameters={"type": "object", "properties": {}})
    with_tools = lm15.Request(model="m", messages=request.messages, tools=(tool,), config=request.config)
    assert choice_of(with_tools) is None


async def test_free_text_goes_to_chat_completions(llama: FakeLlama) -> None:
    """A request without a choice is an ordinary chat completion, with its options."""
    answer = await both(llama, asked(max_tokens=9, temperature=0.5))
    assert answer.message.text == "Answer: Paris"
    body = llama.asked("/v1/chat/completions")[0]
    assert body["temperature"] == 0.5
    assert body["messages"][0] == {"role": "system", "content": "Judge."}


async def test_free_text_can_be_streamed(llama: FakeLlama) -> None:
    """A chat comes piece by piece."""
    pieces = [event async for event in AsyncChoiceEngine(llama.endpoint).stream(asked())]
    assert [e.delta.text for e in pieces if e.type == "delta"] == ["Answer:", " Paris"]
    assert [e.type for e in ChoiceEngine(llama.endpoint).stream(asked())] == [
        "start",
        "delta",
        "delta",
        "end",
    ]


async def test_a_choice_can_be_streamed(llama: FakeLlama) -> None:
    """A choice comes in one piece."""
    llama.weights = {"good": 1.0}
    pieces = [event async for event in AsyncChoiceEngine(llama.endpoint).stream(asked(LABELS))]
    assert [e.delta.text for e in pieces if e.type == "delta"] == ['{"mood": "good"}']
    assert len(list(ChoiceEngine(llama.endpoint).stream(asked(LABELS)))) == len(pieces)


async def test_the_address_is_looked_up_at_each_request(llama: FakeLlama) -> None:
    """A server that moved is found at its new address."""
    llama.weights = {"good": 1.0}
    with FakeLlama() as other:
        other.weights = {"bad": 1.0}
        addresses = iter([llama.url, other.url, llama.url, other.url])
        sync, later = ChoiceEngine(lambda: next(addresses)), AsyncChoiceEngine(lambda: next(addresses))
        texts = [sync.complete(asked(LABELS)).message.text for _ in range(2)]
        texts += [(await later.complete(asked(LABELS))).message.text for _ in range(2)]
    assert texts == ['{"mood": "good"}', '{"mood": "bad"}'] * 2


REFUSALS = [
    (400, "exceed_context_size_error", lm15.ContextLengthError),
    (400, "invalid_request_error", lm15.InvalidRequestError),
    (429, "busy", lm15.RateLimitError),
    (504, "slow", lm15.TimeoutError),
    (503, "unavailable_error", lm15.ServerError),
]


@pytest.mark.parametrize(("status", "kind", "error"), REFUSALS)
async def test_refusals_are_lm15_errors(llama: FakeLlama, status: int, kind: str, error: type[Exception]) -> None:
    """What the server refuses is an error that DSPy understands, with the server's words."""
    llama.refusal = (status, f'{{"error": {{"type": "{kind}", "message": "too much"}}}}')
    with pytest.raises(error, match="too much"):
        ChoiceEngine(llama.endpoint).complete(asked(LABELS))
    with pytest.raises(error, match="too much"):
        await AsyncChoiceEngine(llama.endpoint).complete(asked(LABELS))


@pytest.mark.parametrize("body", ["oh no", "[]", '{"error": 3}'])
def test_a_refusal_in_other_words(llama: FakeLlama, body: str) -> None:
    """A refusal that is not llama-server's own is passed on as it is."""
    llama.refusal = (500, body)
    with pytest.raises(lm15.ServerError) as caught:
        ChoiceEngine(llama.endpoint).complete(asked(LABELS))
    assert caught.value.message == body


async def test_a_long_chat_is_an_error_of_context_length(llama: FakeLlama) -> None:
    """A chat that does not fit is told apart from other bad requests, however it is asked for."""
    why = "request (9 tokens) exceeds the available context size (8 tokens), try increasing it"
    llama.refusal = (400, f'{{"error": {{"type": "exceed_context_size_error", "message": "{why}"}}}}')
    with pytest.raises(lm15.ContextLengthError):
        await AsyncChoiceEngine(llama.endpoint).complete(asked())
    with pytest.raises(lm15.ContextLengthError):
        list(ChoiceEngine(llama.endpoint).stream(asked()))
    llama.refusal = (400, '{"error": {"type": "invalid_request_error", "message": "no"}}')
    with pytest.raises(lm15.InvalidRequestError) as caught:
        ChoiceEngine(llama.endpoint).complete(asked())
    assert not isinstance(caught.value, lm15.ContextLengthError)


@pytest.mark.parametrize("request_", [asked(LABELS), asked()], ids=["choice", "text"])
async def test_nobody_there_is_worth_another_try(request_: Any) -> None:
    """A refused connection is an error that DSPy tries again."""
    nowhere = "http://127.0.0.1:1"
    with pytest.raises(lm15.RETRYABLE_ERRORS):
        ChoiceEngine(lambda: nowhere).complete(request_)
    with pytest.raises(lm15.RETRYABLE_ERRORS):
        await AsyncChoiceEngine(lambda: nowhere).complete(request_)


def test_no_answer_in_time(llama: FakeLlama, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes too long is a time-out."""

    def slow(*args: object, **kwargs: object) -> None:
        raise httpx.ReadTimeout("slow")

    monkeypatch.setattr(httpx.Client, "post", slow)
    with pytest.raises(lm15.TimeoutError, match="no answer in time"):
        ChoiceEngine(llama.endpoint).complete(asked(LABELS))


def test_images_cannot_be_read(llama: FakeLlama) -> None:
    """A message with something else than text is refused, with the kind of thing it is."""
    image = lm15.ImagePart(data="aGk=")
    request = asked(LABELS)
    with_image = lm15.Request(model="m", messages=(lm15.Message.user([image]),), config=request.config)
    with pytest.raises(lm15.UnsupportedFeatureError, match="image"):
        ChoiceEngine(llama.endpoint).complete(with_image)


def test_requests_without_a_system_prompt(llama: FakeLlama) -> None:
    """Without a system prompt the template gets none, and a developer's message counts as one."""
    llama.weights = {"good": 1.0}
    messages = (lm15.Message.developer("Short."), lm15.Message.user("Hm"))
    request = lm15.Request(model="m", messages=messages, config=asked(LABELS).config)
    ChoiceEngine(llama.endpoint).complete(request)
    roles = [message["role"] for message in llama.asked("/apply-template")[0]["messages"]]
    assert roles == ["system", "user"]


def test_copies_are_the_engine_itself() -> None:
    """Deep copies of programs share the engine."""
    engine = ChoiceEngine(lambda: "")
    assert copy.deepcopy([engine])[0] is engine


async def test_dspy_tries_again_while_the_server_restarts(llama: FakeLlama, monkeypatch: pytest.MonkeyPatch) -> None:
    """A language model whose server is unavailable for a moment answers when it is back."""
    llama.weights = {"good": 1.0}
    waited: list[float] = []
    away = iter([True, True, False])

    def endpoint() -> str:
        if next(away):
            raise NotServing("language-model")
        return llama.url

    monkeypatch.setattr("dspy.clients.execution.time.sleep", waited.append)
    lm = embedded_lm(endpoint)
    assert lm("Hello") == ["Answer: Paris"]
    assert len(waited) == 2


def test_dspy_reports_what_stays_away() -> None:
    """When retries are over, the error is DSPy's, and retryable."""

    def endpoint() -> str:
        raise NotServing("language-model")

    lm = embedded_lm(endpoint, num_retries=0)
    with pytest.raises(dspy.LMTransportError, match="'language-model'") as caught:
        lm("Hello")
    assert dspy.is_retryable_lm_error(caught.value)


def test_infinitely_unlikely_values_are_fine(llama: FakeLlama) -> None:
    """A value of probability 0 has no finite logarithm, and the shares still add up."""
    llama.weights = {"good": 1.0, "bad": 0.0}
    shares = ChoiceEngine(llama.endpoint).complete(asked(LABELS)).provider_data["choices"]
    assert math.isclose(sum(shares.values()), 1.0)
