"""The file of a store says what it is, is brought up to date, and tells what it has lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.store import (
    Disk,
    JournalDamaged,
    NewerFormat,
    NotAStore,
    NotWritten,
    StoreError,
    StoreLocked,
    StoreUnreachable,
)
from foundation.store.file import StoreFile
from foundation.store.formats import APPLICATION, FORMAT
from foundation.store.keys import decoded_key
from supervision.errors import BadOption

#: Written by the version before formats had numbers: 7 transactions, 4 of them folded, with equal keys.
FORMAT_1 = Path(__file__).parent / "files/store-format-1.db"

encode = msgspec.msgpack.encode


def change(key: Any, value: Any, table: str = "t") -> Any:
    """Return a change of one row."""
    return (table, encode(key), None if value is None else encode(value))


def table(file: StoreFile, name: str = "t") -> dict[Any, Any]:
    """Return a table of an open file as a dictionary."""
    return {decoded_key(key): msgspec.msgpack.decode(value) for key, value in file.content.rows.get(name, {}).items()}


def sql(path: Path, *statements: str) -> None:
    """Do something to a file behind the store's back."""
    database = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with twelve transactions, ten of them folded."""
    path = tmp_path / "store" / "x.db"
    file = StoreFile(path, fold_after=5)
    for n in range(12):
        file.append([[change(n, f"v{n}")]])
    file.close()
    return path


# -- what it is --------------------------------------------------------------------------------------------------------


def test_a_file_says_whose_it_is_and_of_which_format(path: Path) -> None:
    head = path.read_bytes()[:100]
    assert int.from_bytes(head[68:72], "big") == APPLICATION
    assert int.from_bytes(head[60:64], "big") == FORMAT


def test_files_and_folders_that_are_made_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "x.db"
    old = os.umask(0o022)
    try:
        file = StoreFile(path)
        file.append([[change(1, 1)]])
        for made in path.parent.iterdir():
            assert stat.S_IMODE(made.stat().st_mode) == 0o600, made
        file.back_up(path.with_name("copy.db"))
    finally:
        os.umask(old)
    file.close()
    assert stat.S_IMODE(path.with_name("copy.db").stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700] * 2


FOREIGN = {
    "another application's": ["CREATE TABLE journal(a, b)"],
    "another application's with a number": ["CREATE TABLE x(a)", "PRAGMA application_id = 7"],
    "another version of another application": ["CREATE TABLE x(a)", "PRAGMA user_version = 3"],
    "in another mode": ["PRAGMA journal_mode = WAL", "CREATE TABLE x(a)"],
}


@pytest.mark.parametrize("damaged", ["refuse", "cut"])
@pytest.mark.parametrize("what", FOREIGN)
def test_the_database_of_another_application_is_refused_untouched(tmp_path: Path, what: str, damaged: Any) -> None:
    path = tmp_path / "x.db"
    sql(path, *FOREIGN[what])
    before = everything(tmp_path)
    with pytest.raises(NotAStore, match=r"and was not touched: give the store a file of its own"):
        StoreFile(path, damaged=damaged)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("content", [b"x", b"hello, world" * 50, b"SQLite format 3\0"])
def test_what_is_no_database_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(NotAStore, match="it is no SQLite database"):
        StoreFile(tmp_path / "x.db")
    assert everything(tmp_path) == {"x.db": content}


def test_an_empty_file_and_an_empty_database_become_stores(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    sql(tmp_path / "vacuum.db", "VACUUM")
    for name in ("empty.db", "vacuum.db"):
        file = StoreFile(tmp_path / name)
        file.append([[change(1, "one")]])
        file.close()
        again = StoreFile(tmp_path / name)
        assert table(again) == {1: "one"}
        again.close()


def test_a_later_format_is_refused_untouched(path: Path) -> None:
    sql(path, "PRAGMA user_version = 9999")
    before = everything(path.parent)
    with pytest.raises(NewerFormat, match=r"has format 9999, .*up to 2; it was not touched: use the version") as caught:
        StoreFile(path, damaged="cut")
    assert caught.value.format == 9999
    assert everything(path.parent) == before


def crashed(path: Path, *statements: str) -> None:
    """Leave what statements did in SQLite's log, as a process leaves it that is killed."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    for statement in statements:
        database.execute(statement)
    kept = {part: part.read_bytes() for part in (path, path.with_name(f"{path.name}-wal"))}
    database.close()
    for part, content in kept.items():
        part.write_bytes(content)


