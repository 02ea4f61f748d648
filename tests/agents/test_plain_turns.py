"""Plain turns are written out for each action: they do what any command does, whatever signals and actions say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
import pytest

from agents import (
    Action,
    Agent,
    AgentType,
    Context,
    Emit,
    ErrorDirective,
    Failure,
    Result,
    SetPath,
    Signal,
    Step,
    start_agent,
)
from agents.core.plain_turns import plain_turn
from supervision import Runtime
from supervision.testing import advance

T = TypeVar("T")
WRONG: Any = "no"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct, frozen=True):
    x: int = 0


class Square(Point, frozen=True):
    side: int = 1


class Boxed(msgspec.Struct, Generic[T], frozen=True):
    inner: T | None = None


class Wide(msgspec.Struct, frozen=True):
    """A state with fields of all kinds."""

    whole: int = 0
    part: float = 0.0
    text: str = ""
    flag: bool = False
    raw: bytes = b""
    maybe: int | None = None
    at: datetime | None = None
    span: timedelta = timedelta()
    money: Decimal = Decimal(0)
    uid: UUID = UUID(int=0)
    point: Point = Point()
    either: Point | str = ""
    colour: Colour = Colour.RED
    items: tuple[int, ...] = ()
    names: list[str] = []
    counts: dict[str, int] = {}
    bounded: Annotated[int, msgspec.Meta(ge=0)] = 0
    boxed: Boxed[int] = Boxed()
    anything: Any = None


class Put(Action[Wide]):
    """Give one field of the state a value."""

    field: str
    value: Any = None

    def run(self, context: Context[Wide]) -> Wide:
        return msgspec.structs.replace(context.state, **{self.field: self.value})


VALUES: list[Any] = [
    0,
    7,
    -1,
    10**400,
    True,
    1.5,
    float("nan"),
    float("inf"),
    "seven",
    b"7",
    None,
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),
    timedelta(1),
    Decimal(3),
    UUID(int=7),
    Point(3),
    Square(3),
    Point(WRONG),
    Boxed(1),
    Boxed("no"),
    Colour.BLUE,
    "blue",
    (1, 2),
    ("a",),
    ["a"],
    [1],
    {"a": 1},
    {"a": "b"},
    {1: 1},
    object,
    [[]],
    type("Sub", (int,), {})(7),
    type("Text", (str,), {})("seven"),
]


class Wides(AgentType[Wide]):
    routes = {"put": Put}


def signal(data: Any) -> Signal:
    return Signal(type="any", source="/", id="1", data=data)


def told(step: Agent[Any] | Step[Any]) -> str:
    """Everything of a step, with the classes of all values: what is equal need not be the same."""
    agent, directives = step if isinstance(step, Step) else (step, ())
    failures = [
        (one.action, one.error.kind, one.error.message) for one in directives if isinstance(one, ErrorDirective)
    ]
    others = [one for one in directives if not isinstance(one, ErrorDirective)]
    return repr((agent, failures, others, [type(value) for value in msgspec.structs.astuple(agent.state)]))


def both(kind: type[Action[Any]], agent: Agent[Any], of: type[AgentType[Any]], data: Any) -> str:
    """Return what comes of a plain turn, which is what comes of any command."""
    fast = plain_turn(kind, of.state_type)(agent, signal(data), None)  # type: ignore[arg-type]
    slow = of.cmd(agent, (kind, data), signal=signal(data))
    assert told(fast) == told(slow)
    return told(fast)


@pytest.mark.parametrize("field", Wide.__struct_fields__)
def test_a_new_state_is_checked_as_in_any_command(field: str) -> None:
    agent = Wides.new("w")
    outcomes = {both(Put, agent, Wides, {"field": field, "value": value}) for value in VALUES}
    assert any("version=1" in one for one in outcomes)
    assert field == "anything" or any("BadResult" in one for one in outcomes)


class Given(Action[Wide]):
    """Has parameters that are looked at one by one."""

    whole: int
    text: str | None = "none"
    point: Point = Point()

    def run(self, context: Context[Wide]) -> Wide:
        return msgspec.structs.replace(context.state, whole=self.whole, text=repr((self.text, self.point)))


class Many(Action[Wide]):
    """Has too many for that."""

    a: int = 1
    b: int = 2
    c: int = 3
    d: int = 4

    def run(self, context: Context[Wide]) -> Wide:
        return Wide(whole=self.a + self.b + self.c + self.d)


class Bare(Action[Wide]):
    """Has none."""

    def run(self, context: Context[Wide]) -> Wide:
        return msgspec.structs.replace(context.state, whole=context.state.whole + 1)


class Checked(Action[Wide]):
    """Looks at its parameters itself."""

    whole: int

    def __post_init__(self) -> None:
        if self.whole < 0:
            raise ValueError("less than nothing")

    def run(self, context: Context[Wide]) -> Wide:
        return Wide(whole=self.whole)


class Strict(Action[Wide], forbid_unknown_fields=True):
    whole: int = 0

    def run(self, context: Context[Wide]) -> Wide:
        return Wide(whole=self.whole)


class Keywords(Action[Wide], kw_only=True):
    whole: int = 0

    def run(self, context: Context[Wide]) -> Wide:
        return Wide(whole=self.whole)


class Renamed(Action[Wide], rename={"whole": "the 'whole' {number}"}):
    whole: int = 0

    def run(self, context: Context[Wide]) -> Wide:
        return Wide(whole=self.whole)


class Listed(Action[Wide]):
    items: tuple[int, ...] = ()

    def run(self, context: Context[Wide]) -> Wide:
        return Wide(items=self.items)


class Unknown(Action[Wide]):
    """Has a parameter of a type that nobody finds."""

    whole: NotThere = 0  # type: ignore[name-defined]  # noqa: F821

    def run(self, context: Context[Wide]) -> Wide:
        return Wide()


DATA: list[Any] = [
    None,
    {},
    {"whole": 1},
    {"whole": True},
    {"whole": "1"},
    {"whole": 1.0},
    {"whole": None},
    {"whole": 1, "text": None},
    {"whole": 1, "text": 5},
    {"whole": 1, "more": 2},
    {"whole": -1},
    {"whole": 2, "point": Point(4)},
    {"text": "a"},
    {"whole": 2, "point": {"x": 4}},
    {"whole": 2, "point": Point(WRONG)},
    {"a": 5, "d": 6},
    {"items": [1]},
    {"items": "ab"},
    {"the 'whole' {number}": 5},
    [],
    [1],
    "text",
    0,
    5,
    Given(3),
    Point(5),
    {1: 2},
    {"whole": 10**400},
    {"whole": 1, 2: 3},
]


@pytest.mark.parametrize("kind", [Given, Many, Bare, Checked, Strict, Keywords, Renamed, Listed, Unknown])
def test_parameters_are_checked_as_in_any_command(kind: type[Action[Any]]) -> None:
    outcomes = {both(kind, Wides.new("w"), Wides, data) for data in DATA}
    assert any("BadParams" in one for one in outcomes) or kind is Unknown
    assert any("version=1" in one for one in outcomes) or kind is Unknown


class Says(Action[Any]):
    """Returns, or raises, what it is told to."""

    what: int

    def run(self, context: Context[Any]) -> Any:
        said = OUTCOMES[self.what]
        if isinstance(said, BaseException):
            raise said
        return said


class SaysWide(Says):
    """Says that it returns a state, and need not."""


SaysWide.result_type = Wide


class SaysNothing(Says):
    """Says that it returns nothing, and need not."""


SaysNothing.result_type = None

OUTCOMES: list[Any] = [
    None,
    Wide(),
    Wide(whole=5),
    Wide(whole=WRONG),
    Point(3),
    {"whole": 3},
    {"whole": "no"},
    {"nothing": 1},
    5,
    "text",
    Result(Wide(whole=2)),
    Result(Wide(whole=2), (Emit("told"),)),
    Result(None, (WRONG,)),
    ValueError("no"),
    msgspec.ValidationError("no"),
    Failure("no", (Emit("failed"),)),
    SystemExit(1),
    type("Other", (Wide,), {})(),
    Result(None),
    Result(None, (Emit("told"),)),
    Result(Wide()),
    Result(Wide(whole=WRONG), (Emit("told"),)),
    Result(Wide(names=["a"]), (Emit("told"), Emit("told again"))),
    Result(Wide(), (SetPath("whole", 5), Emit("told"))),
    Result({"whole": 7}, (Emit("told"),)),
    Result(Point(3), (Emit("told"),)),
]


@pytest.mark.parametrize("kind", [Says, SaysWide, SaysNothing])
@pytest.mark.parametrize("number", range(len(OUTCOMES)))
def test_what_an_action_returns_or_raises_is_as_in_any_command(kind: type[Action[Any]], number: int) -> None:
    both(kind, Wides.new("w"), Wides, {"what": number})


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_a_ctrl_c_is_none_of_its_failures() -> None:
    class Ends(Action[Wide]):
        def run(self, context: Context[Wide]) -> Wide:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain_turn(Ends, Wide)(Wides.new("w"), signal({}), None)  # type: ignore[arg-type]


def test_fields_may_have_names_that_python_keeps_for_itself() -> None:
    state_type = msgspec.defstruct("Odd", [("class", int, 0), ("data", int, 0), ("state", str, "")], frozen=True)

    class Change(Action[state_type]):  # type: ignore[valid-type]
        to: Any

        def run(self, context: Context[Any]) -> Any:
            return msgspec.structs.replace(context.state, **{"class": self.to})

    class Odds(AgentType[state_type]):  # type: ignore[valid-type]
        pass

    assert "Odd(class=5" in both(Change, Odds.new("o"), Odds, {"to": 5})
    assert "BadResult" in both(Change, Odds.new("o"), Odds, {"to": "no"})


def test_what_is_written_out_is_kept_once_for_all_types_of_signals() -> None:
    class Anything(AgentType[Wide]):
        routes = {"**": Bare}

    assert Anything.plain_routes["a"] is Anything.plain_routes["b"]


async def test_agents_take_them(runtime: Runtime) -> None:
    agent = await start_agent(runtime, Wides)
    reply = await agent.call(agent.signal("put", {"field": "whole", "value": 3}))
    assert (reply.agent.state.whole, reply.errors, reply.kept) == (3, (), False)
    assert agent.state is reply.agent.state
    wrong = await agent.call(agent.signal("put", {"field": "whole", "value": "3"}))
    assert (wrong.agent.state.whole, wrong.errors[0].error.kind) == (3, "agents.errors.BadResult")


async def test_whoever_takes_one_is_not_idle(runtime: Runtime) -> None:
    """A cast and a call count; ten seconds after the last the agent sleeps."""
    agent = await start_agent(runtime, Wides, idle_timeout=10.0)
    ref = agent.view.ref
    assert ref is not None
    for _ in range(3):
        await advance(8.0)
        await agent.call(agent.signal("put", {"field": "whole", "value": 3}))
        await advance(8.0)
        agent.cast(agent.signal("put", {"field": "whole", "value": 4}))
    await advance(8.0)
    assert (ref.alive, agent.state.whole) == (True, 4)
    await advance(3.0)
    assert not ref.alive
