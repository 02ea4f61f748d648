"""Engines for ``dspy.LM`` that score the allowed values instead of generating text.

A request whose answer is one of a few values (a JSON schema with a single property of type ``enum``, as the
adapters write for an output field of type ``Literal``) is not generated: the model is asked how likely each
value is to come next, and the likeliest wins. One pass over the prompt is enough when the values begin with
different tokens; otherwise each value is scored as a whole, its end included. With temperature 0 or none the
likeliest value is the answer; above 0 it is drawn with the probabilities sharpened or flattened by the
temperature, from the request's seed if it has one. Everything else goes to ordinary chat completions.

Written for llama.cpp's HTTP server (``/apply-template``, ``/tokenize``, ``/completion``).
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple, TypeVar

import httpx

from dspex._compat import ChatEndpoint, chat_messages, http_error, lm15

T = TypeVar("T")

#: Added to the candidates' logits, so that together they have all the probability there is.
BIAS = 60
#: Seconds to wait for an answer: on a busy machine, a long prompt takes its time.
TIMEOUT = 120.0


class Post(NamedTuple):
    """One question to the server."""

    path: str
    body: dict[str, Any]


#: What the server has to be asked to get a T: questions go out, answers come in, over any transport.
Exchange = Generator[Post, dict[str, Any], T]


class EnumChoice(NamedTuple):
    """A choice that a request asks for: a ``field``, its ``title`` in prompts, its possible values."""

    field: str
    title: str
    values: tuple[Any, ...]

    def texts(self) -> list[str]:
        """Return how the model would write each value."""
        return [value if isinstance(value, str) else json.dumps(value) for value in self.values]


class Scores(NamedTuple):
    """The logarithm of each candidate's probability, and how many tokens were read and judged for it."""

    logs: list[float]
    read: int
    judged: int


def choice_of(request: Any) -> EnumChoice | None:
    """Return the choice that a request asks for, or None if its answer is free."""
    wanted = request.config.response_format or {}
    properties = wanted.get("schema", {}).get("properties", {})
    if len(properties) != 1 or request.tools:
        return None
    ((field, schema),) = properties.items()
    values = schema.get("enum") or ((True, False) if schema.get("type") == "boolean" else ())
    title = schema.get("title") or field.replace("_", " ").capitalize()
    return EnumChoice(field, title, tuple(values)) if values else None


# -- what to ask the server ----------------------------------------------------------------------------------


def choose(request: Any, choice: EnumChoice, chance: Random) -> Exchange[Any]:
    """Answer a request that asks for a choice.

    Returns:
        The response: a JSON object with the one field, and the probabilities in ``provider_data["choices"]``.
    """
    texts = choice.texts()
    template = yield Post("/apply-template", {"messages": chat_messages(request)})
    prompt = f"{template['prompt']}{choice.title}:"
    tokens: list[list[int]] = []
    for text in texts:
        answer = yield Post("/tokenize", {"content": f" {text}"})
        tokens.append(answer["tokens"])
    distinct = len({sequence[0] for sequence in tokens}) == len(tokens)
    scores = yield from (_first_tokens if distinct else _whole_strings)(prompt, tokens)
    temperature = request.config.temperature or 0.0
    seed = request.config.seed
    picked = _pick(scores.logs, temperature, chance if seed is None else Random(seed))
    return _response(request, choice, picked, scores)


def _first_tokens(prompt: str, tokens: Sequence[Sequence[int]]) -> Exchange[Scores]:
    """Score candidates that begin with different tokens by these: one pass."""
    first = [sequence[0] for sequence in tokens]
    body = _completion(prompt, n_predict=1, n_probs=len(first) + 3, post_sampling_probs=True, cache_prompt=True)
    answer = yield Post("/completion", {**body, "logit_bias": [[token, BIAS] for token in first]})
    seen = {item["id"]: item["prob"] for item in answer["completion_probabilities"][0]["top_probs"]}
    logs = [_log(seen.get(token, 0.0)) for token in first]
    return Scores(logs, answer["tokens_evaluated"], 1)


def _whole_strings(prompt: str, tokens: Sequence[Sequence[int]]) -> Exchange[Scores]:
    """Score each candidate as a whole, with the end of the answer: one short pass each."""
    logs: list[float] = []
    read = judged = 0
    for sequence in tokens:
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in sequence)
        body = _completion(prompt, n_predict=len(sequence) + 1, n_probs=1, post_sampling_probs=False, cache_prompt=True)
        answer = yield Post("/completion", {**body, "grammar": grammar})
        steps = answer["completion_probabilities"]
        logs.append(sum(step["logprob"] for step in steps))
        read, judged = max(read, answer["tokens_evaluated"]), judged + len(steps)
    return Scores(logs, read, judged)


def _completion(prompt: str, **options: Any) -> dict[str, Any]:
    return {"prompt": prompt, "samplers": [], "temperature": 1.0, **options}


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0.0 else -math.inf


