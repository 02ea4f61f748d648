"""The body of a request: read within limits, and decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.types import Receive

from foundation.http.cancellation import TimeoutQueue
from foundation.http.forms import parse_form
from foundation.http.limits import Limits
from foundation.http.problems import Problem

T = TypeVar("T")

JSON = "application/json"
_JSON = JSON.encode()
#: The rest of a body that is refused is not read: the connection ends with the answer.
_CLOSE = {"connection": "close"}


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def media_type(heads: Mapping[bytes, bytes]) -> bytes:
    """Return what the body of a request is said to be."""
    said = heads.get(b"content-type", b"")
    return said if said == _JSON else said.partition(b";")[0].strip().lower()


class BodyReader:
    """Reads the bodies of requests.

    Args:
        limits: how long they may be and take, and how deep they may be nested.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reading: TimeoutQueue[_Reader] = TimeoutQueue(limits.body_timeout, _Reader.stop)

    async def json_of(self, request: Request, kind: type[T], what: str) -> T:
        """Return what the body of a request of the framework's holds. See `json`.

        Raises:
            Problem: it is something else, or too long, or does not come in time.
        """
        return await self.json(dict(request.scope["headers"]), request.receive, kind, what)

    async def json(
        self, heads: Mapping[bytes, bytes], receive: Receive, kind: type[T], what: str, longest: int | None = None
    ) -> T:
        """Return what the body of a request holds.

        Args:
            heads: of the request.
            receive: gives its body.
            kind: the type that it must have.
            what: what it is to be, for people.
            longest: how long it may be; what counts for all if None.

        Raises:
            Problem: it is something else, or too long, or does not come in time.
        """
        if media_type(heads) != _JSON:
            detail = f"the body must be {JSON}, and say so in Content-Type (with curl: --json)"
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-json", detail, headers={"accept": JSON, **_CLOSE})
        length = heads.get(b"content-length", b"")
        body = await self._read(length, receive, self._limits.max_body if longest is None else longest)
        value: T = _decoded(body, kind, what, self._limits.max_depth)
        return value

    async def form(self, heads: Mapping[bytes, bytes], receive: Receive, longest: int) -> dict[str, Any]:
        """Return the parts of a form by name; see `foundation.http.forms.parse_form`.

        Raises:
            Problem: it is no form, or too long, or does not come in time.
        """
        body = await self._read(heads.get(b"content-length", b""), receive, longest)
        return parse_form(body, heads[b"content-type"])

    async def _read(self, length: bytes, receive: Receive, longest: int) -> bytes:
        """Return the body of a request, unless it is too long, or too slow."""
        if len(length) > len(str(longest)) or (length.isdigit() and int(length) > longest):
            raise _too_long(longest)
        reader = _Reader()
        self._reading.add(reader)
        try:
            return await _whole(receive, longest)
        except asyncio.CancelledError:
            if reader.late and not reader.task.uncancel():
                detail = f"the body was not there within {self._limits.body_timeout:g} s"
                raise Problem(HTTPStatus.REQUEST_TIMEOUT, "too-slow", detail, headers=_CLOSE) from None
            raise
        finally:
            self._reading.discard(reader)


class _Reader:
    """A task that reads a body."""

    __slots__ = ("late", "task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.late = False

    def stop(self) -> None:
        self.late = True
        self.task.cancel()


async def _whole(receive: Receive, longest: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(HTTPStatus.BAD_REQUEST, "incomplete", "the connection was closed in the middle")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > longest:
            raise _too_long(longest)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _decoded(body: bytes, kind: Any, what: str, max_depth: int) -> Any:
    try:
        value: Any = _decoder(kind).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = f"the body must be a JSON object {what}: {error}"
        raise Problem(HTTPStatus.BAD_REQUEST, "bad-json", detail) from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    if body.count(b"[") + body.count(b"{") > max_depth and _deeper(value, max_depth):
        raise _too_deep(max_depth)
    return value


def _deeper(value: Any, most: int) -> bool:
    """Return whether lists and dicts are nested deeper than ``most`` levels: level by level, without recursion."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _too_deep(most: int) -> Problem:
    detail = f"the body is nested deeper than {most} levels"
    return Problem(HTTPStatus.BAD_REQUEST, "too-deep", detail)


def _too_long(longest: int) -> Problem:
    detail = f"the body is longer than {longest} bytes"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-long", detail, headers=_CLOSE)
