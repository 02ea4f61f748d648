"""What a program's process says to its parent is data: nothing in it runs, and what is wrong in it costs it alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import pickle
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextvars import copy_context
from pathlib import Path
from typing import Annotated, Any

import cloudpickle  # type: ignore[import-untyped]
import dspy
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex import NotSendable, start_program_agent
from dspex._compat import DSPY_CLASSES, checked_request, lm15
from dspex.agents.process import ProcessRunner, runner
from dspex.agents.process.decoding import Decoding, Malformed, _instances
from dspex.agents.process.encoding import Encoding
from dspex.agents.process.parts import SentParts
from dspex.agents.process.protocol import LONGEST_FRAME, TEXTS, Channel, RunFrame, Unsent, ValueTag
from dspex.agents.process.remote_run import RemoteRun
from dspex.agents.process.serialization import Declarations
from dspex.agents.runner import Invoke
from dspex.testing.engine import ScriptedEngine, scripted_lm
from supervision import ChildSpec, ExitReason, Runtime, StartError, Supervisor
from supervision.events import Exited, Restarted
from supervision.isolation import RemoteError
from tests.dspex.remote_programs import (
    LEFT,
    Declares,
    Leaves,
    Mood,
    Pair,
    Place,
    Says,
    Secret,
    Shut,
    Spot,
    Undeclared,
    Where,
    everything,
)
from tests.supervision.audit import nothing_happens

pytestmark = pytest.mark.usefixtures("quiet")


def known(*values: Any) -> list[Any]:
    """Return what a parent has declared that has sent some values."""
    found = Declarations()
    for value in values:
        found.notice(value)
    return found.items


KNOWN = known(Declares, Mood, Place, Spot, Pair, Shut, Where, Leaves)
PROGRAM = Declares()
PATHS = {"where": PROGRAM.where, "self": PROGRAM}


def refer(value: Any) -> Any:
    """Stand for parts of a program, as its process does."""
    return next((("module", path) for path, part in PATHS.items() if part is value), None)


def resolve(reference: Any) -> Any:
    """Return the part."""
    return PATHS[reference[1]]


def there_and_back(value: Any, **options: Any) -> Any:
    """Return a value as it comes from a process."""
    data = Encoding(refer, KNOWN).write("it", value, **options)
    with nothing_happens():
        return Decoding(resolve, KNOWN).read(data)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", everything())
def test_what_a_program_returns_comes_back_as_it_was(name: str) -> None:
    value = everything()[name]
    found = there_and_back(value)
    if name == "made":
        assert found.instructions == value.instructions
        assert {key: field.annotation for key, field in found.fields.items()} == {
            key: field.annotation for key, field in value.fields.items()
        }
        return
    if name == "counts":
        assert found == {"a": 2, "b": 1}
        return
    assert type(found) is type(value)
    if name == "scores":
        assert np.array_equal(found, value)
        assert found.dtype == value.dtype
    else:
        assert found == value
    assert repr(found) == repr(value)


def test_a_model_comes_back_whole() -> None:
    """Its private attributes too; its validators, which may not be asked twice, are not asked."""
    place = Place(name="here", inner=[Place(name="there")])
    place._secret = 7
    found = there_and_back(place)
    assert (found.name, found.inner[0].name, found._secret) == ("here!", "there!", 7)
    assert found.model_fields_set == {"name", "inner"}


def test_parts_of_the_program_are_the_callers_own() -> None:
    found = there_and_back([PROGRAM, PROGRAM.where, Place, dspy.ChatAdapter, int, list[int]], lenient=True)
    assert found[:3] == [PROGRAM, PROGRAM.where, Place]
    assert found[3:5] == [dspy.ChatAdapter, int]


def test_copies_of_parts_and_adapters_have_their_class_and_attributes() -> None:
    """For who looks at calls."""
    copy = there_and_back(dspy.Predict("a -> b"), lenient=True)
    assert (type(copy), list(copy.signature.fields)) == (dspy.Predict, ["a", "b"])
    adapter = there_and_back(dspy.JSONAdapter(), lenient=True)
    assert type(adapter) is dspy.JSONAdapter
    assert vars(adapter).keys() == vars(dspy.JSONAdapter()).keys()


def test_what_is_no_data_is_named() -> None:
    """Or said not to be, where it matters."""
    assert there_and_back([Undeclared(name="x"), print, Secret], lenient=True) == [
        Unsent("tests.dspex.remote_programs.Undeclared", "Undeclared(name='x')"),
        Unsent("builtins.builtin_function_or_method", "<built-in function print>"),
        Unsent("builtins.type", "<class 'tests.dspex.remote_programs.Secret'>"),
    ]
    with pytest.raises(NotSendable, match=r"does not know its class .*\.Undeclared: name it in a signature"):
        there_and_back(Undeclared())
    with pytest.raises(NotSendable, match="does not know its class"):
        there_and_back(Secret)
    with pytest.raises(NotSendable, match="recursion"):
        deep: list[Any] = []
        deep.append(deep)
        there_and_back(deep)


def test_errors_come_back_with_their_cause_and_where_they_were() -> None:
    try:
        raise Shut("it", "late") from KeyError("k")
    except Shut as error:
        error.add_note("a note")
        found = there_and_back(error)
    assert (type(found), str(found), found.place, found.__notes__) == (Shut, "it is shut: late", "it", ["a note"])
    assert isinstance(found.__cause__, KeyError)
    found = there_and_back(Secret("hidden"))
    assert (type(found), found.kind, found.text) == (RemoteError, "tests.dspex.remote_programs.Secret", "hidden")
    for error in (SystemExit(3), UnicodeDecodeError("x", b"y", 0, 9, "z"), SyntaxError("x", ("/dev/zero", 1, 1, None))):
        assert type(there_and_back(error)) is RemoteError
    limit = there_and_back(dspy.LMRateLimitError("slow", retry_after=3.0))
    assert (type(limit), limit.retry_after) == (dspy.LMRateLimitError, 3.0)


def written(value: Any) -> bytes:
    """Return what a lying process sends."""
    return msgspec.msgpack.encode(value)


PLACE = KNOWN.index(Place)
SPOT = KNOWN.index(Spot)
LIES: dict[str, Any] = {
    "a mark that there is not": [99],
    "no mark": [],
    "a dict": {"a": 1},
    "a class by another name": [ValueTag.CLASS, "os.system"],
    "a class of a program by its name": [ValueTag.OBJECT, "tests.dspex.remote_programs.Place"],
    "a negative number": [ValueTag.KNOWN, -1],
    "a number that is too high": [ValueTag.KNOWN, 10_000],
    "no number": [ValueTag.KNOWN, "x"],
    "an object of no class": [ValueTag.OBJECT, [1]],
    "an object of an enum": [ValueTag.OBJECT, KNOWN.index(Mood)],
    "an object of an error": [ValueTag.OBJECT, KNOWN.index(Shut)],
    "a member of no enum": [ValueTag.MEMBER, PLACE, "x"],
    "a member that there is not": [ValueTag.MEMBER, KNOWN.index(Mood), "__class__"],
    "a model with another field": [ValueTag.OBJECT, PLACE, "", [[ValueTag.DICT, "x", 1], None, None, [ValueTag.SET]]],
    "a model with less": [ValueTag.OBJECT, PLACE, "", [[ValueTag.DICT]]],
    "a dataclass with another field": [ValueTag.OBJECT, SPOT, "__class__", 1],
    "a module whose method is hidden": [ValueTag.OBJECT, "dspy.predict.predict.Predict", "forward", 1],
    "an example whose class is hidden": [ValueTag.OBJECT, "dspy.primitives.example.Example", "__class__", 1],
    "an odd number of parts": [ValueTag.DICT, 1],
    "a key that cannot be one": [ValueTag.DICT, [ValueTag.LIST], 1],
    "an array of objects": [ValueTag.ARRAY, "O", [1], b"12345678"],
    "an array that is too short": [ValueTag.ARRAY, "f8", [100], b"12345678"],
    "a text of another kind": [ValueTag.TEXT, "eval", "1"],
    "no text": [ValueTag.TEXT, "date", "yesterday"],
    "a part that there is not": [ValueTag.MODULE, "__class__"],
    "an error without parts": [ValueTag.ERROR, "KeyError"],
    "an error with a method": [ValueTag.ERROR, "KeyError", "a", "b", "c", [0], [2, "with_traceback", 1], None],
    "a wrong signature": [ValueTag.SIGNATURE, "a", "b", [[1, 2, 3, 4]]],
    "an unsent thing without a name": [ValueTag.UNSENT, 1, 2],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_is_no_value(lie: Any) -> None:
    with pytest.raises(Malformed), nothing_happens():
        Decoding(resolve, KNOWN).read(written(lie))


def test_a_value_of_another_type_than_its_class_declares_is_refused() -> None:
    """By the types of its fields alone: none of its code is run."""
    with pytest.raises(NotSendable, match=r"a Place cannot be sent.*name = 7: Input should be a valid string"):
        there_and_back(Place.model_construct(name=7))
    with pytest.raises(NotSendable, match=r"a Spot cannot be sent.*at = 7"):
        there_and_back(Spot(7))  # type: ignore[arg-type]
    with pytest.raises(NotSendable, match=r"a Pair cannot be sent.*left = 'x'"):
        there_and_back(Pair("x", "y"))  # type: ignore[arg-type]
    assert there_and_back(Place.model_construct(name="x", size=None)).size is None


def test_what_does_something_when_it_goes_away_is_not_made() -> None:
    """As that could be anything, with attributes that the process has chosen."""
    value = Leaves(name="x")
    data = Encoding(refer, KNOWN).write("it", value)
    LEFT.clear()
    with pytest.raises(NotSendable, match="it does something when it goes away"):
        Decoding(resolve, KNOWN).read(data)
    gc.collect()
    assert LEFT == []
    assert value.name == "x"
    assert not any(hasattr(kind, "__del__") for kind in DSPY_CLASSES.values())


def test_an_annotation_that_cannot_be_checked_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of another field is."""
    odd: Any = dataclasses.make_dataclass("Odd", [("odd", 5), ("words", list[Annotated[str, "short"]])])  # type: ignore[list-item]
    kinds = known(odd)
    encoding, decoding = Encoding(refer, kinds), Decoding(resolve, kinds)
    assert decoding.read(encoding.write("it", odd(7, ["x"]))) == odd(7, ["x"])
    with pytest.raises(NotSendable, match="words"):
        decoding.read(encoding.write("it", odd(7, [1])))


