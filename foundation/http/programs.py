"""Programs over HTTP: which there are, and running one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response

from foundation.http.openapi import document
from foundation.http.problems import Problem, json_response
from foundation.http.streaming import streamed, wants_events
from foundation.http.trial import trial_page
from foundation.programs import (
    PREFIX,
    Answer,
    Busy,
    DescribeProgram,
    Interface,
    InvalidInputs,
    RunProgram,
    Send,
    StreamProgram,
    Unavailable,
    program_name,
)
from foundation.resources import Resource, ResourceError
from foundation.telemetry import request as traced
from foundation.tree.view import degraded, view
from foundation.versions import BadVersion
from supervision import (
    ActorExited,
    Address,
    CallError,
    CallTimeout,
    MailboxFull,
    NoProcess,
    Runtime,
    UnhandledMessage,
)

T = TypeVar("T")

#: The longest body of a request, in bytes.
LONGEST_BODY = 1 << 20
#: The states of a program that does not run but will.
COMING = ("starting", "restarting")
#: The resource of which each run of a program takes one, if there is a limit.
WORK = "work"
#: Seconds to wait for a program to say what it takes and gives.
DESCRIBE_TIMEOUT = 2.0
#: The word of a problem with an actor that does not handle a message of programs.
NOT_HANDLED = "not-a-program"
#: Seconds after which a program whose actor has ended is worth another try.
RETRY_AFTER = 1.0


def known_programs(runtime: Runtime) -> list[str]:
    """Return the names of all programs: those that run, and those whose supervisor is about to start them."""
    held = list(runtime.names())
    listed = [node.name for node in view(runtime).walk() if node.name is not None and node.state in COMING]
    return sorted({name.removeprefix(PREFIX) for name in (*held, *listed) if name.startswith(PREFIX)})


class Programs:
    """The programs of a runtime, for a web server.

    Args:
        runtime: where they run.
        timeout: seconds that one may take to answer.
    """

    def __init__(self, runtime: Runtime, timeout: float) -> None:
        self._runtime = runtime
        self._timeout = timeout

    async def index(self, request: Request) -> Response:
        """List the programs, with what they take and give."""
        programs = await asyncio.gather(*map(self._entry, known_programs(self._runtime)))
        return json_response({"programs": programs})

    async def _entry(self, name: str) -> dict[str, Any]:
        entry = {"name": name, "url": f"/programs/{name}"}
        try:
            return {**entry, "state": "running", **msgspec.to_builtins(await self._describe(name))}
        except (Problem, CallError) as error:
            return {**entry, "state": "unavailable", "detail": str(error)}

    async def describe(self, request: Request) -> Response:
        """Say what a program takes and gives: to a browser as a page on which it can be tried."""
        name = request.path_params["name"]
        interface = await self._describe(name)
        vary = {"vary": "accept"}
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(trial_page(name, interface), headers={"cache-control": "no-store", **vary})
        return json_response({"name": name, **msgspec.to_builtins(interface)}, headers=vary)

    async def openapi(self, request: Request) -> Response:
        """Describe the programs that run, as an OpenAPI document."""
        names = known_programs(self._runtime)
        found = await asyncio.gather(*map(self._describe, names), return_exceptions=True)
        running = {name: said for name, said in zip(names, found, strict=True) if isinstance(said, Interface)}
        return json_response(document(running, request.scope.get("root_path", "")))

    async def _describe(self, name: str) -> Interface:
        interface: Interface = await self.ask(name, DescribeProgram(), DESCRIBE_TIMEOUT)
        return interface

    async def run(self, request: Request) -> Response:
        """Run a program on the inputs in the body, and return its outputs."""
        name = request.path_params["name"]
        with traced(self._runtime, "POST /programs/{name}", request.headers, program=name):
            self._address(name)
            inputs = await json_body(request, dict[str, Any], """of inputs, such as {"text": "…"}""")
            if wants_events(request):

                async def work(send: Send) -> Answer:
                    return await self._admitted(lambda: self._streamed(name, inputs, send))

                return await streamed(self._runtime, request, work)
            answer: Answer = await self._admitted(lambda: self.ask(name, RunProgram(inputs), self._timeout))
            return json_response(answer.outputs, headers={"vary": "accept"})

    async def _streamed(self, name: str, inputs: dict[str, Any], send: Send) -> Answer:
        """Run a program, and send the pieces of its answer, if it has any."""
        try:
            answer: Answer = await self.ask(name, StreamProgram(inputs, send), self._timeout)
        except Problem as problem:
            if problem.word != NOT_HANDLED:
                raise
            answer = await self.ask(name, RunProgram(inputs), self._timeout)
        return answer

    async def _admitted(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do something with a token of the resource ``work``, if the runtime limits that.

        Raises:
            Problem: there is too much to do already.
        """
        resource = Resource(self._runtime, WORK)
        if not resource.limited:
            return await work()
        try:
            return await resource.run(work)
        except ResourceError as error:
            raise _gone(f"there is too much to do ({error})") from error

    def _address(self, name: str) -> Address:
        """Return where to find a program.

        Raises:
            Problem: there is no such program, or it does not run at this moment.
        """
        if self._runtime.whereis(program_name(name)) is not None:
            return self._runtime.name(program_name(name))
        known = known_programs(self._runtime)
        if name in known:
            raise _gone(f"program {name!r} is being started")
        if degraded(view(self._runtime)):
            raise _gone(f"there is no program {name!r} at this moment, while parts of the tree start")
        there_are = f"there are: {', '.join(known)}" if known else "there are none"
        raise Problem(HTTPStatus.NOT_FOUND, "unknown-program", f"no program {name!r}; {there_are}", programs=known)

    async def ask(self, name: str, request: Any, timeout: float) -> Any:
        """Ask a program something.

        Raises:
            Problem: it gave no answer, or an error.
        """
        address = self._address(name)
        try:
            return await address.call(request, timeout=timeout)
        except Exception as error:
            raise _problem(name, request, error) from error


