"""Versions of programs over HTTP: which there are, swapping in a better one, and going back."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from foundation.access import BearerToken
from foundation.http.guard import authorise_served
from foundation.http.operations import GivenVersion
from foundation.http.problems import json_response
from foundation.http.programs import Programs
from foundation.http.rollouts import flag
from foundation.programs import AddVersion, ListVersions, Swap, UseVersion

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
        """Serve what is in the body, a saved program, from now on; with ``serve=false``, keep it as a candidate."""
        self._check(request)
        serve = flag(request, "serve", usual=True)
        force = flag(request, "force", usual=False)
        state = await self._body(request, dict[str, Any], "a program as it is saved")
        return json_response(
            await self._ask(request, Swap(state, force) if serve else AddVersion(state)), HTTPStatus.CREATED
        )

    async def use(self, request: Request) -> Response:
        """Serve a version that is there already."""
        self._check(request)
        chosen = await self._body(request, GivenVersion, """such as {"number": 0}""")
        force = flag(request, "force", usual=False)
        return json_response(await self._ask(request, UseVersion(chosen.number, force)))

    async def _body(self, request: Request, kind: type[T], what: str) -> T:
        return await self._programs.bodies.json_of(request, kind, what)

    def _check(self, request: Request) -> None:
        detail = "versions are not served here; start the HTTP server with versions = true"
        authorise_served(self._token, request, detail, "versions-not-served")

    async def _ask(self, request: Request, message: Any) -> Any:
        return await self._programs.ask(request.path_params["name"], message, CHANGE_TIMEOUT)
