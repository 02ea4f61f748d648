"""The pages of the front, as an application that can be mounted into any other."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundation.events import HttpHandled
from foundation.http.page import page
from foundation.http.problems import Problem, json_response, on_error, on_http_error, on_problem
from foundation.http.programs import Programs
from foundation.http.versions import ProgramVersions
from foundation.tree.view import degraded, view
from supervision import Runtime

#: Seconds that a program may take to answer, unless somebody says otherwise.
PROGRAM_TIMEOUT = 30.0


def application(
    runtime: Runtime,
    *,
    program_timeout: float = PROGRAM_TIMEOUT,
    versions: bool = False,
    registry: CollectorRegistry | None = None,
) -> Starlette:
    """Return the pages of a runtime.

    Args:
        runtime: which.
        program_timeout: seconds that a program may take to answer.
        versions: whether the versions of programs can be seen, and swapped, by whoever can reach the pages.
        registry: which metrics are shown; those of the process if None.
    """
    pages = _Pages(runtime, REGISTRY if registry is None else registry)
    programs = Programs(runtime, program_timeout)
    changes = ProgramVersions(programs, versions)
    app = Starlette(
        routes=[
            Route("/", pages.start),
            Route("/healthz", pages.healthz),
            Route("/readyz", pages.readyz),
            Route("/metrics", pages.metrics),
            Route("/tree", pages.tree),
            Route("/openapi.json", programs.openapi),
            Route("/programs", programs.index),
            Route("/programs/{name}", programs.describe),
            Route("/programs/{name}", programs.run, methods=["POST"]),
            Route("/programs/{name}/versions", changes.list),
            Route("/programs/{name}/versions", changes.add, methods=["POST"]),
            Route("/programs/{name}/versions/current", changes.use, methods=["PUT"]),
        ],
        exception_handlers={Problem: on_problem, HTTPException: on_http_error, Exception: on_error},
    )
    app.add_middleware(_Observed, runtime=runtime)
    return app


class _Pages:
    """What there is to look at."""

    def __init__(self, runtime: Runtime, registry: CollectorRegistry) -> None:
        self._runtime = runtime
        self._registry = registry

    async def start(self, request: Request) -> Response:
        """Show people the tree."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/tree", HTTPStatus.TEMPORARY_REDIRECT)

    async def healthz(self, request: Request) -> Response:
        """Say that the process runs."""
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Say whether the tree can take work, and if not, what keeps it."""
        troubles = degraded(view(self._runtime))
        body = {"status": "degraded" if troubles else "ready", "degraded": troubles}
        return json_response(body, HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK)

    async def metrics(self, request: Request) -> Response:
        """Show the metrics."""
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def tree(self, request: Request) -> Response:
        """Show all actors: to a browser as a page, to anybody else as JSON."""
        now = view(self._runtime)
        vary = {"vary": "accept"}
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(page(now, degraded(now)), headers={"cache-control": "no-store", **vary})
        return json_response(msgspec.to_builtins(now), headers=vary)


class _Observed:
    """Tells the event stream of every request."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0
        clock = self._runtime.clock
        began = clock.time()

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            if scope["type"] == "http":
                self._tell(scope, status or 500, clock.time() - began)

    def _tell(self, scope: Any, status: int, seconds: float) -> None:
        route = scope.get("route")
        pattern = route.path if isinstance(route, Route) else "none"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._runtime.events.emit(HttpHandled, method=method, route=pattern, status=status, seconds=seconds)


#: Methods that are told by name; others come from strangers, in any number.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
