"""Engines: requests, answers, errors, and the client of an OpenAI-compatible server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dspy import lm15 as lm15
from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport
from dspy.clients.capabilities import with_capability_planning as with_capability_planning


def text_of(parts: Any) -> str:
    """Return the text of a system prompt or of a message's parts.

    Raises:
        lm15.UnsupportedFeatureError: there is something else in it, such as an image.
    """
    if isinstance(parts, str):
        return parts
    for part in parts:
        if not isinstance(part, lm15.TextPart):
            raise lm15.UnsupportedFeatureError(f"a local model that chooses reads text only, not {part.type!r}")
    return "".join(part.text for part in parts)


def chat_messages(request: Any) -> list[dict[str, str]]:
    """Return a request's messages, the system prompt first, as llama-server's chat template takes them."""
    turns: list[tuple[str, Any]] = [(message.role, message.parts) for message in request.messages]
    if request.system is not None:
        turns.insert(0, ("system", request.system))
    roles = {"developer": "system"}
    return [{"role": roles.get(role, role), "content": text_of(parts)} for role, parts in turns]


def plain_response(request: Any, text: str) -> Any:
    """Return a text as the answer to a request; each word counts as one token."""
    asked = sum(len(str(turn["content"]).split()) for turn in chat_messages(request))
    usage = lm15.Usage(asked, len(text.split()), asked + len(text.split()))
    message = lm15.Message.assistant([lm15.TextPart(text)])
    return lm15.Response("known", request.model, message, "stop", usage)


def streamed_words(response: Any) -> Iterator[Any]:
    """Return the answer as the events of a stream, a word at a time."""
    events: Iterator[Any] = lm15.response_to_events(response)
    for event in events:
        if event.type == "delta":
            for word in re.findall(r"\s*\S+", event.delta.text):
                yield replace(event, delta=replace(event.delta, text=word))
        else:
            yield event


def _context_length(error: Any) -> Any:
    """Return the error for a prompt that is too long, if that is what llama-server complains about."""
    if "exceeds the available context size" not in error.message:
        return error
    return lm15.ContextLengthError(error.message, provider=error.provider, status=error.status)


@contextmanager
def _endpoint_errors() -> Generator[None]:
    try:
        yield
    except lm15.InvalidRequestError as error:
        raise _context_length(error) from error


def http_error(status: int, kind: str, message: str) -> Exception:
    """Return the lm15 error for a refusal by llama-server.

    Args:
        status: the HTTP status.
        kind: llama-server's own type of error.
        message: its explanation.
    """
    if kind == "exceed_context_size_error":
        refusal = lm15.ContextLengthError
    elif status in (408, 504):
        refusal = lm15.TimeoutError
    elif status == 429:
        refusal = lm15.RateLimitError
    else:
        refusal = lm15.InvalidRequestError if status < 500 else lm15.ServerError
    error: Exception = refusal(message, provider="llama-server", status=status, provider_code=kind or None)
    return error


class ChatEndpoint:
    """Ordinary chat completions of one OpenAI-compatible server, one request each, by DSPy's own client.

    Proxies in the environment are not for a server on this machine, and are ignored.

    Args:
        url: the server's base URL, without ``/v1``.
        timeout: seconds to wait for each piece of the answer.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._options: dict[str, Any] = {"api_key": "none", "base_url": f"{url}/v1"}
        self._transport: dict[str, Any] = {"read_timeout": timeout, "trust_env": False}

    def _sync(self) -> Any:
        return lm15.OpenAIChatLM(transport=StdlibTransport(**self._transport), **self._options)

    def _async(self) -> Any:
        return lm15.AsyncOpenAIChatLM(transport=StdlibAsyncTransport(**self._transport), **self._options)

    def complete(self, request: Any) -> Any:
        """Answer a request."""
        client = self._sync()
        try:
            with _endpoint_errors():
                return client.complete(request)
        finally:
            client.close()

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer a request piece by piece."""
        client = self._sync()
        try:
            with _endpoint_errors():
                yield from client.stream(request)
        finally:
            client.close()

    async def acomplete(self, request: Any) -> Any:
        """Answer a request, asynchronously."""
        client = self._async()
        try:
            with _endpoint_errors():
                return await client.complete(request)
        finally:
            await client.aclose()

    async def astream(self, request: Any) -> AsyncIterator[Any]:
        """Answer a request piece by piece, asynchronously."""
        client = self._async()
        try:
            with _endpoint_errors():
                async for event in client.stream(request):
                    yield event
        finally:
            await client.aclose()