def test_a_class_is_not_something_else_that_is_known() -> None:
    """Nor is an error a class that is none."""
    decoding = Decoding(resolve, [dspy.ChatAdapter(), Place])
    with pytest.raises(Malformed, match="no class"):
        decoding.read(written([ValueTag.OBJECT, 0]))
    assert decoding.read(written([ValueTag.ERROR, 1, "a.B", "text", "where", None, None, None])).kind == "a.B"


def test_plain_values_of_other_classes_come_back_plain() -> None:
    class Word(str):
        __slots__ = ()

    found = there_and_back(
        [Word("x"), dspy.Signature({"a": (Place, dspy.InputField()), "b": (dspy.Image, dspy.OutputField())})]
    )
    assert type(found[0]) is str
    assert [field.annotation for field in found[1].fields.values()] == [Place, dspy.Image]


def test_what_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.agents.process.encoding.LONGEST", 10)
    with pytest.raises(NotSendable, match="it has 102 bytes, and may have 10"):
        there_and_back("x" * 100)


async def test_what_was_sent_before_the_end_is_heard() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.open(ours)
    channel._writer.transport.pause_reading()  # type: ignore[attr-defined]
    with theirs:
        theirs.send(GOOD)
        channel.hang_up()
        assert (await channel.receive()) == RunFrame("returned", 1, 0, written("fine"))
        assert await channel.receive() is None


