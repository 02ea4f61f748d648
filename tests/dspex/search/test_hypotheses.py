"""What can race, what makes it, and on which items."""

from __future__ import annotations

from collections import Counter
from typing import Any

import dspy
import pytest

from dspex.search import BadHypotheses, Configurations, Hypothesis
from dspex.search.hypothesis import described, hypotheses_of, source_of
from dspex.search.items import split_off, stratified
from dspex.variables import Float
from supervision.errors import BadOption
from tests.dspex.search.conftest import EXAMPLES, WAYS, advised, student

TONES = {"self": ["Be brief.", "Be kind."]}


def from_examples(program: Any, trainset: Any, seed: int) -> list[Any]:
    """Makes hypotheses, whose demonstrations are examples."""

    def shown(changed: Any) -> None:
        changed.demos = list(trainset[seed : seed + 2])

    return [shown, advised(1)]


def test_programs_changes_and_those_with_a_name_can_race() -> None:
    """The student is the first, and stays as it is."""
    own, other = student(), dspy.ChainOfThought("text -> label")
    found = hypotheses_of([other, advised(1), Hypothesis("kind", lambda _: other, "it is kind")], own, [], 0)
    assert [one.name for one in found] == ["student", "hypothesis 1", "hypothesis 2", "kind"]
    assert found[0].program is own
    assert found[1].program is found[3].program is other
    assert "Look closely" in found[2].program.signature.instructions
    assert "Look closely" not in own.signature.instructions
    assert found[3].why == "it is kind"


def test_a_function_makes_them_of_student_trainset_and_seed() -> None:
    name = f"{__name__}:from_examples"
    assert source_of(name) is from_examples
    found = hypotheses_of(source_of(name), student(), EXAMPLES, 3)
    assert found[1].program.demos == EXAMPLES[3:5]
    assert "from_examples" in described(from_examples)


def test_one_program_is_a_hypothesis_too() -> None:
    program = student()
    assert source_of(program) == [program]


def test_a_table_says_what_there_is_to_choose() -> None:
    """All configurations but the student's own; or some, drawn by the seed."""
    source = source_of({"instructions": TONES, "modules": True})
    found = hypotheses_of(source, student(), [], 0)
    assert [one.name for one in found[1:]] == [
        "self.module ChainOfThought",
        "self.instruction 1",
        "self.instruction 1, self.module ChainOfThought",
        "self.instruction 2",
        "self.instruction 2, self.module ChainOfThought",
    ]
    assert found[2].program.signature.instructions == "Be brief."
    drawn = source_of({"instructions": TONES, "temperature": True, "sample": 4})
    one, same, other = (hypotheses_of(drawn, student(), [], seed) for seed in (1, 1, 2))
    assert len(one) == 5
    assert [each.name for each in one] == [each.name for each in same] != [each.name for each in other]
    few = Configurations(sample=50, instructions=TONES)(student(), [], 0)
    assert len(few) == 2


def test_what_constraints_forbid_does_not_race() -> None:
    brief = {"brief": lambda found: found["self.instruction"] != "2"}
    assert len(Configurations(instructions=TONES, constraints=brief)(student(), [], 0)) == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("tests.nowhere:ways", "write package.module:name"),
        ({"tones": 3}, "unexpected keyword argument 'tones'"),
        (7, "give programs"),
    ],
)
def test_what_cannot_race_is_refused_at_once(given: Any, why: str) -> None:
    if given == {"tones": 3}:
        with pytest.raises(TypeError, match=why):
            source_of(given)(student(), [], 0)
        return
    with pytest.raises(BadHypotheses, match=why):
        source_of(given)


def test_bad_tables_and_hypotheses_are_refused() -> None:
    with pytest.raises(BadOption, match="sample"):
        source_of({"sample": 0})
    with pytest.raises(BadHypotheses, match="extract"):
        source_of({1: 2})
    with pytest.raises(BadHypotheses, match="heat may be any number"):
        Configurations(temperature=Float(name="heat", low=0.0, high=1.0, default=0.0))(student(), [], 0)
    with pytest.raises(BadHypotheses, match="hypothesis 1 is no program"):
        hypotheses_of(["way"], student(), [], 0)
    with pytest.raises(BadHypotheses, match="two have this name"):
        hypotheses_of([Hypothesis("a", student()), Hypothesis("a", student())], student(), [], 0)


def test_what_tells_hypotheses_from_others_is_what_they_are() -> None:
    assert described([student(), WAYS[2]]) == described([Hypothesis("x", student()), WAYS[2]])
    assert described([student()]) != described([dspy.ChainOfThought("text -> label")])
    assert described(Configurations(instructions=TONES)) != described(Configurations(instructions=TONES, sample=1))


def test_each_beginning_of_the_items_has_of_all_labels_its_share() -> None:
    examples = [dspy.Example(n=n, label="ab"[n % 4 == 0], group=n % 2).with_inputs("n", "group") for n in range(40)]
    order = stratified(examples, 1)
    assert sorted(order) == list(range(40))
    assert order != stratified(examples, 2)
    assert Counter(examples[number].label for number in order[:20]) == {"a": 15, "b": 5}
    for by in ("group", lambda example: example.group):
        assert Counter(examples[number].group for number in stratified(examples, 1, by)[:20]) == {0: 10, 1: 10}


def test_labels_that_do_not_repeat_and_several_are_no_strata() -> None:
    free = [dspy.Example(n=n, answer=str(n)).with_inputs("n") for n in range(10)]
    two = [dspy.Example(n=n, a=1, b=1).with_inputs("n") for n in range(10)]
    assert stratified(free, 1) == stratified(two, 1)


def test_a_part_of_the_items_is_kept_for_the_test_and_never_all() -> None:
    assert split_off(list(range(10)), 0.3) == ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    assert split_off([1], 0.9) == ([1], [])
