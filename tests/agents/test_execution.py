"""Running actions: retries, time limits, compensation, and compositions, with and without a loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import (
    Action,
    AgentType,
    Attempts,
    BadAction,
    BadParams,
    BadPlan,
    Branch,
    Chain,
    CompensationFailed,
    Context,
    Emit,
    Failure,
    NeedsLoop,
    Parallel,
    Plan,
    Result,
    ResultConflict,
    SetState,
    acmd,
    aexecute,
    cmd,
    execute,
    tool_schema,
)
from agents.core.cron import CronSchedule
from agents.errors import BadCronSchedule
from supervision.clock import clock_of
from supervision.errors import BadOption, BadTime
from supervision.testing import advance

LOG: list[str] = []


@pytest.fixture(autouse=True)
def empty_log() -> Iterator[None]:
    """Begin with nothing in the log."""
    LOG.clear()
    yield
    LOG.clear()


class Books(msgspec.Struct, frozen=True):
    """A state."""

    n: int = 0
    text: str = ""
    status: str = "open"


class Shop(AgentType[Books]):
    """Has such a state."""


class Step(Action[dict[str, Any]]):
    """Writes its name to the log, and can undo it; fails when it is told to."""

    name: str = "step"
    fails: bool = False
    gives: dict[str, Any] = {}

    def run(self, context: Context[Any]) -> dict[str, Any]:
        """Do it."""
        LOG.append(self.name)
        if self.fails:
            raise RuntimeError(f"{self.name} failed")
        return self.gives

    def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""
        LOG.append(f"undo {self.name} ({done}, {error})")


class Waiting(Action[dict[str, Any]]):
    """Takes its time."""

    name: str = "waiting"
    seconds: float = 1.0
    fails: bool = False

    async def run(self, context: Context[Any]) -> dict[str, Any]:
        """Wait."""
        LOG.append(f"{self.name} begins")
        await advance(self.seconds)
        if self.fails:
            raise RuntimeError(f"{self.name} failed")
        LOG.append(f"{self.name} ends")
        return {self.name: self.seconds}

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""
        LOG.append(f"undo {self.name} ({done})")


class Flaky(Action[dict[str, Any]]):
    """Succeeds at the third try."""

    attempts: ClassVar[Attempts] = Attempts(retries=3, backoff=1.0)
    how: str = "connection"

    def run(self, context: Context[Any]) -> dict[str, Any]:
        """Try."""
        LOG.append("try")
        if LOG.count("try") < 3:
            raise (ConnectionError if self.how == "connection" else ValueError)("not yet")
        return {"n": LOG.count("try")}


class Picky(Flaky):
    """Tries again after errors of connections alone."""

    attempts: ClassVar[Attempts] = Attempts(retries=5, backoff=1.0, retry_on=ConnectionError)


class Limited(Waiting):
    """Has a second for each of two tries."""

    attempts: ClassVar[Attempts] = Attempts(retries=1, backoff=0.5, timeout=1.0)


# -- retries and time limits -------------------------------------------------------------------------------------------


def test_an_action_is_tried_again_as_often_as_it_says() -> None:
    """What fails is tried again, and the last failure is the one that counts."""
    assert execute(Flaky) == {"n": 3}
    assert LOG == ["try"] * 3
    LOG.clear()
    assert cmd(Shop.new("s"), Flaky).agent.state.n == 3


def test_errors_that_are_not_worth_it_are_not_tried_again() -> None:
    """An action says which errors are."""
    with pytest.raises(ValueError, match="not yet"):
        execute(Picky, {"how": "value"})
    assert LOG == ["try"]
    assert execute(Picky) == {"n": 3}


async def test_retries_wait_longer_each_time_where_there_is_a_loop() -> None:
    """The pause doubles from one retry to the next."""
    clock = clock_of(asyncio.get_running_loop())
    begin = clock.time()
    assert (await acmd(Shop.new("s"), Flaky)).agent.state.n == 3
    assert clock.time() - begin == pytest.approx(1.0 + 2.0)


async def test_each_try_has_its_own_time() -> None:
    """A try that takes too long fails with a time-out, is tried again, and is undone once in the end."""
    clock = clock_of(asyncio.get_running_loop())
    begin = clock.time()
    with pytest.raises(TimeoutError):
        await aexecute(Limited(seconds=5.0))
    assert clock.time() - begin == pytest.approx(1.0 + 0.5 + 1.0)
    assert LOG == ["waiting begins", "waiting begins", "undo waiting (None)"]
    assert await aexecute(Limited(seconds=0.5)) == {"waiting": 0.5}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"retries": -1}, BadOption),
        ({"retries": True}, BadOption),
        ({"retries": 1.5}, BadOption),
        ({"backoff": -1}, BadTime),
        ({"max_backoff": "long"}, BadTime),
        ({"timeout": 0}, BadTime),
    ],
)
def test_wrong_attempts_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """Numbers that make no sense are refused where they are given."""
    with pytest.raises(error):
        Attempts(**options)


def test_an_action_cannot_take_the_names_of_actions_for_parameters() -> None:
    """A parameter that would hide what actions need is refused when the class is defined; so are wrong attempts."""
    with pytest.raises(BadAction, match="choose another name"):

        class Named(Action[None]):
            attempts: int  # type: ignore[assignment, misc]

    with pytest.raises(BadAction, match="give Attempts"):

        class Wrong(Action[None]):
            attempts: ClassVar[Any] = 3


def test_without_a_loop_nothing_can_be_awaited() -> None:
    """Async actions, and async compensation, need a loop; the error says so, and is not tried again."""
    with pytest.raises(NeedsLoop, match="Waiting"):
        execute(Waiting)
    with pytest.raises(NeedsLoop, match="Limited"):
        execute(Chain(Limited))

    class Sync(Waiting):
        def run(self, context: Context[Any]) -> dict[str, Any]:  # type: ignore[override]
            raise RuntimeError("no")

    with pytest.raises(CompensationFailed, match="await acmd"):
        execute(Sync)

    class Never:
        def __await__(self) -> Any:
            yield

    class Later(Action[None]):
        def run(self, context: Context[Any]) -> Any:
            return Never()

    step = cmd(Shop.new("s"), Chain(Later))
    assert step.errors[0].error.kind == "agents.errors.NeedsLoop"


# -- failures with effects ---------------------------------------------------------------------------------------------


class Declined(Action[None]):
    """Fails, and wants the agent to know."""

    patch: dict[str, Any] = msgspec.field(default_factory=lambda: {"status": "declined"})

    def run(self, context: Context[Any]) -> None:
        """Fail."""
        raise Failure("the card was declined", (SetState(self.patch), Emit("card.declined")))


def test_a_failing_action_can_say_what_is_to_happen() -> None:
    """The operations of a failure change the agent, and its directives come before the error."""
    agent, directives = cmd(Shop.new("s"), Declined)
    assert agent.state == Books(status="declined")
    assert [type(one).__name__ for one in directives] == ["Emit", "ErrorDirective"]
    wrong = cmd(Shop.new("s"), Declined({"status": 3}))
    assert wrong.agent == Shop.new("s")
    assert [one.error.kind for one in wrong.errors] == ["agents.errors.BadState"]


# -- what becomes of a command -----------------------------------------------------------------------------------------


def count(n: int) -> Step:
    """Return an action that sets ``n``."""
    return Step(name=f"set {n}", gives={"n": n})


def test_a_command_stops_continues_or_rolls_back() -> None:
    """What was done before a failure stays, or is undone in reverse; what comes after it is run, or is not."""
    work = (count(1), Step(name="bad", fails=True), count(2))
    stopped = cmd(Shop.new("s"), *work)
    assert (stopped.agent.state.n, stopped.agent.version, len(stopped.errors)) == (1, 1, 1)
    went_on = cmd(Shop.new("s"), *work, on_failure="continue")
    assert (went_on.agent.state.n, len(went_on.errors)) == (2, 1)
    LOG.clear()
    rolled = cmd(Shop.new("s"), count(1), count(3), *work, on_failure="rollback")
    assert (rolled.agent, len(rolled.errors)) == (Shop.new("s"), 1)
    assert [
        *("set 1", "set 3", "set 1", "bad", "undo bad (None, bad failed)"),
        *(
            "undo set 1 ({'n': 1}, bad failed)",
            "undo set 3 ({'n': 3}, bad failed)",
            "undo set 1 ({'n': 1}, bad failed)",
        ),
    ] == LOG
    with pytest.raises(BadOption, match="stop, continue, rollback"):
        cmd(Shop.new("s"), on_failure="explode")  # type: ignore[arg-type]


def test_directives_of_what_was_rolled_back_are_gone() -> None:
    """A command that leaves nothing behind emits nothing but its error."""

    class Tell(Action[None]):
        def run(self, context: Context[Any]) -> Result[None]:
            return Result(None, (Emit("told"),))

    step = cmd(Shop.new("s"), Tell, Step(fails=True), on_failure="rollback")
    assert step.directives == step.errors


class Stubborn(Step):
    """Cannot be undone."""

    def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Fail."""
        raise OSError("the other side is gone")


