"""Long work for programs over HTTP: started, watched, paused and ended with the server's token."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from foundation.access import BearerToken
from foundation.http.guard import authorise_served
from foundation.http.operations import GivenMove
from foundation.http.problems import Problem, json_bytes, json_response
from foundation.http.programs import Programs
from foundation.http.streaming import EVENT_STREAM, PING
from foundation.jobs import (
    FINAL,
    DeleteJob,
    GetJob,
    GetJobEvents,
    GetJobResult,
    Job,
    JobError,
    ListJobs,
    MoveJob,
    StartJob,
    jobs_name,
)
from supervision import Runtime, call_when_ready

#: Seconds that the owner of the jobs has to answer.
ANSWER_TIMEOUT = 10.0
#: The longest that a request waits for a change, in seconds.
LONGEST_WAIT = 60.0
#: Seconds after which it is worth asking how far a job is.
RETRY_AFTER = 5
#: The longest `Idempotency-Key`.
LONGEST_KEY = 255
_MOST = 1000
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,9})\s*(?:$|[,;])")


#: The kinds of jobs that are served.
KINDS = ("optimisations", "evaluations")


def kinds_of_jobs(runtime: Runtime, program: str) -> list[str]:
    """Return which kinds of jobs a program has."""
    names = {kind: jobs_name(kind, program) for kind in KINDS}
    return [kind for kind, name in names.items() if runtime.whereis(name) is not None or runtime.expected(name)]


class ProgramJobs:
    """The jobs of one kind for the programs of a runtime, for a web server.

    Args:
        runtime: where they are.
        programs: reads bodies.
        kind: such as ``optimisations``, also the last part of the path.
        token: what every request has to bring; None if there is none, and no jobs.
    """

    def __init__(self, runtime: Runtime, programs: Programs, kind: str, token: BearerToken | None) -> None:
        self._runtime = runtime
        self._programs = programs
        self._kind = kind
        self._token = token

    async def start(self, request: Request) -> Response:
        """Start a job: 202, and where to look."""
        self._check(request)
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise _bad("idempotency-key", f"give 1 to {LONGEST_KEY} characters")
        order = await self._body(request, dict[str, Any], """such as {"spec": "NAME"}""")
        job: Job = await self._ask(request, StartJob(order, key))
        headers = {"location": self._url(request, job.id), "retry-after": str(RETRY_AFTER)}
        return self._shown(request, job, HTTPStatus.ACCEPTED, headers)

    async def list(self, request: Request) -> Response:
        """List the jobs, the latest first, a page at a time."""
        self._check(request)
        limit = _number(request.query_params.get("limit", "100"), "limit", 1, _MOST)
        found: list[Job] = await self._ask(request, ListJobs(request.query_params.get("before"), limit))
        page = {"jobs": [self._document(request, job) for job in found]}
        more = {"next": f"{self._root(request)}?before={found[-1].id}&limit={limit}"} if len(found) == limit else {}
        return json_response({**page, **more})

    async def get(self, request: Request) -> Response:
        """Say how far a job is; ``Prefer: wait=30`` waits for a change after that of ``If-None-Match``."""
        self._check(request)
        seen = _seen(request.headers.get("if-none-match"))
        wait = _wait(request.headers.get("prefer", ""))
        job: Job = await self._ask(request, GetJob(self._id(request), seen, wait), wait)
        if seen == job.number:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": _tag(job)})
        return self._shown(request, job)

    async def move(self, request: Request) -> Response:
        """Pause, resume or cancel a job, as the caller has seen it (``If-Match``)."""
        self._check(request)
        body = await self._body(request, GivenMove, """such as {"state": "paused"}""")
        seen = _seen(self._needed(request))
        move = MoveJob(self._id(request), body.state, seen, body.budget, body.max_calls)
        return self._shown(request, await self._ask(request, move))

    async def delete(self, request: Request) -> Response:
        """Forget a job that is over."""
        self._check(request)
        await self._ask(request, DeleteJob(self._id(request), _seen(request.headers.get("if-match"))))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def result(self, request: Request) -> Response:
        """Return what a job has made."""
        self._check(request)
        return json_response(await self._ask(request, GetJobResult(self._id(request))))

    async def events(self, request: Request) -> Response:
        """Stream what happens to a job, from the event after ``Last-Event-ID`` on, until it is over."""
        self._check(request)
        after = _number(request.headers.get("last-event-id") or "0", "last-event-id", 0, 2**53)
        job: Job = await self._ask(request, GetJob(self._id(request)))
        return StreamingResponse(self._stream(request, job.id, after), headers=_STREAM, media_type=EVENT_STREAM)

    async def _stream(self, request: Request, id: str, after: int) -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_AFTER}000\n\n".encode()
        while True:
            found = await self._ask(request, GetJobEvents(id, after, PING), PING)
            for event in found:
                after = event.number
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (after, event.kind.encode(), json_bytes(event.data))
            job: Job = await self._ask(request, GetJob(id))
            if job.state in FINAL and after >= job.number:
                yield b"event: end\ndata: {}\n\n"
                return
            if not found:
                yield b": ping\n\n"

    # -- what all have in common ---------------------------------------------------------------------------------------

    def _check(self, request: Request) -> None:
        detail = f"{self._kind} are not served here; start the HTTP server with versions = true"
        authorise_served(self._token, request, detail, f"{self._kind}-not-served")

    def _needed(self, request: Request) -> str:
        found = request.headers.get("if-match")
        if found is None:
            detail = "say which state you have seen: If-Match with the ETag of the job, or *"
            raise Problem(HTTPStatus.PRECONDITION_REQUIRED, "if-match-missing", detail)
        return found

    async def _body(self, request: Request, kind: Any, what: str) -> Any:
        return await self._programs.bodies.json_of(request, kind, what)

    async def _ask(self, request: Request, message: Any, wait: float = 0.0) -> Any:
        name = jobs_name(self._kind, request.path_params["name"])
        if self._runtime.whereis(name) is None and not self._runtime.expected(name):
            detail = f"there is no actor {name!r}: program {request.path_params['name']!r} has no {self._kind}"
            raise Problem(HTTPStatus.NOT_FOUND, f"no-{self._kind}", detail)
        try:
            return await call_when_ready(self._runtime.name(name), message, ANSWER_TIMEOUT + wait)
        except JobError as error:
            raise Problem(error.status, error.word, str(error), **error.told) from error

    def _id(self, request: Request) -> str:
        return str(request.path_params["id"])

    def _root(self, request: Request) -> str:
        root = request.scope.get("root_path", "")
        return f"{root}/programs/{request.path_params['name']}/{self._kind}"

    def _url(self, request: Request, id: str) -> str:
        return f"{self._root(request)}/{id}"

    def _document(self, request: Request, job: Job) -> dict[str, Any]:
        url = self._url(request, job.id)
        result = {"result": f"{url}/result"} if job.state == "succeeded" else {}
        return {**msgspec.to_builtins(job), "url": url, "events": f"{url}/events", **result}

    def _shown(
        self, request: Request, job: Job, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> Response:
        return json_response(self._document(request, job), status, {"etag": _tag(job), **(headers or {})})


_STREAM = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}


def _tag(job: Job) -> str:
    return f'"{job.number}"'


def _seen(header: str | None) -> int | None:
    """Return the number that an entity tag stands for; None for any. A tag of somebody else's is none that there is."""
    if header is None or header.strip() == "*":
        return None
    found = re.fullmatch(r'\s*(?:W/)?"(\d{1,15})"\s*', header)
    return int(found[1]) if found else -1


def _wait(prefer: str) -> float:
    found = _WAIT.search(prefer)
    return min(float(found[1]), LONGEST_WAIT) if found else 0.0


def _number(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 17 and least <= int(text) <= most):
        raise _bad(name, f"give a whole number from {least} to {most}")
    return int(text)


def _bad(name: str, why: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", f"{name}: {why}")
