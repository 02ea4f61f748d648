"""The contract of storages. See `agents.testing`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from agents.durability.storage import (
    TOMBSTONE,
    AgentCommit,
    CommitStorage,
    Loaded,
    Storage,
    StorageConflict,
    Stored,
    StoredRow,
)
from agents.durability.whole import commits_of
from agents.testing.contract import ContractCheck, same

_Check: TypeAlias = Callable[[Any], Coroutine[Any, Any, None]]
_storage: list[_Check] = []
_commits: list[_Check] = []


def storage_contract(make: Callable[[], Storage]) -> list[ContractCheck]:
    """Return the checks of what a storage has to keep.

    Args:
        make: returns a storage in which nothing is, each time another one. If it has `CommitStorage.commit`, that is
            checked; else what agents make of its six methods is.
    """

    def commits() -> Any:
        return commits_of(make())

    every = [*((check, make) for check in _storage), *((check, commits) for check in _commits)]
    return [ContractCheck(check.__name__.strip("_"), check, by) for check, by in every]


async def _conflicts(what: str, work: Awaitable[object]) -> None:
    try:
        await work
    except StorageConflict:
        return
    raise AssertionError(f"{what}: no StorageConflict")


# -- six methods -------------------------------------------------------------------------------------------------------


@_storage.append
async def _there_is_nothing_at_first(storage: Storage) -> None:
    same("the protocol", isinstance(storage, Storage), True)
    same("read", await storage.read("a"), None)
    same("keys", await storage.keys(), [])
    same("entries", await storage.entries("a", 0), [])
    await storage.delete("a")


@_storage.append
async def _what_was_written_is_read(storage: Storage) -> None:
    await storage.write("a", 1, expected=None, checkpoint=b"one")
    same("a checkpoint", await storage.read("a"), Stored(1, b"one", 1))
    await storage.write("a", 3, expected=1, entries=[(2, b"two"), (3, b"three")])
    same("entries behind it", await storage.read("a"), Stored(3, b"one", 1, ((2, b"two"), (3, b"three"))))
    await storage.write("a", 4, expected=3, checkpoint=b"four", entries=[(4, b"entry")])
    same("the next checkpoint", await storage.read("a"), Stored(4, b"four", 4))
    same("all entries", await storage.entries("a", 0), [(2, b"two"), (3, b"three"), (4, b"entry")])
    same("some entries", await storage.entries("a", 2, 3), [(3, b"three")])
    await storage.trim("a", 3)
    same("entries after a trim", await storage.entries("a", 0), [(4, b"entry")])


@_storage.append
async def _keys_are_apart_whatever_is_in_them(storage: Storage) -> None:
    names = ["a%", "a/1", "a/2", "b/1", "n\0l", "ž" * 5000]
    for key in reversed(names):
        await storage.write(key, 1, expected=None, checkpoint=key.encode(), entries=[(1, b"x")])
    same("keys", await storage.keys(), names)
    same("keys with a prefix", await storage.keys("a/"), ["a/1", "a/2"])
    await storage.delete("a/1")
    same("keys after a delete", await storage.keys("a/"), ["a/2"])
    same("entries after a delete", await storage.entries("a/1", 0), [])
    same("another key", await storage.read("b/1"), Stored(1, b"b/1", 1))


@_storage.append
async def _nobody_elses_write_is_overwritten(storage: Storage) -> None:
    await storage.write("a", 5, expected=None, checkpoint=b"five")
    for expected in (None, 4, 6):
        work = storage.write("a", 6, expected=expected, checkpoint=b"mine", entries=[(6, b"x")])
        await _conflicts(f"expected {expected}", work)
    await _conflicts("expected something", storage.write("new", 1, expected=0, checkpoint=b"x"))
    same("what is there", await storage.read("a"), Stored(5, b"five", 5))
    same("its entries", await storage.entries("a", 0), [])


@_storage.append
async def _writes_at_the_same_time_are_each_their_own(storage: Storage) -> None:
    work = [storage.write(f"k{n % 40}", 1, expected=None, checkpoint=str(n).encode()) for n in range(50)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    same("outcomes", [type(outcome) for outcome in outcomes], [type(None)] * 40 + [StorageConflict] * 10)
    same("keys", len(await storage.keys()), 40)


# -- commits -----------------------------------------------------------------------------------------------------------


def _row(kind: str, id: str, due: int | None = None, body: bytes = b"body") -> StoredRow:
    return StoredRow(kind, id, body, due)


async def _there(storage: CommitStorage, key: str, before: int | None = None) -> Loaded:
    found = await storage.load(key, before)
    if found is None:
        raise AssertionError(f"load({key!r}): nothing is there")
    return found


async def _committed(storage: CommitStorage, key: str, epoch: int, expected: int | None, **what: Any) -> None:
    turn = 0 if expected is None else expected + 1
    given = {"turn": turn, "version": turn, **what}
    await storage.commit(AgentCommit(key=key, epoch=epoch, expected=expected, **given))


@_commits.append
async def _a_claim_returns_what_is_there_and_one_epoch_more(storage: CommitStorage) -> None:
    same("nothing", await storage.load("a"), None)
    first = await storage.claim("a", "g1")
    same("first", (first.epoch, first.turn, first.version, first.generation), (1, 0, 0, "g1"))
    await _committed(storage, "a", 1, 0, snapshot=b"one", put=(_row("timer", "t"),))
    await _committed(storage, "a", 1, 1, entries=((2, b"two"),))
    second = await storage.claim("a", "g2")
    same("second", (second.epoch, second.turn, second.version, second.generation), (2, 2, 2, "g1"))
    same("snapshot", (second.snapshot, second.at, second.entries), (b"one", 1, ((2, b"two"),)))
    same("rows", second.rows, (_row("timer", "t"),))
    same("loaded", await storage.load("a"), second)


@_commits.append
async def _a_commit_of_an_earlier_owner_or_turn_leaves_nothing(storage: CommitStorage) -> None:
    await storage.claim("a", "g")
    await _committed(storage, "a", 1, 0, snapshot=b"one")
    await storage.claim("a", "g")
    all_of_it = {"entries": ((9, b"x"),), "put": (_row("effect", "e"),), "snapshot": b"x"}
    for epoch, expected in ((1, 1), (2, 0), (2, 7), (3, 1), (1, None)):
        work = _committed(storage, "a", epoch, expected, **all_of_it)
        await _conflicts(f"epoch {epoch}, expected {expected}", work)
    await _conflicts("an unknown key", _committed(storage, "new", 1, 0))
    found = await _there(storage, "a")
    same("what is there", (found.epoch, found.turn, found.snapshot, found.entries, found.rows), (2, 1, b"one", (), ()))


@_commits.append
async def _rows_come_go_and_are_replaced_in_one_write(storage: CommitStorage) -> None:
    await storage.claim("a", "g")
    await _committed(storage, "a", 1, 0, put=(_row("timer", "t", 5), _row("effect", "t", 6), _row("effect", "u")))
    drop = (("effect", "u"), ("effect", "none"))
    await _committed(storage, "a", 1, 1, drop=drop, put=(_row("timer", "t", 7, b"new"),))
    await _committed(storage, "a", 1, None, drop=(("effect", "t"),), put=(_row("inbox", "i"),))
    found = await _there(storage, "a")
    same("rows", found.rows, (_row("inbox", "i"), _row("timer", "t", 7, b"new")))
    same("a write that is no turn", (found.turn, found.version), (2, 2))
    again = (("timer", "t"),)
    await _committed(storage, "a", 1, 2, drop=again, put=(_row("timer", "t", 8),))
    found = await _there(storage, "a")
    same("dropped and put at once", found.rows, (_row("inbox", "i"), _row("timer", "t", 8)))


@_commits.append
async def _an_older_snapshot_and_the_log_behind_it_are_kept_until_trimmed(storage: CommitStorage) -> None:
    await storage.claim("a", "g")
    await _committed(storage, "a", 1, 0, snapshot=b"one")
    for turn in (2, 3):
        await _committed(storage, "a", 1, turn - 1, entries=((turn, b"e"),))
    await _committed(storage, "a", 1, None, turn=3, snapshot=b"three")
    newest, older = await _there(storage, "a"), await _there(storage, "a", 3)
    same("newest", (newest.turn, newest.at, newest.snapshot, newest.entries), (3, 3, b"three", ()))
    same("older", (older.at, older.snapshot, older.entries), (1, b"one", ((2, b"e"), (3, b"e"))))
    await _committed(storage, "a", 1, None, turn=3, trim=2)
    older = await _there(storage, "a", 3)
    same("trimmed", (older.snapshot, older.entries), (None, ((3, b"e"),)))


@_commits.append
async def _what_is_due_is_found_by_its_time(storage: CommitStorage) -> None:
    same("nothing", (await storage.due("", 10), await storage.next_due("", 0)), ([], None))
    for number, key in enumerate(("p/b", "p/a", "p/c", "q/a")):
        await storage.claim(key, "g")
        await _committed(storage, key, 1, 0, snapshot=b"s", put=(_row("timer", "t", 10 * number), _row("inbox", "i")))
    same("due", await storage.due("", 20), ["p/a", "p/b", "p/c"])
    same("due with a prefix, behind a key", await storage.due("p/", 100, "p/a"), ["p/b", "p/c"])
    same("due, one", await storage.due("", 100, limit=1), ["p/a"])
    same("next", (await storage.next_due("", 10), await storage.next_due("p/", 20)), (20, None))
    await _committed(storage, "p/c", 1, 1, drop=(("timer", "t"),))
    same("next", await storage.next_due("p/", 10), None)


@_commits.append
async def _what_was_written_without_an_owner_is_taken_over(storage: Any) -> None:
    inner = getattr(storage, "_inner", storage)
    await inner.write("a", 3, expected=None, checkpoint=b"three", entries=[(3, b"old")])
    await inner.write("a", 4, expected=3, entries=[(4, b"four")])
    before = await _there(storage, "a")
    same("loaded", (before.epoch, before.turn, before.snapshot), (0, 4, b"three"))
    same("its entries", await storage.entries("a", 3), [(4, b"four")])
    same("nothing due", (await storage.due("", 5), await storage.next_due("", 0)), ([], None))
    found = await storage.claim("a", "g")
    same("claimed", (found.epoch, found.turn, found.at, found.snapshot), (1, 4, 3, b"three"))
    same("its log", found.entries, ((4, b"four"),))
    await _committed(storage, "a", 1, 4, snapshot=b"five")
    kept = await inner.read("a")
    same("refused by those that do not know owners", kept.checkpoint[: len(TOMBSTONE)], TOMBSTONE)
    found = await _there(storage, "a")
    same("taken over", (found.turn, found.at, found.snapshot, found.entries), (5, 5, b"five", ()))


@_commits.append
async def _a_deleted_key_begins_anew(storage: Any) -> None:
    await storage.claim("a", "g1")
    await _committed(storage, "a", 1, 0, snapshot=b"one", entries=((1, b"e"),), put=(_row("timer", "t", 1),))
    await getattr(storage, "_inner", storage).delete("a")
    same("nothing", await storage.load("a"), None)
    found = await storage.claim("a", "g2")
    same("anew", (found.epoch, found.turn, found.generation, found.snapshot, found.rows), (1, 0, "g2", None, ()))


@_commits.append
async def _commits_at_the_same_time_are_each_their_own(storage: CommitStorage) -> None:
    for number in range(20):
        await storage.claim(f"k{number}", "g")
    work = [_committed(storage, f"k{n}", 1 + (n == 7), 0, put=(_row("timer", "t", 5),)) for n in range(20)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    same("conflicts", [n for n, one in enumerate(outcomes) if isinstance(one, StorageConflict)], [7])
    same("due", len(await storage.due("", 5)), 19)
