"""Tree files: what they may say, and what is said about those that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foundation.tree import Tree, TreeError, load_tree
from foundation.tree.imports import argument_warnings, check_arguments
from supervision import Backoff, ChildSpec, DynamicSupervisor, Supervisor
from tests.foundation import parts
from tests.foundation.parts import Picky, Worker

PARTS = "tests.foundation.parts"


def written(folder: Path, text: str) -> Path:
    file = folder / "shop.toml"
    file.write_text(text.replace("PARTS", PARTS))
    return file


def test_a_file_says_all_that_a_child_specification_can_say(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        id = "app"
        strategy = "rest_for_one"
        max_restarts = 7
        max_seconds = 3
        auto_shutdown = "any_significant"
        [[children]]
        id = "a"
        start = "PARTS:Worker"
        args = [1, ["${host}", "b"]]
        kwargs = { port = "${port}", deep = { own = "${own}" } }
        restart = "transient"
        shutdown = "brutal_kill"
        significant = true
        name = "worker"
        backoff = { initial = 0.5, maximum = 4.0, factor = 3.0, jitter = 0.0 }
        [[children]]
        id = "b"
        shutdown = 2.5
        [[children.children]]
        id = "c"
        start = "PARTS:Picky"
        args = [1]
        """,
    )
    tree = load_tree(str(file), values={"port": 1, "own": True})
    a, b = tree.root.kwargs["children"]
    assert tree.root.kwargs == {
        "children": [a, b],
        "strategy": "rest_for_one",
        "max_restarts": 7,
        "max_seconds": 3,
        "auto_shutdown": "any_significant",
    }
    assert a == ChildSpec(
        "a",
        Worker,
        args=(1, ["127.0.0.1", "b"]),
        kwargs={"port": 1, "deep": {"own": True}},
        restart="transient",
        shutdown="brutal_kill",
        significant=True,
        name="worker",
        backoff=Backoff(0.5, 4.0, 3.0, 0.0),
    )
    assert (b.id, b.start, b.shutdown, b.type) == ("b", Supervisor, 2.5, "supervisor")
    assert [(path, spec.start) for path, spec in tree.outline()] == [
        ("/app", Supervisor),
        ("/app/a", Worker),
        ("/app/b", Supervisor),
        ("/app/b/c", Picky),
    ]
    assert tree.source == str(file)


def test_a_file_without_an_id_is_called_after_the_file(tmp_path: Path) -> None:
    assert load_tree(written(tmp_path, "")).id == "shop"


def test_children_may_come_from_a_function(tmp_path: Path) -> None:
    tree = load_tree(written(tmp_path, 'children = "PARTS:two"'))
    assert [path for path, _ in tree.outline()] == ["/shop", "/shop/a", "/shop/Worker"]


def test_a_dynamic_supervisor_may_begin_with_children(tmp_path: Path) -> None:
    tree = load_tree(
        written(
            tmp_path,
            """
            [[children]]
            id = "d"
            dynamic = true
            max_children = 3
            [[children.children]]
            id = "w"
            start = "PARTS:Worker"
            """,
        )
    )
    (spec,) = tree.root.kwargs["children"]
    assert (spec.start, spec.kwargs["max_children"]) == (DynamicSupervisor, 3)
    assert [path for path, _ in tree.outline()] == ["/shop", "/shop/d", "/shop/d/w"]


CHILD = '[[children]]\nid = "a"\n'
WORKER = CHILD + 'start = "PARTS:Worker"\n'


