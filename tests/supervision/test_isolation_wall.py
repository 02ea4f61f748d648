"""What a process says to its parent is data: nothing in it runs, and what is wrong in it costs that process alone."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    NORMAL,
    Abnormal,
    Actor,
    ActorExited,
    BadOption,
    ChildNotFound,
    ChildSpec,
    Crashed,
    Request,
    Runtime,
    Shutdown,
    StartError,
    Supervisor,
    UnhandledMessage,
    handle,
)
from supervision.events import Restarted
from supervision.isolation import NotTransferable, RemoteError, process
from supervision.isolation.decoding import (
    BUILTIN_ERRORS,
    CONTAINERS,
    KERNEL_ERRORS,
    check,
    declared,
    read_answer,
    read_error,
    read_reason,
)
from supervision.isolation.frames import (
    LENGTH,
    NOTHING,
    AnsweredFrame,
    EndedFrame,
    FailedFrame,
    Frame,
    HandledFrame,
    NotStartedFrame,
    Packed,
    StartedFrame,
    encode,
    encoded,
    pack,
    pack_reason,
)
from supervision.reasons import REASONS, ApplicationEnded, ExitReason, FailedToStartChild, ProcessExited
from tests.supervision.audit import nothing_happens
from tests.supervision.isolated import Do, Echo, Isolated, Pid, Point, Points
from tests.supervision.test_isolation_thread import until
from tests.supervision.walled import (
    Box,
    Circle,
    Colour,
    Draw,
    Faulty,
    Forking,
    OutOfPaint,
    Paint,
    Shape,
    Told,
    Walled,
    Whereabouts,
)

real = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture
async def world() -> AsyncIterator[Runtime]:
    """A runtime whose loop had nothing to complain about."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with Runtime(watchdog=None, reports=False) as made:
        yield made
    assert complaints == []


# -- a process that says whatever a test wants ----------------------------------------------------------------------


class Scripted:
    """Stands for an OS process: the test writes what it says, and reads what it is told."""

    def __init__(self, sock: socket.socket) -> None:
        self.pid = 1
        self.sock = sock
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """Wait for its end."""
        return await asyncio.shield(self.status)

    def kill(self) -> None:
        """End it."""
        self.end(-signal.SIGKILL)

    def end(self, status: int) -> None:
        """End it by itself."""
        self.sock.close()
        if not self.status.done():
            self.status.set_result(status)

    async def request_came(self) -> None:
        """Wait until it has got a request, and not only the order to start."""
        told = b""
        while b"Deliver" not in told:
            told += await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)

    async def say(self, data: bytes) -> None:
        """Send bytes, as far as somebody takes them."""
        try:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
        except OSError:  # it has been hung up
            return


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Scripted]]:
    """The processes that were started, which are the test's own."""
    with scripted(monkeypatch.setattr) as found:
        yield found


