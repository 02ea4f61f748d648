"""The pure part: agents as values, actions, commands, directives, signals, ids. No loop, no runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import (
    Action,
    Agent,
    AgentType,
    BadAgentType,
    BadRoute,
    BadSignal,
    BadState,
    Context,
    Cron,
    Emit,
    ErrorDirective,
    Result,
    Schedule,
    Signal,
    SpawnAgent,
    Step,
    StopAgent,
    Unschedule,
    acmd,
    cmd,
)
from agents.core.signal import uuid7
from supervision import NORMAL, SpecError
from supervision.errors import BadOption, BadTime
from supervision.testing import advance
from tests.agents.kinds import Add, Announce, Configure, Counted, Counter, Counting, Fail, Nothing, Record, Slow


def counter(**state: Any) -> Agent[Counting]:
    """Return a counter."""
    return Counter.new("c1", state)


def failure(step: Step[Any]) -> ErrorDirective:
    """Return the one error of a step."""
    (error,) = step.errors
    return error


# -- agents ------------------------------------------------------------------------------------------------------------


def test_a_new_agent_has_a_checked_state() -> None:
    """An agent is made of its type's state: with defaults, from some fields, or ready, checked in each case."""
    assert Counter.new("c1") == Agent(id="c1", type="counter", state=Counting(), version=0)
    assert counter(count=3).state == Counting(count=3)
    assert Counter.new("c1", Counting(count=4)).state == Counting(count=4)
    for wrong in ({"count": "x"}, Counting(count="x"), 7, Counted(1)):  # type: ignore[arg-type]
        with pytest.raises(BadState, match="Counting"):
            Counter.new("c1", wrong)  # type: ignore[arg-type]


def test_an_agent_is_a_value() -> None:
    """Agents are equal if all they are made of is, and cannot be changed."""
    assert counter(count=1) == counter(count=1) != counter(count=2)
    with pytest.raises(AttributeError):
        counter().version = 3  # type: ignore[misc]


@pytest.mark.parametrize("id", ["", None, 3])
def test_an_agent_has_an_id(id: Any) -> None:
    """An id that is no text, or empty, is refused."""
    with pytest.raises(BadAgentType, match="counter: id"):
        Counter.new(id)


def test_a_type_is_checked_when_it_is_defined() -> None:
    """A type without a state, with one that can be changed, or with a route to no action cannot be defined."""

    class Loose(msgspec.Struct):
        pass

    with pytest.raises(BadAgentType, match="say what its state is"):
        type("Bare", (AgentType,), {})
    with pytest.raises(BadAgentType, match="make a subclass"):
        AgentType.new("a")
    for kind in (Loose, dict):
        with pytest.raises(BadAgentType, match="frozen=True"):

            class OfLoose(AgentType[kind]):  # type: ignore[valid-type]
                pass

    for routes in ({"a": int}, {"a": Add()}, {"a..b": Add}, {"a.b*": Add}, {3: Add}, {"a": (Add, "x")}):
        with pytest.raises(BadRoute):
            type("Wrong", (Counter,), {"routes": routes})
    assert issubclass(BadRoute, SpecError)


def test_a_type_is_named_and_inherited() -> None:
    """A type is called like its class unless it says otherwise; a subclass of it has its state and its routes."""

    class Plain(AgentType[Counting]):
        pass

    class Special(Counter):
        pass

    assert Plain.name == "Plain"
    assert Special.name == "Special"
    assert Special.new("s").state == Counting()
    assert Special.router.route("counter.add") == (Add,)


# -- commands ----------------------------------------------------------------------------------------------------------


def test_s01_a_command_returns_a_new_agent() -> None:
    """A command leaves the agent it was given as it was, and returns another one with the next version."""
    before = counter()
    step = cmd(before, Add(amount=2))
    assert before == counter()
    assert step == Step(msgspec.structs.replace(before, state=Counting(2), version=1), ())


def test_s02_lists_run_in_order_on_accumulating_state() -> None:
    """Each action sees the state that the one before it left; the version counts commands, not actions."""
    step = cmd(counter(), Add(10), Add(5), Add(-2))
    assert (step.agent.state.count, step.agent.version) == (13, 1)
    step = cmd(cmd(cmd(counter(), Add(10)).agent, Add(5)).agent, Add(-3))
    assert (step.agent.state.count, step.agent.version) == (12, 3)


def test_actions_come_in_three_forms() -> None:
    """An action, its class with defaults, and its class with parameters as data, mean the same."""
    assert cmd(counter(), Add(1), Add, (Add, {"amount": 2}), (Add, None), (Add, Counted(5))).agent.state.count == 6


@given(st.lists(st.integers(-5, 5)))
def test_one_command_or_many(amounts: list[int]) -> None:
    """Actions in one command lead to the same state as in a command each."""
    one = cmd(counter(), *(Add(amount) for amount in amounts)).agent
    many = counter()
    for amount in amounts:
        many = cmd(many, Add(amount)).agent
    assert one.state == many.state
    assert (one.version, many.version) == (min(1, len(amounts)), len(amounts))