@pytest.mark.parametrize(
    ("text", "key", "value", "remedy"),
    [
        ("strategie = 1", "strategie", 1, "there is no such key (did you mean 'strategy'?)"),
        ("q = 1", "q", 1, "there is no such key; choose from strategy, max_restarts"),
        ('strategy = "one_for_tow"', "strategy", "one_for_tow", "choose one of one_for_one, one_for_all, rest_for_one"),
        ("max_restarts = 1.5", "max_restarts", 1.5, "give a whole number, 0 or more"),
        ("max_restarts = -1", "max_restarts", -1, "give a whole number, 0 or more"),
        ("max_seconds = 0.0", "max_seconds", 0.0, "more than 0"),
        ("children = 7", "children", 7, "write [[children]] tables"),
        ('children = "PARTS:seven"', "children", f"{PARTS}:seven", "it must return a list of child specifications"),
        ('children = "PARTS:NUMBER"', "children", f"{PARTS}:NUMBER", "this is no function but 7"),
        ('children = "PARTS:burning"', "children", f"{PARTS}:burning", "it raised ValueError: it burns"),
        ('children = "PARTS:twice"', "children", f"{PARTS}:twice", "Worker"),
        ('[[children]]\nstart = "a:b"', "child #1: id", None, "is missing; give a string"),
        ("[[children]]\nid = 7", "child #1: id", 7, "give a string"),
        (CHILD, "child a: start", None, "is missing; give an import path: package.module:attribute, or children"),
        (CHILD + 'start = "os"', "child a: start", "os", "write package.module:attribute"),
        (CHILD + 'start = "os:"', "child a: start", "os:", "write package.module:attribute"),
        (CHILD + 'start = "os:gone"', "child a: start", "os:gone", "os has no gone"),
        (CHILD + 'start = "PARTS:Workr"', "child a: start", f"{PARTS}:Workr", "(did you mean 'Worker'?)"),
        (CHILD + 'start = "PARTS:NUMBER"', "child a: start", 7, "give an Actor class, or a function"),
        (CHILD + 'start = "PARTS:Picky"', "child a: start", f"{PARTS}:Picky", "it takes (first: "),
        (WORKER + "argz = 1", "child a: argz", 1, "(did you mean 'args'?)"),
        (WORKER + "args = 1", "child a: args", 1, "give a list"),
        (WORKER + 'args = [["${prot}"]]', "child a: args", "${prot}", "${state} (did you mean 'port'?)"),
        (WORKER + 'kwargs = { x = "${}" }', "child a: kwargs.x", "${}", "choose from ${host}, ${port}"),
        (WORKER + 'restart = "alwayz"', "child a: restart", "alwayz", "choose one of permanent, transient"),
        (WORKER + 'shutdown = "soon"', "child a: shutdown", "soon", "give seconds, or one of brutal_kill"),
        (WORKER + "shutdown = -1", "child a: shutdown", -1.0, "give seconds from 0"),
        (WORKER + "significant = true", "child a: significant", True, "a permanent child cannot be significant"),
        (
            WORKER + 'significant = true\nrestart = "temporary"',
            "significant",
            True,
            "needs a supervisor with auto_shutdown",
        ),
        (WORKER + "backoff = 1", "child a: backoff", 1, "give a table"),
        (WORKER + "backoff = { initil = 1 }", "child a: backoff.initil", 1, "(did you mean 'initial'?)"),
        (WORKER + "backoff = { jitter = 2.0 }", "child a: backoff", None, "jitter at most 1"),
        (
            WORKER + "max_restarts = 1",
            "child a: max_restarts",
            1,
            "and this child has a start: remove one",
        ),
        (CHILD + "children = []\nargs = [1]", "child a: args", [1], "belongs to a start, and this child is a superv"),
        (CHILD + "children = []\nmax_children = 1", "child a: max_children", 1, "to one with dynamic = true: remove"),
        (
            CHILD + 'dynamic = true\nstrategy = "one_for_one"',
            "child a: strategy",
            "one_for_one",
            "not to a dynamic one",
        ),
        (CHILD + "dynamic = true\nmax_children = -1", "child a: max_children", -1, "0 or more"),
        (WORKER + WORKER, "id", "a", "this id stands twice"),
        (
            WORKER + 'name = "n"\n' + WORKER.replace('"a"', '"b"') + 'name = "n"',
            "/shop/b: name",
            "n",
            "/shop/a has this name already",
        ),
        (
            CHILD + "[[children.children]]\n" + 'id = "b"\nstart = "PARTS:gone"',
            "child a/b: start",
            f"{PARTS}:gone",
            "has no gone",
        ),
        (CHILD + "[[children.children]]\nid = 1", "child a/#1: id", 1, "give a string"),
        (WORKER + "requires = [7]", "child a: requires", 7, "give a list of modules"),
        (WORKER + 'requires = ["PARTS:burning"]', "child a: requires", f"{PARTS}:burning", "it raised ValueError"),
    ],
)
def test_what_is_wrong_is_named_with_its_key_its_value_and_a_remedy(
    tmp_path: Path, text: str, key: str, value: Any, remedy: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(TreeError) as caught:
        load_tree(file)
    error = caught.value
    line = str(error)
    assert "\n" not in line
    assert line.startswith(str(file))
    assert key in error.key
    if value is not None:
        assert error.value == value or repr(value) in repr(error.value)
    assert remedy in line


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match=r"gone\.toml: no such file; give a TOML file or package"):
        load_tree(tmp_path / "gone.toml")
    with pytest.raises(TreeError, match="cannot be read: Is a directory"):
        load_tree(str(tmp_path))
    with pytest.raises(TreeError, match=r"this is not TOML: .*line 1"):
        load_tree(written(tmp_path, "= ="))
    file = tmp_path / "latin.toml"
    file.write_bytes(b'id = "\xff"')
    with pytest.raises(TreeError, match="this is not TOML"):
        load_tree(file)


def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_shop.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TreeError, match="broken_shop cannot be imported: ZeroDivisionError"):
        load_tree(written(tmp_path, CHILD + 'start = "broken_shop:X"'))


# -- optional parts --------------------------------------------------------------------------------------