@contextmanager
def scripted(replace: Callable[..., None]) -> Iterator[list[Scripted]]:
    """Have processes started that say what the test wants; they have started already."""
    found: list[Scripted] = []

    async def start(code: str) -> tuple[Any, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        found.append(Scripted(theirs))
        theirs.send(encode(StartedFrame()))
        return found[-1], ours

    replace(process, "start_interpreter", start)
    yield found
    for each in found:
        each.end(0)


async def first_call(world: Runtime, made: list[Scripted]) -> tuple[Any, asyncio.Future[Any]]:
    """Start an actor whose process gets one request, number 1."""
    await world.spawn(Supervisor, [ChildSpec("far", Isolated, name="far")], max_restarts=1)
    call = world.name("far").call(Echo(1), timeout=None)
    ref = world.whereis("far")
    await asyncio.get_running_loop().sock_recv(made[0].sock, 1)
    return ref, call


GOOD = encode(AnsweredFrame(1, pack("fine"))) + encode(HandledFrame(1))


@real
async def test_a_scripted_process_is_as_good_as_another(world: Runtime, made: list[Scripted]) -> None:
    ref, call = await first_call(world, made)
    await made[0].request_came()
    await made[0].say(GOOD)
    assert await call == "fine"
    assert ref.alive


@real
async def test_what_comes_for_a_process_that_is_about_to_end_ends_with_it(world: Runtime, made: list[Scripted]) -> None:
    ref, call = await first_call(world, made)
    ref.actor._reason = Abnormal("about to end")
    ref.cast(Echo(2))
    assert await ref.join() == Abnormal("about to end")
    await asyncio.gather(call, return_exceptions=True)


LIES = {
    "a length that is too long": LENGTH.pack(1 << 31),
    "a length without an end": LENGTH.pack(1 << 20) + b"x" * 100,
    "an empty frame": LENGTH.pack(0),
    "an array that claims to be huge": LENGTH.pack(16) + b"\x93\xa8Answered\x01\xdd\xff\xff\xff\xff\xc0",
    "endless nesting": LENGTH.pack(200_002) + b"\x91" * 200_000 + b"\xc0\xc0",
    "an answer to nobody": encode(AnsweredFrame(7, pack(1))),
    "an answer to one to come": encode(AnsweredFrame(2, pack(1))),
    "an answer with a negative number": encode(AnsweredFrame(-1, pack(1))),
    "an error for nobody": encode(FailedFrame(7, "builtins:KeyError", "", "", NOTHING, NOTHING)),
    "a message of another handled": encode(HandledFrame(2)),
    "a message handled twice": GOOD + encode(HandledFrame(1)),
    "an answer given twice": GOOD + encode(AnsweredFrame(1, pack(2))),
    "an answer, and an error": GOOD + encode(FailedFrame(1, "builtins:KeyError", "", "", NOTHING, NOTHING)),
    "a second start": encode(StartedFrame()),
    "a start that failed after all": encode(NotStartedFrame(pack_reason(NORMAL))),
    "an end without a reason": encode(EndedFrame(pack(1))),
    "an end with the class of another": encode(EndedFrame(Packed(encoded({}), "os:system"))),
    "an end for an unknown reason": encode(
        EndedFrame(Packed(encoded({"reason": "hungry"}), "supervision.reasons:Normal"))
    ),
    "an end for a list": encode(EndedFrame(Packed(encoded([1]), "supervision.reasons:Normal"))),
    "no frame": LENGTH.pack(4) + b"what",
    "another frame": LENGTH.pack(6) + b"\x91\xa4Boom",
    "nothing but noise": os.urandom(4096),
    "a hangup": b"",
}


@real
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lie_costs_one_restart_and_no_more(world: Runtime, made: list[Scripted], lie: bytes) -> None:
    """The caller hears of it, the next process serves, and everybody else goes on."""
    restarts: list[Restarted] = []
    world.subscribe(restarts.append, Restarted)
    ref, call = await first_call(world, made)
    near = await world.spawn(Near)
    await made[0].say(lie)
    made[0].sock.shutdown(socket.SHUT_WR)
    made[0].status.set_result(3)
    reason = await ref.join()
    assert not reason.clean
    outcome: Any = (await asyncio.gather(call, return_exceptions=True))[0]
    assert outcome == "fine" or isinstance(outcome, ActorExited)
    assert await near.call(Pid()) == os.getpid()
    again = world.name("far").call(Echo(1), timeout=None)
    await until(lambda: len(made) == 2)
    await made[1].request_came()
    await made[1].say(GOOD)
    assert await again == "fine"
    assert (len(restarts), len(made)) == (1, 2)


class Near(Actor):
    """A neighbour."""

    @handle
    def pid(self, request: Pid) -> int:
        """Say it."""
        return os.getpid()


@real
async def test_a_process_that_says_goodbye_and_stays_is_killed(
    world: Runtime, made: list[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its actor has ended for the reason that it gave; what it says after that is not heard."""
    monkeypatch.setattr(process, "_PATIENCE", 0.01)
    ref = await world.spawn(Isolated)
    await made[0].say(encode(EndedFrame(pack_reason(Abnormal("tired")))) * 1000)
    assert await ref.join() == Abnormal("tired")
    assert made[0].status.result() == -signal.SIGKILL


@real
@pytest.mark.parametrize(
    ("first", "text"),
    [
        (encode(HandledFrame(1)), "it began with Handled"),
        (encode(NotStartedFrame(pack("no"))), "no exit reason"),
        (encode(NotStartedFrame(pack_reason(Abnormal("not today")))), "not today"),
        (LENGTH.pack(4) + b"what", "no frame"),
        (b"\x00", "ended with status 9"),
    ],
)
async def test_a_process_that_begins_with_something_else_has_not_started(
    world: Runtime, monkeypatch: pytest.MonkeyPatch, first: bytes, text: str
) -> None:
    """Also if it stays."""
    monkeypatch.setattr(process, "_PATIENCE", 0.01)
    processes: list[Scripted] = []

    async def start(code: str) -> tuple[Any, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.send(first)
        processes.append(Scripted(theirs))
        if len(first) == 1:
            processes[0].end(9)
        return processes[0], ours

    monkeypatch.setattr(process, "start_interpreter", start)
    with pytest.raises(StartError, match=text):
        await world.spawn(Isolated)
    assert processes[0].status.done()


@real
async def test_a_frame_may_be_as_long_as_its_actor_says(world: Runtime, made: list[Scripted]) -> None:
    """Not a byte longer: nothing of it is kept."""

    class Short(Isolated):
        max_frame = 4096

    Short.__module__, Short.__qualname__ = Isolated.__module__, Isolated.__qualname__
    for length, ends in ((4096, False), (4097, True)):
        ref = await world.spawn(Short)
        call = ref.call(Echo(1), timeout=None)
        body = encode(AnsweredFrame(1, pack("x" * (length - 16))))[LENGTH.size :]
        await made[-1].say(LENGTH.pack(len(body)) + body + encode(HandledFrame(1)))
        assert len(body) == length
        if ends:
            with pytest.raises(ActorExited, match="a frame of 4097 bytes, where max_frame is 4096"):
                await call
        else:
            assert await call == "x" * (length - 16)


@real
async def test_the_children_of_a_dead_process_do_not_speak_for_it(world: Runtime) -> None:
    """They may have inherited its connection, and keep it open."""
    ref = await world.spawn(Forking)
    heir = await ref.call(Do("fork"))
    ref.cast(Do("die"))
    assert await ref.join() == ProcessExited(9)
    os.kill(heir, signal.SIGKILL)


@real
async def test_what_was_sent_before_the_end_is_heard(world: Runtime, made: list[Scripted]) -> None:
    ref, call = await first_call(world, made)
    await made[0].say(GOOD + encode(EndedFrame(pack_reason(NORMAL))))
    made[0].status.set_result(0)
    assert await call == "fine"
    assert await ref.join() == NORMAL


# -- values ----------------------------------------------------------------------------------------------------------


SAID = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "os:system", "builtins:eval", "builtins:exec", "builtins:__import__", "builtins:SystemExit",
        "subprocess:Popen",
        "builtins:KeyError", "builtins:OSError", "builtins:UnicodeDecodeError", "builtins:SyntaxError",
        "this:s", "", ":",
        "supervision.reasons:Normal", "supervision.reasons:Crashed", "supervision.reasons:FailedToStartChild",
        "supervision.errors:BadOption", "supervision.errors:UnhandledMessage",
        "supervision.isolation.frames:RemoteError",
        "tests.supervision.isolated:Point", "tests.supervision.walled:OutOfPaint", "tests.supervision.walled:Faulty",
    ]
) | st.text(max_size=20)  # fmt: skip


@given(SAID, st.none() | NAMES, st.sampled_from([Echo, Points, Paint, Draw, Point, Told]))
@settings(max_examples=300, deadline=None)
def test_any_answer_is_a_value_or_refused(value: Any, name: str | None, request: type) -> None:
    """Of a type that the request or the actor declares; nothing else happens."""
    with nothing_happens():
        try:
            found = read_answer(Packed(encoded(value), name), request, (Point, Do))
        except NotTransferable:
            return
    assert type(found).__module__ in ("builtins", "datetime", "tests.supervision.isolated", "tests.supervision.walled")


@given(SAID, NAMES, st.text(), st.lists(SAID, max_size=3), st.dictionaries(st.text(max_size=9), SAID, max_size=3))
@settings(max_examples=300, deadline=None)
def test_any_error_is_one_that_is_allowed(value: Any, name: str, text: str, args: list[Any], fields: Any) -> None:
    """Or a `RemoteError`, with the name, the message and the traceback that the process gave."""
    said = str(args[0]) if args else text
    failed = FailedFrame(1, name, said, "there", encoded(args), encoded(fields))
    with nothing_happens():
        error = read_error(failed, (OutOfPaint,))
    assert isinstance(error, (*BUILTIN_ERRORS, *KERNEL_ERRORS, RemoteError, OutOfPaint))
    if isinstance(error, RemoteError):
        assert (error.kind, error.text, error.traceback) == (
            name.replace(":", ".").removeprefix("builtins."),
            said,
            "there",
        )


def test_an_error_of_the_kernel_without_its_attributes_is_none() -> None:
    """Whoever reads `error.value` gets no `AttributeError`."""
    text = "port = 0: give another"
    whole = FailedFrame(
        1,
        "supervision.errors:BadOption",
        text,
        "",
        encoded([text]),
        encoded({"field": "port", "value": 0, "remedy": "give another"}),
    )
    part = FailedFrame(1, "supervision.errors:BadOption", text, "", encoded([text]), encoded({"field": "port"}))
    assert type(read_error(whole, ())) is BadOption
    assert type(read_error(part, ())) is RemoteError


@given(SAID, NAMES)
@settings(max_examples=300, deadline=None)
def test_any_reason_is_one_of_the_kernels_or_none(value: Any, name: str) -> None:
    tags = [kind.__struct_config__.tag for kind in REASONS]
    for said in (value, *({"reason": tag, "cause": {"reason": "normal"}, "id": value} for tag in tags)):
        with nothing_happens():
            try:
                found: Any = read_reason(Packed(encoded(said), name))
            except Exception:
                continue
        assert type(found) in REASONS


FRAMES = st.one_of(
    st.builds(AnsweredFrame, st.integers(-1, 3), st.builds(Packed, SAID.map(encoded), st.none() | NAMES)),
    st.builds(HandledFrame, st.integers(-1, 3)),
    st.builds(
        FailedFrame, st.integers(-1, 3), NAMES, st.text(), st.text(), SAID.map(encoded), SAID.map(encoded)
    ),
    st.builds(EndedFrame, st.builds(Packed, SAID.map(encoded), NAMES)),
    st.builds(NotStartedFrame, st.builds(Packed, SAID.map(encoded), NAMES)),
    st.just(StartedFrame()),
)  # fmt: skip
BYTES = st.one_of(
    FRAMES.map(encode),
    st.tuples(FRAMES.map(encode), st.integers(0, 60), st.binary(max_size=4)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
    ),
    st.binary(max_size=60).map(lambda data: LENGTH.pack(len(data)) + data),
    SAID.map(msgspec.msgpack.encode).map(lambda data: LENGTH.pack(len(data)) + data),
    st.binary(max_size=60),
)


@given(st.lists(BYTES, min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_thousands_of_frames_cost_one_restart_each_time(said: list[bytes]) -> None:
    """Whatever a process sends, its parent goes on, and starts it again once."""

    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        with pytest.MonkeyPatch.context() as patch, scripted(patch.setattr) as made:
            async with Runtime(watchdog=None, reports=False) as world:
                ref, call = await first_call(world, made)
                with nothing_happens():
                    await made[0].say(b"".join(said))
                    made[0].end(7)
                    await ref.join()
                await asyncio.gather(call, return_exceptions=True)
                again = world.name("far").call(Echo(1), timeout=None)
                await until(lambda: len(made) == 2)
                await made[-1].say(GOOD)
                assert await again == "fine"
                assert len(made) == 2
        assert complaints == []

    asyncio.run(main())


def test_a_large_answer_is_looked_at_before_it_is_decoded() -> None:
    """So that it takes no more time and memory than its length lets one think."""
    check(encoded([0.5] * 100_000))
    check(encoded({"rows": [{"a": n, "b": [str(n)]} for n in range(10_000)], "x" * 20: "y" * 70_000}))
    check(encoded({bytes([n % 256, n // 256]): n for n in range(20_000)}))
    check(encoded("x" * 100_000))
    with pytest.raises(ValueError, match="more than 200,000 lists"):
        check(encoded([[]] * (CONTAINERS + 1)))
    with pytest.raises(ValueError, match="more than 200,000 lists"):
        check(encoded([[[]] * 50_000] * 5))
    with pytest.raises(msgspec.ValidationError):
        check(encoded({(n, n): n for n in range(10_000)}))


# -- types -----------------------------------------------------------------------------------------------------------


def test_the_types_of_an_actor_are_all_that_its_messages_lead_to() -> None:
    found = declared((Draw, Paint))
    assert set(found.values()) == {Draw, Paint, Shape, Circle, Box, Colour}
    assert found["tests.supervision.walled:Circle"] is Circle


def test_an_answer_of_a_declared_type_is_an_instance() -> None:
    """Whether the request promises it, or one like it, or anything at all."""
    circle = Circle(Colour.RED, 2.0)
    assert read_answer(pack(circle), Draw, ()) == circle
    assert read_answer(pack(Box(1)), Draw, ()) == Box(1)
    assert read_answer(pack(Point(1)), Echo, (Point,)) == Point(1)
    assert read_answer(pack(Colour.RED), Paint, ()) is Colour.RED
    with pytest.raises(NotTransferable, match=r"walled:Circle' is not among the types; declare it here"):
        read_answer(pack(circle), Echo, (Point,))
    with pytest.raises(NotTransferable, match="not among the types of the answer <enum 'Colour'>"):
        read_answer(pack(circle), Paint, (Draw,))


def test_a_type_whose_annotations_lead_nowhere_declares_itself_alone() -> None:
    assert set(declared((Told,)).values()) == {Told}


@real
async def test_answers_errors_and_reasons_come_from_a_real_process(world: Runtime) -> None:
    ref = await world.spawn(Walled)
    assert await ref.call(Draw("circle")) == Circle(Colour.RED, 2.0)
    assert await ref.call(Paint("red")) is Colour.RED
    with pytest.raises(OutOfPaint, match="no more red") as paint:
        await ref.call(Paint("green"))
    assert (paint.value.colour, paint.value.args) == ("red", ("no more red",))
    with pytest.raises(RemoteError, match=r"walled\.Faulty: it is broken") as faulty:
        await ref.call(Draw("faulty"))
    assert faulty.value.kind == "tests.supervision.walled.Faulty"
    assert "in do_faulty" in faulty.value.traceback
    with pytest.raises(RemoteError, match=r"walled\.Unprintable: <Unprintable whose str raises ValueError>"):
        await ref.call(Draw("unprintable"))
    with pytest.raises(BadOption, match="paint = 'blue': choose red") as option:
        await ref.call(Draw("option"))
    assert (option.value.field, option.value.value) == ("paint", "blue")
    with pytest.raises(UnhandledMessage, match="no handler for Echo") as unhandled:
        await ref.call(Echo(1))
    assert unhandled.value.target is ref
    with pytest.raises(NotTransferable, match=r"it has 20,0.. bytes, and max_frame of its actor is 16,384"):
        await ref.call(Draw("x" * 20_000))
    with pytest.raises(ChildNotFound, match="child 'x': not found"):
        await ref.call(Draw("child"))
    with pytest.raises(RemoteError, match=r"x{100}…"):
        await ref.call(Draw("long"))
    assert await ref.call(Whereabouts("here")) == "here"
    ref.cast(Point(1))
    assert await ref.join() == Shutdown("<bored>")
    ref = await world.spawn(Walled)
    ref.cast(Point(2))
    assert str(await ref.join()).endswith("x…")


def test_a_frame_has_to_hold_an_error() -> None:
    with pytest.raises(BadOption, match="max_frame = 1: give a number of bytes from 4096"):
        type("Bad", (Actor,), {"max_frame": 1})


@pytest.mark.parametrize(
    "reason",
    [
        Crashed("E", "m"),
        FailedToStartChild("a", Crashed("E", "m")),
        ApplicationEnded("a", FailedToStartChild("b", Abnormal([1, {"a": 2}]))),
        ProcessExited(3),
    ],
)
def test_reasons_travel_with_the_reasons_in_them(reason: ExitReason) -> None:
    assert read_reason(pack_reason(reason)) == reason


def test_a_reason_of_ones_own_is_its_text_and_whether_it_is_clean() -> None:
    class Bored(ExitReason, frozen=True, tag="bored"):
        clean = True

    class Ill(ExitReason, frozen=True, tag="ill"):
        pass

    assert read_reason(pack_reason(Bored())) == Shutdown("bored")
    assert read_reason(pack_reason(Ill())) == Abnormal("ill")


def test_an_error_with_attributes_that_hide_its_methods_is_not_rebuilt() -> None:
    for name in ("with_traceback", "__class__"):
        path = "tests.supervision.walled:OutOfPaint"
        failed = FailedFrame(1, path, "x", "", encoded(["x"]), encoded({name: "y"}))
        assert type(read_error(failed, (OutOfPaint,))) is RemoteError
    assert type(read_error(FailedFrame(1, path, "x", "", encoded(["x"]), encoded({})), ())) is RemoteError
    assert Faulty.made == 0


def test_frames_are_what_they_were() -> None:
    frame: Frame = FailedFrame(1, "a:b", "c", "d", encoded([1]), NOTHING)
    assert encode(frame)[LENGTH.size :] == msgspec.msgpack.encode(frame)


@dataclasses.dataclass
class Unused:
    """Not declared by any message."""


class Alone(enum.Enum):
    """Nor is this."""

    A = 1


class Loose(Request[Any], frozen=True):
    """Declares nothing."""


class Wanted(Request[threading.Thread], frozen=True):
    """Wants what no process can answer with."""


def test_what_nobody_declares_is_refused() -> None:
    with pytest.raises(NotTransferable, match="objects of type Thread is unsupported"):
        read_answer(pack(1), Wanted, ())
    for value in (Unused(), Alone.A):
        with pytest.raises(NotTransferable, match="is not among the types"):
            read_answer(pack(value), Loose, ())
