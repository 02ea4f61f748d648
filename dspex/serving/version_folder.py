"""The folder in which versions of a program are kept: what is in it, and what is written to it, whole or not at all.

For each version it has a file ``0001.json``, as ``program.save`` writes it and ``program.load`` reads it; beside it
``0001.config.json``, with what DSPy does not save (``Predict.config``: temperature and the like); and a file
``current``, with the number of the version that serves, and behind it those that served before.

All of this waits for the disk: it is called in threads.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

#: What a file of a version is called; the number has four digits, or more if it needs them.
VERSION_FILE = re.compile(r"([0-9]{4,})\.json")
#: What begins with the number of a version: nobody else may take that.
TAKEN = re.compile(r"([0-9]{4,})\.(?:config\.)?json")
CURRENT = "current"
#: So many versions that served before are remembered, to go back to if the file of the current one is damaged.
REMEMBERED = 20


class SavedVersion(NamedTuple):
    """What the files of a version say: its state, and the settings of its predictors; None if there is no such file."""

    state: dict[str, Any]
    config: dict[str, Any] | None


class FolderContent(NamedTuple):
    """What a folder has.

    Attributes:
        versions: those that can be read, by number.
        damaged: what cannot be, by file, and why.
        served: the number of the version that serves, and of those that did before, the latest first.
    """

    versions: dict[int, SavedVersion]
    damaged: dict[str, str]
    served: tuple[int, ...]


class VersionFolder:
    """Reads and writes the files of versions.

    Several processes may use one folder. Each version has a number of its own, whoever adds it: a file that is there is
    never written again, but for ``current``, which says what was chosen last.

    Args:
        path: of the folder; it is made when the first version is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> FolderContent:
        """Return what is there. What cannot be read is named, and raises nothing."""
        damaged: dict[str, str] = {}
        versions: dict[int, SavedVersion] = {}
        for number in self._numbers(damaged):
            try:
                versions[number] = self.version(number)
            except (OSError, ValueError) as error:
                damaged[file_name(number)] = _why(error)
        return FolderContent(versions, damaged, self._served(damaged))

    def version(self, number: int) -> SavedVersion:
        """Read one version.

        Raises:
            OSError: there is none, or it cannot be read.
            ValueError: its files are damaged.
        """
        state = _json_object(self.path / file_name(number))
        beside = self.path / _config_name(number)
        return SavedVersion(state, _json_object(beside) if beside.exists() else None)

    def _served(self, damaged: dict[str, str]) -> tuple[int, ...]:
        try:
            words = (self.path / CURRENT).read_text("ascii").split()
            if not words or not all(word.isdecimal() for word in words):
                raise ValueError("it has no number in it")
            return tuple(map(int, words))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            damaged[CURRENT] = _why(error)
            return ()

    def _numbers(self, damaged: dict[str, str]) -> list[int]:
        """Return the numbers of the versions that are there, the lowest first."""
        try:
            names = [path.name for path in self.path.iterdir() if VERSION_FILE.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            damaged[str(self.path)] = _why(error)
            return []
        numbers = {int(name.removesuffix(".json")) for name in names} - {0}
        known = {file_name(number) for number in numbers}
        damaged.update((name, "its name is not that of a version") for name in names if name not in known)
        return sorted(number for number in numbers if file_name(number) in names)

    def add(self, save: Callable[[Path], object], config: bytes, above: int) -> int:
        """Write another version, and return its number when it is safe.

        Args:
            save: writes the state to a file of a given path, as DSPy does.
            config: the settings of the predictors.
            above: a number that is taken, so that this one is higher.

        Raises:
            OSError: it cannot be written; no version has changed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        number = self._reserved(config, above)
        new = self.path / f"{number:04}.new.json"
        with _removed_on_error(self.path / _config_name(number)), _removed_on_error(new):
            save(new)
            _sync(new)
            new.rename(self.path / file_name(number))
        _sync(self.path)
        return number

    def _reserved(self, config: bytes, above: int) -> int:
        """Take the next number that nobody has, by making the file that says the settings."""
        taken = (int(match[1]) for path in self.path.iterdir() if (match := TAKEN.fullmatch(path.name)))
        number = max([above, *taken])
        while True:
            number += 1
            path = self.path / _config_name(number)
            try:
                file = path.open("xb")
            except FileExistsError:
                continue
            with _removed_on_error(path), file:
                file.write(config)
                file.flush()
                os.fsync(file.fileno())
            return number

    def serve(self, served: tuple[int, ...]) -> None:
        """Write which version serves, and which did before, the latest first; return when it is safe.

        Raises:
            OSError: it cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        new = self.path / f"{CURRENT}.{secrets.token_hex(8)}.new"
        with _removed_on_error(new):
            new.write_text(" ".join(map(str, served[:REMEMBERED])) + "\n", "ascii")
            _sync(new)
            new.rename(self.path / CURRENT)
        _sync(self.path)


def file_name(number: int) -> str:
    """Return what the file of a version is called."""
    return f"{number:04}.json"


def _config_name(number: int) -> str:
    return f"{number:04}.config.json"


def _json_object(path: Path) -> dict[str, Any]:
    found = orjson.loads(path.read_bytes())
    if isinstance(found, dict):
        return found
    raise ValueError(f"{path.name} holds no object")


@contextmanager
def _removed_on_error(path: Path) -> Generator[None]:
    """Leave no file behind that is not finished."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