def test_keys_whose_hashes_can_be_chosen_are_few() -> None:
    with pytest.raises(NotSendable, match="more than 1000 of its keys"):
        there_and_back({(n, n): n for n in range(1001)})


PARTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary()
    | st.sampled_from([*DSPY_CLASSES, *TEXTS, "os.system", "where", "forward", "__class__", ""]),
    lambda inner: st.lists(st.sampled_from([*ValueTag]) | inner, max_size=6),
    max_leaves=12,
)  # fmt: skip
OBJECTS = st.tuples(
    st.sampled_from(
        [
            ValueTag.OBJECT,
            ValueTag.ERROR,
            ValueTag.MEMBER,
            ValueTag.SIGNATURE,
            ValueTag.ARRAY,
            ValueTag.TEXT,
            ValueTag.DICT,
        ]
    ),
    st.sampled_from([*DSPY_CLASSES, *range(len(KNOWN)), "KeyError", "f8", "date"]) | PARTS,
    st.lists(st.sampled_from(["", "_store", "name", "__dict__", "args"]) | PARTS, max_size=8),
).map(lambda parts: [*parts[:2], *parts[2]])


@given(
    st.one_of(PARTS, OBJECTS, st.lists(OBJECTS).map(lambda found: [ValueTag.LIST, *found])).map(written) | st.binary()
)
@settings(max_examples=800, deadline=None)
def test_whatever_a_process_sends_is_a_value_or_refused(data: bytes) -> None:
    with nothing_happens(), contextlib.suppress(Malformed, NotSendable):
        Decoding(resolve, KNOWN).read(data)