@pytest.mark.parametrize(
    ("statements", "error"),
    [
        (["PRAGMA user_version = 9999"], NewerFormat),
        (["PRAGMA application_id = 7"], NotAStore),
        (["PRAGMA application_id = 0", "PRAGMA user_version = 0"], NotAStore),
    ],
)
def test_what_a_file_is_may_stand_in_the_log_only(path: Path, statements: list[str], error: type[StoreError]) -> None:
    crashed(path, *statements)
    with pytest.raises(error):
        StoreFile(path)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE rows",
        "ALTER TABLE rows ADD COLUMN more",
        "ALTER TABLE journal RENAME TO diary",
        "PRAGMA user_version = 1",
    ],
)
def test_a_wrong_layout_is_refused_with_what_helps(path: Path, statement: str) -> None:
    sql(path, statement)
    before = path.read_bytes()
    for damaged in ("refuse", "cut"):
        with pytest.raises(JournalDamaged, match=r"its tables are not those of format \d; restore a backup$"):
            StoreFile(path, damaged=damaged)  # type: ignore[arg-type]
    assert path.read_bytes() == before


def test_a_table_that_somebody_has_added_does_no_harm(path: Path) -> None:
    sql(path, "CREATE TABLE notes(a)", "ANALYZE")
    StoreFile(path).close()


# -- bringing it up to date --------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of the first format."""
    shutil.copy(FORMAT_1, tmp_path / "old.db")
    return tmp_path / "old.db"


#: What is in the file of the first format.
LOG = {1: "newer", 2: "two", ("nested", (1, 1)): "in a tuple"}


def test_a_file_of_the_first_format_is_brought_up_to_date(old: Path) -> None:
    file = StoreFile(old)
    assert (file.content.migrated_from, file.content.sequence, file.content.replayed) == (1, 7, 0)
    assert table(file, "log") == LOG
    assert table(file, "accounts") == {
        ("de", 7): {"owner": "ada", "balance": 100},
        "bob": {"owner": "bob", "balance": 5},
    }
    file.append([[change(2, "two again", "log")]])
    file.close()
    again = StoreFile(old)
    assert (again.content.migrated_from, again.content.sequence) == (None, 8)
    assert table(again, "log") == {**LOG, 2: "two again"}
    again.close()
    assert int.from_bytes(old.read_bytes()[60:64], "big") == FORMAT


def test_what_was_in_the_log_of_an_old_file_is_kept(old: Path) -> None:
    crashed(old, "UPDATE folded SET sequence = sequence")
    file = StoreFile(old)
    assert file.content.migrated_from == 1
    assert table(file, "log") == LOG
    file.close()


def test_an_old_file_whose_process_died_at_once_is_one_too(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    made = sqlite3.connect(FORMAT_1)
    tables = made.execute("SELECT sql FROM sqlite_master").fetchall()
    made.close()
    crashed(path, *(one for (one,) in tables), "INSERT INTO folded VALUES (0, 0)")
    file = StoreFile(path)
    assert (file.content.migrated_from, file.content.sequence) == (1, 0)
    file.close()


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE journal SET body = x'90' WHERE sequence = 6", "record 6"),
        ("UPDATE rows SET value = x'c0' WHERE name = 'log'", "a row of table 'log' has a wrong checksum"),
        ("DELETE FROM folded", "it cannot be read"),
    ],
)
def test_a_damaged_old_file_is_refused_untouched(old: Path, statement: str, match: str) -> None:
    sql(old, statement)
    before = everything(old.parent)
    with pytest.raises(JournalDamaged, match=match):
        StoreFile(old)
    assert everything(old.parent) == before


def test_a_damaged_journal_of_an_old_file_can_be_cut(old: Path) -> None:
    sql(old, "UPDATE journal SET body = x'90' WHERE sequence = 6")
    file = StoreFile(old, damaged="cut")
    assert (file.content.sequence, file.content.cut, file.content.lost) == (5, 2, 2)
    file.close()
    assert StoreFile(old).content.sequence == 5


class Failing(Disk):
    """A disk that fails at one step, before or after the deed, so often."""

    def __init__(self, *steps: str, error: Exception | None = None, after: bool = False, times: int = 10**9) -> None:
        self.steps = set(steps)
        self.error = error or sqlite3.OperationalError("disk I/O error")
        self.after = after
        self.times = times
        self.seen: list[str] = []

    def step(self, what: Any, path: Path, do: Any) -> Any:
        self.seen.append(what)
        fails = what in self.steps and self.times > 0
        self.times -= fails
        if fails and not self.after:
            raise self.error
        result = do()
        if fails:
            raise self.error
        return result


