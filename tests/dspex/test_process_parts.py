"""What a program's process keeps of the programs that it runs: a call brings what is new, and is right all the same."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import dspy
import msgspec
import pydantic
import pytest

from dspex import NotSendable, start_program_agent
from dspex._compat import same_state, signature_state
from dspex.agents.process import parts
from dspex.agents.process.parts import CallFrame, KeptParts, SentParts, digest_of
from dspex.agents.process.protocol import RunFrame
from dspex.agents.process.remote_run import RemoteRun
from dspex.agents.process.serialization import Serializer, pack_definition, stands_for
from dspex.agents.process.worker import WorkerRun
from dspex.agents.runner import Invoke
from dspex.testing.engine import ScriptedEngine, scripted_lm
from supervision import Runtime
from tests.dspex.remote_programs import COMPARED, Compares, Shows, Where

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds the tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


class Kept:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.frames: list[RunFrame] = []

    def send(self, frame: RunFrame) -> None:
        self.frames.append(frame)

    async def drain(self) -> None:
        pass


def begun(program: Any, sent: SentParts, *args: Any) -> CallFrame:
    """Return what is sent for a call."""
    channel = Kept()
    request = Invoke(program, True, args, {"text": "x"}, contextvars.copy_context(), "agent")
    RemoteRun(1, request, channel, sent).begin()  # type: ignore[arg-type]
    return msgspec.msgpack.decode(channel.frames[0].data, type=CallFrame)


async def test_a_call_of_a_program_that_was_sent_brings_its_inputs_alone() -> None:
    """Whichever other program was sent between; a part that has changed comes, and the others do not."""
    sent, one, other = SentParts(), Shows(), Shows("text, more -> label")
    assert len(begun(one, sent).brought) == 3  # the program, its settings, its signature
    assert len(begun(other, sent).brought) == 2
    for program in (one, other, one.deepcopy()):
        assert begun(program, sent).brought == {}
    one.seen.append("x")
    assert len(begun(one, sent).brought) == 1
    with dspy.context(rounds=7):
        assert len(begun(one, sent).brought) == 1
    one.label.signature.instructions = "Be brief."
    assert len(begun(one, sent).brought) == 2  # the signature, and the program, which names it
    assert begun(one, sent).brought == {}


async def test_what_a_call_names_twice_is_one_there_and_a_part_of_the_program_is_that_programs() -> None:
    program, twin, channel = Compares(), scripted_lm(ScriptedEngine({})), Kept()
    models = [scripted_lm(ScriptedEngine({})) for _ in range(2)]
    for model in models:
        model.kwargs.update(judge=program.label, twin=twin)
    inputs = {"part": program.label, "models": models}
    request = Invoke(program, False, (), inputs, contextvars.copy_context(), "agent")
    RemoteRun(1, request, channel, SentParts()).begin()  # type: ignore[arg-type]
    call = msgspec.msgpack.decode(channel.frames[0].data, type=CallFrame)
    worker: Any = SimpleNamespace(channel=channel, loop=asyncio.get_running_loop())
    await WorkerRun(worker, 1, call, KeptParts().take(call)).run(anyio.CapacityLimiter(1))
    assert channel.frames[-1].kind == "returned", channel.frames[-1]
    assert COMPARED.pop() == (True, True, True)


async def test_what_could_not_be_sent_does_not_count_as_sent() -> None:
    """It is brought by the next call."""
    sent, program = SentParts(), Shows()
    with pytest.raises(NotSendable, match="an argument"):
        begun(program, sent, threading.Lock())
    assert len(begun(program, sent).brought) == 3


def test_what_the_connection_refused_is_not_there() -> None:
    """As when a call is longer than any frame may be."""
    sent = SentParts()

    def refuse(*_: Any) -> None:
        raise OverflowError("too long")

    with pytest.raises(OverflowError):
        sent.send({b"digest": b"data"}, refuse)
    found: list[Any] = []
    for _ in range(2):
        sent.send({b"digest": b"data"}, lambda brought, _: found.append(brought))
    assert found == [{b"digest": b"data"}, {}]


def test_the_process_has_exactly_what_its_parent_thinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over any calls; and never more than it may have."""
    monkeypatch.setattr(parts, "MOST", 5)
    monkeypatch.setattr(parts, "MOST_BYTES", 1000)
    monkeypatch.setattr(parts, "LONGEST_PART", 400)
    chance, sent, kept = random.Random(1), SentParts(), KeptParts()
    for _ in range(2000):
        found = [bytes([n]) * (1 + n * 50) for n in chance.sample(range(12), chance.randrange(1, 7))]
        call = {digest_of(data): data for data in found}
        said: list[Any] = []
        sent.send(call, lambda *what, said=said: said.extend(what))  # type: ignore[misc]
        brought, dropped = said
        taken = kept.take(CallFrame([*call], [], brought, dropped, b"", [], None))
        assert [part.data for part in taken.values()] == found
        left = [len(part.data) for part in kept._parts.values()]
        assert len(left) <= 5
        assert sum(left) <= 1000
        assert max(left, default=0) <= 400
        assert kept._parts.keys() == sent._sizes.keys()


