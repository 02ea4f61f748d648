"""The tool that renames a user's code changes what was renamed, and nothing else."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

from tests.house.rename import Table, main, rename_document, rename_folder, rename_python, rename_text

HERE = Path(__file__).parent

TABLE = Table(
    modules={"foundation.door": "foundation.http.listener", "supervision.turns": "supervision.dispatch"},
    names={
        "foundation.door:Door": "foundation.http.listener:Listener",
        "foundation.door:knock": "foundation.visits:knock",
        "foundation:Door": "foundation:Listener",
        "supervision:look": "supervision.administration:which",
        "supervision.turns:HeldBack": "supervision.dispatch:Postponed",
    },
    members={"foundation:Door.enter": "listen", "foundation:Door.width": "backlog"},
    strings={"foundation_doors_open": "foundation_listeners_open"},
)


def renamed(code: str, module: str | None = None) -> str:
    after, unsure = rename_python(TABLE, code, module)
    assert unsure == []
    ast.parse(after)
    return after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from foundation import Door", "from foundation import Listener"),
        ("from foundation import Door as Door", "from foundation import Listener as Listener"),
        ("from foundation import Door as D\nD()", "from foundation import Listener as D\nD()"),
        (
            "from foundation.door import Door\nx = Door.y",
            "from foundation.http.listener import Listener\nx = Listener.y",
        ),
        ("from foundation import door\ndoor.Door()", "from foundation.http import listener\nlistener.Listener()"),
        (
            "import foundation.door\nfoundation.door.Door()",
            "import foundation.http.listener\nfoundation.http.listener.Listener()",
        ),
        ("import foundation.door as d\nd.Door()", "import foundation.http.listener as d\nd.Listener()"),
        (
            "from supervision import Ref, look\nlook()",
            "from supervision import Ref\nfrom supervision.administration import which\nwhich()",
        ),
        ("import supervision as s\ns.look()", "import supervision as s\ns.administration.which()"),
        ("from supervision.turns import *", "from supervision.dispatch import *"),
    ],
)
def test_imports_and_what_they_bind_are_renamed(before: str, after: str) -> None:
    assert renamed(before) == after


def test_an_import_within_a_function_is_split_with_its_indentation() -> None:
    assert renamed("def f():\n    from supervision import Ref, look\n    look()\n") == (
        "def f():\n    from supervision import Ref\n    from supervision.administration import which\n    which()\n"
    )


@pytest.mark.parametrize(
    "code",
    [
        "class Door: ...\nDoor()",
        "from elsewhere import Door\nDoor()",
        "from supervision import look\n".replace("look", "Ref") + "def look(): ...\nlook()",
        "import door\ndoor.Door()",
        "x.door.Door, x.look",
        "text = 'Door, look and a foundation_doors_opened'",
    ],
)
def test_what_only_looks_like_a_renamed_name_stays(code: str) -> None:
    assert renamed(code) == code


def test_a_parameter_or_a_variable_of_the_same_name_stays_what_it_is() -> None:
    code = "from supervision import look\ndef f(look, *, door):\n    return look, door\n"
    code += "def g():\n    look = 1\n    return look\nlook()\n"
    code += "class C:\n    look: int = look()\n    def m(self): return look\n"
    after = renamed(code)
    assert "class C:\n    look: int = look()\n    def m(self): return which\n" in after
    assert "def f(look, *, door):\n    return look, door\n" in after
    assert "    look = 1\n    return look\nwhich()\n" in after


def test_names_in_annotations_decorators_defaults_and_formatted_strings_are_renamed() -> None:
    after = renamed(
        "from foundation import Door\n@Door\nasync def f(x: Door = Door(), *y: Door) -> Door:\n"
        "    return f'{Door} and {Door.x!r} Door'\n"
    )
    assert after == (
        "from foundation import Listener\n@Listener\nasync def f(x: Listener = Listener(), *y: Listener) -> Listener:\n"
        "    return f'{Listener} and {Listener.x!r} Door'\n"
    )


def test_letters_of_more_than_one_byte_do_not_shift_what_is_changed() -> None:
    assert renamed("from foundation import Door\nx = '… é 😀', Door  # …\n") == (
        "from foundation import Listener\nx = '… é 😀', Listener  # …\n"
    )


def test_a_definition_is_renamed_in_its_own_module() -> None:
    code = "class Door:\n    def open(self) -> Door: ...\n\nDoor()\n"
    assert renamed(code, "foundation.door") == "class Listener:\n    def open(self) -> Listener: ...\n\nListener()\n"


def test_paths_in_strings_and_comments_are_renamed() -> None:
    after = renamed(
        "x = 'foundation.door:Door', 'foundation.door.Door.open', 'my.foundation.door'  # see foundation.door\n"
    )
    assert after == (
        "x = 'foundation.http.listener:Listener', 'foundation.http.listener.Listener.open', 'my.foundation.door'"
        "  # see foundation.http.listener\n"
    )


def test_prose_changes_where_a_name_is_marked_as_code_or_is_no_word() -> None:
    after = renamed(
        "from supervision.turns import HeldBack\nfrom foundation import Door\n\n# Door: a `Door`, and HeldBack\n"
    )
    assert after.endswith("# Door: a `Listener`, and Postponed\n")


def test_names_of_patches_are_renamed() -> None:
    assert renamed("from foundation import door\nmonkeypatch.setattr(door, 'Door', 1)\nsetattr(x, 'Door', 1)\n") == (
        "from foundation.http import listener\nmonkeypatch.setattr(listener, \"Listener\", 1)\nsetattr(x, 'Door', 1)\n"
    )


def test_what_cannot_be_said_through_the_same_import_is_told() -> None:
    after, unsure = rename_python(TABLE, "from foundation import door\ndoor.knock()\n")
    assert after == "from foundation.http import listener\ndoor.knock()\n"
    assert unsure == [
        "line 2: foundation.door.knock is foundation.visits.knock now, which is not in foundation.http.listener"
    ]


def test_members_are_renamed_where_the_class_is_known() -> None:
    code = (
        "import foundation\nfrom foundation import Door\nclass Mine(Door):\n    width = 1\n"
        "    async def enter(self): ...\n"
        "class Other:\n    def enter(self): ...\nDoor(width=3), foundation.Door(1, width=4), Other(width=5)\n"
    )
    assert renamed(code) == (
        "import foundation\nfrom foundation import Listener\nclass Mine(Listener):\n    width = 1\n"
        "    async def listen(self): ...\nclass Other:\n    def enter(self): ...\n"
        "Listener(backlog=3), foundation.Listener(1, backlog=4), Other(width=5)\n"
    )


def test_members_of_what_is_not_known_are_told_in_files_that_use_the_library() -> None:
    after, unsure = rename_python(TABLE, "from foundation import Door\nx.enter()\n")
    assert after == "from foundation import Listener\nx.enter()\n"
    assert unsure == ["line 2: if .enter is Door.enter, it is .listen now"]
    assert rename_python(TABLE, "x.enter()\n") == ("x.enter()\n", [])


def test_a_document_is_one_program() -> None:
    page = (
        "Use a `Door`.\n\n```python\nfrom foundation import Door\n```\n\nA Door:\n\n"
        "```python\nDoor()\n```\n\nAnd `door.Door` x.\n"
    )
    after, unsure = rename_document(TABLE, page)
    assert unsure == []
    assert after == (
        "Use a `Listener`.\n\n```python\nfrom foundation import Listener\n```\n\nA Door:\n\n"
        "```python\nListener()\n```\n\nAnd `door.Door` x.\n"
    )


def test_trees_and_other_files_have_their_paths_and_strings_renamed() -> None:
    text = 'start = "foundation.door:Door"\nexpr: rate(foundation_doors_open[5m])\n'
    assert (
        rename_text(TABLE, text, {})
        == 'start = "foundation.http.listener:Listener"\nexpr: rate(foundation_listeners_open[5m])\n'
    )


def test_a_folder_is_renamed_but_for_what_is_hidden_and_what_is_no_text(tmp_path: Path) -> None:
    files = {
        "a/b.py": "from foundation import Door\n",
        "c.toml": 'x = "foundation.door"\n',
        ".git/d.py": "import foundation.door\n",
    }
    for name, text in {**files, "e.bin": "foundation.door"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [path.name for path, _ in rename_folder(TABLE, tmp_path)] == ["b.py", "c.toml"]
    assert (tmp_path / "a/b.py").read_text() == "from foundation import Listener\n"
    assert (tmp_path / ".git/d.py").read_text() == files[".git/d.py"]
    assert list(rename_folder(TABLE, tmp_path)) == []


def test_the_table_leads_from_names_that_are_gone_to_names_that_are_there() -> None:
    table = tomllib.loads((HERE / "renames.toml").read_text())
    for old, new in table["names"].items():
        module, _, name = new.partition(":")
        assert hasattr(importlib.import_module(module), name), f"{old} is said to be {new}"
    for new in table["modules"].values():
        importlib.import_module(new)


def test_the_command_says_what_it_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "user.py").write_text("x = 1\n")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nowhere")])
    assert "there is no" in capsys.readouterr().err
