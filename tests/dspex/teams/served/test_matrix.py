"""All patterns of teams, and all that is done with a team: what holds for one of them holds for each."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple

import dspy
import msgspec
import pytest
from dspy.utils.dummies import DummyLM

from dspex import Swap
from dspex.evaluate import evaluate
from dspex.teams import (
    AddMember,
    AllocateTask,
    BadTeam,
    ContractNet,
    Contractor,
    DropMember,
    MajorityVote,
    Member,
    ReshapeTeam,
    TaskBid,
    Team,
    TeamActor,
)
from foundation.programs import AddVersion, BadVersion, DescribeProgram, GetVersion, RunProgram, Unavailable
from supervision import ChildSpec, Ref, Runtime, Supervisor
from tests.dspex.teams.served.parts import PATTERNS, VOTES, Hold, Part, forget, gone, said

MODEL = DummyLM([])
REFUSED = "refused"


class Held(NamedTuple):
    """What comes of it when a member holds its answer, and when its agent dies with it: the label, and what is told.

    Without a label, the call is refused.
    """

    member: str
    late: tuple[str, str] | str
    lost: tuple[str, str | None] | str


class Case(NamedTuple):
    """What is to be expected of a pattern.

    Attributes:
        held: of one of its members.
        alone: who can answer alone, and with what; and who cannot.
        reshapes: whether others may join while it is served.
        degraded: what is told of a full answer.
    """

    held: Held
    alone: dict[str, str]
    not_alone: tuple[str, ...] = ()
    reshapes: bool = False
    degraded: str | None = None


def vote(**more: Any) -> Case:
    """A vote of three without one."""
    held = Held("a", ("A", "quorum:deadline 1 of 3"), ("A", "quorum:lost 1 of 3"))
    return Case(held, {"a": "A", "c": "B"}, reshapes=True, **more)


CASES = {
    **dict.fromkeys(("majority", "confusion", "soft", "first", "stacking"), vote()),
    # Half of the weight is b's, which is not more than a half.
    "weighted": vote()._replace(held=Held("a", ("A", "quorum:deadline 1 of 3"), ("A", "quorum:lost 1 of 3"))),
    "router": Case(Held("a", REFUSED, ("B", "next:lost 1 of 2")), {"b": "B"}, reshapes=True),
    "bandit": Case(Held("a", REFUSED, ("B", "next:lost 1 of 2")), {"b": "B"}, reshapes=True),
    "cascade": Case(Held("b", ("A", "unsure:deadline 1 of 2"), ("A", "unsure:lost 1 of 2")), {"a": "A"}),
    "samples": Case(Held("a", REFUSED, ("A", "quorum:lost 1 of 3")), {}, ("a",)),
    "board": Case(Held("b", REFUSED, REFUSED), {}, ("a", "b")),
    "debate": Case(Held("b", ("A", "members:late 1 of 3"), ("A", "members:lost 1 of 3")), {"a": "A", "b": "B"}),
    "mixture": Case(Held("w", ("A", "aggregator:late"), ("A", "aggregator:lost")), {"a": "A", "b": "B", "w": "A"}),
    "managed": Case(Held("a", ("A", "deadline"), ("A", "members:lost 1 of 2")), {"m": "A"}, ("a", "planner")),
    "handoff": Case(Held("b", REFUSED, ("A", "members:lost 1 of 2")), {"b": "A"}),
    "chat": Case(Held("b", ("B", "deadline"), ("B", "turns")), {"a": "B", "b": "A"}, degraded="turns"),
}
every = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


async def serve(runtime: Runtime, program: Any, **options: Any) -> Ref:
    """A team under the name of a program, supervised."""
    options = {"lm": MODEL, "retries": 0, "signature": "text -> label", **options}
    await runtime.spawn(Supervisor, [ChildSpec("desk", TeamActor, (program,), options, name="program:desk")])
    found = runtime.whereis("program:desk")
    assert found is not None
    return found


async def ask(actor: Ref) -> dict[str, Any]:
    """What it answers."""
    found: dict[str, Any] = (await actor.call(RunProgram({"text": "x"}))).outputs
    return found


async def told(answer: Any) -> tuple[str, str | None] | str:
    """The label, and what is told of it; or that it is refused."""
    try:
        found = await answer
    except Unavailable:
        return REFUSED
    return found["label"], found["degraded"]


def agent(runtime: Runtime, member: str) -> Ref:
    """A member's agent."""
    (found,) = [ref for name, ref in runtime.names().items() if "/desk#" in name and name.endswith(f"/{member}")]
    return found