async def test_what_cannot_be_undone_is_an_error_of_its_own() -> None:
    """The rest is undone all the same, and the error names what was not."""
    work = (count(1), Stubborn(name="stubborn"), Stubborn(name="also"), Step(name="bad", fails=True))
    step = await acmd(Shop.new("s"), *work, on_failure="rollback")
    assert [error.action for error in step.errors] == ["Step", "rollback"]
    assert "Stubborn could not be undone (OSError" in step.errors[1].error.message
    assert LOG[-1].startswith("undo set 1")
    with pytest.raises(CompensationFailed) as caught:
        execute(Chain(Stubborn(name="x"), Step(name="bad", fails=True)))
    assert (caught.value.action, str(caught.value.original)) == ("Stubborn", "bad failed")
    with pytest.raises(BadParams):
        execute(Chain((Step, {"fails": "x"})))


# -- compositions ------------------------------------------------------------------------------------------------------


class Plus(Action[dict[str, Any]]):
    """Adds."""

    n: int
    by: int = 1

    def run(self, context: Context[Any]) -> dict[str, Any]:
        """Add."""
        return {"n": self.n + self.by}


class Nothing(Action[None]):
    """Has no result."""

    def run(self, context: Context[Any]) -> None:
        """Do nothing."""


class Sum(msgspec.Struct, frozen=True):
    """A result."""

    n: int