def test_a_pickle_is_not_a_value() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    for data in (pickle.dumps(Evil()), cloudpickle.dumps(Evil())):
        with pytest.raises(Malformed), nothing_happens():
            Decoding(resolve, KNOWN).read(data)


# -- questions ---------------------------------------------------------------------------------------------------------


def asked(**options: Any) -> Any:
    """Return a request as a process makes one."""
    config = lm15.Config(**options)
    return lm15.Request(model="known/model", messages=(lm15.Message.user("hello"),), config=config)


def test_a_request_sets_what_is_asked_and_nothing_else() -> None:
    """Not where, and not with whose key."""
    lm = scripted_lm(ScriptedEngine({}))
    request = asked(temperature=0.5, extensions={"top_a": 1})
    assert checked_request(request, lm) == request
    for key in ("api_key", "api_base", "base_url", "API_KEY", "extra_headers", "custom_llm_provider"):
        for extensions in ({key: "x"}, {"openai": [{"deep": {key: "x"}}]}):
            with pytest.raises(ValueError, match=f"it sets {key}: addresses and keys are those of the caller's model"):
                checked_request(asked(extensions=extensions), lm)
    other = lm15.Request(model="other/model", messages=request.messages)
    with pytest.raises(ValueError, match="asks for the model 'other/model' and not for 'known/model'"):
        checked_request(other, lm)
    with pytest.raises(TypeError, match="no request"):
        checked_request("hello", lm)


def test_a_request_names_no_files_of_its_parent(tmp_path: Path) -> None:
    """They would be read here, and sent away."""
    lm = scripted_lm(ScriptedEngine({}))
    image = lm15.ImagePart(path=tmp_path / "secret.png")
    result = lm15.ToolResultPart(id="1", content=(image,))
    for messages, system in (
        ((lm15.Message(role="user", parts=(image,)),), None),
        ((lm15.Message(role="tool", parts=(result,)),), None),
        ((lm15.Message.user("x"),), (image,)),
    ):
        with pytest.raises((ValueError, TypeError)):
            checked_request(lm15.Request(model="known/model", messages=messages, system=system), lm)


# -- a process that says whatever a test wants -------------------------------------------------------------------------


class Scripted:
    """Stands for an OS process: the test writes what it says."""

    def __init__(self, sock: socket.socket) -> None:
        self.pid = 1
        self.returncode: int | None = None
        self.sock = sock
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """Wait for its end."""
        return await asyncio.shield(self.ended)

    def kill(self) -> None:
        """End it."""
        self.end(-signal.SIGKILL)

    def end(self, status: int) -> None:
        """End it by itself."""
        self.sock.close()
        if not self.ended.done():
            self.returncode = status
            self.ended.set_result(status)

    async def say(self, data: bytes) -> None:
        """Send bytes, as far as somebody takes them."""
        try:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
        except OSError:  # it has been hung up
            return

    async def told(self) -> None:
        """Wait until something was said to it."""
        await asyncio.get_running_loop().sock_recv(self.sock, 1)


def framed(*parts: Any) -> bytes:
    """Return a frame as it is sent."""
    data = msgspec.msgpack.encode(RunFrame(*parts))
    return struct.pack("!Q", len(data)) + data


