"""The messages by which a program is run, described and given another version, whatever makes it.

The HTTP server sends them, a program's actor answers. A program is an actor that handles `RunProgram` and
`DescribeProgram`, and `StreamProgram` if it can. Under the name ``program:NAME`` (see `program_name`) it is found by
whoever wants to run it; the HTTP server serves it at ``/programs/NAME``.

>>> import asyncio
>>> from supervision import Actor, Runtime, handle
>>> class Shout(Actor):
...     @handle
...     def run(self, request: RunProgram) -> Answer:
...         return Answer({"loud": request.inputs["text"].upper()})
...
...     @handle
...     def describe(self, request: DescribeProgram) -> Interface:
...         text = ProgramField("text", "str")
...         return Interface("Shout", "Says it louder.", inputs=(text,), outputs=(ProgramField("loud", "str"),))
>>> async def main() -> Answer:
...     async with Runtime() as runtime:
...         await runtime.spawn(Shout, name=program_name("shout"))
...         return await runtime.name("program:shout").call(RunProgram({"text": "hello"}))
>>> asyncio.run(main())
Answer(outputs={'loud': 'HELLO'}, usage={}, version=None)
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from functools import singledispatch
from typing import Any, TypeAlias

import msgspec

from supervision import Request

#: How the kernel names of programs begin.
PREFIX = "program:"


def program_name(name: str) -> str:
    """Return the kernel name under which a program's actor is registered."""
    return PREFIX + name


class ProgramField(msgspec.Struct, frozen=True):
    """One field of a program.

    Attributes:
        name: under which it is given, or returned.
        type: its type, as Python writes it.
        description: what its author wrote about it; may be empty.
        required: whether it has to be given. Outputs always are.
        schema: its type as a JSON schema; empty if the type has none.
        file: of which media types a file may be that is given for it, such as ``image/*``; empty if it is no file.
    """

    name: str
    type: str
    description: str = ""
    required: bool = True
    schema: dict[str, Any] = {}
    file: str = ""


class FormPart(msgspec.Struct, frozen=True):
    """A part of a form that stands for an input: the program makes of it what the input declares.

    A program gets such parts only if one of its inputs is a file (`ProgramField.file`); and a list of them for an input
    that was given more than once.

    Attributes:
        data: what is in it.
        media_type: what it says that it is, such as ``image/png``.
        filename: the name of the file; None if it is a plain text.
    """

    data: bytes
    media_type: str = "text/plain"
    filename: str | None = None


class Interface(msgspec.Struct, frozen=True):
    """What a program takes and gives.

    Attributes:
        program: the name of its class.
        description: what it does.
        inputs: what it takes.
        outputs: what it gives; empty if that cannot be known, as nothing declares it.
        open: whether it takes other inputs too, as nothing declares which.
    """

    program: str
    description: str
    inputs: tuple[ProgramField, ...]
    outputs: tuple[ProgramField, ...]
    open: bool = False

    @property
    def takes_files(self) -> bool:
        """Whether one of its inputs may be a file."""
        return any(field.file for field in self.inputs)


class Answer(msgspec.Struct, frozen=True):
    """What a program answered.

    Attributes:
        outputs: its output fields.
        usage: what it cost: for each language model, the counts that it reported, such as ``total_tokens``.
        version: the number of the version that has answered; None if the program has no versions.
    """

    outputs: dict[str, Any]
    usage: dict[str, dict[str, Any]] = {}
    version: int | None = None


@singledispatch
def json_form(value: object) -> object:
    """Return what JSON has no form for as something that it has: a pydantic model as its fields, the rest as text.

    Other packages register what they know better of their own types.
    """
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)


def as_json(value: object) -> object:
    """Return the `json_form` of a value, for an encoder. What it raises is an ``Exception``, and ends no event loop."""
    try:
        return json_form(value)
    except Exception:
        raise
    except BaseException as error:  # of the value's own making: it ends this answer, and not the server
        raise TypeError(f"{type(value).__name__} raised {type(error).__name__} when it was to be written") from error


class InvalidInputs(ValueError):
    """The inputs do not fit the program.

    Attributes:
        missing: required inputs that were not given.
        unexpected: inputs that the program does not have.
        wrong: inputs of the wrong type, each with what is wrong about it.
    """

    def __init__(
        self, missing: tuple[str, ...] = (), unexpected: tuple[str, ...] = (), wrong: Mapping[str, str] | None = None
    ) -> None:
        self.missing = missing
        self.unexpected = unexpected
        self.wrong = dict(wrong or {})
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
        parts += [f"{name}: {why}" for name, why in self.wrong.items()]
        super().__init__("; ".join(parts))


class NobodyReads(Exception):
    """A piece of an answer has nobody to go to: the caller has gone, or its time is over. The answer can end here."""


