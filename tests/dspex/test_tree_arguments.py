"""A tree file with programs, evaluations and optimisations: what is wrong in it is named before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspex import ProgramActor
from dspex.agents.agent import BadProgram
from dspex.serving.arguments import import_named
from dspex.teams import Member, Team
from foundation.run import main
from foundation.tree import TreeError, load_tree
from foundation.tree.optional import MissingDependency
from tests.dspex.optimise.shop import SPEC, write

PROGRAM = "tests.dspex.optimise.shop:program"
EVALUATION = {"metric": "dspex.testing.engine:exact", "devset": {"path": "train.csv", "inputs": ["text"]}}
#: What is no program, and a team that is one.
NUMBER = 7
TEAM = Team("desk", (Member("a", "tests.dspex.optimise.shop:program"),), field="label")


def raises() -> Any:
    """A program that cannot be made."""
    raise LookupError("no such thing")


class Own(ProgramActor):
    """One that takes other arguments than its base."""

    def __init__(self, number: int) -> None:
        super().__init__(PROGRAM, concurrency=number)


def load(start: str, *args: Any, **kwargs: Any) -> None:
    """Read a tree with one child."""
    load_tree({"children": [{"id": "it", "start": start, "args": list(args), "kwargs": kwargs}]})


@pytest.mark.parametrize(
    ("start", "options"),
    [
        ("dspex:ProgramActor", {}),
        ("dspex:ProgramActor", {"versions": "v", "calls": {"folder": "c", "last": 5}, "waiting": 0, "timeout": 5}),
        ("dspex:ProgramActor", {"adapter": "dspy:JSONAdapter", "metrics": {"m": "dspex.testing.engine:exact"}}),
        ("dspex:ProgramPool", {"size": 2, "lm": "openai/x", "isolation": "process"}),
    ],
)
def test_what_makes_sense_is_taken(start: str, options: dict[str, Any]) -> None:
    load(start, PROGRAM, **options)


def test_a_class_with_arguments_of_its_own_is_not_asked_of_those_of_its_base() -> None:
    load("tests.dspex.test_tree_arguments:Own", 3)
    load("dspex.teams:TeamActor", "tests.dspex.test_tree_arguments:TEAM", patience=2.0)


@pytest.mark.parametrize("start", ["dspex:ProgramActor", "dspex:ProgramPool", "dspex.teams:TeamActor"])
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"concurrencies": 4}, "concurrencies"),
        ({"concurrency": 0}, "concurrency = 0: give a whole number from 1"),
        ({"waiting": -1}, "waiting = -1: give a whole number from 0"),
        ({"timeout": 0}, "timeout = 0: give a finite number above 0"),
        ({"unparsed": [{"step": "pray"}]}, "unparsed"),
        ({"adapter": "dspy:NoAdapter"}, "adapter = 'dspy:NoAdapter': write package.module:Class"),
        ({"calls": {"first": 5}}, "calls = 'first'"),
        ({"calls": {"keep": "all"}}, "keep = 'all'"),
        ({"calls": {"redact": "os:nothing"}}, "redact = 'os:nothing'"),
        ({"calls": {"folder": 5}}, "calls.folder = 5: give the path of a folder"),
        ({"versions": __file__}, "give the path of a folder"),
        ({"metrics": {"m": "os:nothing"}}, "metrics: m = 'os:nothing'"),
        ({"rollout": {"steps": [2.0]}}, "steps = 2.0"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(start: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(TreeError) as caught:
        load(start, PROGRAM, **options)
    assert why in str(caught.value)


def test_an_option_that_there_is_not_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(TreeError, match=r"concurrencies = 4: there is no such option \(did you mean 'concurrency'\?\)"):
        load("dspex:ProgramPool", PROGRAM, concurrencies=4)


@pytest.mark.parametrize(
    ("start", "options", "why"),
    [
        ("dspex:ProgramPool", {"size": 0}, "size = 0"),
        ("dspex:ProgramPool", {"retries": -1}, "retries = -1"),
        ("dspex:ProgramPool", {"isolation": "thread"}, "isolation = 'thread'"),
        ("dspex.teams:TeamActor", {"retries": 1.5}, "retries = 1.5"),
        ("dspex.teams:TeamActor", {"patience": -1}, "patience"),
        ("dspex.teams:TeamActor", {"isolation": "thread"}, "isolation = 'thread'"),
    ],
)
def test_so_is_one_of_a_pool_or_a_team(start: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(TreeError) as caught:
        load(start, PROGRAM, **options)
    assert why in str(caught.value)


@pytest.mark.parametrize("start", ["dspex:ProgramActor", "dspex.teams:TeamActor"])
@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("no_such_package.module:program", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("tests.dspex.nowhere:program", "ModuleNotFoundError: No module named 'tests.dspex.nowhere'"),
        ("tests.dspex.optimise.shop:nothing", "AttributeError"),
        ("tests.dspex.test_tree_arguments:NUMBER", "not int"),
        ("a b", "write package.module:name"),
    ],
)
def test_a_program_that_there_is_not_is_named(start: str, program: str, why: str) -> None:
    with pytest.raises(TreeError) as caught:
        load(start, program)
    assert (program in str(caught.value), why in str(caught.value)) == (True, True)


def test_a_program_is_imported_and_not_made() -> None:
    load("dspex:ProgramActor", "tests.dspex.test_tree_arguments:raises")


def test_a_program_that_is_there_already_is_taken_as_it_is() -> None:
    """As a tree that is made in Python has it."""
    ProgramActor.check_arguments(TEAM.program())
    with pytest.raises(BadProgram, match=r"give a dspy\.Module"):
        ProgramActor.check_arguments(NUMBER)


def test_what_a_teams_code_raises_is_told() -> None:
    """It is made, to look whether a ladder fits it."""
    with pytest.raises(TreeError, match="LookupError: no such thing"):
        load("dspex.teams:TeamActor", "tests.dspex.test_tree_arguments:raises")


def test_a_part_that_needs_what_is_not_installed_may_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    child = {"id": "it", "start": "dspex:ProgramActor", "args": ["needs_more:program"], "optional": True}
    assert "no_such_package" in str(load_tree({"children": [child]}).left_out[0])


def test_what_a_programs_module_needs_and_what_it_raises_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not installed may be left out with an optional part."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_much.py").write_text("import no_such_package\n")
    (tmp_path / "is_broken.py").write_text("1 / 0\n")
    with pytest.raises(MissingDependency, match="no_such_package"):
        import_named("needs_much:program")
    with pytest.raises(BadProgram, match="ZeroDivisionError"):
        import_named("is_broken:program")


# -- evaluations and optimisations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "why"),
    [
        (("", "f", {}), {}, "program = ''"),
        ((5, "f", {}), {}, "program = 5"),
        (("shop", 5, {}), {}, "folder = 5"),
        (("shop", "f", {}), {"data": 5}, "data = 5"),
        (("shop", "f", []), {}, "specs = []: give a table"),
        (("shop", "f", {"a": 5}), {}, "specs.a"),
        (("shop", "f", {"a": {"metric": "os:nothing"}}), {}, "specs.a"),
        (("shop", "f"), {}, "it takes"),
        (("shop", "f", {}), {"colour": "red"}, "it takes"),
    ],
)
@pytest.mark.parametrize("start", ["dspex:Evaluations", "dspex:Optimisations"])
def test_owners_of_jobs_name_what_makes_no_sense(start: str, args: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(TreeError) as caught:
        load(start, *args, **options)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("start", "spec", "why"),
    [
        ("dspex:Evaluations", {**EVALUATION, "metric": "no.module:metric"}, "specs.a: metric = 'no.module:metric'"),
        ("dspex:Evaluations", {**EVALUATION, "thread": 4}, "thread"),
        (
            "dspex:Optimisations",
            {**SPEC, "program": "no.module:program"},
            "specs.a.program: program 'no.module:program'",
        ),
        ("dspex:Optimisations", {**SPEC, "optimiser": "dspy:NoOptimiser"}, "specs.a.optimiser"),
        (
            "dspex:Optimisations",
            {**SPEC, "program": "tests.dspex.test_tree_arguments:raises"},
            "specs.a.program: 'tests.dspex.test_tree_arguments:raises' has raised LookupError: no such thing",
        ),
    ],
)
def test_what_a_specification_names_has_to_be_there(start: str, spec: dict[str, Any], why: str) -> None:
    with pytest.raises(TreeError) as caught:
        load(start, "shop", "folder", {"a": spec})
    assert why in str(caught.value)


TREE = """\
[[children]]
id = "evaluations"
start = "dspex:Evaluations"
args = ["shop", "e", {{ nightly = {evaluation} }}]
kwargs = {{ data = "{data}" }}

[[children]]
id = "optimisations"
start = "dspex:Optimisations"
args = ["shop", "o", {{ a = {optimisation}, b = {feedback} }}]
kwargs = {{ data = "{data}" }}
"""


def test_check_warns_of_examples_that_are_not_there_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They may come later: the tree is none the worse."""
    tree, more = tmp_path / "shop.toml", 'trainset = { path = "train.csv", inputs = ["text"] }'
    program = f'program = "{PROGRAM}", metric = "dspex.testing.engine:exact"'
    tree.write_text(
        TREE.format(
            data=tmp_path,
            evaluation='{ metric = "dspex.testing.engine:exact", devset = { path = "train.csv", inputs = ["text"] } }',
            optimisation=f"{{ {program}, {more} }}",
            feedback=f'{{ {program}, trainset = {{ inputs = ["text"], feedback = {{ }} }} }}',
        )
    )
    assert main([str(tree), "--check"], {}) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        f"warning: {kind} of shop: specs.{name}: there is no file 'train.csv' in {str(tmp_path)!r} yet"
        for kind, name in (("evaluations", "nightly"), ("optimisations", "a"))
    ]
    write(tmp_path)
    assert main([str(tree), "--check"], {}) == 0
    assert "warning: " not in capsys.readouterr().out
