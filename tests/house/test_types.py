"""What type checkers see of the kernel and agents: what is right is right; what is wrong is found where it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Each line that ends in ``# wrong`` has to be an error for both checkers, and no other line.
PROGRAM = """
from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, assert_type

import msgspec

from agents import (
    Action, Agent, AgentHandle, AgentType, Chain, Context, Cron, Parallel, Result, Route, Schedule, SpawnAgent, Step,
    start_agent,
)
from agents.durability import Durability, EveryTurns, MemoryStorage
from agents.instances import Instances, start_instances
from agents.pool import Pool as AgentPool
from agents.pool import start_pool
from supervision import (
    Actor, ChildSpec, DynamicSupervisor, Message, PartitionSupervisor, Ref, Request, Runtime, Supervisor, handle,
    spawn_link, start_child,
)
from supervision.mailbox import Mailbox
from supervision.ref import Monitor
from supervision.testing import ChaosPlan, ChaosStep, Kill, Probe, ProbeLog


class Note(Message):
    text: str


class Total(Request[int]):
    pass


class Name(Request[str]):
    pass


class Idle(Actor):
    pass


class Worker(Actor):
    def __init__(self, number: int, label: str = "", *, fast: bool = False) -> None:
        self.number = number


class Pool(Actor):
    def __init__(self, work: Callable[[int], int], sizes: Iterable[int], *more: str) -> None:
        self.work = work


async def function(number: int, label: str = "") -> Ref:
    return await spawn_link(Worker, number, label)


async def spawns(runtime: Runtime, actor: Actor, kind: type[Worker]) -> None:
    assert_type(await runtime.spawn(Idle), Ref)
    await runtime.spawn(Idle, name="idle")
    await runtime.spawn(Worker, 1)
    await runtime.spawn(Worker, 1, "one")
    await runtime.spawn(Worker, 1, fast=True)
    await runtime.spawn(Worker, 1, fast=True, name="one", timeout=2)
    await runtime.spawn(Worker, number=1)
    await runtime.spawn(Worker, number=1, name="one")
    await runtime.spawn(kind, 1, name="one")
    await runtime.spawn(Worker, 1, "one", timeout=2)
    await runtime.spawn(Pool, lambda n: n + 1, [1], "a", "b")
    await runtime.spawn(Supervisor, [ChildSpec("a", Idle), Idle, {"id": "b", "start": Idle}], strategy="one_for_all")
    await runtime.spawn(Supervisor, [Idle], strategy="rest_for_one", auto_shutdown="never", name="top")
    assert_type(runtime.spawn_nowait(Worker, 1), Ref)
    assert_type(await actor.spawn(Worker, 1), Ref)
    assert_type(await actor.spawn_link(Worker, 1), Ref)
    assert_type(await actor.spawn_monitor(Worker, 1), tuple[Ref, Monitor])
    await runtime.spawn(Idle())  # wrong
    await runtime.spawn(int)  # wrong
    await runtime.spawn(Idle, 1)  # wrong
    await runtime.spawn(Idle, 1, name="idle")  # wrong
    await runtime.spawn(Worker)  # wrong
    await runtime.spawn(Worker, "1")  # wrong
    await runtime.spawn(Worker, "1", name="one")  # wrong
    await runtime.spawn(Worker, 1, 2, name="one")  # wrong
    await runtime.spawn(Worker, 1, "one", "two")  # wrong
    await runtime.spawn(Worker, 1, quick=True)  # wrong
    await runtime.spawn(Worker, 1, fast="yes")  # wrong
    await runtime.spawn(kind, "1")  # wrong, says pyright
    await runtime.spawn(Worker, 1, name=1)  # wrong
    await runtime.spawn(Supervisor, [Idle], strategy="one_for_oen")  # wrong
    await runtime.spawn(Supervisor, [Idle], auto_shutdown="all")  # wrong
    await runtime.spawn(Supervisor, [7])  # wrong
    await runtime.spawn(DynamicSupervisor, max_children="7")  # wrong
    runtime.spawn_nowait(Worker, "1")  # wrong
    await actor.spawn(Worker, "1")  # wrong
    await actor.spawn_link(Worker, "1")  # wrong
    await actor.spawn_monitor(Worker, "1")  # wrong
    await spawn_link(Worker, "1")  # wrong


