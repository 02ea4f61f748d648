"""Whatever code of an agent raises ends at most its turn, and whoever called is told: also what looks like an order."""

from __future__ import annotations

import asyncio
import builtins
import signal as signals
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from agents import (
    Action,
    AgentHandle,
    AgentType,
    Chain,
    Context,
    Directive,
    Emit,
    NoRoute,
    Parallel,
    Plugin,
    Result,
    Route,
    RunInstruction,
    Sensor,
    SensorContext,
    StartSensor,
    start_agent,
)
from agents.core.command import cmd
from agents.core.execution import aexecute, execute
from agents.core.failures import is_interrupt, is_order, raise_end
from agents.durability import Durability, MemoryStorage
from agents.server import AgentServer, executes
from supervision import Runtime, StartError
from supervision.testing import advance, settled


class Held(msgspec.Struct, frozen=True):
    """How many signals were counted, and what came of errands."""

    count: int = 0
    heard: tuple[Any, ...] = ()


#: What was undone.
UNDONE: list[str] = []
ORDERS: dict[str, Any] = {
    "cancelled": asyncio.CancelledError,
    "closed": GeneratorExit,
    "ctrl-c": KeyboardInterrupt,
    "exit": SystemExit,
    "group": lambda: BaseExceptionGroup("all", [SystemExit(1), KeyboardInterrupt()]),
    "base": lambda: BaseException("base"),
}


def order(what: str) -> BaseException:
    """Return what looks like an order."""
    made = ORDERS[what]()
    assert isinstance(made, BaseException)
    return made


async def one_pass() -> None:
    """Wait for the next pass of the loop."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_soon(over.set_result, None)
    await over


@pytest.fixture(autouse=True)
def nothing_undone() -> Iterator[None]:
    """Each test begins with nothing undone, and with plugins that behave."""
    UNDONE.clear()
    yield
    Rude.at = ""


class Add(Action[dict[str, int]]):
    """Count."""

    def run(self, context: Context[Held]) -> dict[str, int]:
        """Count."""
        return {"count": context.state.count + 1}


class Hear(Action[dict[str, Any]]):
    """Note what is told."""

    async def run(self, context: Context[Held]) -> dict[str, Any]:
        """Note it."""
        assert context.signal is not None
        return {"heard": (*context.state.heard, context.signal.data)}


class Book(Action[None]):
    """Can be undone."""

    def run(self, context: Context[Held]) -> None:
        """Do it."""

    def compensate(self, context: Context[Held], done: Any, error: Exception) -> None:
        """Undo it."""
        UNDONE.append(type(error).__name__)


class Unsure(Action[None]):
    """Is interrupted when it is undone."""

    def run(self, context: Context[Held]) -> None:
        """Do it."""

    def compensate(self, context: Context[Held], done: Any, error: Exception) -> None:
        """Be interrupted."""
        raise KeyboardInterrupt


class Raises(Action[None]):
    """Raises what it is told to."""

    what: str

    def run(self, context: Context[Held]) -> None:
        """Raise it."""
        raise order(self.what)


class RaisesLater(Action[None]):
    """Raises what it is told to, when it has waited."""

    what: str

    async def run(self, context: Context[Held]) -> None:
        """Wait, and raise it."""
        await one_pass()
        raise order(self.what)


class Cancels(Action[None]):
    """Cancels the task in which it runs."""

    waits: bool = True
    swallows: bool = False

    async def run(self, context: Context[Held]) -> None:
        """Cancel it, and wait, or return at once."""
        cancel_own_task()
        if self.waits or self.swallows:
            try:
                await one_pass()
            except asyncio.CancelledError:
                if not self.swallows:
                    raise


def cancel_own_task() -> None:
    """Cancel the task in which this runs."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


class Does(Directive, frozen=True, tag="test_failures_does"):
    """Raises what it is told to, at once or later; or cancels the task in which it is carried out."""

    what: str
    late: bool


@executes(Does, local=True)
def does(server: AgentServer, directive: Does, signal: Any) -> Any:
    """Do it."""

    async def later() -> None:
        if directive.what == "own task":
            cancel_own_task()
        else:
            raise order(directive.what)

    if directive.late:
        return later()
    raise order(directive.what)


class Decide(Action[None]):
    """Decides a directive."""

    what: str
    late: bool = False

    def run(self, context: Context[Held]) -> Result[None]:
        """Decide it."""
        return Result(None, (Does(self.what, self.late),))


