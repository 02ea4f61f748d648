"""Each sentence of the threat model is tested: it has a name, and the name has tests."""

from __future__ import annotations

import ast
import contextlib
import os
import re
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import dspy
import msgspec
import pytest

from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.dead_letters.letter import Letter
from foundation.store import Database, Store
from foundation.tree.load import load_tree
from supervision import Actor, ChildSpec, Request, Runtime, StartError, handle
from supervision.isolation import NotTransferable

ROOT = Path(__file__).parents[2]
WALL = "tests/supervision/test_isolation_wall.py::"
PROCESS = "tests/supervision/test_isolation_process.py::"
PROGRAM = "tests/dspex/test_process_wall.py::"
REMOTE = "tests/dspex/test_remote.py::"
HERE = "tests/house/test_threat_model.py::"
ATTACKS = "tests/foundation/test_attacks.py::"

#: The tests of each sentence.
TESTS: dict[str, tuple[str, ...]] = {
    "front-loopback": ("tests/foundation/test_settings.py::test_without_arguments_the_default_tree_runs_at_loopback",),
    "front-runs": ("tests/foundation/test_http.py::test_a_program_answers_with_its_outputs",),
    "front-tree": ("tests/foundation/test_http.py::test_a_strange_method_and_path_are_problems_too",),
    "front-strangers": (
        HERE + "test_the_rules_of_the_front_have_a_section",
        ATTACKS + "test_a_name_that_is_not_ours_is_misdirected",
        ATTACKS + "test_a_page_of_somebody_else_is_refused",
        ATTACKS + "test_another_token_opens_nothing",
        ATTACKS + "test_the_table_in_the_documents_is_what_is_tried_here",
    ),
    "tree-runs": (HERE + "test_a_tree_file_runs_what_it_names",),
    "tree-check": (HERE + "test_a_tree_file_runs_what_it_names",),
    "state-data": (
        HERE + "test_what_is_kept_is_data",
        "tests/foundation/test_store.py::test_what_was_committed_is_there_after_a_restart_with_its_types",
    ),
    "state-letters": (HERE + "test_a_letter_is_a_message_or_nothing",),
    "child-user": (HERE + "test_an_isolated_process_is_no_sandbox",),
    "child-trusts": (PROCESS + "test_it_lives_in_another_process_behind_the_same_address",),
    "child-data": (
        WALL + "test_any_answer_is_a_value_or_refused",
        WALL + "test_any_error_is_one_that_is_allowed",
        WALL + "test_any_reason_is_one_of_the_kernels_or_none",
        WALL + "test_thousands_of_frames_cost_one_restart_each_time",
    ),
    "child-types": (
        WALL + "test_an_answer_of_a_declared_type_is_an_instance",
        WALL + "test_what_nobody_declares_is_refused",
        PROCESS + "test_an_answer_of_another_type_than_promised_is_an_error_of_the_caller",
    ),
    "child-errors": (
        WALL + "test_any_error_is_one_that_is_allowed",
        WALL + "test_answers_errors_and_reasons_come_from_a_real_process",
        WALL + "test_an_error_with_attributes_that_hide_its_methods_is_not_rebuilt",
    ),
    "child-reasons": (
        WALL + "test_any_reason_is_one_of_the_kernels_or_none",
        WALL + "test_a_reason_of_ones_own_is_its_text_and_whether_it_is_clean",
    ),
    "child-lies": (WALL + "test_a_lie_costs_one_restart_and_no_more",),
    "child-size": (
        WALL + "test_a_frame_may_be_as_long_as_its_actor_says",
        WALL + "test_a_large_answer_is_looked_at_before_it_is_decoded",
    ),
    "child-heirs": (WALL + "test_the_children_of_a_dead_process_do_not_speak_for_it",),
    "child-own": (WALL + "test_a_lie_costs_one_restart_and_no_more",),
    "child-wrong": (WALL + "test_a_scripted_process_is_as_good_as_another",),
    "program-down": (REMOTE + "test_it_runs_elsewhere_and_its_attributes_stay",),
    "program-data": (
        PROGRAM + "test_whatever_a_process_sends_is_a_value_or_refused",
        PROGRAM + "test_a_pickle_is_not_a_value",
    ),
    "program-types": (
        PROGRAM + "test_what_a_program_returns_comes_back_as_it_was",
        PROGRAM + "test_a_model_comes_back_whole",
        PROGRAM + "test_a_value_of_another_type_than_its_class_declares_is_refused",
        PROGRAM + "test_what_does_something_when_it_goes_away_is_not_made",
        PROGRAM + "test_programs_return_what_they_declare",
    ),
    "program-models": (
        PROGRAM + "test_a_request_sets_what_is_asked_and_nothing_else",
        PROGRAM + "test_a_request_names_no_files_of_its_parent",
    ),
    "program-keys": (PROGRAM + "test_keys_and_addresses_are_not_sent",),
    "program-environment": (HERE + "test_an_isolated_process_is_no_sandbox",),
    "program-callbacks": (PROGRAM + "test_a_lie_costs_one_restart_and_no_more",),
    "program-runs": (PROGRAM + "test_runs_of_one_process_can_answer_for_each_other",),
    "program-usage": (PROGRAM + "test_usage_is_what_the_process_says",),
    "program-kept": (PROGRAM + "test_a_run_has_no_more_kept_here_than_is_reasonable",),
    "program-lies": (PROGRAM + "test_a_lie_costs_one_restart_and_no_more",),
    "model-text": (HERE + "test_what_a_language_model_says_is_text",),
    "model-loopback": ("tests/dspex/test_serve.py::test_the_parameters_keep_the_model_small",),
    "model-line": ("tests/dspex/test_process.py::test_something_else_is_not_readiness",),
    "node-refs": ("tests/supervision/test_runtime.py::test_a_ref_cannot_be_pickled_and_says_what_to_send_instead",),
}


