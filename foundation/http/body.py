"""The body of a request: read within limits, and decoded."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from foundation.http.limits import Limits
from foundation.http.problems import Problem

T = TypeVar("T")

JSON = "application/json"
#: The rest of a body that is refused is not read: the connection ends with the answer.
_CLOSE = {"connection": "close"}


async def json_body(request: Request, kind: type[T], what: str, limits: Limits, longest: int | None = None) -> T:
    """Return what the body of a request holds.

    Args:
        request: which.
        kind: the type that it must have.
        what: what it is to be, for people.
        limits: how long it may be and take, and how deep it may be nested.
        longest: how long it may be; what counts for all if None.

    Raises:
        Problem: it is something else, or too long, or does not come in time.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        detail = f"the body must be {JSON}, and say so in Content-Type (with curl: --json)"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-json", detail, headers={"accept": JSON, **_CLOSE})
    body = await _body(request, limits.max_body if longest is None else longest, limits.body_timeout)
    try:
        value: Any = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = f"the body must be a JSON object {what}: {error}"
        raise Problem(HTTPStatus.BAD_REQUEST, "bad-json", detail) from None
    except RecursionError:
        raise _too_deep(limits) from None
    if body.count(b"[") + body.count(b"{") > limits.max_depth and _deeper(value, limits.max_depth):
        raise _too_deep(limits)
    return value  # type: ignore[no-any-return]


async def _body(request: Request, longest: int, seconds: float) -> bytes:
    """Return the body of a request, unless it is too long, or too slow."""
    length = request.headers.get("content-length", "")
    if len(length) > len(str(longest)) or (length.isdecimal() and int(length) > longest):
        raise _too_long(longest)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Problem(HTTPStatus.BAD_REQUEST, "incomplete", "the connection was closed in the middle")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > longest:
                    raise _too_long(longest)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        detail = f"the body was not there within {seconds:g} s"
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "too-slow", detail, headers=_CLOSE) from None


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


def _too_deep(limits: Limits) -> Problem:
    detail = f"the body is nested deeper than {limits.max_depth} levels"
    return Problem(HTTPStatus.BAD_REQUEST, "too-deep", detail)


def _too_long(longest: int) -> Problem:
    detail = f"the body is longer than {longest} bytes"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-long", detail, headers=_CLOSE)