def test_an_old_file_that_cannot_be_brought_up_to_date_stays_as_it_is(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    before = everything(old.parent)
    with monkeypatch.context() as patch:
        patch.setattr("foundation.store.file.write_folded", full)
        with pytest.raises(StoreUnreachable, match=r"database or disk is full.*with room on its disk"):
            StoreFile(old)
    assert everything(old.parent) == before
    file = StoreFile(old, disk=Failing("checkpoint"))
    assert file.content.trouble == "disk I/O error"
    assert table(file, "log") == LOG
    file.close()


# -- what was lost -----------------------------------------------------------------------------------------------------

LOST_ROWS = {
    "a row is gone": "DELETE FROM rows WHERE key = (SELECT key FROM rows LIMIT 1)",
    "a row is another's": "UPDATE rows SET name = 'u' WHERE key = x'01'",
    "a row is in the way": "INSERT INTO rows SELECT 'u', key, value, checksum FROM rows",
    "a value is another": "UPDATE rows SET value = x'c0' WHERE key = x'01'",
    "a value is no blob": "UPDATE rows SET value = 'text' WHERE key = x'01'",
    "a checksum is none": "UPDATE rows SET checksum = 'text' WHERE key = x'01'",
    "a name is no text": "UPDATE rows SET name = x'ff' WHERE key = x'01'",
    "what was folded is gone": "DELETE FROM folded",
    "what was folded is another": "UPDATE folded SET sequence = 9",
    "what was folded is no number": "UPDATE folded SET sequence = 'nine'",
    "what was folded is there twice": "INSERT INTO folded SELECT * FROM folded",
}


@pytest.mark.parametrize("what", LOST_ROWS)
def test_lost_and_changed_rows_are_noticed_and_no_remedy_is_offered_that_does_not_help(path: Path, what: str) -> None:
    sql(path, LOST_ROWS[what])
    for damaged in ("refuse", "cut"):
        with pytest.raises(JournalDamaged, match=r"; restore a backup$") as caught:
            StoreFile(path, damaged=damaged)  # type: ignore[arg-type]
        assert not caught.value.can_be_cut


LOST_RECORDS = {
    "the last are gone": ("DELETE FROM journal WHERE sequence > 10", 11, 2),
    "the last one is gone": ("DELETE FROM journal WHERE sequence > 11", 12, 1),
    "the last one is another": ("UPDATE journal SET body = x'c0' WHERE sequence = 12", 12, 1),
    "one is gone": ("DELETE FROM journal WHERE sequence = 11", 11, 2),
    "one is no blob": ("UPDATE journal SET body = 'text' WHERE sequence = 11", 11, 2),
    "a checksum is none": ("UPDATE journal SET checksum = 'text' WHERE sequence = 12", 12, 1),
}


@pytest.mark.parametrize("what", LOST_RECORDS)
def test_lost_transactions_are_counted_and_the_remedy_helps(path: Path, what: str) -> None:
    statement, first, lost = LOST_RECORDS[what]
    sql(path, statement)
    with pytest.raises(JournalDamaged, match=f"damaged='cut' to go on without the last {lost} transactions") as caught:
        StoreFile(path)
    assert (caught.value.sequence, caught.value.lost) == (first, lost)
    assert caught.value.can_be_cut
    file = StoreFile(path, damaged="cut")
    assert (file.content.lost, len(file.content.rows["t"]), file.content.sequence) == (lost, first - 1, first - 1)
    file.append([[change("new", 1)]])
    file.close()
    again = StoreFile(path)
    assert (again.content.lost, again.content.sequence) == (0, first)
    again.close()


def killed(path: Path, folder: Path) -> Path:
    """Return a copy of the files of an open store, as its process leaves them when it is killed."""
    folder.mkdir()
    for part in path.parent.iterdir():
        shutil.copy(part, folder / part.name)
    return folder / path.name


@pytest.mark.parametrize("how", ["cut", "flipped"])
@pytest.mark.parametrize("sync", ["full", "normal"])
def test_a_lost_end_of_the_log_is_noticed_with_the_number_of_transactions(tmp_path: Path, how: str, sync: Any) -> None:
    (tmp_path / "a").mkdir()
    file = StoreFile(tmp_path / "a" / "x.db", sync)
    for n in range(6):
        file.append([[change(n, "v" * 3000)]])
    path = killed(file.path, tmp_path / "b")
    file.close()
    log = path.with_name("x.db-wal")
    content = bytearray(log.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    if sync == "full":
        with pytest.raises(JournalDamaged, match="it was acknowledged, and is missing") as caught:
            StoreFile(path)
        assert 0 < caught.value.lost < 6
    found = StoreFile(path, sync, damaged="cut" if sync == "full" else "refuse").content
    assert found.lost == 6 - found.sequence > 0
    assert sorted(decoded_key(key) for key in found.rows["t"]) == list(range(found.sequence))


def test_a_loss_is_told_once(path: Path) -> None:
    sql(path, "DELETE FROM journal WHERE sequence > 10")
    file = StoreFile(path, "normal")
    assert file.content.lost == 2
    file.close()
    again = StoreFile(path, "full")
    assert again.content.lost == 0
    again.close()


def test_an_older_copy_in_the_place_of_the_file_is_noticed(path: Path) -> None:
    copy = path.read_bytes()
    file = StoreFile(path)
    file.append([[change("more", 1)]])
    file.close()
    path.write_bytes(copy)
    with pytest.raises(JournalDamaged, match="record 13: it was acknowledged, and is missing"):
        StoreFile(path)


def test_a_backup_in_the_place_of_the_file_is_as_good_as_it_was(path: Path, tmp_path: Path) -> None:
    file = StoreFile(path)
    file.back_up(tmp_path / "copy.db")
    file.append([[change("more", 1)]])
    file.close()
    shutil.copy(tmp_path / "copy.db", path)
    restored = StoreFile(path)
    assert (restored.content.sequence, restored.content.lost) == (12, 0)
    restored.append([[change("after", 1)]])
    restored.close()
    assert StoreFile(path).content.sequence == 13


def test_a_mark_that_is_damaged_or_gone_says_nothing(path: Path) -> None:
    mark = path.with_name("x.db-mark")
    mark.write_bytes(b"\xff" * len(mark.read_bytes()))
    StoreFile(path).close()
    mark.write_bytes(b"short")
    StoreFile(path).close()
    mark.unlink()
    StoreFile(path).close()
    sql(path, "DELETE FROM journal WHERE sequence > 10")
    assert StoreFile(path).content.sequence == 10


def test_a_cut_file_says_that_only_a_backup_helps(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])
    for damaged in ("refuse", "cut"):
        with pytest.raises(JournalDamaged, match=r"malformed; restore a backup$"):
            StoreFile(path, damaged=damaged)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", range(0, 12288, 997))
def test_whichever_byte_is_wrong_the_error_is_typed_or_nothing_is_wrong(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 0xFF
    path.write_bytes(content)
    try:
        file = StoreFile(path)
    except StoreError:
        return
    assert table(file) == {n: f"v{n}" for n in range(12)}
    file.close()


# -- back-ups ----------------------------------------------------------------------------------------------------------


def test_a_backup_replaces_an_older_one_and_nothing_else(path: Path, tmp_path: Path) -> None:
    file = StoreFile(path)
    copy = tmp_path / "copy.db"
    file.back_up(copy)
    file.append([[change("more", 1)]])
    file.back_up(copy)
    another = StoreFile(copy)
    assert len(table(another)) == 13
    sql(tmp_path / "other.db", "CREATE TABLE x(a)")
    (tmp_path / "text").write_text("hello")
    before = everything(tmp_path)
    for name in ("other.db", "text"):
        with pytest.raises(NotAStore):
            file.back_up(tmp_path / name)
    for taken in (path, copy):
        with pytest.raises(BadOption, match="name another file"):
            file.back_up(taken)
    assert everything(tmp_path) == before
    another.close()
    file.close()


def test_a_backup_that_fails_leaves_the_older_one(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    file = StoreFile(path)
    file.back_up(tmp_path / "copy.db")
    before = everything(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("foundation.store.file.write_folded", full)
        with pytest.raises(sqlite3.OperationalError):
            file.back_up(tmp_path / "copy.db")
    assert everything(tmp_path) == before
    file.close()


# -- errors ------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_opened_is_said_in_our_words(path: Path, tmp_path: Path) -> None:
    for error, kind in (
        (PermissionError("no"), StoreUnreachable),
        (sqlite3.OperationalError("disk I/O error"), StoreUnreachable),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "no"), JournalDamaged),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (RuntimeError("what?"), StoreUnreachable),
    ):
        with pytest.raises(kind):
            StoreFile(path, disk=Failing("open", error=error))  # type: ignore[arg-type]
    first = StoreFile(path)
    with pytest.raises(StoreLocked):
        StoreFile(path, wait=0.01)
    first.close()
    path.with_name("x.db-mark").unlink()
    path.with_name("x.db-mark").mkdir()
    with pytest.raises(StoreUnreachable, match="Is a directory"):
        StoreFile(path)


def test_a_file_that_is_closed_takes_nothing_more(path: Path) -> None:
    file = StoreFile(path)
    file.close()
    for use in (
        lambda: file.append([[change(1, 1)]]),
        file.maintain,
        file.fold,
        lambda: file.back_up(path.with_name("y")),
    ):
        with pytest.raises(NotWritten, match="was closed"):
            use()  # type: ignore[no-untyped-call]
    file.close()