class Errand(Action[None]):
    """Has work run beside the turns."""

    what: str

    def run(self, context: Context[Held]) -> Result[None]:
        """Decide it."""
        work: Any = Cancels if self.what == "own task" else (RaisesLater, {"what": self.what})
        return Result(None, (RunInstruction(work, then="heard"),))


def does_not_agree(signal: Any) -> bool:
    """Raise what the signal says."""
    raise order(signal.data["what"])


class Bystander(AgentType[Held]):
    """Has all kinds of rude code in it."""

    routes = {
        "add": Add,
        "heard": Hear,
        "raises": Raises,
        "later": RaisesLater,
        "cancels": Cancels,
        "chain": Chain(Book, RaisesLater),
        "chain.own": Chain(Book, Cancels),
        "both": (Book, Add, Cancels),
        "together": Parallel(Book, RaisesLater),
        "together.own": Parallel(Book, Cancels),
        "directive": Decide,
        "errand": Errand,
    }


class Choosy(AgentType[Held]):
    """Has a route with a condition."""

    routes = [Route("route", Add, when=does_not_agree), Route("add", Add)]


class Rude(Plugin[Any]):
    """Raises what it is told to, where it is told to."""

    at = ""
    what: Any = ""

    def _say(self, hook: str, otherwise: Any) -> Any:
        if self.at == hook:
            raise order(self.what)
        return otherwise

    def on_start(self, agent: Any, ref: Any) -> None:
        """Raise, or not."""
        self._say("on_start", None)

    def on_signal(self, signal: Any, agent: Any) -> Any:
        """Raise, or not."""
        return self._say("on_signal", None)

    def provide(self, signal: Any, agent: Any) -> Any:
        """Raise, or not."""
        return self._say("provide", {})

    def on_reply(self, agent: Any) -> Any:
        """Raise, or not."""
        return self._say("on_reply", agent)

    def on_stop(self, agent: Any, reason: Any) -> None:
        """Raise, or not."""
        self._say("on_stop", None)


class Plugged(AgentType[Held]):
    """Has a rude plugin."""

    plugins = (Rude,)
    routes = {"add": Add}


async def started(runtime: Runtime, kept: bool) -> AgentHandle[Held]:
    """Start an agent."""
    return await start_agent(runtime, Bystander, durability=Durability(MemoryStorage()) if kept else None)


async def goes_on(agent: AgentHandle[Held], count: int = 1) -> None:
    """Check that the agent goes on, with the same server."""
    reply = await agent.call(agent.signal("add"))
    assert (reply.agent.state.count, reply.errors) == (count, ())
    assert agent.address.alive  # type: ignore[union-attr]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("what", ORDERS)
@pytest.mark.parametrize("type", ["raises", "later", "chain", "together", "directive", "directive.later"])
async def test_whatever_an_action_or_a_directive_raises_is_told_to_the_caller(
    runtime: Runtime, kept: bool, what: str, type: str
) -> None:
    agent = await started(runtime, kept)
    data = {"what": what, "late": True} if type == "directive.later" else {"what": what}
    reply = await agent.call(agent.signal(type.removesuffix(".later"), data))
    assert isinstance(order(what), tuple(map(_class_of, reply.errors)))
    assert (["AgentError"] if type in ("chain", "together") else []) == UNDONE
    await goes_on(agent)


def _class_of(error: Any) -> type[BaseException]:
    name = error.error.kind.removeprefix("asyncio.exceptions.")
    found = vars(asyncio).get(name) or vars(builtins)[name]
    assert isinstance(found, type)
    return found


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("data", [{}, {"waits": False}])
@pytest.mark.parametrize("type", ["cancels", "chain.own", "both", "together.own"])
async def test_an_action_that_cancels_its_own_task_has_failed(
    runtime: Runtime, kept: bool, data: dict[str, bool], type: str
) -> None:
    """Whether it waits or returns at once; what was done before it is undone; and nobody behind it is hit."""
    agent = await started(runtime, kept)
    reply = await agent.call(agent.signal(type, data))
    assert [error.error.kind for error in reply.errors] == ["asyncio.exceptions.CancelledError"]
    assert ("Cancels" in reply.errors[0].action) == (type != "together.own")
    assert ([] if type == "cancels" else ["AgentError"]) == UNDONE
    await goes_on(agent)
    agent.cast(agent.signal(type, data))
    await goes_on(agent, 2)


@pytest.mark.parametrize("kept", [False, True])
async def test_an_action_that_goes_on_though_it_has_cancelled_its_task_has_not_failed(
    runtime: Runtime, kept: bool
) -> None:
    agent = await started(runtime, kept)
    assert (await agent.call(agent.signal("cancels", {"swallows": True}))).errors == ()
    await goes_on(agent)