def test_all_patterns_are_in_the_table() -> None:
    """Each with what is expected of it."""
    assert CASES.keys() == PATTERNS.keys()


# -- served ------------------------------------------------------------------------------------------------------------


@every
async def test_it_answers_and_describes_itself(runtime: Runtime, name: str) -> None:
    """With a ballot of all its members."""
    program = PATTERNS[name]()
    actor = await serve(runtime, program)
    found = await ask(actor)
    assert (found["label"], found["degraded"]) == ("A", CASES[name].degraded)
    assert [one.member for one in found["ballot"]] == [one.name for one in program.team.members]
    assert 0 < found["coverage"] <= 1
    assert 0 <= found["confidence"] <= 1
    assert [field.name for field in (await actor.call(DescribeProgram())).inputs] == ["text"]


@every
async def test_a_member_that_never_answers_is_late(runtime: Runtime, name: str) -> None:
    """Whoever asks is answered by then, or refused; and the next call is answered as ever."""
    held = CASES[name].held
    actor = await serve(runtime, PATTERNS[name](), deadline=2.0)
    Part.held[held.member] = Hold()
    began = runtime.clock.time()
    assert await told(ask(actor)) == held.late
    assert runtime.clock.time() - began == pytest.approx(2.0)
    Part.held.clear()
    assert (await ask(actor))["label"] == "A"


@every
async def test_a_member_whose_agent_is_killed_is_lost(runtime: Runtime, name: str) -> None:
    """It is started again, and has its part in the next call."""
    held = CASES[name].held
    actor = await serve(runtime, PATTERNS[name]())
    hold = Part.held[held.member] = Hold()
    asked = asyncio.ensure_future(told(ask(actor)))
    await hold.came.wait()
    Part.held.clear()
    agent(runtime, held.member).kill()
    assert await asked == held.lost
    found = await ask(actor)
    assert (found["label"], found["degraded"]) == ("A", CASES[name].degraded)


@every
async def test_whoever_asks_may_go(runtime: Runtime, name: str) -> None:
    """Nothing of the call is left, and the next one is answered."""
    actor = await serve(runtime, PATTERNS[name]())
    hold = Part.held[CASES[name].held.member] = Hold()
    asked = asyncio.ensure_future(ask(actor))
    await hold.came.wait()
    asked.cancel()
    await asyncio.wait({asked})
    Part.held.clear()
    both = await asyncio.gather(ask(actor), ask(actor))
    assert [found["label"] for found in both] == ["A", "A"]
    info = runtime.info(actor)
    assert info is not None
    assert info.summary["running"] == "0"


# -- the ladder --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "member", "label"),
    [(name, member, label) for name, case in CASES.items() for member, label in case.alone.items()],
)
async def test_one_member_answers_alone(runtime: Runtime, name: str, member: str, label: str) -> None:
    """If the ladder has it, and all the others are away. Nobody is asked for that but this one."""
    program = PATTERNS[name]()
    actor = await serve(runtime, program, ladder=[f"single:{member}"])
    gone(*(one.name for one in program.team.members if one.name != member))
    found = await ask(actor)
    assert (found["label"], found["degraded"].partition(" ")[0]) == (label, "single:lost")
    assert "handoff" not in found
    Part.asked.clear()
    assert (await ask(actor))["degraded"] == found["degraded"]
    assert Part.asked == {member: 1}


@every
async def test_who_cannot_answer_alone_is_no_rung(runtime: Runtime, name: str) -> None:
    """It is refused when the team is made, with those that can; a rung without a name is the best of these."""
    made = PATTERNS[name]()
    for member in CASES[name].not_alone:
        with pytest.raises(BadTeam, match=r"who can answer alone|nobody here can answer without the others"):
            TeamActor.check_arguments(lambda: made, ladder=[f"single:{member}"])
    if not made.able_alone:
        with pytest.raises(BadTeam, match="ladder = 'single': leave it out"):
            TeamActor.check_arguments(lambda: made, ladder=["single"])
        return
    actor = await serve(runtime, made, ladder=["single"])
    assert (await ask(actor))["label"] == "A"


