"""Errors over HTTP: one shape for all of them, that of RFC 9457 (``application/problem+json``).

``type`` is ``about:blank#WORD``, where the word tells what went wrong and does not change; ``detail`` is for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request cannot be answered as it was meant.

    Args:
        status: the HTTP status.
        word: what went wrong, in a word that programs can rely on.
        detail: what went wrong, for people.
        retry_after: after how many seconds it is worth another try; None if it is not.
        fields: further members of the body.
    """

    def __init__(
        self, status: HTTPStatus, word: str, detail: str, *, retry_after: float | None = None, **fields: Any
    ) -> None:
        self.status = status
        self.word = word
        self.detail = detail
        self.retry_after = retry_after
        self.fields = fields
        super().__init__(detail)

    def body(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "type": f"about:blank#{self.word}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            **self.fields,
        }

    def response(self) -> Response:
        """Return it as an HTTP response."""
        wait = {} if self.retry_after is None else {"retry-after": str(max(1, round(self.retry_after)))}
        return json_response(self.body(), self.status, wait, MEDIA_TYPE)


def json_bytes(body: Any) -> bytes:
    """Return anything in JSON, on one line."""
    return msgspec.json.encode(body, enc_hook=_as_json)


def json_response(
    body: Any,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """Return anything as an HTTP response in JSON; it is never to be cached."""
    return Response(json_bytes(body) + b"\n", status, {"cache-control": "no-store", **(headers or {})}, media_type)


def _as_json(value: object) -> object:
    """Return what JSON has no form for as something that it has: a pydantic model as its fields, the rest as text."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)


async def on_problem(_: Request, error: Exception) -> Response:
    """Answer a request that met a `Problem`."""
    assert isinstance(error, Problem)
    return error.response()


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for something that is not there, or with a method that it does not know."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    word = status.name.lower().replace("_", "-")
    response = Problem(status, word, f"{request.method} {request.url.path}: {error.detail}").response()
    response.headers.update(error.headers or {})
    return response


async def on_error(_: Request, error: Exception) -> Response:
    """Answer a request on which the front itself failed."""
    detail = f"{type(error).__name__}: {error}"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail).response()
