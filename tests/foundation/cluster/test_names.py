"""Names: their keys, and the table of all of them."""

from __future__ import annotations

import re

import msgspec
import pytest

from foundation.cluster.names import NameEntry, NameTable, key_of, name_in
from foundation.cluster.port import Entry


def entry(revision: int, epoch: int = 1, actor: int = 5, key: str = "name.till") -> Entry:
    return Entry(key, msgspec.msgpack.encode(NameEntry(epoch, "c", "a", 1, actor)), revision)


@pytest.mark.parametrize("name", ["till", "till/1", "näme", "a.b", "..", "*", ">", "a b", "=41", "=", "x" * 200, "🦀"])
def test_any_name_has_a_key_of_plain_characters_and_comes_back_from_it(name: str):
    assert re.fullmatch(r"name\.[A-Za-z0-9_=-]+", key_of(name))
    assert name_in(key_of(name)) == name


def test_the_table_takes_what_is_newer_and_nothing_else():
    table = NameTable()
    table.loaded([entry(3, 2), Entry("cluster", b"x", 1)])
    assert table.changed(entry(2, 1)) is None
    assert table.changed(entry(3, 2)) is None
    assert table.changed(Entry("name.till", None, 9)) is None
    assert table.names["till"].epoch == 2
    changed = table.changed(entry(4, 3, 0))
    assert changed is not None
    assert changed.free
    assert table.names["till"] == changed
    assert set(table.names) == {"till"}


def test_a_load_replaces_everything():
    table = NameTable()
    table.loaded([entry(9)])
    table.loaded([entry(2, key="name.other")])
    assert set(table.names) == {"other"}


def test_who_holds_a_name():
    held = NameEntry(1, "c", "a", 1, 5)
    assert held.held_by("a", 1)
    assert not held.held_by("a", 2)
    assert not msgspec.structs.replace(held, actor=0).held_by("a", 1)
