"""The application of the HTTP server: its routes, as an ASGI application that can be mounted into any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
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

from foundation.access import Access, BearerToken, access_of
from foundation.events import HttpHandled
from foundation.http.calls import ProgramCalls
from foundation.http.guard import GuardMiddleware, RequestGuard, needed_token
from foundation.http.jobs import KINDS, ProgramJobs, kinds_of_jobs
from foundation.http.limits import Limits
from foundation.http.mounts import MakeApplication, mount_routes
from foundation.http.operations import Served
from foundation.http.pages import SAFE_PAGE, tree_page
from foundation.http.problems import Problem, fault, json_response, on_http_error, on_problem
from foundation.http.programs import Programs
from foundation.http.rollouts import ProgramRollouts
from foundation.http.runs import ROUTE, HttpApplication, Runs
from foundation.http.versions import ProgramVersions
from foundation.tree.readiness import readiness_of
from foundation.tree.view import DEPTH, LIMIT, NoSuchPath, TreeView, view_part
from supervision import Runtime

#: Seconds that a program may take to answer, unless somebody says otherwise.
PROGRAM_TIMEOUT = 30.0
#: So many parts that are not as they should be are named.
MOST_TROUBLES = 100
#: The most levels and actors that one look at the tree shows: its JSON is nested as deep.
DEEPEST, MOST_ACTORS = 200, 100_000

_Endpoint = Callable[[Request], Awaitable[Response]]


def application(
    runtime: Runtime,
    *,
    program_timeout: float = PROGRAM_TIMEOUT,
    versions: bool = False,
    registry: CollectorRegistry | None = None,
    access: Access | None = None,
    limits: Limits | Mapping[str, Any] | None = None,
    address: str = "",
    mounts: Mapping[str, MakeApplication] | None = None,
) -> Starlette:
    """Return the pages of a runtime.

    A request goes through `_EventMiddleware`, which tells the event stream of it, `GuardMiddleware`, which refuses
    unknown host names, and Starlette's routes; a run of a program whose answer is not streamed takes the fast path of
    `Runs`.

    Args:
        runtime: which.
        program_timeout: seconds that a program may take to answer.
        versions: whether the versions of programs can be seen, and swapped, by whoever has the token. Without one in
            ``access``, one is made and kept in its folder.
        registry: which metrics are shown; those of the process if None.
        access: who may ask; what the command was told if None.
        limits: how much is taken on. What a server in front of the application does (the times and sizes of heads,
            connections) does not count here.
        address: where it is served, a name under which it may be reached.
        mounts: applications of your own, by the paths below which they are served. They look at bodies themselves.

    Raises:
        BadAccess: the token cannot be read, or made.
        BadOption: a limit, or a mount, is wrong.
    """
    who = access_of(runtime) if access is None else access
    token = needed_token(who, versions)
    if token is not None:
        runtime.shared[BearerToken] = token
    pages = _Pages(runtime, REGISTRY if registry is None else registry)
    runs = token if who.protected != "changes" else None
    programs = Programs(runtime, program_timeout, Limits.of(limits), runs)
    changes = ProgramVersions(programs, versions, token)
    rollouts = ProgramRollouts(programs, versions, token)
    calls = ProgramCalls(programs, token)
    whose = token if versions else None
    programs.served = Served(
        runs is not None, who.protected == "all", token is not None, versions, partial(kinds_of_jobs, runtime)
    )
    guard = RequestGuard(who, address, token)
    app = HttpApplication(
        routes=[
            Route("/", pages.start),
            Route("/healthz", pages.healthz),
            Route("/readyz", pages.readyz),
            Route("/metrics", pages.metrics),
            Route("/tree", pages.tree),
            Route("/openapi.json", programs.openapi),
            Route("/programs", programs.index),
            _route(ROUTE, GET=programs.describe, POST=programs.stream),
            _route("/programs/{name}/versions", GET=changes.list, POST=changes.add),
            Route("/programs/{name}/versions/current", changes.use, methods=["PUT"]),
            _route("/programs/{name}/rollout", GET=rollouts.get, PUT=rollouts.start, DELETE=rollouts.abort),
            Route("/programs/{name}/rollout/state", rollouts.decide, methods=["PUT"]),
            Route("/programs/{name}/rollout/history", rollouts.history),
            _route("/programs/{name}/calls", GET=calls.list, DELETE=calls.forget),
            _route("/programs/{name}/calls/{id}", GET=calls.get, DELETE=calls.forget),
            _route("/programs/{name}/feedback", GET=calls.feedback, POST=calls.give),
            *(route for kind in KINDS for route in _job_routes(ProgramJobs(runtime, programs, kind, whose), kind)),
            *mount_routes(runtime, mounts),
        ],
        exception_handlers={Problem: on_problem, HTTPException: on_http_error, Exception: _on_error(runtime)},
    )
    # Starlette would redirect to the name under which it was asked.
    app.router.redirect_slashes = False
    app.add_middleware(GuardMiddleware, guard=guard)
    app.add_middleware(_EventMiddleware, runtime=runtime)
    app.runs = Runs(runtime, guard, programs)
    return app


def _job_routes(jobs: ProgramJobs, kind: str) -> list[Route]:
    """Return the routes of the jobs of a kind."""
    root = f"/programs/{{name}}/{kind}"
    return [
        _route(root, GET=jobs.list, POST=jobs.start),
        _route(f"{root}/{{id}}", GET=jobs.get, DELETE=jobs.delete),
        Route(f"{root}/{{id}}/state", jobs.move, methods=["PUT"]),
        Route(f"{root}/{{id}}/result", jobs.result),
        Route(f"{root}/{{id}}/events", jobs.events),
    ]


def _route(path: str, **endpoints: _Endpoint) -> Route:
    """Return one route for all methods of a path, so that ``Allow`` names them all."""
    endpoints.setdefault("HEAD", endpoints["GET"])

    async def answer(request: Request) -> Response:
        return await endpoints[request.method](request)

    return Route(path, answer, methods=list(endpoints))


def _on_error(runtime: Runtime) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return what answers a request on which the server itself failed."""

    async def answer(_: Request, error: Exception) -> Response:
        status, detail = HTTPStatus.INTERNAL_SERVER_ERROR, "the HTTP server failed"
        return fault(runtime, status, "internal-error", detail, error).response()

    return answer


