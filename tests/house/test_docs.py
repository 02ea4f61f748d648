"""What the documents say holds: programs run, trees can be built, commands exist, links lead somewhere."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from foundation import load_tree

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)|<a href=\"([^\"]+)\"", re.MULTILINE)
SHOWN = re.compile(r"^ *print\(.*?\)(?:  # (.*))?$", re.MULTILINE)

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(*languages: str) -> list[tuple[Path, int, str]]:
    """Return the code in some languages: where it stands, after which line, and its text."""
    return [
        (document, text.count("\n", 0, fence.start(3)), fence[3])
        for document, text in ((document, document.read_text()) for document in DOCUMENTS)
        for fence in FENCE.finditer(text)
        if fence[2] in languages
    ]


def each_block(*languages: str) -> pytest.MarkDecorator:
    found = blocks(*languages)
    return pytest.mark.parametrize("block", found, ids=[f"{name(path)}:{line + 1}" for path, line, _ in found])


# -- links -------------------------------------------------------------------------------------------------------------


def prose(document: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", document.read_text()))


def anchors(document: Path) -> set[str]:
    """Return the anchors that a Markdown reader gives to the headings of a document."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", document.read_text()), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{n}" if n else slug for slug, last in found.items() for n in range(last + 1)}


def broken_links(document: Path) -> Iterator[str]:
    for groups in LINK.findall(prose(document)):
        link = "".join(groups)
        if re.match(r"\w+:", link):
            continue  # the world outside; no test depends on it
        place, _, anchor = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield link


@each_document
def test_every_link_to_a_file_or_a_heading_leads_there(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_every_document_is_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    waiting = list(reached)
    while waiting:
        document = waiting.pop()
        links = ("".join(groups).partition("#")[0] for groups in LINK.findall(prose(document)))
        targets = {(document.parent / link).resolve() for link in links if link.endswith(".md") and ":" not in link}
        waiting += targets - reached
        reached |= targets
    assert [name(document) for document in DOCUMENTS if document not in reached] == []


# -- programs and trees ------------------------------------------------------------------------------------------------


def shows(comment: str, line: str) -> bool:
    """Return whether a comment shows a line: with ``…`` for anything, and perhaps with a remark after it."""
    anything = ".*".join(re.escape(part) for part in comment.split("…"))
    return re.fullmatch(anything, line) is not None or re.fullmatch(re.escape(line) + "[,:] .*", comment) is not None


@each_block("python")
def test_every_program_runs_and_prints_what_its_comments_say(
    block: tuple[Path, int, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ``print`` says in a comment what it prints; the prints stand in the order in which they are run."""
    document, line, source = block
    module = ModuleType("shown_in_a_document")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile("\n" * line + source, str(document), "exec"), vars(module))
    printed, expected = capsys.readouterr().out.splitlines(), SHOWN.findall(source)
    assert len(printed) == len(expected), printed
    assert [(shown, line) for shown, line in zip(expected, printed, strict=True) if not shows(shown, line)] == []


@each_block("toml")
def test_every_tree_can_be_built(block: tuple[Path, int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the module of their own that readers are told to write, ``shop``."""
    shop = ModuleType("shop")
    vars(shop).update(triage=lambda: None, redact=lambda record: record)
    monkeypatch.setitem(sys.modules, "shop", shop)
    _, _, source = block
    file = tmp_path / "tree.toml"
    file.write_text(source)
    assert len(list(load_tree(file).outline())) > 1


# -- commands ----------------------------------------------------------------------------------------------------------


#: The modules that are told in documents how to run, and can be asked for their options.
PROGRAMS = ("foundation.run", "bench", "dspex.evaluate", "dspex.optimise", "dspex.rollout", "agents.outbox")
OPTION = re.compile(r"--[a-z][a-z-]*")


def commands() -> list[tuple[str, str]]:
    """Return what a reader might type, in a console or in a line of prose: in which document, and the words."""
    typed = [
        (name(path), words)
        for path, _, text in blocks("console")
        for words in re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    ]
    quoted = [
        (name(document), words)
        for document in DOCUMENTS
        for words in re.findall(r"`([^`\n]+)`", FENCE.sub("", document.read_text()))
    ]
    return typed + quoted


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of each program, as its help has them."""
    helps = {
        module: subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        for module in PROGRAMS
    }
    return {module: set(OPTION.findall(told)) for module, told in helps.items()}


def test_every_option_in_a_document_is_in_the_help_of_its_program(options: dict[str, set[str]]) -> None:
    """An option that stands alone is one of any program."""
    shown, unknown = set(), []
    for where, words in commands():
        module = next((module for module in PROGRAMS if f"python -m {module}" in words), None)
        if module is not None or words.startswith("--"):
            known = options[module] if module is not None else set().union(*options.values())
            shown |= {(module, option) for option in OPTION.findall(words)}
            unknown += [(where, words, option) for option in OPTION.findall(words) if option not in known]
    assert {("foundation.run", "--check"), ("foundation.run", "--help"), (None, "--port")} <= shown
    assert unknown == []


def test_every_variable_of_the_runner_in_a_document_is_one_of_its_options(options: dict[str, set[str]]) -> None:
    shown = {(where, words) for where, words in commands() if words.startswith("FOUNDATION_")}
    known = {"FOUNDATION_" + option[2:].replace("-", "_").upper() for option in options["foundation.run"]}
    assert "FOUNDATION_PORT" in {variable for _, variable in shown}
    # The tree is an argument without a name, names and values are given one by one, and a token never as an argument.
    known |= {"FOUNDATION_TREE", "FOUNDATION_ALLOW_HOSTS", "FOUNDATION_VALUES", "FOUNDATION_TOKEN"}
    assert sorted((where, variable) for where, variable in shown if variable not in known) == []


def test_every_target_of_make_in_a_document_is_in_the_makefile() -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {(where, found[1]) for where, words in commands() if (found := re.match(r"make ([a-z]+)", words))}
    assert {"run", "test"} <= {target for _, target in shown}
    assert sorted((where, target) for where, target in shown if target not in known) == []


def test_every_module_that_a_document_runs_can_be_run() -> None:
    shown = {(where, module) for where, words in commands() for module in re.findall(r"python -m ([\w.]+)", words)}
    assert ("README.md", "foundation.run") in shown

    def runs(module: str) -> bool:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations:
            spec = importlib.util.find_spec(f"{module}.__main__")
        return spec is not None

    assert sorted((where, module) for where, module in shown if not runs(module)) == []


def test_the_chaos_test_in_the_documents_is_the_one_that_runs() -> None:
    text = (ROOT / "tests/agents/test_triage_desk.py").read_text()
    assert [text] == [code for path, _, code in blocks("python") if "triage_desk" in code and "def test_" in code]


def test_every_path_of_the_project_in_a_document_is_there() -> None:
    shown = {(where, words) for where, words in commands() if re.fullmatch(r"(\w+/)+\w+\.(py|toml|md)", words)}
    assert ("docs/tutorial.md", "examples/counters.py") in shown
    assert sorted((where, path) for where, path in shown if not (ROOT / path).exists()) == []
