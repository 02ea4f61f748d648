"""Wrong arguments are refused where they are given: of children, of handlers' answers, of the steps of a plan."""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import new_class
from typing import Annotated, Any, Generic, Literal, NewType, Protocol, TypedDict, TypeVar, Union

import pytest

from supervision import (
    Actor,
    BadChildSpec,
    ChildSpec,
    DynamicSupervisor,
    Message,
    PartitionSupervisor,
    Request,
    Runtime,
    StartError,
    Supervisor,
    check_child_specs,
    handle,
    start_child,
    which_children,
)
from supervision import events as ev
from supervision.errors import BadHandler, SpecError
from supervision.testing import ChaosPlan, ChaosStep, Kill, Probe, error_of
from supervision.testing.fault_injection import faults
from supervision.testing.fault_injection.plan import BadChaosPlan

# -- children ----------------------------------------------------------------------------------------------------------


class Idle(Actor):
    """Takes nothing."""


class Worker(Actor):
    """Takes a number, and maybe more."""

    def __init__(self, number: int, label: str = "", *, fast: bool = False) -> None:
        self.all = (number, label, fast)


class Needy(Actor):
    """Takes what has to be named."""

    def __init__(self, *, number: int) -> None:
        self.number = number


class Anything(Actor):
    """Takes anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.all = (args, kwargs)


def _wraps(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any) -> None:
        init(self, 1)

    return wrapped


class Wrapped(Worker):
    """Seems to take what it does not."""

    __init__ = _wraps(Worker.__init__)


async def start(number: int, label: str = "") -> Any:
    """Start a worker."""


class Starter:
    """Starts workers."""

    def method(self, number: int) -> Any:
        """Start one."""

    def __call__(self, number: int) -> Any:
        """Start one."""


class Unknowable:
    """Something that can be called, and nobody knows with what."""

    __signature__ = "none"

    def __call__(self, *args: Any) -> Any:
        """Do something."""


NEVER: list[tuple[Any, Any, Any, str]] = [
    (Idle, (1,), {}, "too many positional arguments"),
    (Idle, (), {"number": 1}, "unexpected keyword argument 'number'"),
    (Worker, (1, "a", True), {}, "too many positional arguments"),
    (Worker, (1,), {"number": 1}, "multiple values for argument 'number'"),
    (Worker, (1,), {"quick": True}, "unexpected keyword argument 'quick'"),
    (Worker, (1,), {7: True}, "keywords must be strings"),
    (Needy, (1,), {}, "too many positional arguments"),
    (start, (1, "a", 3), {}, "too many positional arguments"),
    (Starter().method, (1, 2), {}, "too many positional arguments"),
    (Starter(), (1, 2), {}, "too many positional arguments"),
    (functools.partial(start, 1), ("a", "b"), {}, "too many positional arguments"),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "why"), NEVER)
def test_arguments_that_can_never_fit_are_refused_when_the_specification_is_made(
    function: Any, args: Any, kwargs: Any, why: str
) -> None:
    with pytest.raises(BadChildSpec, match=why) as caught:
        ChildSpec("a", function, args, kwargs)
    assert caught.value.field == "child 'a': arguments"
    assert "it takes (" in caught.value.remedy


FITS: list[tuple[Any, Any, Any]] = [
    (Idle, (), {}),
    (Worker, (1,), {}),
    (Worker, [1, "a"], {"fast": True}),
    (Worker, (), {"number": 1}),
    (Needy, (), {"number": 1}),
    (Anything, (1, 2, 3), {"four": 5}),
    (Wrapped, (1, 2, 3, 4), {}),
    (start, (1,), {}),
    (Starter().method, (1,), {}),
    (functools.partial(start, 1), (), {}),
    (Unknowable(), (1, 2, 3), {}),
    (dict, (), {"a": 1}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), FITS)
def test_arguments_that_fit_are_taken(function: Any, args: Any, kwargs: Any) -> None:
    spec = ChildSpec("a", function, args, kwargs)
    assert check_child_specs([spec]) == [spec]


MISSING: list[tuple[Any, Any, Any, str]] = [
    (Worker, (), {}, "missing a required argument: 'number'"),
    (Worker, (), {"fast": True}, "missing a required argument: 'number'"),
    (Needy, (), {}, "missing a required.* argument: 'number'"),
    (start, (), {}, "missing a required argument: 'number'"),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "why"), MISSING)
async def test_arguments_that_are_missing_are_refused_by_the_supervisor_before_anything_starts(
    runtime: Runtime, function: Any, args: Any, kwargs: Any, why: str
) -> None:
    wrong = ChildSpec("wrong", function, args, kwargs)
    with pytest.raises(BadChildSpec, match=why):
        check_child_specs([wrong])
    for kind in (Supervisor, DynamicSupervisor):
        with pytest.raises(BadChildSpec, match=why):
            kind([wrong])
        supervisor = await runtime.spawn(kind, [Idle])
        assert re.search(why, str(await error_of(start_child(supervisor, wrong))))
        assert [child.id for child in await which_children(supervisor)] == ["Idle"]
        assert supervisor.alive


async def test_what_a_supervisor_puts_before_the_arguments_counts(runtime: Runtime) -> None:
    pool = await runtime.spawn(DynamicSupervisor, [Worker], extra_arguments=(1,))
    await start_child(pool, {"id": "b", "start": Worker, "args": ("label",)})
    error = await error_of(start_child(pool, ChildSpec("c", Worker, (1, "label"))))
    assert isinstance(error, BadChildSpec)
    assert check_child_specs([{"id": "a", "start": Worker}], extra_arguments=(1,))[0].id == "a"
    with pytest.raises(BadChildSpec, match="too many"):
        DynamicSupervisor([Worker], extra_arguments=(1, "a", "b"))


async def test_each_copy_of_a_partition_supervisor_has_its_own_arguments(runtime: Runtime) -> None:
    await runtime.spawn(PartitionSupervisor, Worker, partitions=2, with_arguments=lambda args, number: (number,))
    with pytest.raises(BadChildSpec, match="missing a required argument"):
        PartitionSupervisor(Worker, partitions=2)
    with pytest.raises(BadChildSpec, match="too many"):
        PartitionSupervisor(Worker, partitions=2, with_arguments=lambda args, number: (number, "", 3))


async def test_what_a_temporary_child_keeps_is_no_wrong_specification(runtime: Runtime) -> None:
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", Worker, (1,), restart="temporary")])
    (child,) = await which_children(supervisor)
    assert child.spec.args == ()


async def test_a_value_that_cannot_be_shown_does_not_get_in_the_way_of_the_remedy() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ArithmeticError

    class Shy(Actor):
        def __init__(self, odd: object = Odd()) -> None:
            pass

    with pytest.raises(BadChildSpec, match="too many positional arguments"):
        ChildSpec("a", Shy, (Odd(), Odd()), {})


async def test_wrong_arguments_of_spawn_are_a_start_that_failed_and_nothing_is_left(runtime: Runtime) -> None:
    wrong: list[Callable[[], Awaitable[Any]]] = [
        lambda: runtime.spawn(Worker),  # type: ignore[call-overload]
        lambda: runtime.spawn(Worker, 1, quick=True, name="w"),
        lambda: runtime.spawn(Idle, 1),  # type: ignore[call-overload]
    ]
    for spawning in wrong:
        error = await error_of(spawning())
        assert isinstance(error, StartError)
        assert isinstance(error.__cause__, TypeError)
    assert (runtime.names(), list(runtime.actors())) == ({}, [])


# -- answers -----------------------------------------------------------------------------------------------------------

T = TypeVar("T")
Seconds = NewType("Seconds", float)


class Looks(Protocol):
    """Cannot be looked for at run time."""

    def look(self) -> int: ...


class Row(TypedDict):
    """A typed dictionary."""

    a: int


class Get(Request[int]):
    """Promises a number."""


class GetMore(Get):
    """Promises the same."""


class Said(Request[T], Generic[T]):
    """Promises what is said later."""


class GetText(Said[str]):
    """Promises a text."""


class GetPairs(Said[list[tuple[str, T]]], Generic[T]):
    """Promises pairs of something."""


class GetNumbers(GetPairs[int]):
    """Promises pairs of texts and numbers."""


class GetAny(Request):  # type: ignore[type-arg]
    """Promises nothing in particular."""


class GetNothing(Request[None]):
    """Promises to be done."""


class GetMaybe(Request[float | None]):
    """Promises a number, or nothing."""


class Note(Message):
    """Wants no answer."""


WRONG: list[tuple[Any, Any]] = [
    (Get, str),
    (Get, float),
    (Get, list[int]),
    (Get, str | bytes),
    (Get, str | None),
    (Get, Union[str, bytes]),  # noqa: UP007 # as others may write it
    (Get, Awaitable[str]),
    (Get, Annotated[str, "text"]),
    (Get, Literal["a"]),
    (Get, Row),
    (GetMore, str),
    (GetText, int),
    (GetText, asyncio.Future[int]),
    (GetNumbers, list[tuple[str, str]]),
    (GetNumbers, dict[str, int]),
    (GetNothing, bool),
    (GetMaybe, str),
    (GetMaybe, NewType("Words", str)),
]
RIGHT: list[tuple[Any, Any]] = [
    (Get, int),
    (Get, bool),
    (Get, None),
    (Get, int | None),
    (Get, int | str),
    (Get, Any),
    (Get, object),
    (Get, T),
    (Get, "Unheard"),
    (Get, Awaitable[int]),
    (Get, Awaitable[None]),
    (Get, Awaitable),
    (Get, asyncio.Future[Any]),
    (Get, Literal[1, 2]),
    (Get, Annotated[int, "a number"]),
    (Get, Looks),
    (GetMore, int),
    (GetText, str),
    (GetNumbers, list[tuple[str, int]]),
    (GetNumbers, list),
    (GetNumbers, Iterable[Any]),
    (GetAny, str),
    (GetNothing, None),
    (GetMaybe, int),
    (GetMaybe, Seconds),
    (Note, str),
    (Said, str),
    (Request[Looks], Actor),
    (Request[Row], dict[str, int]),
    (Request[Mapping[str, int]], dict[str, int]),
]


def _handler(kind: Any, returned: Any) -> Any:
    def answer(self: Any, message: Any) -> Any:
        """Any handler."""

    answer.__annotations__ = {"message": kind, "return": returned}
    return answer


@pytest.mark.parametrize(("kind", "returned"), WRONG)
def test_a_handler_that_returns_another_type_than_its_request_promises_is_refused(kind: Any, returned: Any) -> None:
    with pytest.raises(BadHandler, match=rf"{kind.__name__} promises .*: return that, or None to answer later"):
        handle(_handler(kind, returned))
    with pytest.raises(BadHandler, match="promises"):
        handle(kind, when="open")(_handler(kind, returned))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("kind", "returned"), RIGHT)
def test_a_handler_that_may_return_what_its_request_promises_is_taken(kind: Any, returned: Any) -> None:
    made = kind if isinstance(kind, type) else new_class("Asked", (kind,))  # of an alias, a class
    handle(_handler(made, returned))


def test_a_handler_of_two_requests_has_to_be_right_for_both() -> None:
    handle(_handler(Get | GetText, int | str))
    handle(_handler(Get | Note, int))
    with pytest.raises(BadHandler, match="GetText promises str"):
        handle(_handler(Get | GetText, int))


def test_annotations_are_read_where_the_class_is_made() -> None:
    class Local(Request[int]):
        """Only here."""

    with pytest.raises(BadHandler, match=r"@handle .*\.answer: returns = 'str': .*Local promises int"):

        class Wrong(Actor):
            @handle
            async def answer(self, request: Local) -> str:
                return ""

    class Unannotated(Actor):
        @handle
        def answer(self, request: Local):  # type: ignore[no-untyped-def]
            return ""


def test_a_type_that_nobody_understands_is_left_alone() -> None:
    class Moody(type):
        def __subclasscheck__(cls, other: type) -> bool:
            raise ArithmeticError

    class Odd(metaclass=Moody):
        pass

    class GetOdd(Request[Odd]):
        pass

    assert handle(_handler(GetOdd, int)) is not None


async def test_a_child_whose_class_was_changed_is_judged_by_what_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: Any, a: int, b: int, c: int) -> None:
        """Take three."""

    with pytest.raises(BadChildSpec):
        ChildSpec("a", Worker, (1, "", 3), {})
    monkeypatch.setattr(Worker, "__init__", init)
    assert check_child_specs([ChildSpec("a", Worker, (1, 2, 3), {})])


async def test_an_alias_of_a_type_is_what_it_stands_for() -> None:
    class Alias:
        __value__ = str

    with pytest.raises(BadHandler, match="Get promises int"):
        handle(_handler(Get, Alias()))


# -- steps of a plan ---------------------------------------------------------------------------------------------------


def test_a_step_waits_for_an_event_that_there_is() -> None:
    assert ChaosStep(0, Kill(), "/a", on="Restarted").on == "Restarted"
    assert ChaosStep(0, Kill(), "/a", on=ev.Restarted) == ChaosStep(0, Kill(), "/a", on="Restarted")
    assert ChaosStep(0, Kill(), "/a", on="order:paid").on == "order:paid"
    plan = ChaosPlan((ChaosStep(0, Kill(), "/a", on=ev.Exited),))
    assert ChaosPlan.of(str(plan)) == plan


@pytest.mark.parametrize("wrong", ["Restartd", "Nothing", "", 7, Probe, []])
def test_a_step_that_would_wait_for_ever_is_refused(wrong: Any) -> None:
    with pytest.raises(BadChaosPlan, match="step: on"):
        ChaosStep(0, Kill(), "/a", on=wrong)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("at", lambda: ChaosStep(-1, Kill(), "/a")),
        ("at", lambda: ChaosStep(math.nan, Kill(), "/a")),
        ("fault", lambda: ChaosStep(0, Kill, "/a")),  # type: ignore[arg-type]
        ("fault", lambda: ChaosStep(0, "kill", "/a")),  # type: ignore[arg-type]
        ("path", lambda: ChaosStep(0, Kill(), "")),
        ("path", lambda: ChaosStep(0, Kill(), None)),  # type: ignore[arg-type]
        ("until", lambda: ChaosStep(2, Kill(), "/a", until=1)),
        ("until", lambda: ChaosStep(2, Kill(), "/a", until=math.inf)),
        ("steps", lambda: ChaosPlan((Kill(),))),  # type: ignore[arg-type]
        ("mode", lambda: ChaosPlan((), mode="gentle")),  # type: ignore[arg-type]
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_when_it_is_made(field: str, make: Any) -> None:
    with pytest.raises(BadChaosPlan, match=field):
        make()


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("seconds", lambda: faults.Hang(-1)),
        ("seconds", lambda: faults.Delay(math.nan)),
        ("share", lambda: faults.Drop(2)),
        ("share", lambda: faults.Duplicate(True)),
        ("skip", lambda: faults.Crash(skip=-1)),
        ("times", lambda: faults.SwallowCancel(1.5)),  # type: ignore[arg-type]
        ("amount", lambda: faults.Exhaust(amount=True)),
        ("what", lambda: faults.Exhaust("moon")),  # type: ignore[arg-type]
        ("phase", lambda: faults.KillDuring("lunch")),  # type: ignore[arg-type]
        ("how", lambda: faults.FailStart(how=[])),  # type: ignore[arg-type]
    ],
)
def test_a_fault_that_there_is_not_is_refused_when_it_is_made(field: str, make: Any) -> None:
    with pytest.raises(SpecError, match=field):
        make()


def test_a_slip_is_told_with_what_may_be_meant_also_in_a_file() -> None:
    with pytest.raises(BadChaosPlan, match="is Restarted meant"):
        ChaosStep(0, Kill(), "/a", on="Restartd")
    text = str(ChaosPlan((ChaosStep(0, Kill(), "/a", on="Restarted"),))).replace("Restarted", "Restartd")
    with pytest.raises(BadChaosPlan, match="is Restarted meant"):
        ChaosPlan.of(text)
