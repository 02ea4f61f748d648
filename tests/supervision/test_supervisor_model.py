"""Supervisors against a model of OTP's rules: strategies, restart types, budget, failed starts, pauses, orders.

The model is plain data and a queue, written after sections 2.2 to 2.10 of the reference. What it says must start, stop,
fail, be answered and be left running is compared with what a real supervisor does, event by event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    IGNORE,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    AutoShutdown,
    Backoff,
    Call,
    CallError,
    ChildSpec,
    ExitReason,
    Ref,
    Runtime,
    Shutdown,
    StartError,
    Strategy,
    Supervisor,
    supervisor_info,
)
from supervision.reasons import BadReturnValue, FailedToStartChild
from supervision.supervisors.administration import DeleteChild, RestartChild, StartChild, TerminateChild
from supervision.testing import advance, run, settled
from tests.supervision.probes import Do, rec

BOOM = Abnormal("boom")


class Plan(NamedTuple):
    """A child: its restart type, how its starts go (the last entry stays), and the pause before its restarts."""

    restart: str
    starts: tuple[Any, ...]
    significant: bool
    pause: float

    def spec(self, log: list[Any], id: int, mode: str) -> ChildSpec:
        """Return its specification."""
        backoff = Backoff(initial=self.pause, maximum=self.pause, jitter=0.0) if self.pause else None
        significant = self.is_significant(mode)
        return rec(log, id, *self.starts, restart=self.restart, backoff=backoff, significant=significant)

    def is_significant(self, mode: str) -> bool:
        """Whether it is significant, as far as that is allowed."""
        return self.significant and mode != "never" and self.restart != "permanent"


class Step(NamedTuple):
    """Something that happens: to a child, or to time; and whether the supervisor can deal with it before the next."""

    what: str
    id: int
    reason: ExitReason
    seconds: float
    plan: Plan
    settle: bool


class Flags(NamedTuple):
    """What a supervisor is started with."""

    strategy: Strategy
    mode: AutoShutdown
    allowed: int
    seconds: float


# -- the model ---------------------------------------------------------------------------------------------------------


class Record:
    """A child in the model: ``life`` is its incarnation, None if the supervisor knows that it does not run."""

    def __init__(self, id: int, plan: Plan, mode: str) -> None:
        self.id = id
        self.restart = plan.restart
        self.starts = list(plan.starts)
        self.significant = plan.is_significant(mode)
        self.pause = plan.pause
        self.life: object = None
        self.dead: object = None
        self.due: object = None
        self.counted = False


class Failed(Exception):
    """A start failed."""


class Model:
    """A supervisor as OTP's documents have it, with a queue for what it has to deal with."""

    def __init__(self, flags: Flags, plans: list[Plan]) -> None:
        self.flags = flags
        self.children = {id: Record(id, plan, flags.mode) for id, plan in enumerate(plans)}
        self.log: list[str] = []
        self.answers: list[str | None] = []
        self.times: list[float] = []
        self.timers: list[tuple[float, Record, object]] = []
        self.queue: deque[Callable[[], None]] = deque()
        self.now = 0.0
        self.ended = False
        #: The child that kept the supervisor from starting.
        self.refused: int | None = None
        for record in list(self.children.values()):
            try:
                self.start(record)
            except Failed:
                self.refused = record.id
                self.end()
                return

    # one child

    def start(self, record: Record) -> None:
        """Start a child as its plan says."""
        record.due = None
        outcome = record.starts.pop(0) if len(record.starts) > 1 else record.starts[0]
        self.log.append(f"+{record.id}" if outcome is None else f"!{record.id}")
        if outcome is None:
            record.life = object()
        elif outcome is not IGNORE:
            raise Failed
        elif record.restart == "temporary":
            del self.children[record.id]

    def stop(self, records: list[Record]) -> None:
        """Stop children, last first; temporary ones are forgotten."""
        for record in reversed(records):
            record.due = None
            if record.life is not None and record.dead is not record.life:
                self.log.append(f"-{record.id}(shutdown)")
            record.life = None
            if record.restart == "temporary":
                self.children.pop(record.id, None)

    def end(self) -> None:
        """The supervisor ends."""
        self.ended = True
        self.stop(list(self.children.values()))

    # what it deals with

    def settle(self) -> None:
        """Deal with all that waits."""
        while self.queue:
            self.queue.popleft()()

    def dies(self, id: int, reason: ExitReason) -> None:
        """A child ends by itself; the supervisor will hear of it."""
        record = self.children[id]
        life = record.dead = record.life
        if reason != KILLED:
            self.log.append(f"-{id}({reason})")
        self.queue.append(lambda: self.exited(record, life, reason))

    def lives(self, id: int) -> bool:
        """Whether a child is alive."""
        record = self.children.get(id)
        return record is not None and record.life is not None and record.life is not record.dead

    def exited(self, record: Record, life: object, reason: ExitReason) -> None:
        """The supervisor hears that a child has ended."""
        if self.ended or record.life is not life:
            return
        record.life = None
        if record.restart == "permanent" or (record.restart == "transient" and not reason.clean):
            self.restart(record)
            return
        if record.restart == "temporary":
            del self.children[record.id]
        if record.significant:
            others = [other for other in self.children.values() if other.significant and (other.life or other.due)]
            if self.flags.mode == "any_significant" or not others:
                self.end()

    def used(self) -> int:
        """How many restarts are in the window."""
        return sum(time >= self.now - self.flags.seconds for time in self.times)

    def restart(self, record: Record) -> None:
        """Restart a child, and those that go with it, if the budget allows."""
        self.times.append(self.now)
        if self.used() > self.flags.allowed:
            del self.children[record.id]
            self.end()
            return
        self.stop([other for other in self.group(record) if other is not record])
        if record.pause:
            record.due, record.counted = object(), True
            self.timers.append((self.now + record.pause, record, record.due))
        else:
            self.start_group(record)

    def group(self, record: Record) -> list[Record]:
        """Return those that are restarted together."""
        records = list(self.children.values())
        if self.flags.strategy == "one_for_all":
            return records
        return [record] if self.flags.strategy == "one_for_one" else records[records.index(record) :]

    def start_group(self, record: Record) -> None:
        """Start a group in order; the first that fails is to be tried again."""
        started: list[Record] = []
        for member in self.group(record):
            try:
                self.start(member)
            except Failed:
                if self.flags.strategy == "one_for_all":
                    self.stop(started)
                token = member.due = object()
                member.counted = False
                self.queue.append(lambda member=member, token=token: self.try_again(member, token))  # type: ignore[misc]
                return
            started.append(member)

    def try_again(self, record: Record, token: object) -> None:
        """A restart is due: after its pause, or after a failed attempt."""
        if self.ended or record.due is not token:
            return
        record.due = None
        if record.counted:
            self.stop([other for other in self.group(record) if other is not record])
            self.start_group(record)
        else:
            self.restart(record)

    def passes(self, seconds: float) -> None:
        """Time passes."""
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            self.now = min(time for time, _, _ in due)
            for timer in [timer for timer in due if timer[0] == self.now]:
                self.timers.remove(timer)
                self.try_again(timer[1], timer[2])
            self.settle()
        self.now = until

    # orders

    def order(self, what: str, id: int, plan: Plan) -> None:
        """The supervisor gets an order."""

        def obey() -> None:
            self.answers.append("gone" if self.ended else self.start_child(id, plan) if what == "add" else carry_out())

        def carry_out() -> str | None:
            record = self.children.get(id)
            return "ChildNotFound" if record is None else getattr(self, f"{what}_child")(record)

        self.queue.append(obey)

    def start_child(self, id: int, plan: Plan) -> str | None:
        """Add a child."""
        record = self.children.get(id)
        if record is not None:
            return "AlreadyPresent" if record.life is None else "AlreadyStarted"
        self.children[id] = record = Record(id, plan, self.flags.mode)
        error = self.restart_child(record)
        if error is not None:
            del self.children[id]
        return error

    def terminate_child(self, record: Record) -> str | None:
        """Stop a child."""
        self.stop([record])
        return None

    def delete_child(self, record: Record) -> str | None:
        """Forget a child."""
        if record.due is not None or record.life is not None:
            return "ChildRestarting" if record.due is not None else "ChildRunning"
        del self.children[record.id]
        return None

    def restart_child(self, record: Record) -> str | None:
        """Start a child that is down."""
        if record.due is not None or record.life is not None:
            return "ChildRestarting" if record.due is not None else "ChildRunning"
        try:
            self.start(record)
        except Failed:
            return "StartError"
        return None


