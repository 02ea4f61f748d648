"""Random trees against a model of OTP's rules: nesting, escalation, strategies, restart types, budgets.

The model is written after sections 2.3 to 2.10 of the reference. After every death it says which actors live, what was
started in which order, and how much of each budget is used; the event log must satisfy all checks. What can happen to
one supervisor alone (failed starts, pauses, orders) is in ``test_supervisor_model.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervision import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    ChildSpec,
    ExitReason,
    Ref,
    Restart,
    Runtime,
    Supervisor,
    supervisor_info,
)
from supervision.events import Started
from supervision.testing import EventLog, SeededQueue, advance, must_hold, run, settled
from tests.supervision.probes import Do, rec

BOOM = Abnormal("boom")


class Worker(NamedTuple):
    """A worker of a tree."""

    restart: Restart
    significant: bool = False


class Group(NamedTuple):
    """A supervisor of a tree."""

    children: tuple[Any, ...]
    strategy: str
    allowed: int
    seconds: float
    mode: str
    restart: Restart = "permanent"
    significant: bool = False


# -- the model ---------------------------------------------------------------------------------------------------------


class Node:
    """A child in the model: a worker, or a supervisor with children of its own."""

    def __init__(self, plan: Worker | Group, path: str, above: Node | None) -> None:
        self.plan = plan
        self.path = path
        self.above = above
        self.alive = False
        self.children: list[Node] = []
        self.times: list[float] = []

    @property
    def significant(self) -> bool:
        """Whether it is significant, as far as that is allowed."""
        above = self.above
        allowed = above is not None and isinstance(above.plan, Group) and above.plan.mode != "never"
        return self.plan.significant and self.plan.restart != "permanent" and allowed


class Model:
    """A tree as OTP's documents have it. Nothing happens at the same time as anything else."""

    def __init__(self, plan: Group) -> None:
        self.now = 0.0
        self.log: list[str] = []
        self.queue: deque[tuple[Node, ExitReason]] = deque()
        self.root = Node(plan, "/top", None)
        self.start(self.root)

    def start(self, node: Node) -> None:
        """Start a child; a supervisor begins anew, with all its children and an empty budget."""
        node.alive = True
        if isinstance(node.plan, Group):
            node.times = []
            node.children = [Node(plan, f"{node.path}/{n}", node) for n, plan in enumerate(node.plan.children)]
            for child in node.children:
                self.start(child)
        else:
            self.log.append(node.path)

    def stop(self, node: Node) -> None:
        """Stop a child, and all under it."""
        for child in reversed(node.children):
            self.stop(child)
        node.alive = False

    def dies(self, node: Node, reason: ExitReason) -> None:
        """A child ends by itself; its supervisor deals with that, and with all that follows."""
        self.stop(node)
        self.queue.append((node, reason))
        while self.queue:
            self.exited(*self.queue.popleft())

    def exited(self, node: Node, reason: ExitReason) -> None:
        """A supervisor hears that a child has ended."""
        above = node.above
        if above is None:
            return
        assert isinstance(above.plan, Group)
        restart = node.plan.restart
        if restart == "permanent" or (restart == "transient" and not reason.clean):
            self.restart(above, node)
            return
        if restart == "temporary":
            above.children.remove(node)
        others = [child for child in above.children if child.significant and child.alive]
        if node.significant and (above.plan.mode == "any_significant" or not others):
            self.ends(above)

    def restart(self, above: Node, node: Node) -> None:
        """Restart a child, and those that go with it, if the budget allows."""
        assert isinstance(above.plan, Group)
        above.times.append(self.now)
        if self.used(above) > above.plan.allowed:
            self.ends(above)
            return
        index = above.children.index(node)
        first = {"one_for_one": index, "rest_for_one": index, "one_for_all": 0}[above.plan.strategy]
        group = [node] if above.plan.strategy == "one_for_one" else above.children[first:]
        for member in reversed(group):
            self.stop(member)
        gone = [member for member in group if member.plan.restart == "temporary"]
        above.children = [child for child in above.children if child not in gone]
        for member in group:
            if member not in gone:
                self.start(member)

    def ends(self, node: Node) -> None:
        """A supervisor stops its children, and ends with shutdown."""
        self.stop(node)
        self.queue.append((node, SHUTDOWN))

    def used(self, node: Node) -> int:
        """How many restarts are in the window."""
        assert isinstance(node.plan, Group)
        return sum(time >= self.now - node.plan.seconds for time in node.times)

    def living(self, node: Node | None = None) -> Iterator[Node]:
        """Return all that live, parents first."""
        node = self.root if node is None else node
        if node.alive:
            yield node
            for child in node.children:
                yield from self.living(child)


# -- the real one ------------------------------------------------------------------------------------------------------


