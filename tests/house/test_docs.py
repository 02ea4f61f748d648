"""What the documents say holds: their examples run, and their links lead somewhere."""

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)|<a href=\"([^\"]+)\"", re.MULTILINE)

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


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


@each_document
def test_every_python_example_is_python_and_does_what_it_shows(document: Path) -> None:
    """Sessions (``>>>``) are run, one after the other in one namespace; programs are at least compiled."""
    text = document.read_text()
    examples: list[doctest.Example] = []
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start(3))
        if fence[2] == "pycon" or (fence[2] == "python" and ">>> " in fence[3]):
            session = doctest.DocTestParser().get_examples(fence[3])
            for example in session:
                example.lineno += line
            examples += session
        elif fence[2] == "python":
            compile("\n" * line + fence[3], str(document), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    test = doctest.DocTest(examples, {}, document.name, str(document), 0, text)
    outcome: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=outcome.append)
    assert not outcome, "".join(outcome)
