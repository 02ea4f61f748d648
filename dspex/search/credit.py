"""Who of a team has made the difference: between a run that went well, and one on the same example that did not.

Source: the first divergence of two traces; what decides is what was said, not how much was thought before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from dspex.teams.ballot import normal_form
from dspex.teams.program import TeamProgram

#: Outputs that differ from sample to sample, whatever is meant.
_THOUGHTS = ("reasoning", "rationale")
#: What of the name of a predictor names the member: all before the first dot that is not in brackets.
_FIRST = re.compile(r"[^.\[]*(\['.*?'\]|\[\d+\])?")


class TraceStep(NamedTuple):
    """What a predictor was given, and what it has said, in their normal form; ``name`` is that of the predictor."""

    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def members_of(program: Any) -> dict[str, list[str]]:
    """Return of each member of a program the names of its predictors.

    The members of a team are those that it names, and those of another program its parts. What is frozen is left out.

    >>> import dspy
    >>> class Desk(dspy.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.plan, self.write = dspy.ChainOfThought("text -> plan"), [dspy.Predict("plan -> label")]
    >>> members_of(Desk())
    {'plan': ['plan.predict'], 'write[0]': ['write[0]']}
    """
    parts = program.members.items() if isinstance(program, TeamProgram) else ()
    owners = {id(predictor): name for name, part in parts for _, predictor in part.named_predictors()}
    found: dict[str, list[str]] = {}
    for name, predictor in program.named_predictors():
        part = _FIRST.match(name)
        assert part is not None
        found.setdefault(owners.get(id(predictor), part.group()), []).append(name)
    return found


def steps_of(trace: Iterable[tuple[Any, Mapping[str, Any], Any]], names: Mapping[int, str]) -> list[TraceStep]:
    """Return the steps of a trace of DSPy, by predictors that have a name.

    Args:
        trace: predictors, with inputs and outputs.
        names: of the predictors, by their ids.
    """
    return [
        TraceStep(names[id(predictor)], _normal(inputs), _normal(outputs))
        for predictor, inputs, outputs in trace
        if id(predictor) in names
    ]


def _normal(fields: Any) -> dict[str, Any]:
    given = dict(fields.items())
    said = {name: value for name, value in given.items() if name not in _THOUGHTS}
    return {name: normal_form(value) for name, value in (said or given).items()}


def divergent(best: Sequence[TraceStep], worst: Sequence[TraceStep]) -> list[str]:
    """Return the names of the predictors that make the difference between two runs on the same example.

    The first step in which they differ is to blame: for what it has said; or, if the worse run ended there or went
    another way, whoever did not come to an answer, or was asked instead. Others that were given the same as in the
    other run, and have said something else, such as those who vote, share it.

    >>> def run(*said):
    ...     given = ("x", *said)
    ...     return [TraceStep(str(n), {"in": given[n]}, {"out": one}) for n, one in enumerate(said)]
    >>> divergent(run("a", "b", "c"), run("a", "B", "C")), divergent(run("a"), run("a"))
    (['1'], [])
    >>> votes = [
    ...     [TraceStep(name, {"in": "x"}, {"out": one}) for name, one in zip("abc", said)] for said in ("yes", "Yno")
    ... ]
    >>> divergent(*votes)
    ['a', 'b', 'c']
    """
    for one, other in zip_longest(best, worst):
        if one is None or other is None or (one.name, one.outputs) != (other.name, other.outputs):
            first = one if other is None else other
            assert first is not None
            return list(dict.fromkeys([first.name, *_said_otherwise(best, worst)]))
    return []


def _said_otherwise(best: Sequence[TraceStep], worst: Sequence[TraceStep]) -> list[str]:
    """Return who was given the same, and has said something else."""
    others = dict(_numbered(worst))
    return [
        step.name
        for key, step in _numbered(best)
        if key in others and others[key].inputs == step.inputs and others[key].outputs != step.outputs
    ]


def _numbered(steps: Sequence[TraceStep]) -> list[tuple[tuple[str, int], TraceStep]]:
    seen: Counter[str] = Counter()
    found = []
    for step in steps:
        seen[step.name] += 1
        found.append(((step.name, seen[step.name]), step))
    return found


def member_credit(
    members: Mapping[str, Sequence[str]], best: Sequence[TraceStep], worst: Sequence[TraceStep]
) -> dict[str, float]:
    """Return of each member its share of the difference between two runs: they add up to 1, or are all 0.

    >>> steps = [[TraceStep("plan", {}, {"out": one})] for one in "ab"]
    >>> member_credit({"planner": ["plan"], "writer": ["write"]}, *steps)
    {'planner': 1.0, 'writer': 0.0}

    Args:
        members: the names of their predictors.
        best: the better run.
        worst: the other one.
    """
    blamed = set(divergent(best, worst))
    shared = [name for name, own in members.items() if blamed & set(own)]
    return {name: 1.0 / len(shared) if name in shared else 0.0 for name in members}