@every
async def test_where_all_are_away_a_default_or_an_answer_from_before_is_given(runtime: Runtime, name: str) -> None:
    """Or the call is refused."""
    made = PATTERNS[name]()
    ladder = ["cached:60", {"rung": "default", "outputs": {"label": "other"}}, "refuse"]
    actor = await serve(runtime, made, ladder=ladder)
    full = await ask(actor)
    gone(*made.members)
    found = await ask(actor)
    assert (found["label"], found["degraded"].partition(" ")[0]) == ("A", "cached:lost")
    assert found.keys() == full.keys()
    found = (await actor.call(RunProgram({"text": "another"}))).outputs
    assert (found["label"], found["degraded"].partition(" ")[0]) == ("other", "default:lost")
    Part.away.clear()
    assert [(await ask(actor))["degraded"] for _ in range(9)][-1] == CASES[name].degraded


# -- changed while it serves -------------------------------------------------------------------------------------------


def taught(program: Any) -> Any:
    """A program whose members say B."""
    for member in program.members.values():
        if isinstance(member, Part):
            member.ask.demos = [{"text": "x", "label": "B"}]
    return program


@every
async def test_a_version_is_used_from_the_next_call_on(runtime: Runtime, name: str) -> None:
    """Calls under way go on with the one that they began with; and the one before can be served again."""
    actor = await serve(runtime, PATTERNS[name]())
    held = Part.held[CASES[name].held.member] = Hold()
    asked = asyncio.ensure_future(ask(actor))
    await held.came.wait()
    Part.held.clear()
    assert (await actor.call(Swap(taught(PATTERNS[name]())))).number == 1
    assert (await ask(actor))["label"] == "B"
    held.go.set()
    assert (await asked)["label"] == "A"
    before = await actor.call(GetVersion(0))
    assert (await actor.call(Swap(before))).number == 2
    assert (await actor.call(Swap(taught(before).dump_state()))).number == 3
    assert (await ask(actor))["label"] == "B"


@every
async def test_what_no_version_can_change_is_refused(runtime: Runtime, name: str) -> None:
    """It would have no effect, and its caller would not notice."""
    actor = await serve(runtime, PATTERNS[name]())
    other = PATTERNS[name]()
    other.team = msgspec.structs.replace(other.team, min_answers=0.25)
    with pytest.raises(BadVersion, match=r"min_answers = 0.25; start the actor anew"):
        await actor.call(Swap(other))
    plain = Team("team", (Member("a", Part("a", said("A"))),), field="label")
    with pytest.raises(BadVersion, match=r"it is a Team; give its program\(\)"):
        await actor.call(AddVersion(plain))
    with pytest.raises(BadVersion, match="it is a Part, and no"):
        await actor.call(Swap(Part("a", said("A"))))
    assert (await ask(actor))["label"] == "A"


@every
async def test_members_join_and_leave_or_that_is_refused(runtime: Runtime, name: str) -> None:
    """A call under way goes on with those that it began with."""
    actor = await serve(runtime, PATTERNS[name]())
    held = Part.held[CASES[name].held.member] = Hold()
    asked = asyncio.ensure_future(ask(actor))
    await held.came.wait()
    Part.held.clear()
    change = ReshapeTeam((AddMember(Member("z", Part("z", said("A")))), DropMember("b")))
    if CASES[name].reshapes:
        await actor.call(change)
        assert [one.member for one in (await ask(actor))["ballot"]][-1] == "z"
    else:
        with pytest.raises(BadTeam, match="start its actor anew"):
            await actor.call(change)
    held.go.set()
    found = await asked
    assert (found["label"], "z" in [one.member for one in found["ballot"]]) == ("A", False)
    assert (await ask(actor))["label"] == "A"


# -- as a program ------------------------------------------------------------------------------------------------------


def exact(example: Any, found: Any, trace: Any = None) -> float:
    """Whether the label is right."""
    return float(example.label == found.label)