class Double(Action[Sum]):
    """Doubles."""

    n: int

    def run(self, context: Context[Any]) -> Sum:
        """Double."""
        return Sum(self.n * 2)


def test_a_chain_passes_results_on() -> None:
    """Each step gets what was given and what those before it have returned; the last result is the chain's."""
    assert execute(Chain(Plus, (Plus, {"by": 10}), Nothing, Double), {"n": 1}) == Sum(24)
    assert execute(Chain(Nothing)) is None
    step = cmd(Shop.new("s"), (Chain(Plus, Double), {"n": 2}))
    assert (step.agent.state, step.agent.version) == (Books(n=6), 1)


def test_a_chain_that_fails_is_undone_in_reverse() -> None:
    """A saga: what was done before the failure is undone, the last first, and the agent is as before."""
    step = cmd(Shop.new("s"), Chain(Step(name="a"), Step(name="b"), Step(name="c", fails=True)))
    assert step.agent == Shop.new("s")
    assert LOG == ["a", "b", "c", "undo c (None, c failed)", "undo b ({}, c failed)", "undo a ({}, c failed)"]


def test_data_that_cannot_flow_are_refused() -> None:
    """Between steps flow structs and mappings."""

    class Three(Action[int]):
        def run(self, context: Context[Any]) -> int:
            return 3

    with pytest.raises(BadParams, match="3 cannot flow"):
        execute(Chain(Three, Nothing))
    assert execute(Three) == 3