OPTIONAL = WORKER + "optional = true\n"


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        (OPTIONAL + 'requires = ["no_such_module"]', "no_such_module is not installed", ""),
        (OPTIONAL + 'requires = ["no.such.module"]\ninstall = "get it"', "no.such.module is not installed", "get it"),
        (OPTIONAL + 'requires = ["PARTS:moon"]\ninstall = "x"', "there is no moon", "wait for night"),
        (CHILD + 'optional = true\nstart = "no_such_module:X"', "No module named 'no_such_module'", ""),
        (CHILD + 'optional = true\nchildren = "PARTS:moon"', "there is no moon", "wait for night"),
    ],
)
def test_an_optional_part_that_cannot_run_here_is_left_out_and_said_in_one_line(
    tmp_path: Path, text: str, why: str, remedy: str
) -> None:
    tree = load_tree(written(tmp_path, text + "\n" + WORKER.replace('"a"', '"b"')))
    (part,) = tree.left_out
    assert (part.path, part.why, part.remedy) == ("/shop/a", why, remedy)
    assert str(part) == f"/shop/a is left out: {why}" + (f"; run: {remedy}" if remedy else "")
    assert [path for path, _ in tree.outline()] == ["/shop", "/shop/b"]


def test_an_optional_part_that_can_run_here_is_there(tmp_path: Path) -> None:
    tree = load_tree(written(tmp_path, OPTIONAL + 'requires = ["json", "PARTS:sun"]'))
    assert [path for path, _ in tree.outline()] == ["/shop", "/shop/a"]
    assert tree.left_out == ()


def test_a_part_that_is_not_optional_and_cannot_run_here_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match=r"child a: json7 is not installed; run: pip install json7"):
        load_tree(written(tmp_path, WORKER + 'requires = ["json7"]\ninstall = "pip install json7"'))


def test_what_a_missing_part_is_in_makes_that_optional_part_absent(tmp_path: Path) -> None:
    tree = load_tree(
        written(tmp_path, CHILD + 'optional = true\n[[children.children]]\nid = "b"\nstart = "no_such_module:X"')
    )
    assert [part.path for part in tree.left_out] == ["/shop/a"]


def test_parts_can_be_done_without(tmp_path: Path) -> None:
    text = WORKER + CHILD.replace('"a"', '"s"') + '[[children.children]]\nid = "w"\nstart = "PARTS:Worker"\n'
    file = written(tmp_path, text)
    assert [path for path, _ in load_tree(file, without=["a", "s/w"]).outline()] == ["/shop", "/shop/s"]
    with pytest.raises(TreeError, match=r"without = 's/x': there is no such part .*did you mean 's/w'"):
        load_tree(file, without=["s/x"])


# -- trees from elsewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "outline"),
    [
        ("ROOT", ["/root", "/root/Worker"]),
        ("READY", ["/root", "/root/Worker"]),
        ("MAPPING", ["/m", "/m/w"]),
        ("two", ["/two", "/two/a", "/two/Worker"]),
        ("Nested.CHILDREN", ["/children", "/children/a", "/children/Worker"]),
        ("CUSTOM", ["/Supervisor"]),
    ],
)
def test_an_import_path_may_lead_to_anything_that_makes_a_tree(path: str, outline: list[str]) -> None:
    tree = load_tree(f"{PARTS}:{path}")
    assert [place for place, _ in tree.outline()] == outline


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (f"{PARTS}:gone", "has no gone"),
        ("no_such_module:x", "No module named 'no_such_module'"),
        (f"{PARTS}:NUMBER", "= 7: give a Tree, a ChildSpec"),
        (f"{PARTS}:Worker", "this is no supervisor"),
        (f"{PARTS}:burning", "it raised ValueError: it burns"),
        (f"{PARTS}:moon", "there is no moon; run: wait for night"),
        (f"{PARTS}:twice", "Worker"),
        (7, "give a Tree"),
    ],
)
def test_an_import_path_that_leads_to_no_tree_is_named(source: Any, problem: str) -> None:
    with pytest.raises(TreeError) as caught:
        load_tree(source)
    assert problem in str(caught.value)


def test_a_mapping_with_a_key_that_is_no_string_is_named() -> None:
    with pytest.raises(TreeError, match=r"child a: kwargs = \{1: 2\}: give a table"):
        load_tree({"children": [{"id": "a", "start": "x:y", "kwargs": {1: 2}}]})


def test_only_parts_of_a_file_can_be_done_without() -> None:
    with pytest.raises(TreeError, match="only parts of a tree file"):
        load_tree(parts.two(), without=["a"])


def test_a_supervisor_that_lists_its_children_in_a_way_of_its_own_shows_none() -> None:
    tree = Tree("own", ChildSpec("own", Supervisor, args=(iter(()),)))
    assert [path for path, _ in tree.outline()] == ["/own"]


def test_a_function_that_does_not_say_what_it_takes_is_not_checked() -> None:
    check_arguments(dict, (), {})
    check_arguments(7, (), {})
    check_arguments(lambda: None, (), {})
    assert argument_warnings(lambda: None, (), {}) == []


def test_a_placeholder_can_be_a_part_of_a_text_and_alone_keeps_its_type(tmp_path: Path) -> None:
    file = written(tmp_path, WORKER + 'kwargs = { a = "${state}/x-${port}", b = "${port}", c = "$port" }')
    (worker,) = load_tree(file, values={"state": "/s", "port": 7}).root.kwargs["children"]
    assert worker.kwargs == {"a": "/s/x-7", "b": 7, "c": "$port"}