FIRST = {"frame": framed("ready")}


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Scripted]]:
    """The processes that were started, which are the test's own."""
    found: list[Scripted] = []

    async def start(code: str) -> tuple[Any, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        found.append(Scripted(theirs))
        theirs.send(FIRST["frame"])
        return found[-1], ours

    monkeypatch.setattr(runner, "start_interpreter", start)
    yield found
    for each in found:
        each.end(0)


def invoke(module: Any) -> Invoke:
    """Return a call of a module."""
    return Invoke(module, True, (), {"text": "x"}, copy_context(), "")


GOOD = framed("returned", 1, 0, written("fine"))
KEPT = [ValueTag.KEPT, 0]
BAD: dict[str, bytes] = {
    "a length that is too long": struct.pack("!Q", LONGEST_FRAME + 1),
    "a length without an end": struct.pack("!Q", 1000) + b"x",
    "no frame": struct.pack("!Q", 4) + b"what",
    "noise": os.urandom(1000),
    "a pickle": struct.pack("!Q", 20) + pickle.dumps(("ready", 1, 1))[:20],
    "an answer for nobody": framed("returned", 7, 0, written(1)),
    "an answer for a run to come": framed("returned", 2, 0, written(1)),
    "an answer for a negative run": framed("returned", -1, 0, written(1)),
    "an answer twice": GOOD + GOOD,
    "an answer and an error": GOOD + framed("raised", 1, 0, written([ValueTag.ERROR, None, "a", "b", "c"])),
    "an answer that is no value": framed("returned", 1, 0, b"\xc1"),
    "an answer without a value of a part": framed("returned", 1, 0, written([ValueTag.MODULE, "nowhere"])),
    "an error that is none": framed("raised", 1, 0, written("sorry")),
    "another frame": framed("exec", 1, 0, written("1")),
    "a second start": framed("ready", 1),
    "a question with a negative number": framed("ask", 1, -1, written(1)),
    "a question to nobody": framed("ask", 1, 1, written([ValueTag.LIST, [ValueTag.KEPT, 99], 1, None])),
    "a question to a negative number": framed("ask", 1, 1, written([ValueTag.LIST, [ValueTag.KEPT, -1], 1, None])),
    "a question to what is no model": framed("ask", 1, 1, written([ValueTag.LIST, "x", "x", None])),
    "a question of no call": framed("ask", 1, 1, written([ValueTag.LIST, KEPT, "x", 5])),
    "an answer from the cache for no call": framed("cache_hit", 1, 0, written([ValueTag.LIST, 5])),
    "a question without a request": framed("ask", 1, 1, written([ValueTag.LIST])),
    "a callback of another name": framed(
        "callback", 1, 0, written([ValueTag.LIST, KEPT, "__init__", None, [ValueTag.DICT]])
    ),
    "a callback with other arguments": framed(
        "callback", 1, 0, written([ValueTag.LIST, KEPT, "on_lm_end", None, [ValueTag.DICT, "self", 1]])
    ),
    "a callback of what is none": framed(
        "callback", 1, 0, written([ValueTag.LIST, "x", "on_lm_end", None, [ValueTag.DICT, "call_id", 1]])
    ),
    "usage that is none": framed("usage", 1, 0, written([ValueTag.LIST, "a", "b"])),
    "a history of nobody": framed(
        "history", 1, 0, written([ValueTag.LIST, [ValueTag.DICT], [ValueTag.LIST, "x"], True])
    ),
    "a trace of nothing": framed("trace", 1, 0, written([ValueTag.LIST, "x", [ValueTag.DICT], 1])),
    "a trace of another length": framed("trace", 1, 0, written([ValueTag.LIST])),
    "nothing where there should be something": framed("callback", 1),
}  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_lie_costs_one_restart_and_no_more(runtime: Runtime, made: list[Scripted], bad: bytes) -> None:
    """The call fails or is answered, the next process serves, nothing else happens."""
    restarts: list[Restarted] = []
    reasons: list[ExitReason] = []
    runtime.subscribe(restarts.append, Restarted)
    runtime.subscribe(lambda event: reasons.append(event.reason), Exited)
    top = await runtime.spawn(Supervisor, [ChildSpec("p", ProcessRunner, name="p")], max_restarts=1)
    callback = dspy.utils.callback.BaseCallback()
    with dspy.context(callbacks=[callback], usage_tracker=None, trace=None):
        call = runtime.name("p").call(invoke(Says()), timeout=None)
    ref = runtime.whereis("p")
    assert ref is not None
    await made[0].told()
    await made[0].say(bad)
    made[0].sock.shutdown(socket.SHUT_WR)
    assert not (await ref.join()).clean
    outcome: Any = (await asyncio.gather(call, return_exceptions=True))[0]
    assert outcome == "fine" or isinstance(outcome, Exception)
    while len(made) < 2 or not runtime.whereis("p"):
        await runtime.sleep(0.001)
    again = runtime.name("p").call(invoke(Says()), timeout=None)
    await made[1].told()
    await made[1].say(GOOD)
    assert await again == "fine"
    assert (len(restarts), len(made)) == (1, 2)
    await top.stop()


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (framed("returned"), "it began with 'returned'"),
        (struct.pack("!Q", 1 << 40), "a frame of 1,099,511,627,776 bytes"),
    ],
)
async def test_a_process_that_begins_otherwise_has_not_started(
    runtime: Runtime, made: list[Scripted], monkeypatch: pytest.MonkeyPatch, first: bytes, text: str
) -> None:
    monkeypatch.setitem(FIRST, "frame", first)
    with pytest.raises(StartError, match=text):
        await runtime.spawn(ProcessRunner)