def test_a_result_changes_the_fields_that_it_has() -> None:
    """A struct replaces the fields it has set; the state's own type replaces it all; None changes nothing."""
    agent = counter(log=("a",), settings={"x": 1})
    assert cmd(agent, Add).agent.state == Counting(1, ("a",), {"x": 1})
    assert cmd(agent, Record("b")).agent.state == Counting(0, ("a", "b"), {"x": 1})
    assert cmd(agent, Nothing()) == Step(agent)


def test_a_mapping_is_merged_at_any_depth() -> None:
    """A patch keeps what it does not name, in nested mappings too; other values are replaced."""
    agent = counter(settings={"a": {"x": 1, "y": [1, 2]}, "b": 2})
    changed = cmd(agent, Configure({"a": {"y": [3]}, "c": {"d": 4}})).agent
    assert changed.state.settings == {"a": {"x": 1, "y": [3]}, "b": 2, "c": {"d": 4}}
    assert agent.state.settings == {"a": {"x": 1, "y": [1, 2]}, "b": 2}


def test_s06_a_failing_action_is_data() -> None:
    """An action that raises leaves the agent as it was, and a directive tells its name and the exception."""
    agent = counter()
    step = cmd(agent, Fail("out of paint"))
    assert step.agent is agent
    error = failure(step)
    assert (error.action, error.error.kind, error.error.message) == ("Fail", "RuntimeError", "out of paint")
    assert error.error.frames[-1].function == "Fail.run"


def test_the_first_failure_ends_a_command() -> None:
    """What was done before a failure stays, with its directives; what comes after it is not run."""
    step = cmd(counter(), Announce(), Fail, Add(10))
    assert (step.agent.state.count, step.agent.version) == (1, 1)
    assert [type(directive) for directive in step.directives] == [Emit, ErrorDirective]


@pytest.mark.parametrize(
    ("work", "name", "says"),
    [
        (Add(amount=cast("Any", "x")), "Add", "Expected `int`, got `str` - at `$.amount`"),
        ((Add, {"amount": "x"}), "Add", "Expected `int`"),
        ((Add, 3), "Add", "Expected `object`"),
        (Record, "Record", "missing required field `line`"),
        (3, "int", "give an action"),
        (int, "int", "give an action"),
        ((int, {}), "int", "give an action"),
        ((), "tuple", "give an action"),
        ((Add, {}, {}), "Add", "give an action"),
    ],
)
def test_s07_bad_input_is_a_directive_too(work: Any, name: str, says: str) -> None:
    """Parameters that do not fit, or something that is no action, change nothing and are one error directive."""
    agent = counter()
    step = cmd(agent, work)
    assert step.agent is agent
    error = failure(step)
    assert (error.action, error.error.kind) == (name, "agents.errors.BadParams")
    assert says in error.error.message


class Wrong(Action[Counted]):
    """Returns what it is told."""

    what: Any

    def run(self, context: Context[Counting]) -> Any:
        """Return it."""
        return self.what


class Anything(Action[Any]):
    """Returns what it is told, and does not say what that may be."""

    what: Any

    def run(self, context: Context[Counting]) -> Any:
        """Return it."""
        return self.what


class Odd(msgspec.Struct, frozen=True):
    """A result that fits no counter."""

    colour: str = "red"


@pytest.mark.parametrize(
    ("action", "kind", "says"),
    [
        (Wrong(3), "BadResult", "Expected `object`, got `int`"),
        (Wrong(Counted("x")), "BadResult", "Expected `int`"),  # type: ignore[arg-type]
        (Wrong(Result(Counted("x"))), "BadResult", "Expected `int`"),  # type: ignore[arg-type]
        (Wrong(Result(Counted(1), ("emit",))), "BadResult", "is neither an operation nor a directive"),  # type: ignore[arg-type]
        (Anything(3), "BadResult", "a result is a struct, a mapping or None"),
        (Anything(Odd()), "BadState", "the state has no field 'colour'"),
        (Anything({"count": "x"}), "BadState", "Expected `int`"),
        (Anything({"colour": 1}), "BadState", "the state has no field 'colour'"),
    ],
)
def test_what_does_not_fit_is_a_failure_of_the_action(action: Action[Any], kind: str, says: str) -> None:
    """A result that is not as declared, or would make a state that is not as declared, changes nothing."""
    agent = counter()
    step = cmd(agent, action)
    assert step.agent is agent
    error = failure(step)
    assert error.error.kind == f"agents.errors.{kind}"
    assert says in error.error.message


def test_an_action_says_what_it_does() -> None:
    """An action without a ``run`` fails, and says what is missing."""

    class Empty(Action[None]):
        pass

    assert "give it a method run" in failure(cmd(counter(), Empty)).error.message


def test_an_action_knows_its_result_type() -> None:
    """The declared result is known from the class, also through a generic class of actions in between."""
    T = TypeVar("T")

    class Base(Action[T], Generic[T]):
        pass

    class Leaf(Base[Counted]):
        pass

    assert (Add.result_type, Base.result_type, Leaf.result_type) == (Counted, Any, Counted)
    assert (Slow.is_async, Add.is_async) == (True, False)