def test_as_many_signatures_are_known_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was not asked for longest is forgotten."""
    monkeypatch.setattr(parts, "MOST", 2)
    sent, signatures = SentParts(), [dspy.Signature(f"a{n} -> b") for n in range(3)]
    for signature in signatures:
        assert sent.definition(signature) is not None
    assert [*sent._definitions] == signatures[1:]


class Other(pydantic.BaseModel):
    """A type of a field."""


def made_here() -> type[pydantic.BaseModel]:
    """Return a class that no other process can import."""

    class Local(pydantic.BaseModel):
        pass

    return Local


def test_which_signatures_are_known_by_what_they_consist_of() -> None:
    """Those that have fields and instructions and nothing else, and whose types every process can import."""

    class Says(dspy.Signature):  # type: ignore[misc]
        """Say it."""

        text: str = dspy.InputField(ge=1)
        other: Other | None = dspy.OutputField(desc="what else", default=None)

    class Checks(Says):
        """Say it."""

    class More(dspy.Signature):  # type: ignore[misc]
        """Say it."""

        text: str = dspy.InputField()
        known: ClassVar[list[str]] = []

    class Grows(dspy.Signature):  # type: ignore[misc]
        """Say it."""

        text: list[str] = dspy.InputField(default=[])

    class Holds(dspy.Signature):  # type: ignore[misc]
        """Say it."""

        text: made_here() = dspy.InputField()  # type: ignore[valid-type]

    bare = dspy.Signature("a -> b")
    bare.model_fields["a"].json_schema_extra = None
    sent = SentParts()
    assert sent.definition(Says) is not None
    for kind in (Checks, More, Grows, Holds, bare, Where, Other, int):
        assert sent.definition(kind) is None, kind
    assert pack_definition(Where) is None  # as every process imports it
    assert not same_state(None, signature_state(Says))


def test_a_reference_is_read_by_those_who_know_what_it_stands_for() -> None:
    """And by nobody else."""
    data = Serializer(lambda value: ("kept", 3) if value is Other else None, lambda _: None).pack("it", [Other])
    assert Serializer(lambda _: None, lambda reference: [reference]).unpack(data) == [[("kept", 3)]]
    with pytest.raises(NotImplementedError, match="kept 3"):
        stands_for("kept", 3)


async def test_an_answer_brings_the_signatures_that_the_call_has_not_brought() -> None:
    """As the process would not know them."""
    channel, program = Kept(), Shows()
    request = Invoke(program, True, (), {"text": "x"}, contextvars.copy_context(), "agent")
    run = RemoteRun(1, request, channel, SentParts())  # type: ignore[arg-type]
    run.begin()
    answered = RunFrame("ask", 1, 1)
    for signature, references in ((program.label.signature, 1), (dspy.Signature("c -> d"), 0)):
        run._reply("answered", answered, [signature])
        found: list[Any] = []
        Serializer(lambda _: None, found.append).unpack(channel.frames[-1].data)
        assert len(found) == references


# -- real processes ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_path", "supervised")
async def test_each_run_has_the_program_and_the_settings_as_they_are_now(runtime: Runtime) -> None:
    """Whatever a run before it has changed there; and so has the first run of the next process."""
    program = await start_program_agent(runtime, Shows(), isolation="process")
    lm = scripted_lm(ScriptedEngine({}))

    async def shown(text: str = "x") -> Any:
        found = await program.acall(text=text)
        return {key: value for key, value in found.items() if key != "pid"}

    first = await shown()
    assert first["seen"] == []
    instructions, desc = first["instructions"], first["desc"]
    for text in ("change", "x", "change"):
        assert await shown(text) == first
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), rounds=3):
        assert await shown() == {
            **first,
            "adapter": "JSONAdapter",
            "temperature": lm.kwargs["temperature"],
            "rounds": 3,
        }
        lm.kwargs["temperature"] = 0.25
        assert (await shown())["temperature"] == 0.25
    assert await shown() == first
    program.seen.append("mine")
    program.label.signature.instructions = "Be brief."
    program.label.signature.model_fields["label"].json_schema_extra["desc"] = "a word"
    now = {**first, "seen": ["mine"], "instructions": "Be brief.", "desc": "a word"}
    for text in ("x", "change", "x"):
        assert await shown(text) == now
    pid = (await program.acall(text="x")).pid
    os.kill(pid, signal.SIGKILL)
    assert await shown() == now
    program.label.signature = program.label.signature.with_instructions(instructions)
    program.label.signature.model_fields["label"].json_schema_extra["desc"] = desc
    assert await shown() == {**first, "seen": ["mine"]}
    assert (await program.acall(text="x")).pid != pid


@pytest.mark.usefixtures("_path", "supervised")
async def test_runs_at_the_same_time_do_not_see_each_others_attributes(runtime: Runtime) -> None:
    program = await start_program_agent(runtime, Shows(), isolation="process")
    found = await asyncio.gather(*(program.acall(text=str(n)) for n in range(50)))
    assert {tuple(each.seen) for each in found} == {()}
