"""State machines: scenarios S207 to S212 of the reference, and the rules of its table 1.12."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import (
    Abnormal,
    ActorExited,
    BadTime,
    CallTimeout,
    Crashed,
    Enter,
    EventTimeout,
    Message,
    NamedTimeout,
    Ref,
    Refuse,
    ReplyTo,
    Request,
    Runtime,
    StartError,
    StateMachine,
    StateTimeout,
    state,
)
from supervision.errors import BadHandler, BadTransition
from supervision.reasons import BadReturnValue
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Do, DoAndReply, Note, error_of


class Machine(StateMachine):
    """A machine with two states that does what it is told, and writes down what it gets, and where."""

    initial_state = "a"

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log: list[Any] = [] if log is None else log

    def take(self, event: Any) -> Any:
        match event:
            case Do(what):
                return what(self)
            case DoAndReply(what):
                return what(self)
            case Note(text):
                self.log.append((self.state, text))
            case Enter(old):
                self.log.append((old, self.state))
            case _:
                self.log.append((self.state, event))
        return None

    @state
    def a(self, event: Any) -> Any:
        return self.take(event)

    @state("b")
    def the_other(self, event: Any) -> Any:
        return self.take(event)


class Entering(Machine):
    """The same, with enter calls."""

    enter_calls = True


def do(*steps: Any) -> Do:
    """Several things to do in one event; each is a function of the machine."""

    def all_of_them(machine: Machine) -> None:
        for step in steps:
            step(machine)

    return Do(all_of_them)


def go(where: str) -> Any:
    return lambda machine: machine.next_state(where)


async def log_of(machine: Ref) -> list[Any]:
    await settled(machine.runtime, machine)
    log: list[Any] = await machine.call(DoAndReply(lambda actor: list(actor.log)))
    return log


@pytest.fixture
async def machine(runtime: Runtime) -> Ref:
    return await runtime.spawn(Machine)


async def test_S207_inserted_events_are_handled_in_their_order_before_all_later_ones(machine: Ref) -> None:
    machine.cast(do(*(lambda m, n=n: m.next_event(Note(n)) for n in "abc")))
    machine.cast(Note("later"))
    assert [text for _, text in await log_of(machine)] == ["a", "b", "c", "later"]


async def test_S207_inserted_events_come_before_postponed_ones_and_these_before_the_rest(machine: Ref) -> None:
    def put_off(m: Machine) -> None:
        if m.state == "a":
            m.postpone()
        else:
            m.log.append("postponed")

    machine.cast(Do(put_off))
    machine.cast(Do(put_off))
    machine.cast(do(go("b"), lambda m: m.next_event(Note("inserted"))))
    machine.cast(Note("rest"))
    assert await log_of(machine) == [("b", "inserted"), "postponed", "postponed", ("b", "rest")]


async def test_postponed_events_are_retried_after_a_change_of_state_alone_oldest_first(machine: Ref) -> None:
    seen: list[str] = []

    def until_b(name: str) -> Do:
        def what(m: Machine) -> None:
            seen.append(f"{name}@{m.state}")
            if m.state != "b":
                m.postpone()

        return Do(what)

    machine.cast(until_b("1"))
    machine.cast(until_b("2"))
    machine.cast(do(go("a")))
    machine.cast(Note("nothing has changed"))
    machine.cast(do(go("b")))
    machine.cast(until_b("3"))
    await barrier(machine)
    assert seen == ["1@a", "2@a", "1@b", "2@b", "3@b"]


async def test_events_that_are_retried_come_after_those_that_a_further_change_retries(machine: Ref) -> None:
    """A retried event changes the state: what was postponed in between goes before the rest of the retried ones."""
    seen: list[str] = []

    def step(name: str, *rules: tuple[str, Any]) -> Do:
        def what(m: Machine) -> None:
            seen.append(f"{name}@{m.state}")
            for where, rule in rules:
                if m.state == where:
                    rule(m)

        return Do(what)

    machine.cast(step("1", ("a", Machine.postpone), ("b", go("a"))))
    machine.cast(step("2", ("a", Machine.postpone)))
    machine.cast(do(go("b")))
    machine.cast(do(go("b")))
    await barrier(machine)
    assert seen == ["1@a", "2@a", "1@b", "2@a", "2@b"]


async def test_S209_a_call_that_is_put_off_too_long_times_out_and_the_machine_lives(machine: Ref) -> None:
    machine_called = machine.call(DoAndReply(lambda m: m.postpone()), timeout=1)
    assert isinstance(await error_of(machine_called), CallTimeout)
    machine.cast(do(go("b")))
    assert await log_of(machine) == []
    assert machine.alive


async def test_S209_a_state_function_that_returns_junk_ends_the_machine(machine: Ref) -> None:
    machine.cast(Do(lambda m: "junk"))
    assert await machine.join() == BadReturnValue("junk")


async def test_an_event_that_is_put_off_has_no_answer_yet(machine: Ref) -> None:
    machine.cast(Do(lambda m: m.postpone() or "junk"))
    assert await machine.join() == BadReturnValue("junk")


async def test_S210_callers_that_wait_get_their_replies_before_the_end(runtime: Runtime) -> None:
    tokens: list[ReplyTo[Any]] = []
    machine = await runtime.spawn(Machine)
    order: list[str] = []
    calls = [machine.call(DoAndReply(lambda m: tokens.append(m.defer_reply()))) for _ in range(2)]
    for n, call in enumerate(calls):
        call.add_done_callback(lambda _, n=n: order.append(f"reply {n}"))

    def stop_and_reply(m: Machine) -> None:
        for n, token in enumerate(tokens):
            token.reply(n)
        m.stop(Abnormal("x"))

    machine.cast(Do(stop_and_reply))
    assert await machine.join() == Abnormal("x")
    assert [await call for call in calls] == [0, 1]
    assert order == ["reply 0", "reply 1"]


async def test_S212_enter_calls_come_with_the_start_and_each_change(runtime: Runtime) -> None:
    machine = await runtime.spawn(Entering)
    machine.cast(do())
    machine.cast(do(go("b")))
    machine.cast(do(go("b")))
    machine.cast(do(go("a")))
    assert await log_of(machine) == [("a", "a"), ("a", "b"), ("b", "a")]


async def test_S212_a_repeated_state_is_entered_once_more(runtime: Runtime) -> None:
    machine = await runtime.spawn(Entering)
    machine.cast(do(go("b")))
    machine.cast(do(Machine.repeat_state))
    assert await log_of(machine) == [("a", "a"), ("a", "b"), ("b", "b")]
    plain = await runtime.spawn(Machine)
    plain.cast(do(Machine.repeat_state))
    assert await log_of(plain) == []


async def test_a_state_is_entered_before_any_event_in_it(runtime: Runtime) -> None:
    machine = await runtime.spawn(Entering)
    machine.cast(do(go("b"), lambda m: m.next_event(Note("inserted"))))
    assert await log_of(machine) == [("a", "a"), ("a", "b"), ("b", "inserted")]


@pytest.mark.parametrize("wrong", [go("b"), Machine.postpone, Machine.repeat_state, lambda m: m.next_event(Note("x"))])
async def test_an_enter_call_can_neither_change_the_state_nor_postpone_nor_insert(runtime: Runtime, wrong: Any) -> None:
    class Wrong(Entering):
        @state
        def a(self, event: Any) -> Any:
            return wrong(self) if isinstance(event, Enter) else self.take(event)

    machine = await runtime.spawn(Wrong)
    reason = await machine.join()
    assert isinstance(reason, Crashed)
    assert "enter call" in reason.message


async def test_an_enter_call_can_set_a_time_out(runtime: Runtime) -> None:
    class Timed(Entering):
        @state
        def a(self, event: Any) -> Any:
            if isinstance(event, Enter):
                self.state_timeout(3, "over")
            return self.take(event)

    machine = await runtime.spawn(Timed)
    await advance(3)
    assert await log_of(machine) == [("a", "a"), ("a", StateTimeout("over"))]


# -- time-outs ---------------------------------------------------------------------------------------------------------


async def test_a_state_time_out_comes_unless_the_state_changes(machine: Ref) -> None:
    machine.cast(do(lambda m: m.state_timeout(3, 1)))
    await advance(3)
    machine.cast(do(lambda m: m.state_timeout(3, 2)))
    await advance(1)
    machine.cast(Note("no change"))
    machine.cast(do(go("b")))
    await advance(5)
    assert await log_of(machine) == [("a", StateTimeout(1)), ("a", "no change")]


async def test_a_state_time_out_that_is_set_along_with_a_change_belongs_to_the_new_state(machine: Ref) -> None:
    machine.cast(do(lambda m: m.state_timeout(3, "of b"), go("b")))
    await advance(3)
    assert await log_of(machine) == [("b", StateTimeout("of b"))]


async def test_a_state_time_out_that_is_set_again_begins_anew_and_none_removes_it(machine: Ref) -> None:
    machine.cast(do(lambda m: m.state_timeout(3, 1)))
    await advance(2)
    machine.cast(do(lambda m: m.state_timeout(3, 2)))
    await advance(2)
    assert await log_of(machine) == []
    await advance(1)
    assert await log_of(machine) == [("a", StateTimeout(2))]
    machine.cast(do(lambda m: m.state_timeout(3)))
    machine.cast(do(lambda m: m.state_timeout(None)))
    await advance(9)
    assert len(await log_of(machine)) == 1


async def test_any_event_ends_an_event_time_out(machine: Ref) -> None:
    machine.cast(do(lambda m: m.event_timeout(3, 1)))
    await advance(3)
    assert await log_of(machine) == [("a", EventTimeout(1))]
    machine.cast(do(lambda m: m.event_timeout(3, 2), lambda m: m.next_event(Note("inserted"))))
    await advance(9)
    assert [text for _, text in await log_of(machine)] == [EventTimeout(1), "inserted"]


async def test_a_named_time_out_outlives_changes_of_state(machine: Ref) -> None:
    machine.cast(do(lambda m: m.named_timeout("x", 3, 1), lambda m: m.named_timeout("y", 1), go("b")))
    machine.cast(do(go("a"), lambda m: m.named_timeout("z", 2)))
    machine.cast(do(lambda m: m.named_timeout("z", None)))
    machine.cast(do(lambda m: m.update_timeout("x", 2), lambda m: m.update_timeout("unknown", 2)))
    await advance(9)
    assert await log_of(machine) == [("a", NamedTimeout("y")), ("a", NamedTimeout("x", 2))]


async def test_a_time_out_of_zero_comes_after_what_is_queued_and_before_what_has_not_been_received(
    machine: Ref,
) -> None:
    machine.cast(
        do(lambda m: m.state_timeout(0), lambda m: m.next_event(Note("inserted")), lambda m: m.event_timeout(0))
    )
    machine.cast(Note("not received yet"))
    assert [text for _, text in await log_of(machine)] == ["inserted", StateTimeout(), "not received yet"]


async def test_an_event_time_out_of_zero_comes_if_nothing_is_queued(machine: Ref) -> None:
    machine.cast(do(lambda m: m.event_timeout(0)))
    machine.cast(Note("not received yet"))
    assert [text for _, text in await log_of(machine)] == [EventTimeout(), "not received yet"]


async def test_a_time_out_that_has_fired_already_is_void_when_the_state_has_changed_before_it_is_handled(
    machine: Ref,
) -> None:
    async def slow(m: Machine) -> None:
        await advance(5)
        m.next_state("b")

    machine.cast(do(lambda m: m.state_timeout(3)))
    machine.cast(Do(slow))
    await advance(9)
    assert await log_of(machine) == []


async def test_a_postponed_time_out_is_retried(machine: Ref) -> None:
    class Patient(Machine):
        @state
        def a(self, event: Any) -> Any:
            if isinstance(event, StateTimeout):
                self.postpone()
            return self.take(event)

    patient = await machine.runtime.spawn(Patient)
    patient.cast(do(lambda m: m.state_timeout(1)))
    await advance(2)
    patient.cast(do(go("b")))
    assert await log_of(patient) == [("a", StateTimeout()), ("b", StateTimeout())]


async def test_a_time_out_must_be_a_length_of_time(machine: Ref) -> None:
    caught: list[BaseException] = []

    def wrong(m: Machine) -> None:
        with pytest.raises(BadTime) as error:
            m.state_timeout(-1)
        caught.append(error.value)

    machine.cast(do(wrong))
    await barrier(machine)
    assert "-1" in str(caught[0])


# -- requests ----------------------------------------------------------------------------------------------------------


class Tell(Request[str], frozen=True):
    """Tell the state, once it is the one that is asked about."""

    when: str
    refuse: bool = False
    slow: bool = False
    later: bool = False


class Teller(Machine):
    """Answers `Tell`."""

    tokens: list[ReplyTo[str]]

    def tell(self, request: Tell) -> Any:
        if request.when != self.state:
            self.postpone()
            return None
        if request.refuse:
            raise Refuse(LookupError("no"))
        if request.later:
            self.tokens = [self.defer_reply()]
            return None
        return f"in {self.state}"

    async def slowly(self, request: Tell) -> Any:
        await advance(0.1)
        return self.tell(request)

    def take(self, event: Any) -> Any:
        if isinstance(event, Tell):
            return self.slowly(event) if event.slow else self.tell(event)
        return super().take(event)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_request_is_answered_at_once_or_when_it_is_retried(runtime: Runtime, slow: bool) -> None:
    teller = await runtime.spawn(Teller)
    at_once, put_off = teller.call(Tell("a", slow=slow)), teller.call(Tell("b", slow=slow))
    refused_at_once, refused = teller.call(Tell("a", True, slow)), teller.call(Tell("b", True, slow))
    deferred, also = teller.call(Tell("a", slow=slow, later=True)), teller.call(Tell("b", slow=slow, later=True))
    assert await at_once == "in a"
    assert isinstance(await error_of(refused_at_once), LookupError)
    await settled(runtime, teller)
    assert not put_off.done()
    teller.cast(do(lambda m: m.tokens[0].reply("later")))
    assert await deferred == "later"
    teller.cast(do(go("b")))
    assert await put_off == "in b"
    assert isinstance(await error_of(refused), LookupError)
    await settled(runtime, teller)
    teller.cast(do(lambda m: m.tokens[0].reply("later")))
    assert await also == "later"
    assert teller.alive


async def test_a_request_is_put_off_as_often_as_it_must(runtime: Runtime) -> None:
    class Three(Teller):
        @state
        def c(self, event: Any) -> Any:
            return self.take(event)

    teller = await runtime.spawn(Three)
    call = teller.call(Tell("c"))
    teller.cast(do(go("b")))
    teller.cast(do(go("c")))
    assert await call == "in c"


async def test_a_request_in_waiting_learns_of_the_end_of_the_machine(runtime: Runtime) -> None:
    teller = await runtime.spawn(Teller)
    call = teller.call(Tell("b"))
    teller.cast(do(lambda m: m.stop(Abnormal("x"))))
    error = await error_of(call)
    assert isinstance(error, ActorExited)
    assert error.reason == Abnormal("x")


# -- states ------------------------------------------------------------------------------------------------------------


class Counting(StateMachine):
    """States need not be names: here they are numbers."""

    async def init(self) -> None:
        """Begin at 3, after a while."""
        await advance(1)
        self.next_state(3)
        self.state_timeout(2)
        super().init()

    def handle_event(self, state: int, event: Any) -> Any:
        if isinstance(event, DoAndReply):
            return state
        self.next_state(state + 1)
        return None


async def test_states_can_be_anything_that_can_be_compared(runtime: Runtime) -> None:
    machine = await runtime.spawn(Counting)
    machine.cast(Note("up"))
    assert await machine.call(DoAndReply(id)) == 4
    await advance(9)
    assert await machine.call(DoAndReply(id)) == 4


async def test_a_time_out_that_is_set_in_init_counts_from_the_start(runtime: Runtime) -> None:
    machine = await runtime.spawn(Counting)
    await advance(2)
    assert await machine.call(DoAndReply(id)) == 4


async def test_an_unknown_state_ends_the_machine_and_names_those_there_are(machine: Ref) -> None:
    machine.cast(do(go("c")))
    machine.cast(Note("lost"))
    reason = await machine.join()
    assert isinstance(reason, Crashed)
    assert "'c'" in reason.message
    assert "'a', 'b'" in reason.message


async def test_a_machine_without_an_initial_state_does_not_start(runtime: Runtime) -> None:
    class Nowhere(StateMachine):
        """Has no states."""

    error = await error_of(runtime.spawn(Nowhere))
    assert isinstance(error, StartError)
    assert isinstance(error.__cause__, BadTransition)
    assert "initial_state" in str(error)


async def test_an_init_that_forgets_the_machine_is_named(runtime: Runtime) -> None:
    class Forgetful(Machine):
        def init(self) -> None:
            """Do not call super().init()."""

    machine = await runtime.spawn(Forgetful)
    machine.cast(Note("x"))
    reason = await machine.join()
    assert isinstance(reason, Crashed)
    assert "super().init()" in reason.message


async def test_outside_of_an_event_nothing_can_be_asked_of_a_machine(runtime: Runtime) -> None:
    class Loose(Machine):
        def init(self) -> None:
            """There is no event to be postponed here."""
            with pytest.raises(BadTransition, match="postponed"):
                self.postpone()
            super().init()
            with pytest.raises(BadTransition, match="only while an event"):
                self.next_state("b")

    assert (await runtime.spawn(Loose)).alive


async def test_a_state_function_takes_one_event() -> None:
    with pytest.raises(BadHandler, match="one event"):

        @state
        def none(self: Any) -> None:
            """Takes no event."""

    with pytest.raises(BadHandler, match="method"):
        state("x")(7)  # type: ignore[type-var]


async def test_a_subclass_has_the_states_of_its_base_and_may_replace_them(runtime: Runtime) -> None:
    class Louder(Machine):
        @state("b")
        def loud(self, event: Any) -> Any:
            self.log.append("LOUD")
            return self.take(event)

    machine = await runtime.spawn(Louder)
    machine.cast(do(go("b")))
    machine.cast(Message())
    assert await log_of(machine) == ["LOUD", ("b", Message()), "LOUD"]