@pytest.mark.parametrize("kept", [False, True])
async def test_a_directive_that_cancels_the_task_in_which_it_is_carried_out_has_failed(
    runtime: Runtime, kept: bool
) -> None:
    agent = await started(runtime, kept)
    reply = await agent.call(agent.signal("directive", {"what": "own task", "late": True}))
    assert [(error.action, error.stage) for error in reply.errors] == [("Does", "effect")]
    await goes_on(agent)


@pytest.mark.parametrize("what", ["own task", *ORDERS])
async def test_what_an_errand_raises_is_its_result(runtime: Runtime, what: str) -> None:
    agent = await started(runtime, kept=False)
    await agent.call(agent.signal("errand", {"what": what}))
    await settled(runtime)
    (told,) = agent.state.heard
    assert told["status"] == "error"
    assert ("CancelledError" if what == "own task" else type(order(what)).__name__) in told["error"]
    await goes_on(agent)


@pytest.mark.parametrize("what", ORDERS)
async def test_a_condition_of_a_route_that_raises_does_not_hold(runtime: Runtime, what: str) -> None:
    agent = await start_agent(runtime, Choosy)
    with pytest.raises(NoRoute):
        await agent.call(agent.signal("route", {"what": what}))
    await goes_on(agent)


@pytest.mark.parametrize("what", ORDERS)
async def test_whatever_a_hook_raises_ends_its_turn_at_most(runtime: Runtime, what: str) -> None:
    agent = await start_agent(runtime, Plugged)
    Rude.what = what
    for hook in ("on_signal", "provide"):
        Rude.at = hook
        with pytest.raises(Exception, match=f"rude.{hook}"):
            await agent.call(agent.signal("add"))
    Rude.at = "on_reply"
    assert (await agent.call(agent.signal("add"))).errors == ()
    Rude.at = ""
    await goes_on(agent, 2)
    Rude.at = "on_stop"
    await agent.stop()
    Rude.at = "on_start"
    with pytest.raises(StartError, match="on_start"):
        await start_agent(runtime, Plugged)


async def test_whatever_an_error_policy_raises_ends_its_turn_at_most(runtime: Runtime) -> None:
    for what in ORDERS:

        def policy(error: Any, agent: Any, what: str = what) -> None:
            raise order(what)

        agent = await start_agent(runtime, Bystander, on_error=policy)
        assert (await agent.call(agent.signal("raises", {"what": "exit"}))).errors
        await goes_on(agent)


class Rough(Sensor):
    """Raises what it is told to, where it is told to."""

    at: str
    what: str

    def _say(self, where: str) -> None:
        if self.at == where:
            raise order(self.what)

    def init(self, context: SensorContext) -> None:
        """Raise, or not."""
        self._say("init")

    def interval(self) -> float | None:
        """Raise, or poll each second."""
        self._say("interval")
        return None if self.at == "events" else 1.0

    async def poll(self, context: SensorContext) -> list[Emit]:
        """Raise, or cancel its task, the first time."""
        polls = context.memory["polls"] = context.memory.get("polls", 0) + 1
        if polls == 1:
            self._say("poll")
            if self.what == "own task":
                cancel_own_task()
        return [Emit("add")] if polls == 2 else []

    async def events(self, context: SensorContext) -> AsyncIterator[Emit]:
        """Give one, and raise."""
        yield Emit("add")
        self._say("events")

    def handle_event(self, event: Any, context: SensorContext) -> list[Emit]:
        """Raise, or add."""
        self._say("handle_event")
        return []


class Notices(Action[dict[str, Any]]):
    """Note the end of a sensor."""

    def run(self, context: Context[Held]) -> dict[str, Any]:
        """Note it."""
        assert context.signal is not None
        return {"heard": (*context.state.heard, context.signal.data["reason"])}


def sensing(at: str, what: str) -> type[AgentType[Held]]:
    """Return a type of agents with a sensor."""

    class Sense(Plugin[Any]):
        sensors = (StartSensor("s", Rough(at, what)),)

    class Sensing(AgentType[Held]):
        plugins = (Sense,)
        routes = {"add": Add, "agent.sensor.exit": Notices}

    return Sensing


@pytest.mark.parametrize("what", ["own task", *ORDERS])
async def test_a_sensor_goes_on_whatever_a_poll_raises(runtime: Runtime, what: str) -> None:
    agent = await start_agent(runtime, sensing("poll", what))
    await advance(3.5)
    assert agent.state == Held(1)