def specifications() -> None:
    ChildSpec("a", Idle)
    ChildSpec("a", Worker, (1,))
    ChildSpec("a", Worker, (1, "one"), restart="transient", shutdown="brutal_kill")
    ChildSpec("a", Worker, args=(1,), shutdown=5, isolation="process", type="worker")
    ChildSpec("a", Worker, (1,), {"fast": True})
    ChildSpec("a", Worker, kwargs={"number": 1})
    ChildSpec("a", Pool, (lambda n: n + 1, [1], "a", "b"))
    ChildSpec("a", Supervisor, ([Idle, ChildSpec("b", Worker, (1,))],))
    ChildSpec("a", function, (1,))
    ChildSpec("a", lambda: function(1), restart="temporary")
    ChildSpec("a", Idle, (1,))  # wrong
    ChildSpec("a", Worker)  # wrong
    ChildSpec("a", Worker, ("1",))  # wrong
    ChildSpec("a", Worker, (1, 2))  # wrong
    ChildSpec("a", Worker, (1, "one", 3))  # wrong
    ChildSpec("a", function, ("1",))  # wrong
    ChildSpec("a", function)  # wrong
    ChildSpec("a", Idle, restart="never")  # wrong
    ChildSpec("a", Idle, shutdown="now")  # wrong
    ChildSpec("a", Idle, isolation="planet")  # wrong
    ChildSpec("a", Idle, type="boss")  # wrong
    ChildSpec("a", Idle, colour="red")  # wrong
    Supervisor([Idle], strategy="one_for_oen")  # wrong
    Supervisor([Idle], auto_shutdown="always")  # wrong
    PartitionSupervisor(Idle, partitions=2, strategy="all")  # wrong
    Mailbox(capacity=1, overflow="drop")  # wrong


async def orders(supervisor: Ref) -> None:
    assert_type(await start_child(supervisor, ChildSpec("a", Worker, (1,))), Ref | None)
    await start_child(supervisor, Idle)
    await start_child(supervisor, {"id": "a", "start": Idle})
    await start_child(supervisor, Worker(1))  # wrong
    await start_child(supervisor, "a")  # wrong


class Right(Actor):
    shutdown = "infinity"

    @handle(Total)
    def total(self, request: Total) -> int:
        return 1

    @handle(Name)
    async def named(self, request: Name) -> str | None:
        return None

    @handle(Note)
    def note(self, message: Note) -> None:
        pass


class Later(Actor):
    @handle(Total)
    def total(self, request: Total) -> Awaitable[int]:
        return self.ref.call(Total())

    @handle(Name, Total)
    def other(self, request: Name | Total) -> str | int:
        return ""


class Wrong(Actor):
    shutdown = "soon"  # wrong

    @handle(Total)  # wrong
    def total(self, request: Total) -> str:
        return ""

    @handle(Name, when="open")  # wrong
    async def named(self, request: Name) -> bytes:
        return b""


async def asks(ref: Ref, log: ProbeLog) -> None:
    assert_type(await ref.call(Total()), int)
    assert_type(await log.next(Note), Note)
    assert_type(await log.until(Note), Note)
    Probe.child(log, "a", None, OSError("no"), restart="transient", stops=2.0)
    ChaosPlan((ChaosStep(0, Kill(), "/a", on="Restarted"),), mode="unlimited")
    await ref.call(Note(""))  # wrong
    ChaosPlan(mode="careful")  # wrong
    ChaosStep(0, "kill", "/a")  # wrong


class Cart(msgspec.Struct, frozen=True):
    items: tuple[str, ...] = ()


class Order(msgspec.Struct, frozen=True):
    number: int = 0


class Put(Action[Cart]):
    item: str

    def run(self, context: Context[Cart]) -> Cart:
        return Cart((*context.state.items, self.item))


class Fetch(Action[Cart]):
    async def run(self, context: Context[Cart]) -> Result[Cart]:
        return Result(context.state, (Schedule(1.0, "put", {"item": "tea"}),))


class Anywhere(Action[None]):
    def run(self, context: Context[Any]) -> None:
        pass


class ForOrder(Action[Order]):
    def run(self, context: Context[Order]) -> Order:
        return Order(context.state.number + 1)


class Peek(Action[None]):
    def run(self, context: Context[Cart]) -> None:
        print(context.state.lines)  # wrong


class CartAgent(AgentType[Cart]):
    routes = {
        "put": Put,
        "fetch": Fetch,
        "any": Anywhere,
        "both": (Put, Anywhere),
        "given": (Put, {"item": "tea"}),
        "several": ((Put, {"item": "tea"}), Anywhere),
        "chain": Chain(Put, Anywhere),
        "chain.given": (Parallel(Put, Anywhere), {"item": "tea"}),
    }
    schedules = (Cron("@daily", "any"),)


