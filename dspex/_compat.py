"""Everything that touches DSPy's inside: what is not in its documentation, or differs between its versions.

Written against DSPy 3.4. The rest of the package uses public names (``dspy.X``) and this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any, TypeVar

import dspy
from dspy import lm15 as lm15
from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport
from dspy.adapters.utils import annotation_allows_none as annotation_allows_none
from dspy.adapters.utils import apply_output_field_defaults as apply_output_field_defaults
from dspy.adapters.utils import format_field_value as format_field_value
from dspy.adapters.utils import get_annotation_name as get_annotation_name
from dspy.adapters.utils import parse_value as parse_value
from dspy.clients.capabilities import with_capability_planning as with_capability_planning
from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides
from dspy.utils.constants import IS_TYPE_UNDEFINED

T = TypeVar("T")


# -- settings ------------------------------------------------------------------------------------------------


def overrides() -> dict[str, Any]:
    """Return the settings that the running code has overridden with ``dspy.context``.

    ``dspy.context`` notes all settings, also those that it does not change; these are not overrides. (A
    setting that was overridden with the very object that ``dspy.configure`` had set cannot be told from one
    that was not.)
    """
    missing = object()
    noted = thread_local_overrides.get()
    return {key: value for key, value in noted.items() if main_thread_config.get(key, missing) is not value}


@contextmanager
def settings(declared: dict[str, Any]) -> Generator[None]:
    """Apply settings for one call: first the caller's overrides count, then ``declared``, then the global ones.

    Unless the caller keeps a trace, the call gets one of its own: DSPy's default is one list for the whole
    process.
    """
    with dspy.context(**{"trace": [], **declared, **overrides()}):
        yield


def adopt(caller: Context, kernel: str = "supervision.") -> Context:
    """Return the context in which to work for a caller: the caller's, but for which actor works.

    Args:
        caller: the caller's context.
        kernel: how the names of the kernel's context variables begin.
    """
    context = caller.copy()
    for variable, value in copy_context().items():
        if variable.name.startswith(kernel):
            context.run(variable.set, value)
    return context


def start_in(context: Context, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task in a given context."""
    return asyncio.get_running_loop().create_task(coroutine, context=context)


# -- programs and their fields -------------------------------------------------------------------------------


def is_async(program: Any) -> bool:
    """Return whether a program can run as a coroutine by itself (``acall``)."""
    return hasattr(program, "aforward")


def untyped(field: Any) -> bool:
    """Return whether a field of a signature was declared without a type, as in ``"question -> answer"``."""
    return bool(field.json_schema_extra.get(IS_TYPE_UNDEFINED, False))


def description(name: str, field: Any) -> str:
    """Return what the author of a signature wrote about a field, or an empty string."""
    text = field.json_schema_extra.get("desc") or ""
    return "" if text == f"${{{name}}}" else str(text)


def label(field: Any) -> str:
    """Return how a field is called in prompts, such as ``Sentiment``."""
    return str(field.json_schema_extra["prefix"]).rstrip().removesuffix(":")


# -- the lm15 engine types -----------------------------------------------------------------------------------


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


def _context_length(error: Any) -> Any:
    """Return the error for a prompt that is too long, if that is what llama-server complains about."""
    if "exceeds the available context size" not in error.message:
        return error
    return lm15.ContextLengthError(error.message, provider=error.provider, status=error.status)


@contextmanager
def _door_errors() -> Generator[None]:
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


class ChatDoor:
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
        door = self._sync()
        try:
            with _door_errors():
                return door.complete(request)
        finally:
            door.close()

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer a request piece by piece."""
        door = self._sync()
        try:
            with _door_errors():
                yield from door.stream(request)
        finally:
            door.close()

    async def acomplete(self, request: Any) -> Any:
        """Answer a request, asynchronously."""
        door = self._async()
        try:
            with _door_errors():
                return await door.complete(request)
        finally:
            await door.aclose()

    async def astream(self, request: Any) -> AsyncIterator[Any]:
        """Answer a request piece by piece, asynchronously."""
        door = self._async()
        try:
            with _door_errors():
                async for event in door.stream(request):
                    yield event
        finally:
            await door.aclose()