# -- the real one ------------------------------------------------------------------------------------------------------


class Subject:
    """A real supervisor, of which the same is demanded as of the model."""

    def __init__(self, runtime: Runtime, flags: Flags, log: list[Any]) -> None:
        self.runtime = runtime
        self.flags = flags
        self.log = log
        self.calls: list[Call[Any]] = []
        self.answers: list[str | None] = []
        self.ref: Ref

    async def start(self, plans: list[Plan]) -> ExitReason | None:
        """Start it; return why it did not start."""
        flags = self.flags
        try:
            self.ref = await self.runtime.spawn(
                Supervisor,
                [plan.spec(self.log, id, flags.mode) for id, plan in enumerate(plans)],
                strategy=flags.strategy,
                auto_shutdown=flags.mode,
                max_restarts=flags.allowed,
                max_seconds=flags.seconds,
            )
        except StartError as error:
            return error.reason
        return None

    def child(self, id: int) -> Ref:
        """Return the address of a child, as its supervisor knows it at the moment."""
        seen = supervisor_info(self.ref)
        assert seen is not None
        (ref,) = [child.ref for child in seen.children if child.id == id]
        assert ref is not None
        return ref

    def order(self, what: str, id: int, plan: Plan) -> None:
        """Give an order without waiting for it."""
        if what == "add":
            request: Any = StartChild(plan.spec(self.log, id, self.flags.mode))
        else:
            request = {"terminate": TerminateChild, "restart": RestartChild, "delete": DeleteChild}[what](id)
        self.calls.append(self.ref.call(request, timeout=None))

    async def settle(self) -> None:
        """Wait until it has dealt with all there is."""
        await settled(self.runtime, self.ref)
        for call in self.calls:
            error = call.exception()
            name = None if error is None else type(error).__name__
            self.answers.append("gone" if isinstance(error, CallError) else name)
        self.calls.clear()


