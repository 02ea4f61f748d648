"""Errors over HTTP: one shape for all of them, that of RFC 9457 (``application/problem+json``).

``type`` is ``about:blank#WORD``, where the word tells what went wrong and does not change; ``detail`` is for people.
What a program's language model is at fault for has types of its own, ``/problems/WORD``, with further members.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from foundation.programs import as_json
from foundation.telemetry import has_private_text
from supervision import Runtime
from supervision.logs import get_logger

PROBLEM_JSON = "application/problem+json"
#: The longest time after which a caller is told to try again, in seconds.
LONGEST_WAIT = 86_400

_SAFE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_log: Any = get_logger("foundation.http")


class Problem(Exception):
    """A request cannot be answered as it was meant.

    Args:
        status: the HTTP status.
        word: what went wrong, in a word that programs can rely on.
        detail: what went wrong, for people.
        retry_after: after how many seconds it is worth another try; None if it is not.
        headers: further headers of the response.
        type: the URI of this type of problem; None for one that says nothing but the word.
        fields: further members of the body.
    """

    def __init__(
        self,
        status: HTTPStatus,
        word: str,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        type: str | None = None,
        **fields: Any,
    ) -> None:
        self.status = status
        self.word = word
        self.detail = detail
        self.retry_after = None if retry_after is None else _whole(retry_after)
        self.headers = dict(headers or {})
        self.type = f"about:blank#{word}" if type is None else type
        self.fields = fields
        super().__init__(detail)

    def body(self) -> dict[str, Any]:
        """Return the document."""
        wait = {} if self.retry_after is None else {"retry_after": self.retry_after}
        return {
            "type": self.type,
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            **wait,
            **self.fields,
        }

    def response(self) -> Response:
        """Return it as an HTTP response."""
        wait = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return json_response(self.body(), self.status, {**self.headers, **wait}, PROBLEM_JSON)


def fault(
    runtime: Runtime, status: HTTPStatus, word: str, detail: str, error: object, *, retry_after: float | None = None
) -> Problem:
    """Return a problem whose cause is none of the caller's business: an id leads to it in the log, and nothing else.

    Args:
        runtime: where it happened.
        status: the HTTP status.
        word: what went wrong, in a word that programs can rely on.
        detail: what went wrong, for people; it says nothing of the cause.
        error: the cause: an exception, or the reason why an actor ended.
        retry_after: after how many seconds it is worth another try; None if it is not.
    """
    id = f"{runtime.random.getrandbits(64):016x}"
    if not isinstance(error, BaseException):
        trace: dict[str, object] = {"reason": error_text(error)}
    elif has_private_text(error):
        frames = "".join(traceback.format_tb(error.__traceback__))
        trace = {"error": type(error).__qualname__, "frames": frames}
    else:
        trace = {"exc_info": error}
    _log.error("request_failed", id=id, status=status.value, detail=detail, **trace)
    return Problem(status, word, f"{detail}; the log has more under {id}", retry_after=retry_after, id=id)


def error_text(error: object) -> str:
    """Return the text of an error or reason, also of one that fails to tell it."""
    try:
        return str(error)
    except Exception:
        return f"{type(error).__name__} without a text"


def _whole(seconds: float) -> int:
    """Return seconds as a whole number from 1 to a day, also for what is no length of time."""
    return max(1, math.ceil(seconds)) if 0 < seconds <= LONGEST_WAIT else 1 if not seconds > 0 else LONGEST_WAIT


def json_bytes(body: Any) -> bytes:
    """Return anything in JSON, on one line.

    Raises:
        Exception: it cannot be written, such as text with half a character in it.
    """
    return _encoder.encode(body)


def json_response(
    body: Any,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """Return anything as an HTTP response in JSON; it is never to be cached."""
    return Response(json_bytes(body) + b"\n", status, {**_SAFE, **(headers or {})}, media_type)


_encoder = msgspec.json.Encoder(enc_hook=as_json)


async def on_problem(_: Request, error: Exception) -> Response:
    """Answer a request that met a `Problem`."""
    assert isinstance(error, Problem)
    return error.response()


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for something that is not there, or with a method that it does not know."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    word = status.name.lower().replace("_", "-")
    detail = f"{request.method} {request.scope['path']}: {error.detail}"
    return Problem(status, word, detail, headers=error.headers).response()
