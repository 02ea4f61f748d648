"""Programs over HTTP: which there are, and running one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope

from foundation.access import BearerToken
from foundation.call_ids import CALL_ID, SESSION_KEY, call_ids
from foundation.http.body import BodyReader, media_type
from foundation.http.cancellation import Disconnects
from foundation.http.forms import FORM
from foundation.http.guard import authorise
from foundation.http.limits import Limits
from foundation.http.openapi import document
from foundation.http.operations import Served
from foundation.http.pages import SAFE_PAGE, playground_page
from foundation.http.problems import Problem, fault, json_bytes, json_response
from foundation.http.rollouts import rollout_problem
from foundation.http.streaming import streamed
from foundation.programs import (
    Answer,
    BadVersion,
    Busy,
    DescribeProgram,
    Interface,
    InvalidInputs,
    OutOfTime,
    RunProgram,
    SendPiece,
    StreamProgram,
    Unanswered,
    Unavailable,
    program_name,
)
from foundation.resources import Resource, ResourceError
from foundation.telemetry import ContextPropagator
from foundation.telemetry import incoming_request as traced
from foundation.tree.readiness import readiness_of
from supervision import (
    ActorExited,
    Address,
    CallError,
    CallTimeout,
    MailboxFull,
    NoProcess,
    Ref,
    Runtime,
    UnhandledMessage,
    call_when_ready,
)

T = TypeVar("T")

#: The name of the span of a run.
_SPAN = "POST /programs/{name}"
_FORM = FORM.encode()
#: The resource of which each run of a program takes one, if there is a limit.
WORK = "work"
#: Seconds to wait for a program to say what it takes and gives.
DESCRIBE_TIMEOUT = 2.0
#: The word of a problem with an actor that does not handle a message of programs.
NOT_HANDLED = "not-a-program"
#: Seconds after which a program whose actor has ended is worth another try.
RETRY_AFTER = 1.0
#: So much of the key of whoever asks counts.
LONGEST_KEY = 200
_CALL_ID = CALL_ID.decode()
#: So many programs are named to somebody who has asked for another.
MOST_NAMED = 20


class Programs:
    """The programs of a runtime, for a web server.

    A run goes through `answer`, `BodyReader.json`, `_run`, `Disconnects.cancel_on_disconnect` and `ask`.

    Args:
        runtime: where they run.
        timeout: seconds that one may take to answer.
        limits: how much is taken on.
        token: what a run has to bring; None if it need not.
    """

    def __init__(
        self, runtime: Runtime, timeout: float, limits: Limits | None = None, token: BearerToken | None = None
    ) -> None:
        self._runtime = runtime
        self._timeout = timeout
        self.limits = Limits() if limits is None else limits
        self.bodies = BodyReader(self.limits)
        self.ids = call_ids(runtime)
        self._leaving = Disconnects()
        self._token = token
        #: What is served beside runs, for the document.
        self.served = Served(runs=token is not None)
        self._readiness = readiness_of(runtime)
        self._work = Resource(runtime, WORK)
        #: How many requests run and wait, by program.
        self._in_hand: dict[str, int] = {}
        #: Programs in whose mailboxes may be requests that nobody waits for any more.
        self._abandoned: set[str] = set()
        #: What programs have said of themselves, or are being asked.
        self._described: dict[str, tuple[Ref, asyncio.Future[Interface]]] = {}

    async def index(self, request: Request) -> Response:
        """List the programs, with what they take and give."""
        programs = await asyncio.gather(*map(self._entry, self._readiness.programs()))
        return json_response({"programs": programs})

    async def _entry(self, name: str) -> dict[str, Any]:
        entry = {"name": name, "url": f"/programs/{quote(name, safe='')}"}
        try:
            return {**entry, "state": "running", **msgspec.to_builtins(await self._describe(name))}
        except Problem as error:
            return {**entry, "state": "unavailable", "detail": error.detail}

    async def describe(self, request: Request) -> Response:
        """Say what a program takes and gives: to a browser as a page on which it can be tried."""
        name = request.path_params["name"]
        interface = await self._describe(name)
        vary = {"vary": "accept"}
        if "text/html" in request.headers.get("accept", ""):
            page = playground_page(name, interface, token=self._token is not None)
            return HTMLResponse(page, headers={**SAFE_PAGE, **vary})
        return json_response({"name": name, **msgspec.to_builtins(interface)}, headers=vary)

    async def openapi(self, request: Request) -> Response:
        """Describe the programs that run, as an OpenAPI document."""
        names = self._readiness.programs()
        found = await asyncio.gather(*map(self._describe, names), return_exceptions=True)
        running = {name: said for name, said in zip(names, found, strict=True) if isinstance(said, Interface)}
        root = request.scope.get("root_path", "")
        return json_response(document(running, root, self.served))

    async def _describe(self, name: str) -> Interface:
        """Return what a program says of itself: each incarnation is asked once, however many want to know.

        Raises:
            Problem: it does not say.
        """
        self._address(name)
        ref = self._runtime.whereis(program_name(name))
        if ref is None:
            raise _gone(f"program {name!r} is being started")
        known = self._described.get(name)
        if known is not None and known[0] is ref and not (known[1].done() and known[1].exception()):
            return await asyncio.shield(known[1])
        self._described = {other: said for other, said in self._described.items() if said[0].reason is None}
        said = asyncio.ensure_future(self.ask(name, DescribeProgram(), DESCRIBE_TIMEOUT))
        said.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._described[name] = ref, said
        return await asyncio.shield(said)

    async def stream(self, request: Request) -> Response:
        """Run a program on the inputs in the body, and stream its answer."""
        name = request.path_params["name"]
        call = self.ids.issue()
        with traced(self._runtime, _SPAN, request.headers, program=name), named_call(call):
            heads = dict(request.scope["headers"])
            inputs = await self._inputs(name, heads, request.receive)

            async def work(send: SendPiece) -> Answer:
                with self._place(name):
                    asked = self._streamed(name, StreamProgram(inputs, send, call=call, key=_key(heads)))
                    return await (self._with_work(asked) if self._work.limited else asked)

            return await streamed(self._runtime, request, work, call)

    async def answer(
        self, name: str, call: str, heads: Mapping[bytes, bytes], scope: Scope, receive: Receive
    ) -> tuple[bytes, int | None]:
        """Run a program on the inputs in the body of a request.

        Args:
            name: which program.
            call: the id of the call.
            heads: the headers of the request that the guard returned.
            scope: of the request.
            receive: gives its body.

        Returns:
            The outputs, in JSON, and the version that has answered.

        Raises:
            Problem: there is no answer.
        """
        if self._nothing_to_trace(heads):
            return await self._run(name, call, heads, receive)
        with traced(self._runtime, _SPAN, Headers(scope=scope), program=name):
            return await self._run(name, call, heads, receive)

    def _nothing_to_trace(self, heads: Mapping[bytes, bytes]) -> bool:
        propagator = self._runtime.propagator
        return b"x-request-id" not in heads and (propagator is None or type(propagator) is ContextPropagator)

    async def _run(
        self, name: str, call: str, heads: Mapping[bytes, bytes], receive: Receive
    ) -> tuple[bytes, int | None]:
        inputs = await self._inputs(name, heads, receive)
        with self._place(name):
            work = self.ask(name, RunProgram(inputs, call=call, key=_key(heads)), self._timeout)
            if self._work.limited:
                work = self._with_work(work)
            answer = await self._leaving.cancel_on_disconnect(receive, work)
        try:
            return json_bytes(answer.outputs) + b"\n", answer.version
        except Exception as error:
            raise self._failed(f"program {name!r} has answered with what cannot be written as JSON", error) from error

    async def _inputs(self, name: str, heads: Mapping[bytes, bytes], receive: Receive) -> dict[str, Any]:
        if self._token is not None:
            authorise(self._token, heads.get(b"authorization"))
        self._address(name)
        what, longest = """of inputs, such as {"text": "…"}""", self.limits.body_of(name)
        if media_type(heads) == _FORM and (await self._describe(name)).takes_files:
            return await self.bodies.form(heads, receive, longest)
        return await self.bodies.json(heads, receive, dict[str, Any], what, longest)

    async def _streamed(self, name: str, request: StreamProgram) -> Answer:
        """Run a program, and send the pieces of its answer, if it has any."""
        try:
            answer: Answer = await self.ask(name, request, self._timeout)
        except Problem as problem:
            if problem.word != NOT_HANDLED:
                raise
            whole = RunProgram(request.inputs, call=request.call, key=request.key)
            answer = await self.ask(name, whole, self._timeout)
        return answer

    def _place(self, name: str) -> _Place:
        """Return a place for a request of a program, to be held while it runs and waits.

        Raises:
            Problem: there is too much to do already.
        """
        count = self._in_hand.get(name, 0)
        if count >= self.limits.requests_of(name) or (name in self._abandoned and self._full_of_abandoned(name)):
            raise _busy(name)
        return _Place(self._in_hand, name)

    async def _with_work(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Do something with a lease of the resource ``work``.

        Raises:
            Problem: there is none.
        """
        try:
            return await self._work.run(lambda: work)
        except ResourceError as error:
            raise _gone(f"there is too much to do ({error})") from error
        finally:
            work.close()

    def _full_of_abandoned(self, name: str) -> bool:
        """Whether a program has not yet got rid of as many requests as may wait, whether wanted or not."""
        ref = self._runtime.whereis(program_name(name))
        info = None if ref is None else self._runtime.info(ref)
        if info is None or not info.mailbox:
            self._abandoned.discard(name)
        return info is not None and info.mailbox >= self.limits.requests_of(name)

    def _address(self, name: str) -> Address:
        """Return where to find a program.

        Raises:
            Problem: there is no such program, or it does not run at this moment.
        """
        if self._runtime.whereis(program_name(name)) is not None:
            return self._runtime.name(program_name(name))
        known = self._readiness.programs()
        if name in known:
            raise _gone(f"program {name!r} is being started")
        if self._runtime.expected(program_name(name)):
            # Its actor has just ended, and its supervisor has not heard of it: this waits like those in its mailbox.
            return self._runtime.name(program_name(name))
        if not self._readiness.ready:
            raise _gone(f"there is no program {name!r} at this moment, while parts of the tree start")
        named = known[:MOST_NAMED]
        more = f", and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
        there_are = f"there are: {', '.join(named)}{more}" if known else "there are none"
        raise Problem(HTTPStatus.NOT_FOUND, "unknown-program", f"no program {name!r}; {there_are}", programs=named)

    async def ask(self, name: str, request: Any, timeout: float) -> Any:
        """Ask a program something.

        Raises:
            Problem: it gave no answer, or an error.
        """
        address = self._address(name)
        try:
            return await call_when_ready(address, request, timeout)
        except asyncio.CancelledError:
            self._abandoned.add(name)
            raise
        except BaseException as error:  # also what would end this process: it is the answer of an actor
            if isinstance(error, CallTimeout):
                self._abandoned.add(name)
            raise self._problem(name, request, error) from error

    def _problem(self, name: str, request: object, error: BaseException) -> Problem:
        """Return what to tell a caller whose request came to nothing."""
        ours = isinstance(error, CallError) and error.request is request
        about_rollout = rollout_problem(name, error)
        if about_rollout is not None:
            return about_rollout
        if isinstance(error, InvalidInputs):
            detail = f"the inputs do not fit program {name!r}: {error}"
            return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-inputs", detail, errors=_field_errors(error))
        if isinstance(error, BadVersion):
            return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-version", f"program {name!r}: {error}")
        if isinstance(error, Unavailable):
            return self._gone(f"program {name!r} cannot run now", error, error.retry_after)
        if isinstance(error, Busy):
            return self._overloaded(name, error)
        if isinstance(error, OutOfTime):
            return Problem(HTTPStatus.GATEWAY_TIMEOUT, "timeout", f"program {name!r} gave {error}")
        if isinstance(error, Unanswered):
            detail, kind = f"program {name!r}: {error}", f"/problems/{error.word}"
            return Problem(HTTPStatus.BAD_GATEWAY, error.word, detail, type=kind, **error.told())
        if ours and isinstance(error, ActorExited):
            return self._gone(f"program {name!r} ended before it answered", error.reason)
        if ours and isinstance(error, NoProcess):
            return _gone(f"program {name!r} is not there")
        if ours and isinstance(error, MailboxFull):
            return _busy(name)
        if ours and isinstance(error, CallTimeout):
            detail = f"program {name!r} gave no answer within {error.seconds:g} s"
            return Problem(HTTPStatus.GATEWAY_TIMEOUT, "timeout", detail)
        if ours and isinstance(error, UnhandledMessage):
            detail = f"the actor under the name {program_name(name)!r} does not handle {type(request).__name__}"
            return Problem(HTTPStatus.NOT_IMPLEMENTED, NOT_HANDLED, detail)
        return self._failed(f"program {name!r} failed", error)

    def _failed(self, detail: str, error: BaseException) -> Problem:
        return fault(self._runtime, HTTPStatus.INTERNAL_SERVER_ERROR, "program-failed", detail, error)

    def _gone(self, detail: str, error: object, retry_after: float = RETRY_AFTER) -> Problem:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        return fault(self._runtime, status, "unavailable", f"{detail}; try again", error, retry_after=retry_after)

    def _overloaded(self, name: str, error: Busy) -> Problem:
        """Tell that a program has too much to do; a queue that is full is not worth a line in the log, a cause is."""
        if error.__cause__ is None:
            return _busy(name, error.retry_after)
        status, detail = HTTPStatus.TOO_MANY_REQUESTS, f"program {name!r} has too much to do; try again"
        return fault(self._runtime, status, "busy", detail, error, retry_after=error.retry_after)