class Listed(AgentType[Cart]):
    routes = [Route("put", Put), Route("any", (Anywhere, {}), 5), Route("both", (Put, Fetch), when=bool)]


class Annotated(AgentType[Cart]):
    routes: ClassVar = {"put": Put}


class OrderAgent(AgentType[Order]):
    routes = {"order": ForOrder, "any": Anywhere}


class WrongRoute(AgentType[Cart]):
    routes = {"put": Put, "order": ForOrder}  # wrong


class AlsoWrong(AgentType[Cart]):
    routes = {"order": (Put, ForOrder)}  # wrong


class WrongWithData(AgentType[Cart]):
    routes = {"order": (ForOrder, {"number": 1})}  # wrong


class WrongInList(AgentType[Cart]):
    routes = [Route("order", ForOrder)]  # wrong


class MadeAlready(AgentType[Cart]):
    routes = {"put": Put("tea")}  # wrong


class NoAction(AgentType[Cart]):
    routes = {"put": Order}  # wrong


class NoSchedule(AgentType[Cart]):
    schedules = ("@daily",)  # wrong


async def agents(runtime: Runtime) -> None:
    cart = await start_agent(runtime, CartAgent, id="c", state=Cart(), durability=Durability(MemoryStorage()))
    assert_type(cart, AgentHandle[Cart])
    assert_type(cart.state.items, tuple[str, ...])
    assert_type(CartAgent.new("c"), Agent[Cart])
    assert_type(CartAgent.cmd(CartAgent.new("c"), Put("tea")), Step[Cart])
    assert_type(await start_instances(runtime, CartAgent, idle_timeout=1.0, state=Cart(), debug=3), Instances[Cart])
    assert_type(await start_pool(runtime, CartAgent, 3, lifo=True, state={"items": ()}), AgentPool[Cart])
    SpawnAgent(CartAgent, "child", restart="temporary")
    print(cart.state.lines)  # wrong
    await start_agent(runtime, CartAgent, state=Order())  # wrong
    await start_agent(runtime, CartAgent, idle=1.0)  # wrong
    await start_agent(runtime, Cart)  # wrong
    await start_instances(runtime, CartAgent, idle=1.0)  # wrong
    await start_instances(runtime, CartAgent, debug="much")  # wrong
    await start_instances(runtime, CartAgent, state=Order())  # wrong
    await start_pool(runtime, CartAgent, 3, on_checkin="forget")  # wrong
    await start_pool(runtime, CartAgent, 3, colour="red")  # wrong
    CartAgent.new("c", Order())  # wrong
    Put("tea", colour="red")  # wrong
    Put(itm="tea")  # wrong
    Put(1)  # wrong
    Cron("@daily", "any", missed="never")  # wrong
    Schedule("soon", "any")  # wrong
    SpawnAgent(CartAgent, "child", restart="never")  # wrong
    SpawnAgent(Cart, "child")  # wrong
    Durability("agents.db")  # wrong
    Durability(MemoryStorage(), policy=EveryTurns)  # wrong
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program, half of whose lines are wrong."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def compare(found: set[int], checker: str, said: str) -> None:
    """Compare the numbers of lines with those that are to be found."""
    lines = dict(enumerate(PROGRAM.splitlines(), 1))
    wanted = {number for number, line in lines.items() if line.endswith(("# wrong", f"# wrong, says {checker}"))}
    assert [lines[number].strip() for number in sorted(wanted - found)] == [], f"missed; said:\n{said}"
    assert [lines[number].strip() for number in sorted(found - wanted)] == [], f"false alarms; said:\n{said}"


@pytest.mark.once
@pytest.mark.timeout(240)
def test_mypy_finds_each_wrong_argument_and_nothing_else(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path / 'cache'}", "--python-version=3.11"]
    done = subprocess.run([*command, str(program)], cwd=ROOT, capture_output=True, text=True, check=False)
    found = {int(number) for number in re.findall(r"program\.py:(\d+): error", done.stdout)}
    compare(found, "mypy", done.stdout + done.stderr)


@pytest.mark.once
@pytest.mark.timeout(240)
def test_pyright_finds_each_wrong_argument_and_nothing_else(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    settings = {
        "include": ["program.py"],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.11",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "-p", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)["generalDiagnostics"]
    found = {each["range"]["start"]["line"] + 1 for each in said if each["severity"] == "error"}
    compare(found, "pyright", done.stdout)