def test_an_action_sees_its_context() -> None:
    """An action sees the state, whose it is, and what caused it."""
    seen: list[Context[Any]] = []

    class Look(Action[None]):
        def run(self, context: Context[Counting]) -> None:
            seen.append(context)

    signal = Signal(type="look", source="/", id="1")
    cmd(counter(count=2), Look, signal=signal)
    assert seen == [Context(state=Counting(2), agent_id="c1", agent_type="counter", signal=signal, ref=None)]


def test_an_async_action_needs_a_loop() -> None:
    """`cmd` does not run an async action, and its error says what does."""
    error = failure(cmd(counter(), Slow))
    assert error.error.kind == "agents.errors.NeedsLoop"
    assert "await acmd(...)" in error.error.message


async def test_acmd_runs_both_kinds() -> None:
    """`acmd` runs plain and async actions in order, and treats failures as `cmd` does."""
    step = await acmd(counter(), Add(2), Slow(seconds=3600.0), Add)
    assert step.agent == Agent(id="c1", type="counter", state=Counting(4, ("slow",)), version=1)
    step = await acmd(counter(), Add, Fail, Slow)
    assert step.agent.state.count == 1
    assert failure(step).action == "Fail"


async def test_acmd_can_be_cancelled() -> None:
    """A cancelled command is no failure of its action: it is cancelled."""
    task = asyncio.ensure_future(acmd(counter(), Slow))
    await advance(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- directives, signals, ids ------------------------------------------------------------------------------------------


def test_directives_are_data() -> None:
    """A directive of a known kind can be written down and read back, and tells its kind."""
    for directive in (Emit("a.b", {"x": 1}, to="someone"), Schedule(1.5, "a")):
        written = msgspec.to_builtins(directive)
        assert written["kind"] == type(directive).__name__.lower()
        assert {name: written[name] for name in ("type", "data")} == {"type": directive.type, "data": directive.data}
    assert StopAgent().reason is NORMAL


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Emit(""), BadSignal),
        (lambda: Emit("a..b"), BadSignal),
        (lambda: Emit("a", to=""), BadOption),
        (lambda: Emit("a", to=3), BadOption),  # type: ignore[arg-type]
        (lambda: Schedule(-1, "a"), BadTime),
        (lambda: Schedule(1, "."), BadSignal),
        (lambda: Emit("a", subject=17), BadSignal),  # type: ignore[arg-type]
        (lambda: Schedule(1, "a", id=17), BadOption),  # type: ignore[arg-type]
        (lambda: Unschedule([]), BadOption),  # type: ignore[arg-type]
        (lambda: Cron("@daily", "a", id=17), BadOption),  # type: ignore[arg-type]
        (lambda: SpawnAgent("shop.orders:Order", "a"), BadOption),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_directive_cannot_be_made(make: Any, error: type[Exception]) -> None:
    """A directive that could not be carried out is refused where it is made, so that it fails its action."""
    with pytest.raises(error):
        make()


def test_a_signal_has_what_cloudevents_ask_for() -> None:
    """A signal is a CloudEvents 1.0 event: id, source, type and version are there, times have a zone."""
    signal = Signal(type="order.placed", source="/shop", id="1", time=datetime(2026, 1, 1, tzinfo=UTC))
    assert signal.specversion == "1.0"
    more = MappingProxyType({"tenant": "north"})
    full = Signal(type="a", source="/", id="1", subject="17", datacontenttype="a/b", dataschema="/s", extensions=more)
    assert (full.subject, full.extensions["tenant"]) == ("17", "north")
    assert msgspec.json.decode(msgspec.json.encode(signal), type=Signal) == signal
    assert signal == Signal(
        type="order.placed", source="/shop", id="1", time=datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": ""},
        {"type": "a..b"},
        {"type": None},
        {"source": ""},
        {"id": ""},
        {"id": 3},
        {"time": datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)},
        {"time": "yesterday"},
        {"subject": 17},
        {"subject": msgspec.Raw(b"1")},
        {"datacontenttype": 9},
        {"dataschema": 4},
        {"extensions": None},
        {"extensions": [1]},
        {"extensions": {1: 2}},
        {"specversion": "1.0.2"},
    ],
)
def test_a_wrong_signal_cannot_be_made(wrong: Mapping[str, Any]) -> None:
    """What is empty, of another type, a time without a zone, another version: the error names the attribute."""
    with pytest.raises(BadSignal, match=f"Signal.{next(iter(wrong))}"):
        Signal(**{"type": "a", "source": "/", "id": "1", **wrong})


@given(st.floats(0, 2**40), st.integers(0, 2**32))
def test_ids_are_uuids_of_version_7(seconds: float, seed: int) -> None:
    """An id is a UUID of version 7 with the time in front, so that ids sort by time, and the same chance gives the
    same."""
    made = UUID(uuid7(Random(seed), seconds))
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == int(seconds * 1000) & (1 << 48) - 1
    assert str(made) == uuid7(Random(seed), seconds)
    assert len({uuid7(chance, seconds) for chance in [Random(seed)] for _ in range(100)}) == 100
