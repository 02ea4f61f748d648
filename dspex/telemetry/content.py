"""What is said of a conversation with a language model: its figures always, its messages only if that is wanted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from dspex._compat import Attempt, usage_figures
from dspex.telemetry import conventions as names
from supervision.logs import get_logger

_log: Any = get_logger("dspex")

#: The variable that says whether, and where, messages are written.
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Capture(Enum):
    """Where messages are written."""

    NO_CONTENT = (False, False)
    SPAN_ONLY = (True, False)
    EVENT_ONLY = (False, True)
    SPAN_AND_EVENT = (True, True)

    @property
    def on_spans(self) -> bool:
        """Whether on spans."""
        return self.value[0]

    @property
    def as_events(self) -> bool:
        """Whether as events."""
        return self.value[1]


_warned: set[str] = set()


def capture_of(environ: Mapping[str, str]) -> Capture:
    """Return where messages are written: nowhere, unless a variable of the environment says so.

    A value that nobody knows counts as none, and is told once.
    """
    given = environ.get(CAPTURE) or Capture.NO_CONTENT.name
    found = Capture.__members__.get(given.upper())
    if found is None:
        if given not in _warned:
            _warned.add(given)
            known = ", ".join(Capture.__members__)
            _log.warning("unknown_capture", variable=CAPTURE, value=given, known=known, used="NO_CONTENT")
        return Capture.NO_CONTENT
    return found


# -- figures -----------------------------------------------------------------------------------------------------------


def operation_of(attempt: Attempt) -> str:
    """Return what is done: a chat, or the completion of a text."""
    return names.TEXT_COMPLETION if getattr(attempt.lm, "model_type", "chat") == "text" else names.CHAT


def model_of(attempt: Attempt) -> str:
    """Return the name of a model, without that of its provider."""
    model = str(attempt.request.model if attempt.request is not None else attempt.legacy.get("model", ""))
    provider, slash, rest = model.partition("/")
    return rest if slash and provider == _provider_name(attempt) else model


def _provider_name(attempt: Attempt) -> str:
    return str(getattr(attempt.lm, "_provider_name", None) or type(attempt.lm).__name__)


def who(attempt: Attempt) -> dict[str, Any]:
    """Return the attributes of whoever is asked: these count for metrics, too."""
    provider = _provider_name(attempt)
    given = getattr(attempt.lm, "kwargs", None) or {}
    where = urlsplit(str(given.get("api_base") or given.get("base_url") or ""))
    found = {
        names.OPERATION: operation_of(attempt),
        names.PROVIDER: names.PROVIDERS.get(provider, provider),
        names.REQUEST_MODEL: model_of(attempt),
        names.SERVER_ADDRESS: where.hostname,
        names.SERVER_PORT: _port(where),
    }
    return {name: value for name, value in found.items() if value is not None}


def _port(where: Any) -> int | None:
    try:
        port: int | None = where.port
    except ValueError:
        return None
    return port or {"http": 80, "https": 443}.get(where.scheme)


def asked(attempt: Attempt) -> dict[str, Any]:
    """Return the attributes of what is asked."""
    config = attempt.request.config if attempt.request is not None else _Legacy(attempt.legacy)
    stop = config.stop
    choices = attempt.legacy.get("n")
    found = {
        names.TEMPERATURE: config.temperature,
        names.TOP_P: config.top_p,
        names.TOP_K: config.top_k,
        names.MAX_TOKENS: config.max_tokens,
        names.SEED: config.seed,
        names.STOP_SEQUENCES: ([stop] if isinstance(stop, str) else list(stop)) if stop else None,
        names.FREQUENCY_PENALTY: config.frequency_penalty,
        names.PRESENCE_PENALTY: config.presence_penalty,
        names.OUTPUT_TYPE: "json" if config.response_format else "text",
        names.CHOICE_COUNT: None if choices == 1 else choices,
        names.STREAM: attempt.streamed or None,
    }
    return {name: value for name, value in found.items() if value is not None}


class _Legacy:
    """The options of a request by DSPy's older contract."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def __getattr__(self, name: str) -> Any:
        return self._given.get(name)


def answered(response: Any, provider: str | None) -> dict[str, Any]:
    """Return the attributes of an answer: of what it does not say, nothing."""
    figures = usage_figures(response, provider)
    found = {
        names.RESPONSE_ID: figures.id,
        names.RESPONSE_MODEL: figures.model,
        names.FINISH_REASONS: list(figures.finish_reasons) or None,
        names.INPUT_TOKENS: figures.input_tokens,
        names.OUTPUT_TOKENS: figures.output_tokens,
        names.CACHE_READ_TOKENS: figures.cache_read_tokens,
        names.CACHE_CREATION_TOKENS: figures.cache_creation_tokens,
        names.REASONING_TOKENS: figures.reasoning_tokens,
        names.AUDIO_INPUT_TOKENS: figures.audio_input_tokens,
        names.AUDIO_OUTPUT_TOKENS: figures.audio_output_tokens,
    }
    return {name: value for name, value in found.items() if value is not None}


# -- messages ----------------------------------------------------------------------------------------------------------


def input_messages(attempt: Attempt) -> list[dict[str, Any]]:
    """Return what a model is shown, by the conventions' schema; DSPy's instructions are its first message."""
    if attempt.request is None:
        return [_legacy_message(message) for message in attempt.legacy.get("messages") or ()]
    system = attempt.request.system
    messages = [{"role": message.role, "parts": _parts(message.parts)} for message in attempt.request.messages]
    if system is not None:
        messages.insert(0, {"role": "system", "parts": [_text(system)] if isinstance(system, str) else _parts(system)})
    return messages


def output_messages(response: Any) -> list[dict[str, Any]]:
    """Return what a model has answered, by the conventions' schema."""
    responses = getattr(response, "responses", None)
    if responses is None:
        responses = (response,)
    if responses:
        return [_output(each.message.role, _parts(each.message.parts), each.finish_reason) for each in responses]
    return [_output("assistant", [_text(_as_text(each))], "stop") for each in response.outputs]


def _output(role: str, parts: list[dict[str, Any]], finish_reason: str) -> dict[str, Any]:
    return {"role": role, "parts": parts, "finish_reason": finish_reason}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _legacy_message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    return {"role": str(message.get("role")), "parts": [_legacy_part(part) for part in parts]}


def _legacy_part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return _text(str(part.get("text", ""))) if kind == "text" else {"type": str(kind or "unknown")}


def _parts(parts: Iterable[Any]) -> list[dict[str, Any]]:
    return [_part(part) for part in parts]


def _part(part: Any) -> dict[str, Any]:
    """Return a part of a message; of images and the like, only what they are: they can be large, and are elsewhere."""
    match part.type:
        case "text":
            return _text(part.text)
        case "thinking":
            return {"type": "reasoning", "content": part.text}
        case "data":
            return _text(json_text(part.value))
        case "tool_call":
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.input}
        case "tool_result":
            return {"type": "tool_call_response", "id": part.id, "result": _parts(part.content)}
        case kind:
            return {"type": kind}


def json_text(value: Any) -> str:
    """Return anything as a text in JSON; what JSON has no form for as its own text."""
    return json.dumps(value, ensure_ascii=False, default=str)
