"""Scenarios of the pure core and its strategies, by the numbers of the reference (S02 to S15)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents import (
    Action,
    Agent,
    AgentProgress,
    AgentStrategy,
    AgentType,
    BadAgentType,
    BadState,
    Chain,
    Completion,
    Context,
    Direct,
    Emit,
    NeedsLoop,
    Parallel,
    Plan,
    Result,
    Signal,
    StateMachineStrategy,
    StepByStep,
    acmd,
    cmd,
    start_agent,
)
from agents.core.agent import progress_of
from agents.core.command import Step, Turn
from agents.core.strategies import StrategyState
from agents.durability import Durability, MemoryStorage
from supervision import Ref, Runtime
from supervision.errors import BadOption
from supervision.testing import advance, settled
from tests.agents.kinds import Listener


class Counting(msgspec.Struct, frozen=True):
    """A state."""

    counter: int = 0
    settings: dict[str, Any] = {}
    tags: list[str] = []
    status: str = "idle"


class Increment(Action[dict[str, int]]):
    """Count up."""

    by: int = 1

    def run(self, context: Context[Counting]) -> dict[str, int]:
        """Count."""
        return {"counter": context.state.counter + self.by}


class Decrement(Action[dict[str, int]]):
    """Count down."""

    by: int = 1

    def run(self, context: Context[Counting]) -> dict[str, int]:
        """Count."""
        return {"counter": context.state.counter - self.by}


class Reset(Action[dict[str, int]]):
    """Begin anew."""

    def run(self, context: Context[Counting]) -> dict[str, int]:
        """Begin."""
        return {"counter": 0}


class Fail(Action[None]):
    """Fail."""

    def run(self, context: Context[Counting]) -> None:
        """Fail."""
        raise RuntimeError("no")


class Counter(AgentType[Counting]):
    """Counts."""

    routes = {"increment": Increment, "fail": Fail}


def test_s02_lists_run_in_order_on_accumulating_state() -> None:
    """Each action sees what the one before has left; defaults are used where nothing is given."""
    agent = Counter.new("c")
    assert cmd(agent, Increment(10), Increment(5), Decrement(2)).agent.state.counter == 13
    assert cmd(agent, Increment).agent.state.counter == 1
    chained = agent
    for work in (Increment(10), (Increment, {"by": 5}), Decrement(3)):
        chained = Counter.cmd(chained, work).agent
    assert (chained.state.counter, chained.version) == (12, 3)
    assert cmd(chained, Reset).agent.state.counter == 0


def test_s04_validation_has_two_modes() -> None:
    """What a state does not have is an error that names it, or is dropped; what does not fit is one error (changed)."""
    assert Counter.validate({"counter": 3, "colour": "red"}, strict=False) == Counting(counter=3)
    for wrong, says in (({"counter": 3, "colour": 1}, "no field 'colour'"), ({"counter": "x"}, "Expected `int`")):
        with pytest.raises(BadState, match=says):
            Counter.validate(wrong)
        with pytest.raises(BadState, match=says):
            Counter.new("c", wrong)
    assert Counter.validate(Counting(counter=1)) == Counting(counter=1)


def test_s05_set_merges_deeply() -> None:
    """Mappings keep what is beside, at every level; lists are replaced; what does not fit changes nothing."""
    agent = Counter.new("c", {"settings": {"db": {"host": "a", "port": 1}, "x": 1}, "tags": ["a", "b"]})
    after = agent.set({"settings": {"db": {"port": 2}}, "tags": ["c"]})
    assert after.state.settings == {"db": {"host": "a", "port": 2}, "x": 1}
    assert after.state.tags == ["c"]
    with pytest.raises(BadState):
        agent.set({"counter": "x"})


def test_s07_bad_input_is_a_directive_too() -> None:
    """Wrong parameters, and what is no action, leave the agent as it is, with one error."""
    agent = Counter.new("c")
    for work in ((Increment, {"by": "x"}), "increment", Increment("x")):  # type: ignore[arg-type]
        step = Counter.cmd(agent, work)  # type: ignore[arg-type]
        assert step.agent == agent
        assert len(step.directives) == len(step.errors) == 1


LOG: list[str] = []


class Slowly(Action[None]):
    """Waits."""

    async def run(self, context: Context[Counting]) -> None:
        """Wait."""
        await advance(1.0)


class Hooked(AgentType[Counting]):
    """Has hooks."""

    routes = {"increment": Increment, "explode": Fail, "explode.slowly": Slowly}

    @classmethod
    def on_before_cmd(cls, agent: Agent[Counting], work: tuple[Any, ...]) -> tuple[Agent[Counting], tuple[Any, ...]]:
        """Note it."""
        LOG.append("before")
        if work and isinstance(work[0], tuple) and work[0][1] == "explode":
            raise RuntimeError("the hook is broken")
        return agent, (*work, Increment(100))

    @classmethod
    def on_after_cmd(cls, agent: Agent[Counting], directives: tuple[Any, ...]) -> tuple[Agent[Counting], Any]:
        """Note it."""
        LOG.append("after")
        return agent.set({"tags": ["seen"]}), (*directives, Emit("after"))


async def test_s12_hooks_are_called_once_for_each_command(runtime: Runtime) -> None:
    """Before the first action and after the last one; they may change what begins and what comes out."""
    LOG.clear()
    agent, directives = Hooked.cmd(Hooked.new("h"), Increment, Increment)
    assert LOG == ["before", "after"]
    assert (agent.state.counter, agent.state.tags, directives) == (102, ["seen"], (Emit("after"),))
    assert (await Hooked.acmd(Hooked.new("h"), Increment)).agent == (Hooked.cmd(Hooked.new("h"), Increment)).agent
    hooked = await start_agent(runtime, Hooked, emit_to="nobody")
    assert (await hooked.call(hooked.signal("increment", {"by": 2}))).agent.state.counter == 102


async def test_a_hook_that_fails_fails_the_command(runtime: Runtime) -> None:
    """It is dealt with by the error policy, and the agent is as before."""
    hooked = await start_agent(runtime, Hooked)
    for type in ("explode", "explode.slowly"):
        reply = await hooked.call(hooked.signal(type, "explode"))
        assert reply.errors[0].error.message == "the hook is broken"
        assert reply.agent.version == 0


# -- state machines ----------------------------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True):
    """An order."""

    order_status: str = "new"
    carrier: str | None = None


class Confirm(Action[dict[str, Any]]):
    """Confirm it."""

    def run(self, context: Context[Order]) -> dict[str, Any]:
        """Confirm."""
        return {"order_status": "confirmed"}


class Ship(Action[dict[str, Any]]):
    """Ship it."""

    carrier: str

    async def run(self, context: Context[Order]) -> dict[str, Any]:
        """Ship."""
        await advance(1.0)
        return {"order_status": "shipped", "carrier": self.carrier}


class Deliver(Action[dict[str, Any]]):
    """Deliver it."""

    def run(self, context: Context[Order]) -> dict[str, Any]:
        """Deliver."""
        return {"order_status": "delivered"}


class OrderAgent(AgentType[Order]):
    """An order."""

    routes = {"confirm": Confirm, "ship": Ship, "deliver": Deliver}
    strategy = StateMachineStrategy("ready", {"ready": ["processing"], "processing": ["ready"]})


async def test_s14_a_state_machine_at_run_time(runtime: Runtime) -> None:
    """Each command is a transition and back; what was processed is counted."""
    order = await start_agent(runtime, OrderAgent)
    said = []
    for n, (type, data) in enumerate((("confirm", None), ("ship", {"carrier": "FedEx Express"}), ("deliver", None)), 1):
        reply = await order.call(order.signal(type, data))
        said.append(reply.agent.state.order_status)
        assert order.progress().details == {"state": "ready", "processed_count": n, "error": None}
    assert said == ["confirmed", "shipped", "delivered"]
    assert order.state.carrier == "FedEx Express"


class Machined(AgentType[Counting]):
    """Has the machine that there is by default."""

    strategy = StateMachineStrategy()


def test_a_machine_fails_and_comes_back() -> None:
    """A failure leads to ``failed``; the next command leads on from there; without a failure it is idle again."""
    agent = Machined.new("m")
    failed = Machined.cmd(agent, Increment, Fail, Increment).agent
    machine = failed.slices["strategy"]
    assert (machine.state, machine.processed_count, machine.error) == ("failed", 2, "no")
    bare = Machined.new("m")
    assert progress_of(msgspec.structs.replace(bare, state=Counting(status=None))).status == "idle"  # type: ignore[arg-type]
    again = Machined.cmd(failed, Increment)
    assert again.errors == ()
    assert again.agent.slices["strategy"].state == "idle"


def test_a_machine_refuses_what_has_no_transition() -> None:
    """A command that comes at the wrong time is refused with an error that says so; a machine needs a first state."""

    class Once(AgentType[Counting]):
        strategy = StateMachineStrategy("new", {"new": ["processing"], "processing": ["completed"]})

    agent = Once.cmd(Once.new("o"), Increment).agent
    assert agent.slices["strategy"].state == "completed"
    refused = Once.cmd(agent, Increment)
    assert refused.agent == agent
    assert "no transition from 'completed' to 'processing'" in refused.errors[0].error.message

    class Stuck(AgentType[Counting]):
        strategy = StateMachineStrategy("new", {"new": ["processing"]})

    assert Stuck.cmd(Stuck.new("s"), Increment).agent.slices["strategy"].status() == "running"
    with pytest.raises(BadAgentType, match="idle"):
        StateMachineStrategy("nowhere")
    with pytest.raises(BadOption, match="stop, continue, rollback"):
        Direct("explode")  # type: ignore[arg-type]
    with pytest.raises(BadAgentType, match="give an AgentStrategy"):
        type("Wrong", (Counter,), {"strategy": 3})


# -- strategies of one's own -------------------------------------------------------------------------------------------


class Loop(AgentStrategy):
    """Marks the state, and says so."""

    def __init__(self, max_iterations: int) -> None:
        self.max_iterations = max_iterations

    def init(self, agent: Agent[Any], ref: Ref | None = None) -> Step[Any]:
        """Mark it."""
        marked = agent.set({"settings": {"max_iterations": self.max_iterations, "server": ref is not None}})
        return Step(marked, (Emit("strategy.ready", {"max": self.max_iterations}),))

    async def cmd(self, agent: Agent[Any], work: Any, turn: Turn) -> Step[Any]:
        """Do nothing."""
        return Step(agent)

    async def tick(self, agent: Agent[Any], turn: Turn) -> Step[Any]:
        """Fail."""
        raise RuntimeError("no step")


class Looping(AgentType[Counting]):
    """Has such a strategy."""

    strategy = Loop(5)
    routes = {"increment": Increment}


@pytest.mark.parametrize("durable", [False, True])
async def test_s15_a_strategy_begins_before_the_first_signal(runtime: Runtime, durable: bool) -> None:
    """A new agent is marked and nothing is emitted; a server carries out what the strategy begins with."""
    assert Looping.new("l").state.settings == {"max_iterations": 5, "server": False}
    heard: list[Signal] = []
    await runtime.spawn(Listener, heard, name="listener")
    durability = Durability(MemoryStorage()) if durable else None
    agent = await start_agent(runtime, Looping, emit_to="listener", durability=durability)
    assert agent.state.settings == {"max_iterations": 5, "server": True}
    await settled(runtime)
    assert [(signal.type, signal.data) for signal in heard] == [("strategy.ready", {"max": 5})]
    assert (await agent.call(agent.signal("increment"))).agent.state.counter == 0
    stepped = await agent.call(agent.signal("agent.step"))
    assert stepped.errors[0].action == "Loop"


class Stepped(AgentType[Counting]):
    """Is debugged."""

    strategy = StepByStep()
    routes = {"increment": Increment, "more": (Increment, (Increment, {"by": 10}), Fail)}


async def test_step_by_step_runs_one_action_at_a_time(runtime: Runtime) -> None:
    """Commands wait; each step runs the next action, with the signal that asked for it; failures are as ever."""
    agent = await start_agent(runtime, Stepped)
    agent.cast(agent.signal("increment", {"by": 5}))
    agent.cast(agent.signal("more", {"by": 2}))
    seen = []
    for _ in range(6):
        status = agent.status().progress
        assert agent.agent.slices["steps"].status() == ("waiting" if status.details["pending"] else "idle")
        reply = await agent.call(agent.signal("agent.step"))
        seen.append((status.details, reply.agent.state.counter, len(reply.errors)))
    pending = [details["pending"] for details, _, _ in seen]
    assert pending == [0, 3, 2, 1, 0, 0]
    assert [counter for _, counter, _ in seen] == [5, 7, 17, 17, 17, 17]
    assert [errors for _, _, errors in seen] == [0, 0, 0, 1, 0, 0]


async def test_agents_of_plain_types_have_no_steps(runtime: Runtime) -> None:
    """The signal is understood, and changes nothing."""
    agent = await start_agent(runtime, Counter)
    assert (await agent.call(agent.signal("agent.step"))).agent.version == 0
    assert StepByStep(StateMachineStrategy()).init(Counter.new("c")).agent.slices.keys() == {"strategy", "steps"}
    twice = StepByStep().init(StepByStep().init(Counter.new("c")).agent)
    assert twice.agent.slices["steps"].work == ()
    assert (StrategyState().status(), StrategyState().details()) == ("idle", {})


# -- how far an agent is -----------------------------------------------------------------------------------------------


class Job(msgspec.Struct, frozen=True):
    """A job."""

    status: str = "running"
    result: str | None = None
    error: str | None = None
    stage: str = "completed"
    output: int = 7


class JobAgent(AgentType[Job]):
    """A job."""


def test_an_agent_says_how_far_it_is_by_its_state() -> None:
    """By fields of certain names, or of names that are given."""
    running = JobAgent.new("j")
    assert running.progress() == AgentProgress("running")
    assert running.set({"status": "completed", "result": "done"}).progress() == AgentProgress("completed", True, "done")
    assert running.set({"status": "failed", "error": "oh"}).progress() == AgentProgress("failed", True, "oh")
    assert progress_of(running, Completion("stage", "output")) == AgentProgress("completed", True, 7)
    assert progress_of(JobAgent.new("j"), Completion("output")) == AgentProgress()


class Patient(AgentStrategy):
    """Always waits."""

    async def cmd(self, agent: Agent[Any], work: Any, turn: Turn) -> Step[Any]:
        """Wait."""
        await advance(1.0)
        return Step(agent)


async def test_a_strategy_that_waits_needs_a_loop(runtime: Runtime) -> None:
    """A command without one says so."""

    class Waiting(AgentType[Counting]):
        strategy = Patient()

    with pytest.raises(NeedsLoop):
        Waiting.cmd(Waiting.new("w"), Increment)
    assert (await Waiting.acmd(Waiting.new("w"), Increment)).directives == ()


class Composed(AgentType[Counting]):
    """Has routes to compositions."""

    routes = {
        "chain": Chain(Increment, Parallel(Fail, Increment)),
        "plan": Plan().add("wait", Slowly).add("count", Increment, after="wait"),
    }


async def test_routes_lead_to_compositions(runtime: Runtime) -> None:
    """A composition gets the signal's data, and is one action to the agent."""
    agent = await start_agent(runtime, Composed)
    assert (await agent.call(agent.signal("plan", {"by": 3}))).agent.state.counter == 3
    reply = await agent.call(agent.signal("chain", {"by": 3}))
    assert (reply.agent.state.counter, reply.errors[0].action) == (3, "Chain: step 2, Parallel")


async def test_commands_of_values_can_wait(runtime: Runtime) -> None:
    """`acmd` runs what is async; a result with effects has them in order."""
    step = await acmd(OrderAgent.new("o"), Confirm, Ship("DHL"))
    assert step.agent.state == Order("shipped", "DHL")

    class Tell(Action[None]):
        async def run(self, context: Context[Any]) -> Result[None]:
            return Result(None, (Emit("a"), Emit("b")))

    assert (await acmd(Counter.new("c"), Tell)).directives == (Emit("a"), Emit("b"))