@pytest.mark.parametrize("what", ORDERS)
@pytest.mark.parametrize("at", ["init", "interval", "events"])
async def test_a_sensor_that_ends_is_told(runtime: Runtime, at: str, what: str) -> None:
    """One that does not start is an error of the directive, and one that ends is told with why."""
    agent = await start_agent(runtime, sensing(at, what))
    await settled(runtime)
    if at == "events":
        assert agent.state.count == 1
        (reason,) = agent.state.heard
    else:
        reason = str(agent.view.last_error)
    assert f"s.{at}" in reason
    assert type(order(what)).__name__ in reason
    await goes_on(agent, agent.state.count + 1)


# -- what is an order --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_a_ctrl_c_is_passed_on_where_it_can_be_one() -> None:
    """In the main thread, while nobody else handles the signal."""
    with pytest.raises(KeyboardInterrupt):
        cmd(Bystander.new("x"), Raises("ctrl-c"))
    with pytest.raises(KeyboardInterrupt):
        execute(Chain(Book, Raises("ctrl-c")))
    with pytest.raises(KeyboardInterrupt):
        execute(Chain(Unsure, Raises("exit")))
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_interrupt(KeyboardInterrupt())))
    thread.start()
    thread.join()
    assert found == [False]
    signals.signal(signals.SIGINT, lambda *_: None)
    assert not is_interrupt(KeyboardInterrupt())
    step = cmd(Bystander.new("x"), Raises("ctrl-c"))
    assert step.errors[0].error.kind == "KeyboardInterrupt"


def test_what_plain_code_raises_is_a_failure_of_it() -> None:
    """Nobody cancels, or closes, what does not wait."""
    for what in ("cancelled", "closed", "exit", "group", "base"):
        assert cmd(Bystander.new("x"), Raises(what)).errors
        with pytest.raises(type(order(what))):
            execute(Chain(Book, (Raises, {"what": what})))
    assert len(UNDONE) == 5


class Waits(Action[None]):
    """Waits for ever."""

    async def run(self, context: Context[Held]) -> None:
        """Wait."""
        await asyncio.get_running_loop().create_future()


async def test_who_closes_or_cancels_a_coroutine_is_obeyed(runtime: Runtime) -> None:
    """There is no agent's server that runs it."""
    work = aexecute(Chain(Book, Waits))
    work.send(None)
    work.close()
    assert UNDONE == []
    task = asyncio.create_task(aexecute(Chain(Book, Waits)))
    await one_pass()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert UNDONE == ["AgentError"]
    assert not is_order(asyncio.CancelledError())


async def test_the_end_of_an_actor_is_an_order_to_its_code(runtime: Runtime) -> None:
    agent = await start_agent(runtime, Bystander)
    ref: Any = agent.address
    for error in (asyncio.CancelledError(), GeneratorExit()):
        raise_end(error, ref)
    ref.kill()
    for error in (asyncio.CancelledError(), GeneratorExit()):
        with pytest.raises(type(error)):
            raise_end(error, ref)
    raise_end(SystemExit(1), ref)


# -- what ends with an agent -----------------------------------------------------------------------------------------


class Endless(Action[None]):
    """Has work run that never ends."""

    def run(self, context: Context[Held]) -> Result[None]:
        """Decide it."""
        return Result(None, (RunInstruction(Waits, then="heard"),))


class Busy(AgentType[Held]):
    """Has work that never ends."""

    routes = {"go": Endless}


@pytest.mark.parametrize("reason", [None, "maintenance", "kill"])
async def test_an_errand_ends_with_its_agent_however_that_ends(runtime: Runtime, reason: str | None) -> None:
    """Also in order: else it went on, and its next incarnation did it beside it."""
    agent = await start_agent(runtime, Busy)
    await agent.call(agent.signal("go"))
    assert len(list(runtime.actors())) == 2
    if reason == "kill":
        agent.address.kill()  # type: ignore[union-attr]
    else:
        await agent.stop(reason)
    await settled(runtime)
    assert list(runtime.actors()) == []


class Lingers(Action[None]):
    """Takes for ever to be undone."""

    def run(self, context: Context[Held]) -> None:
        """Do it."""

    async def compensate(self, context: Context[Held], done: Any, error: Exception) -> None:
        """Wait."""
        await asyncio.get_running_loop().create_future()


async def test_what_is_being_undone_can_be_closed(runtime: Runtime) -> None:
    """Then nothing more is undone, as nothing can be waited for."""
    work = aexecute(Chain(Book, Lingers, (Raises, {"what": "exit"})))
    work.send(None)
    work.close()
    assert UNDONE == []
