"""A manager that gives tasks to workers: what is done once, what is a stall, and who is told that somebody is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex import agent
from dspex.teams import (
    BadTeam,
    ManagedTeam,
    Member,
    NoAnswer,
    Team,
    Tokens,
    TooFewAnswers,
    Turns,
    manager_signature,
    planner_signature,
)
from supervision.errors import BadOption
from supervision.testing import run
from tests.dspex.teams.speakers import AWAY, HEARD, Speaker, heard, order, speakers

PLAN = {"facts": "none", "new_plan": "ask b"}


@pytest.fixture(autouse=True)
def _nothing_was_heard() -> Iterator[None]:
    HEARD.clear()
    yield
    HEARD.clear()


def wrong(value: Any) -> Any:
    """A value of a type that is not taken."""
    return value


def choose(next: object, task: object = "", *, answer: object = None, progress: object = True) -> dict[str, Any]:
    """What a manager says."""
    return {"progress": progress, "next": next, "task": task, "answer": answer}


def managed(manager: list[object], *workers: object, planner: object = PLAN, **options: Any) -> ManagedTeam:
    """A manager that says one thing after another, and workers a, b and so on."""
    team_options = {name: options.pop(name) for name in ("max_calls", "deadline") if name in options}
    return ManagedTeam(
        speakers(*workers, field=None, **team_options),
        "question -> answer",
        Member("m", Speaker("m", *manager)),
        planner=Member("p", Speaker("p", planner)),
        **options,
    )


async def test_the_manager_sees_what_is_done_and_the_workers_their_task() -> None:
    """Until it says the answer."""
    says = [choose("a", "find it"), choose("b", "check it"), choose("done", answer="42")]
    program = managed([*says], {"found": "42?"}, "yes")
    answer = await program.acall(question="?")
    assert (answer.answer, answer.ended, answer.degraded, order(answer)) == ("42", "done", None, "mambm")
    assert (answer.stalls, answer.replans, answer.coverage) == (0, 0, 1.0)
    assert heard("a") == [{"task": "find it"}]
    first, second, third = heard("m")
    assert first == {"question": "?", "workers": {"a": "", "b": ""}, "plan": {}, "done": [], "note": ""}
    assert second["done"] == [{"worker": "a", "task": "find it", "result": {"found": "42?"}}]
    assert third["done"][1:] == [{"worker": "b", "task": "check it", "result": {"label": "yes"}}]
    assert [one.outcome for one in answer.ballot] == ["answered", "answered", "answered", "unasked"]


async def test_a_plain_call_says_the_same() -> None:
    """Turn by turn."""
    says = [choose("z"), choose("a", "x"), choose("a", "y"), choose("done", answer="42")]
    found = [managed([*says], [AWAY, "A"])(question="?"), await managed([*says], [AWAY, "A"]).acall(question="?")]
    told = [[(turn.member, turn.outcome, turn.fields) for turn in one.transcript.turns] for one in found]
    assert told[0] == told[1]
    assert found[0].answer == found[1].answer == "42"


@pytest.mark.parametrize("odd", ["z", None, ["a"], {}, 7, "Done", "a b"])
async def test_T023_a_manager_that_chooses_nobody_there_is_is_told_so_once(odd: object) -> None:
    """That turn counts; after the second one it is over."""
    answer = await managed([choose(odd), choose("done", answer="42")], "A").acall(question="?")
    assert (answer.answer, order(answer)) == ("42", "mm")
    assert "Choose one of: a, done." in heard("m")[1]["note"]
    with pytest.raises(NoAnswer, match="manager ended it"):
        await managed([choose(odd), choose("q")], "A").acall(question="?")
    assert len(heard("m")) == 4
    answer = await managed([choose("a", "x", answer="draft"), choose(odd), choose(odd)], "A").acall(question="?")
    assert (answer.answer, answer.degraded) == ("draft", "manager")


async def test_T023_one_whose_answer_cannot_be_read_is_told_so_too() -> None:
    """As when the model names somebody whom the type has not."""
    answer = await managed([ValueError("no a"), choose("done", answer="42")], "A").acall(question="?")
    assert (answer.answer, heard("m")[1]["note"]) == ("42", "Your last answer could not be used: ValueError: no a")
    again = [choose("q"), choose("a", "x"), choose("q"), choose("done", answer="42")]
    answer = await managed([*again], "A").acall(question="?")
    assert (answer.answer, order(answer)) == ("42", "mmamm")
    for nothing in ("", "  ", None, 5):
        await managed([choose("a", nothing), choose("done", answer="42")], "A").acall(question="?")
        assert heard("m")[-1]["note"] == "Say what a is to do."


async def test_T024_what_is_done_is_not_done_again() -> None:
    """The manager is told the result; it is a stall."""
    says = [choose("a", "find it"), choose("a", " Find it"), choose("done", answer="42")]
    answer = await managed([*says], "A").acall(question="?")
    assert (order(answer), answer.stalls, len(heard("a"))) == ("mamm", 1, 1)
    assert heard("m")[2]["note"] == "a has done that already, with this result: {'label': 'A'}"
    assert len(heard("m")[2]["done"]) == 1


async def test_what_has_failed_is_done_and_what_is_lost_is_not() -> None:
    """So whoever was away can be asked again."""
    says = [choose("a", "x"), choose("a", "x"), choose("b", "y"), choose("b", "y"), choose("done", answer="42")]
    answer = await managed([*says], ValueError("no"), [AWAY, "B"]).acall(question="?")
    assert order(answer) == "mammbmbm"
    told = heard("m")
    assert told[1]["done"] == [{"worker": "a", "task": "x", "result": "failed: ValueError: no"}]
    assert told[1]["note"] == "a has failed: ValueError: no"
    assert told[3]["note"] == "b is lost: LMTransportError: away"
    assert len(told[3]["done"]) == 1
    assert told[4]["note"] == ""
    assert (len(told[4]["done"]), answer.stalls) == (2, 0)


async def test_a_lost_worker_is_told_to_the_manager_who_chooses_again() -> None:
    """The answer says that somebody was away."""
    says = [choose("a", "x"), choose("b", "x"), choose("done", answer="42")]
    answer = await managed([*says], AWAY, "B").acall(question="?")
    assert (answer.answer, answer.degraded, order(answer)) == ("42", "members:lost 1 of 3", "mambm")


def flagged(*progress: bool) -> list[object]:
    """A manager that says whether there is progress, with another task each time."""
    return [choose("a", f"task {number}", progress=flag) for number, flag in enumerate(progress)]


async def test_T025_three_stalls_more_than_progress_and_there_is_a_new_plan() -> None:
    """After N, N, Y, N, N and not before; then they are counted anew."""
    says = [*flagged(False, False, True, False, False, False), choose("done", answer="42")]
    answer = await managed([*says], "A").acall(question="?")
    assert order(answer) == "ma" * 4 + "mp" + "ma" + "m"
    assert (answer.stalls, answer.replans) == (1, 1)
    assert heard("p") == [
        {"question": "?", "workers": {"a": ""}, "plan": {}, "done": heard("m")[4]["done"]},
    ]
    assert heard("m")[5]["plan"] == PLAN


@pytest.mark.parametrize(("turns", "stalls"), [(1, 1), (2, 2), (3, 1), (4, 2)])
async def test_T025_stalls_are_counted_up_and_down(turns: int, stalls: int) -> None:
    """Never below none."""
    says = [*flagged(False, False, True, False)[:turns], choose("done", answer="42")]
    assert (await managed([*says], "A").acall(question="?")).stalls == stalls
    says = [*flagged(True, True, False), choose("done", answer="42")]
    assert (await managed([*says], "A").acall(question="?")).stalls == 1


async def test_after_so_many_plans_the_team_gives_up() -> None:
    """With the best that there is."""
    answer = await managed([choose("a", "x", answer="draft", progress=False)], "A", max_stalls=1).acall(question="?")
    assert (answer.answer, answer.degraded, answer.replans, order(answer)) == ("draft", "stalls", 2, "mpmpm")
    with pytest.raises(NoAnswer, match="stalls ended it"):
        await managed([choose("a", "x", progress=False)], "A", max_stalls=1, max_replans=0).acall(question="?")


async def test_a_planner_without_a_plan_leaves_the_old_one() -> None:
    """It counts all the same."""
    says = [choose("a", "x", progress=False), choose("done", answer="42")]
    answer = await managed([*says], "A", planner=AWAY, max_stalls=1).acall(question="?")
    assert (answer.answer, answer.replans, order(answer)) == ("42", 1, "mpm")
    assert heard("m")[1]["plan"] == {}


async def test_a_draft_in_words_that_is_none_is_none() -> None:
    """A model has to write a text or null."""
    for nothing in ("null", "None", ""):
        with pytest.raises(NoAnswer):
            await managed([choose("a", "x", answer=nothing)], "A", until=Turns(3)).acall(question="?")


async def test_done_without_an_answer_is_a_stall() -> None:
    """Unless a worker has given all that is wanted."""
    says = [choose("done"), choose("done", answer="42")]
    answer = await managed([*says], "A").acall(question="?")
    assert (answer.answer, answer.stalls) == ("42", 1)
    assert heard("m")[1]["note"] == "There is no answer yet. Give it, or choose a worker."
    answer = await managed([choose("a", "write"), choose("done")], {"answer": "from a", "more": 1}).acall(question="?")
    assert (answer.answer, answer.ended, "more" in answer) == ("from a", "done", False)


async def test_a_manager_that_is_away_ends_it() -> None:
    """With what there is, or with an error of infrastructure."""
    answer = await managed([choose("a", "x", answer="draft"), AWAY], "A").acall(question="?")
    assert (answer.answer, answer.degraded) == ("draft", "manager:lost")
    with pytest.raises(TooFewAnswers, match="m lost"):
        await managed([AWAY], "A").acall(question="?")
    with pytest.raises(dspy.LMAuthError):
        await managed([dspy.LMAuthError("key")], "A").acall(question="?")


def test_a_manager_that_is_late_ends_it() -> None:
    """With what there is."""

    async def never(_: Any) -> Any:
        return await asyncio.get_running_loop().create_future()

    answer = run(managed([choose("a", "x", answer="draft"), never], "A", deadline=2.0).acall(question="?"))
    assert (answer.answer, answer.degraded) == ("draft", "deadline")


@pytest.mark.parametrize(
    ("calls", "turns"), [(1, "m"), (2, "ma"), (3, "mam"), (4, "mamm"), (5, "mammp"), (6, "mammpm"), (7, "mammpmm")]
)
async def test_no_more_are_asked_than_may_be(calls: int, turns: str) -> None:
    """Whoever it would be."""
    says = [choose("a", "x", answer="draft"), choose("a", "x"), choose("a", "x"), choose("a", "x"), choose("q")]
    answer = await managed([*says], "A", max_stalls=2, max_calls=calls).acall(question="?")
    assert (answer.answer, answer.degraded) == ("draft", "turns")
    assert order(answer) == turns


async def test_twenty_turns_are_enough_unless_somebody_says_otherwise() -> None:
    """A bound there always is."""
    says = [choose("a", f"task {number}", answer="draft") for number in range(30)]
    answer = await managed([*says], "A").acall(question="?")
    assert (answer.degraded, len(answer.transcript.turns)) == ("turns", 20)
    answer = await managed([*says], "A", until=Turns(5) | Tokens(10)).acall(question="?")
    assert order(answer) == "mamam"


# -- as a program --------------------------------------------------------------------------------------------------


def predictor(signature: Any, *answers: dict[str, Any]) -> Any:
    """A predictor with a model of its own."""
    made = dspy.Predict(signature)
    made.set_lm(DummyLM([*answers]))
    return made


def desk(*answers: dict[str, Any]) -> ManagedTeam:
    """A team of predictors; its manager has no model."""
    workers = Team("desk", (Member("search", predictor("question -> found", {"found": "42 km"}), role="finds"),))
    return ManagedTeam(workers, "question -> answer: float")


def test_T023_the_choice_is_typed() -> None:
    """Names and done; a model that names somebody else is told so."""
    program = desk()
    signature = program.members["manager"].signature
    assert signature.output_fields["next"].annotation == Literal["search", "done"]
    assert signature.output_fields["answer"].annotation == float | None
    assert list(signature.output_fields) == ["progress", "next", "task", "answer"]
    says = [
        {"progress": "True", "next": "google", "task": "how long", "answer": "null"},
        {"progress": "True", "next": "google", "task": "how long", "answer": "null"},
        {"progress": "True", "next": "search", "task": "how long", "answer": "null"},
        {"progress": "True", "next": "done", "task": "", "answer": "42.2"},
    ]
    program.members["manager"].set_lm(DummyLM(says))
    answer = program(question="How long?")
    assert (answer.answer, answer.ended) == (42.2, "done")
    assert [(turn.member, turn.outcome) for turn in answer.transcript.turns] == [
        ("manager", "failed"),
        ("manager", "answered"),
        ("search", "answered"),
        ("manager", "answered"),
    ]


def test_a_worker_gets_its_task_and_the_inputs_that_it_names() -> None:
    """And nothing else."""
    program = desk()
    assert list(program.members["search"].signature.input_fields) == ["question", "task"]
    says = [choose("search", "how long"), choose("done", answer="42")]
    program.members["manager"].set_lm(DummyLM([{k: json.dumps(v) for k, v in one.items()} for one in says]))
    with dspy.context(trace=[]):
        answer = program(question="How long?")
        asked = [(entry[0], dict(entry[1])) for entry in dspy.settings.trace]
    assert answer.answer == 42
    assert [one for one, _ in asked] == [program.members[name] for name in ("manager", "search", "manager")]
    assert set(asked[1][1]) == {"question", "task"}


def test_it_is_a_program(tmp_path: Any) -> None:
    """Saved, loaded, copied, and run in an agent; with the signature of the whole."""
    program, other = desk(), desk()
    for one in (program, other):
        one.members["search"].lm = None
    program.members["manager"].demos = [{"question": "x", "next": "done"}]
    program.save(tmp_path / "team.json")
    other.load(tmp_path / "team.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
    assert list(program.signature.fields) == ["question", "answer"]
    assert [name.split("'")[1] for name, _ in program.named_predictors()] == ["search", "manager", "planner"]
    served = agent(managed([choose("done", answer="42")], "A").deepcopy())
    assert served(question="?").answer == "42"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: ManagedTeam(wrong("team"), "question -> answer"), "ManagedTeam: team"),
        (lambda: ManagedTeam(speakers("A"), wrong(5)), "ManagedTeam: signature"),
        (lambda: ManagedTeam(speakers("A"), "question"), "ManagedTeam: signature"),
        (lambda: ManagedTeam(speakers("A"), "question -> plan"), "call these fields something else"),
        (lambda: ManagedTeam(speakers("A"), "next -> answer"), "call these fields something else"),
        (lambda: ManagedTeam(speakers("A"), "question -> answer"), "ManagedTeam: field"),
        (lambda: managed([], "A", max_stalls=0), "ManagedTeam: max_stalls"),
        (lambda: managed([], "A", max_replans=-1), "ManagedTeam: max_replans"),
        (lambda: ManagedTeam(speakers("A", field=None), "q -> a", wrong("m")), "ManagedTeam: manager"),
        (lambda: ManagedTeam(speakers("A", field=None), "q -> a", planner=wrong("p")), "ManagedTeam: planner"),
        (lambda: ManagedTeam(Team("t", (Member("manager", Speaker("m", "A")),)), "q -> a"), "a name of its own"),
        (lambda: ManagedTeam(Team("t", (Member("done", Speaker("d", "A")),)), "q -> a"), "call this worker something"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: Any, what: str) -> None:
    """When it is made."""
    with pytest.raises((BadTeam, BadOption), match=what):
        make()


def test_the_signatures_of_those_who_lead_can_be_had() -> None:
    """For programs of one's own."""
    team = speakers("A", "B", field=None)
    assert list(planner_signature("question -> answer", team).output_fields) == ["facts", "new_plan"]
    made = manager_signature(dspy.Signature("question -> answer", "Be brief."), team)
    assert made.instructions.startswith("Be brief.")
    assert list(made.input_fields) == ["question", "workers", "plan", "done", "note"]
