"""SIMBA for teams: by default it is SIMBA; a change of a member is a change of that member alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import dspy
import pytest

from dspex.search import TeamSIMBA
from dspex.search.credit import TraceStep, divergent, member_credit, members_of, steps_of
from dspex.teams import Member, Team
from dspex.teleprompt import SIMBA, ModelRefused
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.search.conftest import EXAMPLES, LABELS, student
from tests.dspex.test_simba import state

pytestmark = pytest.mark.usefixtures("quiet")
SMALL: dict[str, Any] = {"bsize": 8, "num_candidates": 3, "max_steps": 2}


class Chain(dspy.Module):  # type: ignore[misc]
    """A hint, and then a label; and a part that is never asked."""

    def __init__(self) -> None:
        super().__init__()
        self.hinter = dspy.Predict("text -> hint")
        self.labeller = dspy.Predict("text, hint -> label")
        self.idle = dspy.Predict("text -> label")

    async def aforward(self, text: str) -> Any:
        """Ask both."""
        hint = (await self.hinter.acall(text=text)).hint
        return await self.labeller.acall(text=text, hint=hint)

    def forward(self, text: str) -> Any:
        """Ask both."""
        return self.labeller(text=text, hint=self.hinter(text=text).hint)


def told(way: str) -> Any:
    """A predictor with an instruction of its own."""
    return dspy.Predict(dspy.Signature("text -> label", f"Way {way}."))


def team(*names: str) -> Any:
    """A team that votes."""
    return Team("desk", tuple(Member(name, told(name)) for name in names or ("a", "b", "c"))).program()


def engine(**options: Any) -> ScriptedEngine:
    """A model that demonstrations help."""
    return ScriptedEngine(LABELS, **{"demo": 0.1, **options})


async def compiled(
    runtime: Runtime, program: Any = None, model: ScriptedEngine | None = None, *, seed: int = 0, **options: Any
) -> tuple[Any, TeamSIMBA]:
    """What it makes of a program."""
    made = TeamSIMBA(**{"metric": exact, "num_threads": 8, "runtime": runtime, **SMALL, **options})
    with dspy.context(lm=scripted_lm(model or engine())):
        return await made.acompile(program or team(), trainset=EXAMPLES[:24], seed=seed), made


def differing(one: Any, other: Any) -> set[str]:
    """The predictors whose states differ."""
    mine, theirs = ({name: p.dump_state() for name, p in program.named_predictors()} for program in (one, other))
    return {name for name in mine if mine[name] != theirs[name]}


# -- by default --------------------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(("program", "workers"), [(team, 1), (student, 4), (Chain, 4), (team, 8)])
async def test_T047_by_default_it_is_simba(runtime: Runtime, program: Callable[[], Any], workers: int) -> None:
    """The same program, logs, candidates in the same order, trials and calls."""
    theirs, model = engine(), engine()
    simba = SIMBA(metric=exact, num_threads=8, runtime=runtime, **SMALL)
    with dspy.context(lm=scripted_lm(theirs)):
        expected = await simba.acompile(program(), trainset=EXAMPLES[:24])
    found, made = await compiled(runtime, program(), model, num_threads=workers)
    assert state(found) == state(expected)
    assert made.report is not None
    assert simba.report is not None
    assert (made.report.trials, made.report.left_out) == (simba.report.trials, simba.report.left_out)
    assert model.calls == theirs.calls


async def test_a_team_of_one_has_nobody_to_choose_among(runtime: Runtime) -> None:
    """A change of the one member is one of the team."""
    one, _ = await compiled(runtime, student())
    other, _ = await compiled(runtime, student(), scope="member")
    assert state(other) == state(one)


# -- members -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [team, Chain])
async def test_a_candidate_differs_from_its_source_in_one_member(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, program: Callable[[], Any]
) -> None:
    """Demonstrations are dropped and added, and rules are written, in its predictors alone."""
    from dspex.search.ascent import TeamAscent

    changed: list[tuple[str, set[str]]] = []
    judge, draft = TeamAscent._judge, TeamAscent._draft
    sources: dict[int, Any] = {}

    def drafted(self: Any, *args: Any) -> Any:
        found = draft(self, *args)
        sources[id(found.program)] = self._programs[found.program.simba_idx]
        return found

    async def judged(self: Any, step: int, batch: Any, candidates: Any) -> None:
        for candidate in candidates:
            member = self._told[id(candidate)][1]["member"]
            changed.append((member, differing(candidate, sources[id(candidate)])))
        await judge(self, step, batch, candidates)

    monkeypatch.setattr(TeamAscent, "_judge", judged)
    monkeypatch.setattr(TeamAscent, "_draft", drafted)
    made = program()
    before, members = made.dump_state(), members_of(made)
    await compiled(runtime, made, scope="member", max_steps=4, max_demos=2)
    assert made.dump_state() == before
    assert len({member for member, _ in changed}) > 1
    assert all(names == set(members[member]) for member, names in changed)


async def test_a_strategy_that_raises_changes_nobody(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr("dspex.teleprompt.simba.append_a_rule", fail)
    found, made = await compiled(runtime, scope="member", max_demos=0, max_steps=1)
    assert made.report is not None
    assert (differing(found, team()), len(made.report.left_out)) == (set(), SMALL["bsize"])


async def test_the_seed_decides_who_is_changed_and_workers_do_not(runtime: Runtime) -> None:
    found = []
    for seed, workers in ((0, 1), (0, 8), (1, 8)):
        program, made = await compiled(runtime, scope="member", seed=seed, num_threads=workers)
        assert made.report is not None
        found.append((state(program), made.report.trials))
    assert found[0] == found[1] != found[2]


async def test_T053_a_frozen_member_stays_byte_for_byte(runtime: Runtime) -> None:
    """It is asked, and its own language model is kept to it and recorded; the others learn."""
    for scope in ("team", "member"):
        own = engine(seed=1)
        made = Chain()
        made.hinter = dspy.ChainOfThought("text -> hint")
        made.hinter._compiled = True
        made.hinter.predict.lm = scripted_lm(own)
        found, simba = await compiled(runtime, made, scope=scope, max_steps=4, seed=1)
        assert found.hinter.predict.lm._engine_spec is own
        made.hinter.predict.lm = found.hinter.predict.lm = None  # an engine of tests cannot be saved
        before = dspy.ChainOfThought("text -> hint").dump_state()
        assert made.hinter.dump_state() == found.hinter.dump_state() == before
        assert "hinter" not in members_of(found)
        assert simba.report is not None
        assert simba.report.calls > own.calls > 0
        changed = [differing(candidate["program"], made) for candidate in found.candidate_programs]
        assert any("labeller" in names for names in changed)


@pytest.mark.once
async def test_T051_the_coordinator_may_die_at_any_call(runtime: Runtime) -> None:
    """The program is the same, and nothing is paid for twice."""
    whole, undisturbed = engine(), []
    for kills in ((), range(20, 320, 30)):

        def kill(number: int, kills: Any = kills) -> None:
            if number in kills:
                next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()

        model = engine(before=kill)
        program, _ = await compiled(
            runtime, Chain(), model, scope="member", member_metrics={"labeller": exact}, max_steps=3
        )
        undisturbed.append(state(program))
        assert model.calls == (whole.calls or model.calls)
        whole = model
    assert undisturbed[0] == undisturbed[1]


# -- credit ------------------------------------------------------------------------------------------------------------


def chained(*said: str) -> list[TraceStep]:
    """A run of members behind each other, each of which is given what the one before has said."""
    given = ("text", *said)
    return [TraceStep(str(n + 1), {"in": given[n]}, {"out": one}) for n, one in enumerate(said)]


MEMBERS = {str(n): [str(n)] for n in range(1, 4)}


def test_T050_the_first_that_differs_has_the_credit() -> None:
    """And whoever comes behind it has none, though it says something else, too."""
    assert member_credit(MEMBERS, chained("x", "y", "z"), chained("x", "y'", "z'")) == {"1": 0.0, "2": 1.0, "3": 0.0}
    assert member_credit(MEMBERS, chained("x", "y", "z"), chained("x", "y", "z")) == dict.fromkeys(MEMBERS, 0.0)


def test_T050_those_who_vote_share_it() -> None:
    """Each member whose answer differs has as much; one that was not asked has nothing."""

    def vote(answers: str) -> list[TraceStep]:
        return [TraceStep(str(n), {"in": "text"}, {"out": said}) for n, said in enumerate(answers, 1)]

    assert member_credit(MEMBERS, vote("xyz"), vote("xab")) == {"1": 0.0, "2": 0.5, "3": 0.5}
    assert member_credit(MEMBERS, vote("xx"), vote("xyx")) == {"1": 0.0, "2": 1.0, "3": 0.0}


def test_a_run_that_ends_or_goes_elsewhere_speaks_against_who_should_have_answered_or_was_asked_instead() -> None:
    best = chained("x", "y", "z")
    assert divergent(best, best[:1]) == ["2"]
    assert divergent(best[:1], best) == ["2"]
    assert divergent(best, [best[0], best[2]]) == ["3"]
    assert divergent([], []) == []


def test_what_was_thought_before_and_how_it_is_written_is_no_difference() -> None:
    one, other = dspy.Predict("text -> reasoning, label"), dspy.Predict("text -> reasoning")
    names = {id(one): "one", id(other): "other"}
    said = [
        steps_of(
            [
                (one, {"text": "t"}, dspy.Prediction(reasoning=why, label=label)),
                (other, {"text": "t"}, dspy.Prediction(reasoning="so")),
                (student(), {"text": "t"}, dspy.Prediction(label="of nobody")),
            ],
            names,
        )
        for why, label in (("so", "Red"), ("thus", " red"))
    ]
    assert len(said[0]) == 2
    assert divergent(*said) == []


def test_members_are_those_of_a_team_or_the_parts_of_a_program() -> None:
    assert list(members_of(team("a.b", "c"))) == ["a.b", "c"]
    assert members_of(student()) == {"self": ["self"]}
    whole = Chain()
    whole.idle = team()
    assert list(members_of(whole)) == ["hinter", "labeller", "idle"]
    assert members_of(dspy.Module()) == {}


# -- metrics of members ------------------------------------------------------------------------------------------------


async def test_with_a_metric_of_its_own_a_member_has_what_it_is_short_of(runtime: Runtime) -> None:
    """One that is always right is seldom changed, one that is always wrong more often."""
    asked: list[Any] = []

    def wrong(example: Any, outputs: Any) -> float:
        asked.append((example.text, dict(outputs)))
        return -1e308

    async def right(example: Any, outputs: Any) -> float:
        return 1.0

    metrics = {"a": wrong, "b": right, "c": right}
    _, made = await compiled(runtime, scope="member", member_metrics=metrics, max_steps=6)
    assert made.report is not None
    drawn = [trial.details["member"] for trial in made.report.trials]
    assert drawn.count("a") > 1.5 * max(drawn.count("b"), drawn.count("c"))
    assert set(asked[0][1]) == {"label"}


async def test_a_metric_of_a_member_that_says_nothing_leaves_its_credit(runtime: Runtime) -> None:
    """The report tells why, once in a step."""

    def metric(example: Any, outputs: Any) -> float:
        raise KeyError(outputs.label)

    one, _ = await compiled(runtime, scope="member")
    other, made = await compiled(runtime, scope="member", member_metrics={"b": metric, "c": lambda *_: float("nan")})
    assert state(other) == state(one)
    assert made.report is not None
    assert len(made.report.left_out) == 2 * SMALL["max_steps"]
    assert "0/member: b: metric: KeyError" in made.report.left_out[0]
    assert "c: metric: ValueError: nan is no score" in made.report.left_out[1]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"scope": "all"}, "choose one of team, member"),
        ({"member_metrics": [exact]}, "a function each"),
        ({"member_metrics": {"a": 1}}, "a function each"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadOption, match=why):
        TeamSIMBA(metric=exact, **options)


async def test_a_metric_of_nobody_is_refused_before_anything_is_asked(runtime: Runtime) -> None:
    model = engine()
    with pytest.raises(BadOption, match="choose among a, b, c"):
        await compiled(runtime, model=model, member_metrics={"d": exact})
    assert model.calls == 0


async def test_without_a_language_model_there_is_nothing_to_wait_for(runtime: Runtime) -> None:
    made = TeamSIMBA(metric=exact, runtime=runtime, **SMALL)
    with dspy.context(lm=None), pytest.raises(ModelRefused, match="no language model"):
        await asyncio.wait_for(made.acompile(team(), trainset=EXAMPLES), 60)