def test_a_branch_takes_one_way() -> None:
    """The condition sees the context and the data; without another way there is nothing to do."""
    branch = Branch(lambda context, data: data["n"] > 2, Double, Plus)
    assert execute(branch, {"n": 3}) == Sum(6)
    assert execute(branch, {"n": 2}) == {"n": 3}
    assert execute(Branch(lambda context, data: False, Double)) is None
    assert repr(branch) == "Branch(Double, Plus)"


def test_a_parallel_merges_results_and_refuses_conflicts() -> None:
    """The results are put together; two that say the same field are a failure, which is undone."""
    assert execute(Parallel((Step, {"gives": {"a": 1}}), (Step, {"gives": {"b": 2}}), Nothing)) == {"a": 1, "b": 2}
    with pytest.raises(ResultConflict, match="Plus and Double both return n"):
        execute(Parallel(Plus, Double), {"n": 1})
    LOG.clear()
    step = cmd(Shop.new("s"), Parallel(Step(name="a", gives={"n": 1}), Step(name="b", gives={"n": 2})))
    assert (step.errors[0].error.kind, LOG[2:]) == (
        "agents.errors.ResultConflict",
        [f"undo {name} ({{'n': {n}}}, Step and Step both return n: let only one do so)" for name, n in ("b2", "a1")],
    )


async def test_a_parallel_runs_side_by_side() -> None:
    """Three that take a second take a second together; with a limit of two, two seconds."""
    clock = clock_of(asyncio.get_running_loop())
    parts = [Waiting(name=name) for name in "abc"]
    begin = clock.time()
    assert await aexecute(Parallel(*parts)) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert clock.time() - begin == pytest.approx(1.0)
    await aexecute(Parallel(*parts, limit=2))
    assert clock.time() - begin == pytest.approx(3.0)


async def test_the_first_failure_cancels_the_others_and_all_is_undone() -> None:
    """What was done, and what was cut short, is undone; what had not begun is not."""
    parts = (Waiting(name="quick", seconds=0.5), Waiting(name="slow", seconds=9.0), Waiting(name="bad", fails=True))
    step = await acmd(Shop.new("s"), Parallel(*parts))
    assert [error.action for error in step.errors] == ["Parallel"]
    assert LOG[:4] == ["quick begins", "slow begins", "bad begins", "quick ends"]
    assert sorted(LOG[4:]) == ["undo bad (None)", "undo quick ({'quick': 0.5})", "undo slow (None)"]
    LOG.clear()
    with pytest.raises(RuntimeError):
        await aexecute(Parallel(Waiting(name="bad", fails=True), Waiting(name="never"), limit=1))
    assert LOG == ["bad begins", "undo bad (None)"]


