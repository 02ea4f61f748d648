"""The fast path for running a program: ``POST /programs/NAME`` without a framework's objects for each request."""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from foundation.call_ids import CALL_ID
from foundation.events import HttpHandled
from foundation.http.guard import RequestGuard
from foundation.http.problems import Problem, fault
from foundation.http.programs import Programs, named_call
from foundation.http.streaming import EVENT_STREAM
from supervision import Runtime

#: The path of programs, as a route shows it.
ROUTE = "/programs/{name}"
_PREFIX = "/programs/"
_STREAM = EVENT_STREAM.encode()
_ACCEPT = b"accept"


class Runs:
    """Answers runs of programs whose answers are not streamed.

    A run goes through `__call__`, `RequestGuard.check` and `Programs.answer`, and tells the event stream of itself.

    Args:
        runtime: where programs run.
        guard: looks at the head of each request.
        programs: the programs.
    """

    def __init__(self, runtime: Runtime, guard: RequestGuard, programs: Programs) -> None:
        self._runtime = runtime
        self._guard = guard
        self._programs = programs

    async def __call__(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a program, and send its answer, or the problem."""
        runtime = self._runtime
        now = runtime.clock.time
        began = now()
        status = 500
        call = self._programs.ids.issue()
        try:
            try:
                with named_call(call):
                    body, version = await self._programs.answer(name, call, self._guard.check(scope), scope, receive)
            except Problem as problem:
                status = problem.status.value
                await problem.response()(scope, receive, send)
                return
            except Exception as error:
                detail = "the HTTP server failed"
                failed = fault(runtime, HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail, error)
                await failed.response()(scope, receive, send)
                raise
            status = 200
            await send({"type": "http.response.start", "status": 200, "headers": _headers(body, call, version)})
            await send({"type": "http.response.body", "body": body})
        finally:
            runtime.events.emit(HttpHandled, method="POST", route=ROUTE, status=status, seconds=now() - began)


def _headers(body: bytes, call: str, version: int | None) -> list[tuple[bytes, bytes]]:
    served = [] if version is None else [(b"x-program-version", b"%d" % version)]
    return [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"vary", b"accept"),
        (CALL_ID, call.encode()),
        *served,
    ]


class HttpApplication(Starlette):
    """Starlette, with a fast path for runs.

    Attributes:
        runs: what answers runs of programs.
    """

    runs: Runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        name = _program(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (super().__call__(scope, receive, send) if name is None else self.runs(name, scope, receive, send))


def _program(scope: Scope) -> str | None:
    """Return which program is to be run, unless its answer is to be streamed."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if not path.startswith(_PREFIX):
        return None
    name = path[len(_PREFIX) :]
    if not name or "/" in name:
        return None
    for header, value in scope["headers"]:
        if header == _ACCEPT and _STREAM in value:
            return None
    return name
