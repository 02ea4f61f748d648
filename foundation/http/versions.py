"""Versions of programs over HTTP: which there are, swapping in a better one, and going back."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from foundation.access import BearerToken
from foundation.http.guard import authorise
from foundation.http.problems import Problem, json_response
from foundation.http.programs import Programs
from foundation.programs import ListVersions, Swap, UseVersion

T = TypeVar("T")

#: Seconds that a program has to change its version.
CHANGE_TIMEOUT = 10.0


class ProgramVersions:
    """The versions of the programs of a runtime, for a web server.

    Args:
        programs: the programs.
        allowed: whether they may be seen and changed at all.
        token: what a request has to bring, if they may.
    """

    def __init__(self, programs: Programs, allowed: bool, token: BearerToken | None) -> None:
        self._programs = programs
        self._token = token if allowed else None

    async def list(self, request: Request) -> Response:
        """List the versions."""
        self._check(request)
        return json_response({"versions": await self._ask(request, ListVersions())})

    async def add(self, request: Request) -> Response:
        """Serve what is in the body, a saved program, from now on."""
        self._check(request)
        state = await self._body(request, dict[str, Any], "a program as it is saved")
        return json_response(await self._ask(request, Swap(state)), HTTPStatus.CREATED)

    async def use(self, request: Request) -> Response:
        """Serve a version that is there already."""
        self._check(request)
        chosen = await self._body(request, _Chosen, """such as {"number": 0}""")
        return json_response(await self._ask(request, UseVersion(chosen.number)))

    async def _body(self, request: Request, kind: type[T], what: str) -> T:
        return await self._programs.bodies.json(dict(request.scope["headers"]), request.receive, kind, what)

    def _check(self, request: Request) -> None:
        if self._token is None:
            detail = "versions are not served here; start the HTTP server with versions = true"
            raise Problem(HTTPStatus.FORBIDDEN, "versions-not-served", detail)
        authorise(self._token, request.headers.get("authorization", "").encode("latin-1"))

    async def _ask(self, request: Request, message: Any) -> Any:
        return await self._programs.ask(request.path_params["name"], message, CHANGE_TIMEOUT)


class _Chosen(msgspec.Struct, forbid_unknown_fields=True):
    number: int