def section(title: str = "Who is trusted with what") -> str:
    """Return the text of a section of the page."""
    text = (ROOT / "docs/production.md").read_text(encoding="utf-8")
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_each_sentence_has_a_name_and_tests() -> None:
    """In the order of the text."""
    text = " ".join(section().split("<!-- front-loopback -->", 1)[1].split())
    assert ["front-loopback", *re.findall(r"<!-- ([a-z-]+) -->", text)] == list(TESTS)
    bare = re.sub(r"`[^`]*`|\*\*[^*]*\.\*\*|\*\*[^*]*\*\* \([^)]*\)\.", "", text)
    assert re.findall(r"[.:?!] (?!<!--)[A-Z][^.]*", bare.replace("-->", "")) == []


@pytest.mark.parametrize("test", sorted({test for tests in TESTS.values() for test in tests}))
def test_the_tests_exist(test: str) -> None:
    path, name = test.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert name in functions


# -- what has no better place ----------------------------------------------------------------------------------------


def test_the_rules_of_the_front_have_a_section() -> None:
    assert "The HTTP server listens on loopback" in section("Security")


RUN: list[str] = []


def ran() -> list[ChildSpec]:
    """Run whatever a tree file says."""
    RUN.append("ran")
    return [ChildSpec("one", Actor)]


def test_a_tree_file_runs_what_it_names() -> None:
    """Also if it is only loaded, as ``--check`` does."""
    RUN.clear()
    load_tree("tests.house.test_threat_model:ran")
    assert RUN == ["ran"]


class Kept(msgspec.Struct):
    """A value with a type."""

    n: int


async def test_what_is_kept_is_data(tmp_path: Path) -> None:
    """Of another type it is refused; a pickle in it is bytes."""

    class Evil:
        def __reduce__(self) -> Any:
            return RUN.append, ("evil",)

    RUN.clear()
    evil = cloudpickle.dumps(Evil())
    for value, types, found in (
        (evil, {"kept": Any}, evil),
        ({"n": "x"}, {"kept": Kept}, None),
        ({"n": 3}, {"kept": Kept}, Kept(3)),
    ):
        path = tmp_path / f"{len(value)}{found is None}.db"
        async with Runtime(reports=False) as runtime:
            await runtime.spawn(Store, path, {"kept": Any}, name="store")
            async with Database.of(runtime).transaction() as tx:
                tx.put("kept", "a", value)
        async with Runtime(reports=False) as runtime:
            with contextlib.suppress(StartError):
                await runtime.spawn(Store, path, types, name="store")
            opened = runtime.whereis("store") is not None
            assert (dict(Database.of(runtime).table("kept").items())["a"] if opened else None) == found
    assert RUN == []


def test_a_letter_is_a_message_or_nothing() -> None:
    """Whatever class it names."""
    for kind in ("tests.house.test_threat_model:ran", "os:system", "builtins:dict", "subprocess:Popen"):
        RUN.clear()
        letter = Letter("to", kind, msgspec.msgpack.encode({}), "", 1, 0.0)
        with pytest.raises(NotTransferable, match="is no Message and no Request"):
            _ = letter.message
        assert RUN == []


class Ask(Request[list[Any]], frozen=True):
    """Who are you?"""


class Tells(Actor):
    """Tells what an isolated process can see."""

    isolation = "process"

    @handle
    def ask(self, request: Ask) -> list[Any]:
        """Tell it."""
        return [os.getuid(), os.environ.get("THREAT_MODEL"), str(Path.cwd())]


async def test_an_isolated_process_is_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREAT_MODEL", "sees it")
    monkeypatch.syspath_prepend(str(ROOT))
    async with Runtime(reports=False) as runtime:
        found = await (await runtime.spawn(Tells)).call(Ask(), timeout=30.0)
    assert found == [os.getuid(), "sees it", str(Path.cwd())]


def test_what_a_language_model_says_is_text() -> None:
    """An adapter makes values of it, of the types of the signature."""
    said = "__import__('os').system('true')"

    class Says(ScriptedEngine):
        def answer(self, messages: Any) -> str:
            return f"[[ ## label ## ]]\n{said}\n\n[[ ## completed ## ]]"

    with dspy.context(lm=scripted_lm(Says({})), adapter=dspy.ChatAdapter()):
        assert dspy.Predict("text -> label")(text="x").label == said
        with pytest.raises(dspy.AdapterParseError):
            dspy.Predict("text -> label: int")(text="x")