class _Pages:
    """What there is to look at."""

    def __init__(self, runtime: Runtime, registry: CollectorRegistry) -> None:
        self._runtime = runtime
        self._registry = registry
        self._readiness = readiness_of(runtime)
        #: One look at the tree at a time: each costs as much as there are actors.
        self._looking = asyncio.Lock()

    async def start(self, request: Request) -> Response:
        """Show people the tree."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/tree", HTTPStatus.TEMPORARY_REDIRECT)

    async def healthz(self, request: Request) -> Response:
        """Say that the process runs."""
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Say whether the tree can take work, and if not, what keeps it."""
        troubles = self._readiness.degraded(MOST_TROUBLES)
        body = {"status": "degraded" if troubles else "ready", "degraded": troubles}
        return json_response(body, HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK)

    async def metrics(self, request: Request) -> Response:
        """Show the metrics."""
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def tree(self, request: Request) -> Response:
        """Show actors: to a browser as a page, to anybody else as JSON."""
        now = await self._look(request)
        if "text/html" in request.headers.get("accept", ""):
            troubles = self._readiness.degraded(MOST_TROUBLES)
            return HTMLResponse(tree_page(now, troubles), headers={**SAFE_PAGE, "vary": "accept"})
        return json_response(msgspec.to_builtins(now), headers={"vary": "accept"})

    async def _look(self, request: Request) -> TreeView:
        depth = _number(request, "depth", DEPTH, DEEPEST)
        limit = _number(request, "limit", LIMIT, MOST_ACTORS)
        try:
            async with self._looking:
                return await view_part(
                    self._runtime, path=request.query_params.get("path", ""), depth=depth, limit=limit
                )
        except NoSuchPath as error:
            raise Problem(HTTPStatus.NOT_FOUND, "unknown-path", str(error)) from None


def _number(request: Request, name: str, usual: int, most: int) -> int:
    """Return a number that a request asks for, the usual one if it does not."""
    text = request.query_params.get(name)
    if text is None:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= most):
        detail = f"{name} = {text[:50]!r}: give a whole number from 1 to {most}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", detail)
    return int(text)


class _EventMiddleware:
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


#: Methods that are told by name; clients can send any number of others.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