class Busy(Exception):
    """The program has as much to do as it may have. Worth another try.

    Attributes:
        retry_after: after how many seconds.
    """

    def __init__(self, why: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(why)


class Unavailable(Exception):
    """What the program needs, such as its language model, is not there at the moment. Worth another try.

    Attributes:
        retry_after: after how many seconds.
    """

    def __init__(self, why: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(why)


class OutOfTime(Exception):
    """The program has not answered within the ``seconds`` that it may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"no answer within {seconds:g} s")


class Unanswered(Exception):
    """What the program asks, such as a language model, has answered, and with nothing that is of use.

    Attributes:
        word: what kind of a failure it is, in a word that does not change.
    """

    word = "unanswered"

    def told(self) -> dict[str, Any]:
        """Return what a caller may know, beside the text of the error: nothing that was written by anybody else."""
        return {}


class RunProgram(Request[Answer], frozen=True, dict=True, omit_defaults=True):
    """Run the program on ``inputs``.

    The context in which the request is made goes with it, so that log and trace bindings of the caller, and whatever
    else is kept in context variables, can count for the program. (Not if the program's actor has a process of its own.)

    Answered with an `Answer`; with `InvalidInputs` if the inputs do not fit; with `Unavailable` if what the program
    needs is not there at the moment; with `Unanswered` if that has answered with nothing of use; with `OutOfTime` if it
    took too long; or with whatever the program raised.

    Args:
        inputs: by name.
        caller: a context to take along instead; None for the one in which the request is made.
        call: the id of this call (`foundation.call_ids`); empty if the program is to make one.
        key: who asks, such as a session or a customer; empty if nobody says.
    """

    raises = (InvalidInputs, Busy, Unavailable, OutOfTime, Unanswered)
    inputs: dict[str, Any]
    caller: Context | None = None
    call: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        _keep_context(self)

    @property
    def context(self) -> Context:
        """The context of the caller."""
        return _context_of(self)


class Chunk(msgspec.Struct, frozen=True):
    """A piece of an output field, while the answer is made.

    Attributes:
        field: which; the texts of its chunks, one after the other, are its value.
        text: the piece.
        predictor: which part of the program makes it, if there are several.
        last: whether the field is complete with it.
    """

    field: str
    text: str
    predictor: str = ""
    last: bool = False


class ProgramStatus(msgspec.Struct, frozen=True):
    """What the program is doing, such as calling a tool, for people: ``message`` says it."""

    message: str


Piece: TypeAlias = Chunk | ProgramStatus
SendPiece: TypeAlias = Callable[[Piece], Awaitable[None]]


class StreamProgram(Request[Answer], frozen=True, dict=True):
    """Run the program as `RunProgram` does, and send the pieces of its answer as they are made.

    Attributes:
        inputs: see `RunProgram`.
        send: is given each piece, and may take its time, for which the program waits. Once nobody reads any more, it
            refuses the request (`NobodyReads`), which ends its handler, and not the actor.
        caller: see `RunProgram`.
        call: see `RunProgram`.
        key: see `RunProgram`.
    """

    inputs: dict[str, Any]
    send: SendPiece
    caller: Context | None = None
    call: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        _keep_context(self)

    @property
    def context(self) -> Context:
        """The context of the caller."""
        return _context_of(self)


def _keep_context(request: RunProgram | StreamProgram) -> None:
    """Keep the context beside the fields of a request: these may travel to another process, and it cannot."""
    vars(request)["context"] = contextvars.copy_context() if request.caller is None else request.caller
    msgspec.structs.force_setattr(request, "caller", None)


def _context_of(request: RunProgram | StreamProgram) -> Context:
    context: Context = vars(request)["context"]
    return context


class DescribeProgram(Request[Interface], frozen=True):
    """What does the program take and give?"""


class BadVersion(ValueError):
    """There is no such version, or it does not fit the program. ``version`` is what was given."""

    def __init__(self, version: object, why: str) -> None:
        self.version = version
        super().__init__(f"version {version!r}: {why}")


class Version(msgspec.Struct, frozen=True):
    """A version of a program.

    Attributes:
        number: 0 is the program as it was written; each swap makes the next.
        current: whether it is the one that serves.
    """

    number: int
    current: bool


class Swap(Request[Version], frozen=True):
    """Serve another version from now on; requests that run are finished with the old one.

    Attributes:
        program: a program of the same structure, such as an optimiser returns; or its state, as it is saved.
        force: whether a rollout that is open ends for it; it is refused otherwise.
    """

    program: Any
    force: bool = False


class AddVersion(Request[Version], frozen=True):
    """Keep another version, which serves nobody yet: a candidate for a rollout.

    Attributes:
        program: see `Swap`.
    """

    program: Any


class GetVersion(Request[Any], frozen=True):
    """What is a version? Answered with a program of its own, in this process; or with `BadVersion` if there is none.

    Attributes:
        number: which; None for the one that serves.
    """

    raises = (BadVersion,)
    number: int | None = None


class GetSettings(Request[dict[str, Any]], frozen=True):
    """With which settings does a program answer? Answered with them, its language model among them, in this process."""


class UseVersion(Request[Version], frozen=True):
    """Serve a version that is there already, such as the one before.

    Attributes:
        number: which.
        force: see `Swap`.
    """

    number: int
    force: bool = False


class ListVersions(Request[list[Version]], frozen=True):
    """Which versions are there?"""