def _shares(logs: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Return the probabilities that belong to their logarithms, at a temperature."""
    best = max(logs)
    weights = [math.exp((log - best) / temperature) for log in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


def _pick(logs: Sequence[float], temperature: float, chance: Random) -> int:
    if temperature <= 0.0:
        return logs.index(max(logs))
    return chance.choices(range(len(logs)), _shares(logs, temperature))[0]


def _response(request: Any, choice: EnumChoice, picked: int, scores: Scores) -> Any:
    shares: dict[str, Any] = dict(zip(choice.texts(), _shares(scores.logs), strict=True))
    text = json.dumps({choice.field: choice.values[picked]}, ensure_ascii=False)
    return lm15.Response(
        id=None,
        model=request.model,
        message=lm15.Message.assistant([lm15.TextPart(text)]),
        finish_reason="stop",
        usage=lm15.Usage(input_tokens=scores.read, output_tokens=scores.judged),
        provider_data={"choices": shares},
    )


# -- who asks it ---------------------------------------------------------------------------------------------


@contextmanager
def _transport_errors(url: str) -> Generator[None]:
    """Turn what can happen on the way into lm15 errors, all of which DSPy tries again."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise lm15.TimeoutError(f"{url}: no answer in time", provider="llama-server") from error
    except httpx.TransportError as error:
        raise lm15.TransportError(f"{url}: {str(error) or type(error).__name__}", provider="llama-server") from error


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.is_success:
        return dict(response.json())
    try:
        error = response.json()["error"]
        kind, message = str(error["type"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        kind, message = "", response.text or response.reason_phrase
    raise http_error(response.status_code, kind, message)


def _client_options(url: str, timeout: float) -> dict[str, Any]:
    # No certificates are loaded (30 ms) and no proxy is asked: the server is on this machine.
    return {"base_url": url, "timeout": timeout, "verify": False, "trust_env": False}


class _Engine:
    """What both engines have in common. DSPy reads the two ``supports`` attributes.

    Args:
        endpoint: returns the server's base URL; asked at each request, as the server may have moved.
        timeout: seconds to wait for the server.
        chance: where draws come from when a request has no seed; a new source, seeded by the system, if None.
    """

    supports_response_schema = True
    supported_params = ("response_format", "temperature", "max_tokens", "top_p", "stop", "seed")

    def __init__(self, endpoint: Callable[[], str], *, timeout: float = TIMEOUT, chance: Random | None = None) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._chance = Random() if chance is None else chance

    def __deepcopy__(self, memo: dict[int, Any]) -> _Engine:
        """Return the engine itself: programs are copied with their predictors, connections are not."""
        return self


class ChoiceEngine(_Engine):
    """The engine for ``dspy.LM(..., engine=ChoiceEngine(endpoint))``, in any thread."""

    def complete(self, request: Any) -> Any:
        """Answer a request.

        Raises:
            lm15.LM15Error: there is no answer; `lm15.RETRYABLE_ERRORS` are worth another try.
        """
        url = self._endpoint()
        choice = choice_of(request)
        if choice is None:
            return ChatEndpoint(url, self._timeout).complete(request)
        with _transport_errors(url), httpx.Client(**_client_options(url, self._timeout)) as client:
            return self._exchange(choose(request, choice, self._chance), client)

    def _exchange(self, exchange: Exchange[Any], client: httpx.Client) -> Any:
        try:
            post = next(exchange)
            while True:
                post = exchange.send(_answer(client.post(post.path, json=post.body)))
        except StopIteration as end:
            return end.value

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer a request piece by piece; a choice comes in one piece."""
        if choice_of(request) is None:
            return ChatEndpoint(self._endpoint(), self._timeout).stream(request)
        return iter(lm15.response_to_events(self.complete(request)))


class AsyncChoiceEngine(_Engine):
    """The engine for ``dspy.LM(..., async_engine=AsyncChoiceEngine(endpoint))``, in any loop."""

    async def complete(self, request: Any) -> Any:
        """Answer a request.

        Raises:
            lm15.LM15Error: there is no answer; `lm15.RETRYABLE_ERRORS` are worth another try.
        """
        url = self._endpoint()
        choice = choice_of(request)
        if choice is None:
            return await ChatEndpoint(url, self._timeout).acomplete(request)
        with _transport_errors(url):
            async with httpx.AsyncClient(**_client_options(url, self._timeout)) as client:
                return await self._exchange(choose(request, choice, self._chance), client)

    async def _exchange(self, exchange: Exchange[Any], client: httpx.AsyncClient) -> Any:
        try:
            post = next(exchange)
            while True:
                post = exchange.send(_answer(await client.post(post.path, json=post.body)))
        except StopIteration as end:
            return end.value

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        """Answer a request piece by piece; a choice comes in one piece."""
        if choice_of(request) is None:
            async for event in ChatEndpoint(self._endpoint(), self._timeout).astream(request):
                yield event
        else:
            for event in lm15.response_to_events(await self.complete(request)):
                yield event