async def agree(model: Model, subject: Subject) -> None:
    """What the supervisor has done, and what is left, is what the model says."""
    assert subject.log == model.log
    assert subject.answers == model.answers
    assert subject.runtime.clock.time() == model.now
    assert (subject.ref.reason == SHUTDOWN) is model.ended
    seen = supervisor_info(subject.ref)
    if model.ended or seen is None:
        assert list(subject.runtime.actors()) == []
        return
    assert seen.budget.used == model.used()
    assert [(child.id, child.ref is not None, child.restarting) for child in seen.children] == [
        (record.id, record.life is not None, record.due is not None) for record in model.children.values()
    ]
    alive = {subject.ref, *(child.ref for child in seen.children if child.ref is not None)}
    assert set(subject.runtime.actors()) == alive


async def take(step: Step, model: Model, subject: Subject) -> None:
    """Let something happen, to both."""
    if step.what == "kill":
        if not model.ended and model.lives(step.id):
            subject.child(step.id).kill()
            model.dies(step.id, KILLED)
    elif step.what == "pass":
        await settle(model, subject)
        await advance(step.seconds)
        model.passes(step.seconds)
    elif step.what == "die":
        await settle(model, subject)
        if not model.ended and model.lives(step.id):
            ref = subject.child(step.id)
            ref.cast(Do(lambda actor: actor.stop(step.reason)))
            model.dies(step.id, step.reason)
            await ref.join()
    else:
        subject.order(step.what, step.id, step.plan)
        model.order(step.what, step.id, step.plan)


async def settle(model: Model, subject: Subject) -> None:
    """Let both deal with all that waits, and compare."""
    await subject.settle()
    model.settle()
    await agree(model, subject)


async def compare(flags: Flags, plans: list[Plan], steps: list[Step]) -> None:
    """Let the same happen to a supervisor and to the model."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        model = Model(flags, plans)
        subject = Subject(runtime, flags, [])
        refused = await subject.start(plans)
        if model.refused is not None:
            assert refused == Shutdown(FailedToStartChild(model.refused, BadReturnValue("no")))
            assert subject.log == model.log
            assert list(runtime.actors()) == []
            return
        await settle(model, subject)
        for step in steps:
            await take(step, model, subject)
            if step.settle or step.what in ("die", "pass"):
                await settle(model, subject)
        await settle(model, subject)
        if not model.ended:
            model.end()
            assert await runtime.shut_down(subject.ref, "infinity") == SHUTDOWN
            await agree(model, subject)


#: Mostly it starts, then fails some times, and starts again: what never starts again only makes the run short.
STARTS = st.tuples(
    st.sampled_from([None] * 30 + ["no", IGNORE]),
    st.lists(st.sampled_from([None, "no", "no", IGNORE]), max_size=3).map(tuple),
    st.sampled_from([None] * 6 + ["no", IGNORE]),
).map(lambda parts: (parts[0], *parts[1], parts[2]))
PLANS = st.builds(
    Plan,
    st.sampled_from(["permanent", "permanent", "transient", "transient", "temporary"]),
    STARTS,
    st.booleans(),
    st.sampled_from([0.0, 0.0, 1.0, 2.0]),
)
STEPS = st.builds(
    Step,
    st.sampled_from(["kill", "kill", "kill", "die", "die", "pass", "pass", "terminate", "restart", "delete", "add"]),
    st.integers(0, 3),
    st.sampled_from([NORMAL, SHUTDOWN, Shutdown("note"), BOOM]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    PLANS,
    st.booleans(),
)
FLAGS = st.builds(
    Flags,
    st.sampled_from(["one_for_one", "one_for_all", "one_for_all", "rest_for_one", "rest_for_one"]),
    st.sampled_from(["never", "any_significant", "all_significant", "all_significant"]),
    st.sampled_from([0, 1, 2, 3, 5, 8]),
    st.sampled_from([1.0, 2.0, 2.5]),
)


@pytest.mark.once
@settings(deadline=None, derandomize=True, max_examples=1000)
@pytest.mark.timeout(900)
@given(FLAGS, st.lists(PLANS, min_size=2, max_size=4), st.lists(STEPS, min_size=4, max_size=16))
def test_a_supervisor_does_what_the_model_of_otp_says(flags: Flags, plans: list[Plan], steps: list[Step]) -> None:
    """Whatever dies, is ordered and passes in whatever sequence: the same starts, stops, answers and end."""
    run(compare(flags, plans, steps))
