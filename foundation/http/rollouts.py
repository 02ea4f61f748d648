"""Rollouts of versions over HTTP: starting one, seeing how it stands, and deciding about it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from foundation.access import BearerToken
from foundation.http.guard import authorise_served
from foundation.http.operations import GivenDecision
from foundation.http.problems import Problem, json_response
from foundation.rollouts import (
    BadRollout,
    DecideRollout,
    GetRollout,
    GetRolloutHistory,
    NoRollout,
    RolloutConflict,
    RolloutState,
    StaleRollout,
    StartRollout,
)

if TYPE_CHECKING:
    from foundation.http.programs import Programs

#: Seconds that a rollout may take to move.
MOVE_TIMEOUT = 30.0
#: Who decides, in the history.
HTTP = "http"


class ProgramRollouts:
    """The rollouts of the programs of a runtime, for a web server.

    Args:
        programs: the programs.
        allowed: whether versions may be seen and changed at all.
        token: what a request has to bring, if they may.
    """

    def __init__(self, programs: Programs, allowed: bool, token: BearerToken | None) -> None:
        self._programs = programs
        self._token = token if allowed else None

    async def get(self, request: Request) -> Response:
        """Say how the rollout stands."""
        self._check(request)
        return _stands(await self._ask(request, GetRollout()))

    async def start(self, request: Request) -> Response:
        """Try a version, in the way of the body. With ``replace=true``, one that is open ends for it."""
        self._check(request)
        rollout = await self._body(request, dict[str, Any], """a rollout, such as {"version": 1}""")
        start = StartRollout(rollout, flag(request, "replace", usual=False), _seen(request), HTTP)
        state = await self._ask(request, start)
        return _stands(state, HTTPStatus.CREATED, {"location": _url(request.path_params["name"])})

    async def abort(self, request: Request) -> Response:
        """End the rollout; the old version serves."""
        self._check(request)
        return _stands(await self._ask(request, DecideRollout("aborted", "", _needed(request), HTTP)))

    async def decide(self, request: Request) -> Response:
        """Move the rollout to the state in the body."""
        self._check(request)
        chosen = await self._body(request, GivenDecision, """such as {"state": "promoted"}""")
        decision = DecideRollout(chosen.state, chosen.why, _needed(request), HTTP)
        return _stands(await self._ask(request, decision))

    async def history(self, request: Request) -> Response:
        """List the rollouts that there were, with all of their moves."""
        self._check(request)
        return json_response({"rollouts": await self._ask(request, GetRolloutHistory())})

    async def _body(self, request: Request, kind: Any, what: str) -> Any:
        return await self._programs.bodies.json_of(request, kind, what)

    def _check(self, request: Request) -> None:
        detail = "rollouts are not served here; start the HTTP server with versions = true"
        authorise_served(self._token, request, detail, "versions-not-served")

    async def _ask(self, request: Request, message: Any) -> Any:
        return await self._programs.ask(request.path_params["name"], message, MOVE_TIMEOUT)


def flag(request: Request, name: str, *, usual: bool) -> bool:
    """Return whether a request says ``true``, the usual if it says nothing.

    Raises:
        Problem: it says something else.
    """
    text = request.query_params.get(name)
    if text is None:
        return usual
    if text not in ("true", "false"):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", f"{name} = {text[:50]!r}: say true or false")
    return text == "true"


def rollout_problem(name: str, error: BaseException) -> Problem | None:
    """Return what to tell a caller whose rollout came to nothing; None if the error is another one."""
    detail = f"program {name!r}: {error}"
    if isinstance(error, BadRollout):
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-rollout", detail)
    if isinstance(error, NoRollout):
        return Problem(HTTPStatus.NOT_FOUND, "no-rollout", detail)
    if isinstance(error, RolloutConflict):
        return Problem(HTTPStatus.CONFLICT, "rollout-conflict", detail, state=error.state, rollout=_url(name))
    if isinstance(error, StaleRollout):
        headers = {"etag": error.etag}
        return Problem(HTTPStatus.PRECONDITION_FAILED, "stale-rollout", detail, headers=headers, etag=error.etag)
    return None


def _stands(state: RolloutState, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return json_response(state, status, {"etag": state.etag, **(headers or {})})


def _url(name: str) -> str:
    return f"/programs/{quote(name, safe='')}/rollout"


def _seen(request: Request) -> str:
    return request.headers.get("if-match", "").strip()


def _needed(request: Request) -> str:
    """Return the etag that a request has seen.

    Raises:
        Problem: it names none.
    """
    seen = _seen(request)
    if not seen:
        detail = "say which rollout is meant: If-Match with the ETag of GET .../rollout, or * for any"
        raise Problem(HTTPStatus.PRECONDITION_REQUIRED, "if-match-required", detail)
    return seen