@every
async def test_it_is_evaluated(runtime: Runtime, name: str) -> None:
    """By DSPy and by this package, to the same score; where members are away, it has none."""
    devset = [dspy.Example(text=text, label=label).with_inputs("text") for text, label in (("x", "A"), ("y", "B"))]
    program = PATTERNS[name]()
    assert dspy.Evaluate(devset=devset, metric=exact, num_threads=1, display_progress=False)(program).score == 50.0
    assert (await evaluate(program, devset, exact, runtime=runtime)).score == 0.5


@every
def test_its_state_is_saved_and_loaded(tmp_path: Path, name: str) -> None:
    """By DSPy, byte for byte."""
    program, other = taught(PATTERNS[name]()), PATTERNS[name]()
    program.save(tmp_path / "team.json")
    other.load(tmp_path / "team.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
    assert (program(text="x").label, other(text="x").label, PATTERNS[name]()(text="x").label) == ("B", "B", "A")


@pytest.mark.parametrize("name", VOTES)
async def test_what_was_fitted_is_saved_and_loaded_with_it(runtime: Runtime, tmp_path: Path, name: str) -> None:
    """A team that was made without has the rule then; also as a version, which a restart keeps."""
    program, plain = VOTES[name](), VOTES["majority"]()
    program.save(tmp_path / "team.json")
    plain.load(tmp_path / "team.json")
    assert plain.team.rule == program.team.rule
    actor = await serve(runtime, VOTES["majority"](), versions=tmp_path / "versions")
    await actor.call(Swap(program))
    actor.kill()
    while (again := runtime.whereis("program:desk")) in (None, actor):
        await runtime.sleep(0.001)
    assert again is not None
    served = await again.call(GetVersion())
    assert (served.team.rule, (await ask(again))["label"]) == (program.team.rule, "A")
    state = {key: value for key, value in served.dump_state().items() if key != "rule"}
    await again.call(Swap(state))  # of before rules were saved: it has the one that the team was made with
    assert (await again.call(GetVersion())).team.rule == MajorityVote()
    with pytest.raises(BadVersion, match="rule"):
        await again.call(Swap({**state, "rule": "{}"}))


# -- contract nets: actors, and no programs ----------------------------------------------------------------------------


async def contracts(runtime: Runtime, **options: Any) -> Ref:
    """A net of two contractors; a's bid is the better one."""
    for member, label, quality in (("a", "A", 0.9), ("b", "B", 0.5)):
        program = Part(member, said(label))
        child = ChildSpec(member, Contractor, (program, TaskBid(quality)), name=member)
        await runtime.spawn(Supervisor, [child])
    await runtime.spawn(Supervisor, [ChildSpec("net", ContractNet, ({"a": "a", "b": "b"},), options, name="contracts")])
    found = runtime.whereis("contracts")
    assert found is not None
    return found


@pytest.mark.parametrize("how", ["late", "killed", "away"])
async def test_a_contractor_that_does_not_report_has_its_place_taken(runtime: Runtime, how: str) -> None:
    """Late, killed, or without its model."""
    net = await contracts(runtime, limit=2.0)
    if how == "away":
        gone("a")
    held = Hold()
    Part.held.update({} if how == "away" else {"a": held})
    asked = asyncio.ensure_future(net.call(AllocateTask("task", {"text": "x"})))
    if how == "killed":
        await held.came.wait()
        found = runtime.whereis("a")
        assert found is not None
        found.kill()
    contract = await asked
    assert (contract.member, contract.value.label) == ("b", "B")


async def test_what_was_done_survives_the_net_and_a_net_is_no_team(runtime: Runtime) -> None:
    """Its result is there after a restart, and nobody does it again."""
    net = await contracts(runtime)
    assert (await net.call(AllocateTask("task", {"text": "x"}))).value.label == "A"
    net.kill()
    while (again := runtime.whereis("contracts")) in (None, net):
        await runtime.sleep(0.001)
    assert again is not None
    assert (await again.call(AllocateTask("task", {"text": "x"}))).value.label == "A"
    assert Part.asked == {"a": 1}
    with pytest.raises(BadTeam, match="give a Team"):
        TeamActor.check_arguments(lambda: ContractNet({"a": "a"}))