async def test_a_process_that_hangs_up_and_stays_is_killed(
    runtime: Runtime, made: list[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_PATIENCE", 0.01)
    ref = await runtime.spawn(ProcessRunner)
    made[0].sock.shutdown(socket.SHUT_RDWR)
    await ref.join()
    assert made[0].returncode == -signal.SIGKILL


async def test_what_is_said_about_a_run_that_is_over_is_not_heard(runtime: Runtime, made: list[Scripted]) -> None:
    """A thread of it may go on; its questions are answered, so that it ends."""
    ref = await runtime.spawn(ProcessRunner)
    call = ref.call(invoke(Says()), timeout=None)
    await made[0].told()
    call.cancel()
    late = framed("usage", 1, 0, written([ValueTag.LIST, "a", [ValueTag.DICT]])) + framed("ask", 1, 1, b"what")
    await made[0].say(late * 100 + framed("cancelled", 1) + late * 100)
    again = ref.call(invoke(Says()), timeout=None)
    heard = b""
    while heard.count(b"given the call up") < 200:
        heard += await asyncio.get_running_loop().sock_recv(made[0].sock, 1 << 20)
    await made[0].say(framed("returned", 2, 0, written("fine")))
    assert await again == "fine"
    assert ref.alive


async def test_a_run_has_no_more_kept_here_than_is_reasonable(
    runtime: Runtime, made: list[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex.agents.process.remote_run._KEPT", 1000)
    ref = await runtime.spawn(ProcessRunner)
    trace: list[Any] = []
    with dspy.context(trace=trace):
        call = asyncio.gather(ref.call(invoke(Says()), timeout=None), return_exceptions=True)
    await made[0].told()
    entry = [ValueTag.LIST, [ValueTag.MODULE, "self"], [ValueTag.DICT], "x" * 100]
    await made[0].say(framed("trace", 1, 0, written(entry)) * 20)
    assert "had more than 1,000 bytes noted in one run" in str(await ref.join())
    assert len(trace) == 8
    await call


async def test_an_error_of_an_observer_is_the_calls(runtime: Runtime, made: list[Scripted]) -> None:
    class Broken(dspy.utils.usage_tracker.UsageTracker):  # type: ignore[misc]
        def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
            raise ValueError("it cannot count")

    ref = await runtime.spawn(ProcessRunner)
    with dspy.context(usage_tracker=Broken()):
        call = ref.call(invoke(Says()), timeout=None)
    await made[0].told()
    await made[0].say(framed("usage", 1, 0, written([ValueTag.LIST, "a", [ValueTag.DICT]])) + GOOD[:0])
    with pytest.raises(ValueError, match="it cannot count"):
        await call
    assert ref.alive


async def test_usage_is_what_the_process_says(runtime: Runtime, made: list[Scripted]) -> None:
    ref = await runtime.spawn(ProcessRunner)
    tracker = dspy.utils.usage_tracker.UsageTracker()
    with dspy.context(usage_tracker=tracker):
        call = ref.call(invoke(Says()), timeout=None)
    await made[0].told()
    entry = [ValueTag.LIST, "a/b", [ValueTag.DICT, "total_tokens", -5]]
    await made[0].say(framed("usage", 1, 0, written(entry)) + GOOD)
    assert await call == "fine"
    assert tracker.get_total_tokens() == {"a/b": {"total_tokens": -5}}


async def test_runs_of_one_process_can_answer_for_each_other(runtime: Runtime, made: list[Scripted]) -> None:
    """They are one process: what it says about each is believed."""
    ref = await runtime.spawn(ProcessRunner)
    calls = [ref.call(invoke(Says()), timeout=None) for _ in range(2)]
    await made[0].told()
    await made[0].say(framed("returned", 2, 0, written("of the first")) + GOOD)
    assert await asyncio.gather(*calls) == ["fine", "of the first"]


async def test_keys_and_addresses_are_not_sent() -> None:
    """Whether a language model is the call's or the program's own."""

    class Kept:
        def __init__(self) -> None:
            self.frames: list[RunFrame] = []

        def send(self, frame: RunFrame) -> None:
            self.frames.append(frame)

    channel, program = Kept(), Says()
    secret = {"api_key": "sk-very-secret", "api_base": "http://private.example"}
    program.label.lm = dspy.LM("openai/gpt-4o", temperature=0.25, **secret)
    with dspy.context(lm=dspy.LM("openai/gpt-4o-mini", **secret)):
        RemoteRun(1, invoke(program), channel, SentParts()).begin()  # type: ignore[arg-type]
    data = b"".join(frame.data for frame in channel.frames)
    assert b"gpt-4o-mini" in data
    assert b"very-secret" not in data
    assert b"private.example" not in data


def test_a_visit_that_is_over_hears_nothing() -> None:
    """Whatever is said."""

    async def main() -> None:
        run = RemoteRun(1, invoke(Says()), None, SentParts())  # type: ignore[arg-type]
        run.take(RunFrame("returned", 1, 0, written("first")))
        assert run.take(RunFrame("returned", 1, 0, written("second"))) is None
        assert await run.result == "first"

    asyncio.run(main())


# -- real processes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds the tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


@pytest.mark.usefixtures("_path", "supervised")
async def test_programs_return_what_they_declare(runtime: Runtime) -> None:
    program = await start_program_agent(runtime, Declares(), isolation="process")

    async def told(text: str) -> Any:
        return await asyncio.to_thread(lambda: program(text=text))

    found = await told("everything")
    for name, value in everything().items():
        if name not in ("made", "counts", "scores"):
            assert found[name] == value, name
    answer = '[[ ## place ## ]]\n{"name": "x"}\n\n[[ ## mood ## ]]\ngood\n\n[[ ## completed ## ]]'

    class Knows(ScriptedEngine):
        def answer(self, messages: Any) -> str:
            return answer

    with dspy.context(lm=scripted_lm(Knows({})), adapter=dspy.ChatAdapter()):
        asked = await told("asked")
    assert (type(asked.place), asked.place.name, asked.mood) == (Place, "x!", Mood.GOOD)
    with pytest.raises(Shut, match="it is shut: late") as shut:
        await told("shut")
    assert shut.value.place == "it"
    with pytest.raises(RemoteError, match=r"remote_programs\.Secret: hidden") as secret:
        await told("secret")
    assert "in secret" in secret.value.traceback
    for text in ("exits", "cancels"):
        with pytest.raises(RemoteError, match=r"SystemExit|CancelledError"):
            await told(text)
    for text, why in {
        "undeclared": "what it returned cannot be sent.*does not know its class",
        "wrong": "a Place cannot be sent.*name = 7",
        "leaves": "a Leaves cannot be sent.*it does something",
        "many": "what it returned cannot be sent.*more than 200,000 lists",
        "huge": "what it returned cannot be sent.*67,108,8.* bytes, and may have 67,108,864",
    }.items():
        with pytest.raises(NotSendable, match=why):
            await told(text)
    heir = await told("forks")
    agents = [ref for ref in runtime.actors() if "Declares" in str(ref.path)]
    os.kill(int(runtime.info(agents[0]).summary["pid"]), signal.SIGKILL)  # type: ignore[union-attr, arg-type]
    await agents[0].join()
    os.kill(heir, signal.SIGKILL)


def test_what_a_hint_says_besides_its_type_does_not_count() -> None:
    assert _instances(Annotated[int, "of things"]) is int
