"""Signals outside: as CloudEvents 1.0 in JSON, and over HTTP (CloudEvents' JSON format, and its HTTP binding).

>>> signal = Signal(type="order.placed", source="/shop", id="1", data={"amount": 3}, extensions={"causationid": "0"})
>>> to_json(signal)
b'{"specversion":"1.0","type":"order.placed","source":"/shop","id":"1","data":{"amount":3},"causationid":"0"}'
>>> from_json(to_json(signal)) == signal
True
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from agents.core.signal import Signal
from agents.errors import BadSignal

#: The media type of one signal in JSON.
MEDIA_TYPE = "application/cloudevents+json"
_ATTRIBUTES = ("type", "source", "id", "subject", "time", "datacontenttype", "dataschema")
_JSON = ("application/json", "text/json")


def to_json(signal: Signal) -> bytes:
    """Return a signal in JSON, in one piece.

    Raises:
        BadSignal: its data, or an extension, cannot be written in JSON; or the name of an extension is invalid.
    """
    event: dict[str, Any] = {"specversion": signal.specversion}
    event.update((name, value) for name in _ATTRIBUTES if (value := getattr(signal, name)) is not None)
    if isinstance(signal.data, bytes):
        event["data_base64"] = signal.data
    elif signal.data is not None:
        event["data"] = signal.data
    try:
        return msgspec.json.encode({**event, **_extensions(signal)})
    except (TypeError, ValueError) as error:
        raise BadSignal("Signal.data", signal.data, f"give what can be written in JSON ({error})") from None


def from_json(body: bytes | str) -> Signal:
    """Return the signal that is written in JSON.

    Raises:
        BadSignal: it is not a CloudEvent 1.0.
    """
    try:
        event = msgspec.json.decode(body, type=dict[str, Any])
        if "data_base64" in event:
            event["data"] = base64.b64decode(event.pop("data_base64"), validate=True)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise BadSignal("event", body, f"give a CloudEvent in JSON ({error})") from None
    return _signal(event)


def to_http(signal: Signal) -> tuple[dict[str, str], bytes]:
    """Return a signal as the headers and the body of a request, in binary mode: the body is the data alone.

    Raises:
        BadSignal: its data, or an extension, cannot be written.
    """
    headers: dict[str, str] = {"ce-specversion": signal.specversion}
    for name in _ATTRIBUTES:
        value = getattr(signal, name)
        if value is not None and name != "datacontenttype":
            headers[f"ce-{name}"] = value.isoformat() if isinstance(value, datetime) else _quoted(value)
    headers.update((f"ce-{name}", _quoted(str(value))) for name, value in _extensions(signal).items())
    if signal.data is None:
        return headers, b""
    kind = signal.datacontenttype
    headers["content-type"] = kind or ("application/octet-stream" if isinstance(signal.data, bytes) else _JSON[0])
    if isinstance(signal.data, bytes):
        return headers, signal.data
    if isinstance(signal.data, str) and kind is not None and not _is_json(kind):
        return headers, signal.data.encode()
    try:
        return headers, msgspec.json.encode(signal.data)
    except (TypeError, ValueError) as error:
        raise BadSignal("Signal.data", signal.data, f"give what can be written in JSON ({error})") from None


def from_http(headers: Mapping[str, str], body: bytes) -> Signal:
    """Return the signal of a request, in binary or structured mode.

    Raises:
        BadSignal: it is not a CloudEvent 1.0.
    """
    known = {name.lower(): value for name, value in headers.items()}
    kind = known.get("content-type", "")
    if kind.startswith(MEDIA_TYPE):
        return from_json(body)
    event: dict[str, Any] = {name[3:]: unquote(value) for name, value in known.items() if name.startswith("ce-")}
    if kind:
        event["datacontenttype"] = kind
    if body:
        try:
            event["data"] = msgspec.json.decode(body) if _is_json(kind) else body
        except msgspec.MsgspecError as error:
            raise BadSignal("body", body, f"it is said to be JSON, and is not ({error})") from None
    return _signal(event)


def _signal(event: dict[str, Any]) -> Signal:
    known = {name: event.pop(name) for name in (*_ATTRIBUTES, "data", "specversion") if name in event}
    try:
        return msgspec.convert({"specversion": None, **known, "extensions": event}, Signal)
    except msgspec.ValidationError as error:
        raise BadSignal("event", known, f"give a CloudEvent 1.0 ({error})") from None


def _extensions(signal: Signal) -> Mapping[str, Any]:
    for name, value in signal.extensions.items():
        if not (name.isascii() and name.isalnum() and name == name.lower()) or name in _ATTRIBUTES:
            raise BadSignal("Signal.extensions", name, "give names of small letters and digits")
        if not isinstance(value, (str, int, bool)):
            raise BadSignal(f"Signal.extensions.{name}", value, "give a text, a whole number or a boolean")
    return signal.extensions


def _is_json(kind: str) -> bool:
    media = kind.partition(";")[0].strip()
    return media in _JSON or media.endswith("+json")


def _quoted(value: str) -> str:
    """Return a header's value: printable ASCII as it is, the rest percent-encoded."""
    return quote(value, safe="".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%'))