def test_a_plan_runs_what_depends_on_each_other_in_order() -> None:
    """Each step sees the results of the steps it depends on, and of no others; the last ones make the result."""

    class Seen(Action[dict[str, Any]]):
        name: str
        a: int = 0
        b: int = 0

        def run(self, context: Context[Any]) -> dict[str, Any]:
            LOG.append(f"{self.name} sees {self.a} {self.b}")
            return {self.name: 1}

    plan = (
        Plan()
        .add("d", (Seen, {"name": "d"}), after=["b", "c"])
        .add("b", (Seen, {"name": "b"}), after="a")
        .add("c", (Seen, {"name": "c"}))
        .add("a", (Seen, {"name": "a"}))
    )
    assert plan.phases() == (("c", "a"), ("b",), ("d",))
    assert execute(plan) == {"d": 1}
    assert LOG == ["c sees 0 0", "a sees 0 0", "b sees 1 0", "d sees 0 1"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Plan().add("a", Nothing, after="b").phases(), "there is no such step"),
        (lambda: Plan().add("a", Nothing, after="b").add("b", Nothing, after="a").phases(), "a → b → a|b → a → b"),
        (lambda: Plan().phases(), "add a step"),
        (lambda: Plan().add("a", Nothing).add("a", Nothing), "a name of its own"),
        (lambda: Plan().add("", Nothing), "a name of its own"),
        (lambda: Plan().add("a", "work"), "give an action"),  # type: ignore[arg-type]
        (lambda: Plan(limit=0), "a whole number from 1"),
        (lambda: Parallel(Nothing, limit=True), "a whole number from 1"),
        (Parallel, "give an action"),
        (Chain, "give an action"),
        (lambda: Chain(3), "give an action"),  # type: ignore[arg-type]
        (lambda: Branch("x", Nothing), "give a function"),  # type: ignore[arg-type]
        (lambda: Branch(lambda context, data: True, Nothing, 3), "give an action"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_composition_is_refused_where_it_is_made(make: Any, says: str) -> None:
    """What cannot be run is not put together."""
    with pytest.raises(BadPlan, match=says):
        make()


def test_compositions_show_their_parts() -> None:
    """For logs, and for whoever debugs."""
    work = Chain(Plus, (Double, {"n": 1}), Parallel(Nothing(), Plan().add("a", Nothing)))
    assert repr(work) == "Chain(Plus, (Double, {'n': 1}), Parallel(Nothing(), Plan(Nothing)))"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=10))
def test_phases_respect_every_dependency(edges: list[tuple[int, int]]) -> None:
    """In any graph without cycles, each step comes after those that it depends on, and each comes once."""
    plan = Plan()
    for n in range(7):
        plan = plan.add(str(n), Nothing, after=sorted({str(low) for low, high in edges if high == n and low < n}))
    phases = plan.phases()
    at = {name: number for number, phase in enumerate(phases) for name in phase}
    assert sorted(at) == [str(n) for n in range(7)]
    assert sum(map(len, phases)) == 7
    assert all(at[str(low)] < at[str(high)] for low, high in edges if low < high)


def test_what_is_no_work_fails_as_a_directive() -> None:
    """Whatever is given, nothing is raised."""
    nonsense: list[Any] = [3, "x", ("x", {}), (Plus, {}, {}), None, int]
    for item in nonsense:
        step = cmd(Shop.new("s"), item)
        assert step.errors[0].error.kind == "agents.errors.BadParams"
    for wrong in (Plus(n="x"), (Chain(Plus), {"n": "x"}), Chain(Plus(n="x")), Step(name=3)):  # type: ignore[arg-type]
        assert cmd(Shop.new("s"), wrong).errors[0].error.kind == "agents.errors.BadParams"


# -- tools -------------------------------------------------------------------------------------------------------------


class Place(msgspec.Struct, frozen=True):
    """A place."""

    city: str
    country: str = "CZ"


class HTTPFetchPage(Action[dict[str, Any]]):
    """Fetch a page
    from somewhere.

    More that a model need not know.
    """

    place: Place
    tags: list[str] = []

    def run(self, context: Context[Any]) -> dict[str, Any]:
        """Fetch."""
        return {"text": self.place.city}


def test_any_action_is_a_tool_for_a_language_model() -> None:
    """The description has a JSON schema, whose references stay inside, and what a model sends for it can be run."""
    function = tool_schema(HTTPFetchPage)["function"]
    assert (function["name"], function["description"]) == ("http_fetch_page", "Fetch a page from somewhere.")
    parameters = function["parameters"]
    assert parameters["required"] == ["place"]
    assert parameters["properties"]["place"] == {"$ref": "#/$defs/Place"}
    assert parameters["$defs"]["Place"]["properties"]["city"] == {"type": "string"}
    arguments = msgspec.json.decode(b'{"place": {"city": "Brno"}}')
    assert cmd(Shop.new("s"), (HTTPFetchPage, arguments)).agent.state.text == "Brno"


def test_a_cron_schedule_says_what_to_install_if_its_parser_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(BadCronSchedule, match=r"pip install 'foundation-otp\[cron\]'"):
        CronSchedule("* * * * *")