def _gone(detail: str, retry_after: float = RETRY_AFTER) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", f"{detail}; try again", retry_after=retry_after)


def _problem(name: str, request: object, error: Exception) -> Problem:
    """Return what to tell a caller whose request came to nothing."""
    ours = isinstance(error, CallError) and error.request is request
    if isinstance(error, InvalidInputs):
        detail = f"the inputs do not fit program {name!r}: {error}"
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-inputs", detail, errors=_field_errors(error))
    if isinstance(error, BadVersion):
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-version", f"program {name!r}: {error}")
    if isinstance(error, Unavailable):
        return _gone(f"program {name!r} cannot run now: {error}", error.retry_after)
    if isinstance(error, Busy):
        detail = f"program {name!r} has too much to do: {error}; try again"
        return Problem(HTTPStatus.TOO_MANY_REQUESTS, "busy", detail, retry_after=error.retry_after)
    if ours and isinstance(error, ActorExited):
        return _gone(f"program {name!r} ended before it answered ({error.reason})")
    if ours and isinstance(error, NoProcess):
        return _gone(f"program {name!r} is not there")
    if ours and isinstance(error, MailboxFull):
        return _gone(f"program {name!r} has too much to do")
    if ours and isinstance(error, CallTimeout):
        detail = f"program {name!r} gave no answer within {error.seconds:g} s"
        return Problem(HTTPStatus.GATEWAY_TIMEOUT, "timeout", detail)
    if ours and isinstance(error, UnhandledMessage):
        detail = f"the actor under the name {program_name(name)!r} does not handle {type(request).__name__}"
        return Problem(HTTPStatus.NOT_IMPLEMENTED, NOT_HANDLED, detail)
    detail = f"program {name!r} failed: {type(error).__name__}: {error}"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "program-failed", detail)


def _field_errors(error: InvalidInputs) -> list[dict[str, str]]:
    return [
        *({"field": name, "detail": "is missing"} for name in error.missing),
        *({"field": name, "detail": "is not an input of this program"} for name in error.unexpected),
        *({"field": name, "detail": why} for name, why in error.wrong.items()),
    ]


async def _body(request: Request) -> bytes:
    """Return the body of a request, unless it is too long."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_BODY:
                detail = f"the body is longer than {LONGEST_BODY} bytes"
                raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-long", detail)
    except ClientDisconnect:
        raise Problem(HTTPStatus.BAD_REQUEST, "incomplete", "the connection was closed in the middle") from None
    return bytes(body)


async def json_body(request: Request, kind: type[T], what: str) -> T:
    """Return what the body of a request holds. Its content type does not matter, so that a bare ``curl -d`` works.

    Args:
        request: which.
        kind: the type that it must have.
        what: what it is to be, for people.

    Raises:
        Problem: it is something else.
    """
    body = await _body(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = f"the body must be a JSON object {what}: {error}"
        raise Problem(HTTPStatus.BAD_REQUEST, "bad-json", detail) from None
