"""The page about the architecture shows the rooms that there are."""

from __future__ import annotations

import re

import pytest

from tests.house.architecture import BESIDE, PACKAGES, PAGE, ROOT, circles, drawn, reduced, rooms

#: Who starts an actor in a process of its own loads that side of the kernel then, and not with `import supervision`.
CIRCLES = {"supervision": [frozenset({"_core", "isolation", "runtime", "actor"})]}


def test_the_pictures_are_drawn_from_the_code() -> None:
    page = PAGE.read_text()
    assert page == drawn(page), "run `make docs`"
    assert all(f"<!-- rooms of {package} -->" in page for package in PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_its_line_and_every_line_a_room(package: str) -> None:
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"`{package}`")]
    rows = [line[1:].split("|")[0] for line in text.splitlines() if line.startswith("| `")]
    named = {room for row in rows for room in re.findall(r"`(\w+)`", row)}
    assert named - BESIDE == rooms(package).keys()


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_do_not_import_each_other_in_circles_but_for_one_that_is_known(package: str) -> None:
    assert circles(rooms(package)) == CIRCLES.get(package, [])


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:supervision|foundation|agents|bridge|dspex)/[\w/]+\.py)`", PAGE.read_text())
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_follows_from_other_arrows_is_left_out_but_for_circles() -> None:
    graph = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset(), "x": frozenset("yc"), "y": frozenset("x")}
    assert reduced(graph) == {**graph, "a": frozenset("b")}
    assert circles(graph) == [frozenset("xy")]
