"""The calls of programs over HTTP: what is known of them, and what people say of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from foundation.access import BearerToken
from foundation.feedback import (
    BadFeedback,
    CallGone,
    FeedbackTaken,
    FeedbackTooLarge,
    ForgetCalls,
    GetCall,
    GiveFeedback,
    ListCalls,
    ListFeedback,
    UnknownCall,
)
from foundation.http.guard import authorise, authorise_served
from foundation.http.operations import GivenFeedback
from foundation.http.problems import Problem, json_bytes, json_response
from foundation.http.programs import Programs

#: Seconds that a program has to answer.
TIMEOUT = 10.0
#: So many calls are listed, unless somebody asks for another number, and at most.
LISTED, MOST_LISTED = 50, 1000
JSON_LINES = "application/jsonl"

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class ProgramCalls:
    """The calls of the programs of a runtime, for a web server.

    Args:
        programs: the programs.
        token: what looking at calls has to bring; without one, they cannot be looked at.
    """

    def __init__(self, programs: Programs, token: BearerToken | None) -> None:
        self._programs = programs
        self._token = token

    async def list(self, request: Request) -> Response:
        """List the last calls."""
        self._check(request)
        text = request.query_params.get("number", str(LISTED))
        if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) <= MOST_LISTED):
            detail = f"number = {text[:20]!r}: give a whole number from 1 to {MOST_LISTED}"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad-request", detail)
        return json_response({"calls": await self._ask(request, ListCalls(int(text)))})

    async def get(self, request: Request) -> Response:
        """Tell of a call."""
        self._check(request)
        return json_response(await self._ask(request, GetCall(request.path_params["id"])))

    async def forget(self, request: Request) -> Response:
        """Forget a call, or all calls of somebody."""
        self._check(request)
        id, key = request.path_params.get("id"), request.query_params.get("key")
        if id is None and not key:
            detail = "say whose calls are to be forgotten: ?key=KEY, as told in X-Session-Key"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad-request", detail)
        forgotten = await self._ask(request, ForgetCalls(id) if id is not None else ForgetCalls(key=key))
        return json_response({"forgotten": forgotten})

    async def give(self, request: Request) -> Response:
        """Take feedback: from whoever has the token, and once from whoever was given the id of the call."""
        header = request.headers.get("authorization")
        if header is not None and self._token is not None:
            authorise(self._token, header.encode("latin-1"))
        trusted = header is not None and self._token is not None
        what = """such as {"call": "…", "value": true}"""
        given = await self._programs.bodies.json_of(request, GivenFeedback, what)
        if not trusted and (given.source != "user" or given.who):
            detail = "only whoever has the token can say who speaks: source and who"
            raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers={"www-authenticate": "Bearer"})
        said = GiveFeedback(**msgspec.structs.asdict(given), first=not trusted)
        return json_response({"id": await self._ask(request, said)}, HTTPStatus.CREATED)

    async def feedback(self, request: Request) -> Response:
        """Stream what was said, a line for each."""
        self._check(request)
        first = await self._ask(request, ListFeedback())
        return StreamingResponse(self._lines(request, first), headers=_HEADERS, media_type=JSON_LINES)

    async def _lines(self, request: Request, page: Any) -> AsyncIterator[bytes]:
        while page:
            yield b"".join(json_bytes(body) + b"\n" for _, body in page)
            page = await self._ask(request, ListFeedback(page[-1][0]))

    def _check(self, request: Request) -> None:
        detail = "calls are not shown here; start the HTTP server with a token"
        authorise_served(self._token, request, detail, "calls-not-served")

    async def _ask(self, request: Request, message: Any) -> Any:
        try:
            return await self._programs.ask(request.path_params["name"], message, TIMEOUT)
        except Problem as problem:
            raise _meant(problem) from problem.__cause__


def _meant(problem: Problem) -> Problem:
    """Return what to tell a caller whose question came to nothing."""
    error = problem.__cause__
    match error:
        case UnknownCall():
            return Problem(HTTPStatus.NOT_FOUND, "unknown-call", str(error))
        case CallGone():
            return Problem(HTTPStatus.GONE, "call-gone", str(error))
        case FeedbackTooLarge():
            return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "feedback-too-large", str(error))
        case BadFeedback():
            return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-feedback", str(error))
        case FeedbackTaken():
            detail = f"{error}; more needs the HTTP server's token: Authorization: Bearer TOKEN"
            headers = {"www-authenticate": "Bearer"}
            return Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers=headers)
        case _:
            return problem