@contextmanager
def named_call(call: str) -> Generator[None]:
    """Have a problem of a call name it, in the headers of its response."""
    try:
        yield
    except Problem as problem:
        problem.headers[_CALL_ID] = call
        raise


def _key(heads: Mapping[bytes, bytes]) -> str:
    return heads.get(SESSION_KEY, b"")[:LONGEST_KEY].decode("latin-1")


class _Place:
    """A place among the requests of a program, held for the time of a ``with`` block."""

    __slots__ = ("_in_hand", "_name")

    def __init__(self, in_hand: dict[str, int], name: str) -> None:
        self._in_hand = in_hand
        self._name = name

    def __enter__(self) -> None:
        self._in_hand[self._name] = self._in_hand.get(self._name, 0) + 1

    def __exit__(self, *error: object) -> None:
        self._in_hand[self._name] -= 1
        if not self._in_hand[self._name]:
            del self._in_hand[self._name]


def _gone(detail: str) -> Problem:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return Problem(status, "unavailable", f"{detail}; try again", retry_after=RETRY_AFTER)


def _busy(name: str, retry_after: float = RETRY_AFTER) -> Problem:
    detail = f"program {name!r} has too much to do; try again"
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "busy", detail, retry_after=retry_after)


def _field_errors(error: InvalidInputs) -> list[dict[str, str]]:
    return [
        *({"field": name, "detail": "is missing"} for name in error.missing),
        *({"field": name, "detail": "is not an input of this program"} for name in error.unexpected),
        *({"field": name, "detail": why} for name, why in error.wrong.items()),
    ]