def spec(plan: Worker | Group, id: int, log: list[Any], mode: str) -> ChildSpec:
    """Return the specification of a child."""
    significant = plan.significant and mode != "never" and plan.restart != "permanent"
    if isinstance(plan, Worker):
        return rec(log, id, trap_exit=False, restart=plan.restart, significant=significant)
    return ChildSpec(id, Supervisor, (specs(plan, log),), options(plan), restart=plan.restart, significant=significant)


def specs(plan: Group, log: list[Any]) -> list[ChildSpec]:
    """Return the specifications of a supervisor's children."""
    return [spec(child, n, log, plan.mode) for n, child in enumerate(plan.children)]


def options(plan: Group) -> dict[str, Any]:
    """Return the flags of a supervisor."""
    return {
        "strategy": plan.strategy,
        "max_restarts": plan.allowed,
        "max_seconds": plan.seconds,
        "auto_shutdown": plan.mode,
    }


def agree(model: Model, runtime: Runtime, started: list[str]) -> None:
    """Who lives, what was started, and how much of the budgets is used, are what the model says."""
    living = list(model.living())
    assert sorted(ref.path for ref in runtime.actors()) == sorted(node.path for node in living)
    assert started == model.log
    for node in living:
        ref = runtime.find(node.path)
        assert ref is not None
        seen = supervisor_info(ref)
        if seen is not None:
            assert (node.path, seen.budget.used) == (node.path, model.used(node))
            assert [child.id for child in seen.children] == [
                int(child.path.rpartition("/")[2]) for child in node.children
            ]


async def compare(plan: Group, steps: list[tuple[str, int, ExitReason, float]], seed: int) -> None:
    """Let the same happen to a tree and to the model."""
    async with Runtime(watchdog=None, reports=False, run_queue=SeededQueue(seed)) as runtime:
        events = EventLog(runtime)
        started: list[str] = []
        runtime.subscribe(lambda event: started.append(event.path) if event.kind == "Probe" else None, Started)
        model = Model(plan)
        await runtime.spawn(Supervisor, specs(plan, []), name="top", **options(plan))
        agree(model, runtime, started)
        for what, number, reason, seconds in steps:
            living = list(model.living())
            if not living:
                break
            if what == "pass":
                await advance(seconds)
                model.now += seconds
                continue
            node = living[number % len(living)]
            ref = runtime.find(node.path)
            assert ref is not None
            await end(ref, node, what, reason)
            await settled(runtime)
            model.dies(node, KILLED if what == "kill" or isinstance(node.plan, Group) else reason)
            agree(model, runtime, started)
        must_hold(events)
    must_hold(events)


async def end(ref: Ref, node: Node, what: str, reason: ExitReason) -> None:
    """Let an actor end: killed, or by itself, if it is a worker."""
    if what == "kill" or isinstance(node.plan, Group):
        ref.kill()
    else:
        ref.cast(Do(lambda actor: actor.stop(reason)))
    await ref.join()


RESTARTS = st.sampled_from(["permanent", "permanent", "permanent", "transient", "temporary"])
WORKERS = st.builds(Worker, RESTARTS, st.booleans())


def groups(children: Any) -> Any:
    """Return supervisors of such children."""
    return st.builds(
        Group,
        st.lists(children, min_size=1, max_size=3).map(tuple),
        st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        st.integers(0, 3),
        st.sampled_from([1.0, 2.5]),
        st.sampled_from(["never", "never", "any_significant", "all_significant"]),
        RESTARTS,
        st.booleans(),
    )


TREES = groups(st.one_of(WORKERS, groups(st.one_of(WORKERS, groups(WORKERS)))))
STEPS = st.tuples(
    st.sampled_from(["kill", "kill", "end", "end", "pass"]),
    st.integers(0, 30),
    st.sampled_from([NORMAL, SHUTDOWN, BOOM]),
    st.sampled_from([0.5, 1.0, 3.0]),
)


def keeps(*children: Any, allowed: int = 0, strategy: str = "one_for_one") -> Group:
    """Return a supervisor that is restarted whatever happens."""
    return Group(children, strategy, allowed, 1.0, "never")


WORKER = Worker("permanent")

#: It ends with a fourth death: level by level, and between two of them a few turns of the loop pass.
DEEP = keeps(
    keeps(WORKER, WORKER),
    keeps(WORKER, keeps(WORKER), keeps(WORKER)),
    keeps(keeps(WORKER), keeps(WORKER), allowed=1),
    allowed=2,
    strategy="one_for_all",
)
DEATHS = [("kill", number, NORMAL, 0.5) for number in (1, 1, 11, 4)]


@pytest.mark.once
@settings(deadline=None, derandomize=True, max_examples=2000)
@pytest.mark.timeout(900)
@given(TREES, st.lists(STEPS, min_size=3, max_size=12), st.integers(0, 2**16))
@example(DEEP, DEATHS, 21425)
def test_a_tree_does_what_the_model_of_otp_says(plan: Group, steps: Any, seed: int) -> None:
    """Whoever dies, in whatever order actors get their turns: the same lives, and the same was started."""
    run(compare(plan, steps, seed))
