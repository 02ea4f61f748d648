"""Versions of a program: kept as DSPy's own files, swapped while the program serves, and back.

A folder of versions has for each a file ``0001.json``, as ``program.save`` writes it and ``program.load`` reads it;
beside it ``0001.config.json``, with what DSPy does not save (``Predict.config``: temperature and the like); and a file
``current``, with the number of the version that counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dspex.version_state import check_state
from foundation.versions import BadVersion, Version


class Versions:
    """The versions of one program.

    Args:
        program: as it was written: version 0.
        folder: where they are kept; None for in memory.
        settings: what a version that is given as a state may set of ``Predict.config``, such as ``temperature``.

    Raises:
        BadVersion: what the folder has does not fit the program.
    """

    def __init__(self, program: Any, folder: str | Path | None = None, settings: Collection[str] = ()) -> None:
        self._settings = frozenset(settings)
        self._original = program
        self._folder = None if folder is None else Path(folder)
        self._programs = {0: program}
        self.number = 0
        if self._folder is not None and (self._folder / "current").exists():
            self.number = int((self._folder / "current").read_text())
            for path in sorted(self._folder.glob("[0-9]*[0-9].json")):
                number = int(path.stem)
                self._programs[number] = self._fitted(number, path.read_text(), self._config(number).read_text())
            self.use(self.number)

    @property
    def program(self) -> Any:
        """The program of the version that counts."""
        return self._programs[self.number]

    def list(self) -> list[Version]:
        """Return the versions, the oldest first."""
        return [Version(number, number == self.number) for number in sorted(self._programs)]

    def use(self, number: int) -> Version:
        """Let a version count.

        Raises:
            BadVersion: there is none of that number.
        """
        if number not in self._programs:
            there = ", ".join(map(str, sorted(self._programs)))
            raise BadVersion(number, f"there are {there}")
        if self._folder is not None:
            self._write(self._folder / "current", str(number))
        self.number = number
        return Version(number, True)

    def add(self, program: Any) -> Version:
        """Keep another version, and let it count.

        Args:
            program: a program of the same structure, or its state. A state is checked key by key: it may come from
                anybody, and DSPy would take whatever is in it, such as the address of another language model.

        Raises:
            BadVersion: it does not fit, or has something in it that it may not. Nothing has changed.
        """
        number = max(self._programs) + 1
        if isinstance(program, Mapping):
            checked = check_state(number, program, self._original.dump_state(), self._settings)
            before = {name: found.config for name, found in self._original.named_predictors()}
            changed = {name: {**before.get(name, {}), **given} for name, given in checked.config.items()}
            state, config = json.dumps(checked.state), json.dumps(changed)
        else:
            state = json.dumps(program.dump_state())
            config = json.dumps({name: found.config for name, found in program.named_predictors()})
        fitted = self._fitted(number, state, config)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(self._config(number), config)
            fitted.save(self._folder / "new.json")
            (self._folder / "new.json").rename(self._folder / f"{number:04}.json")
        self._programs[number] = fitted
        return self.use(number)

    def _fitted(self, number: int, state: str, config: str) -> Any:
        """Return a copy of the program, with a state and the settings of its predictors."""
        program = self._original.deepcopy()
        try:
            program.load_state(json.loads(state))
            settings = json.loads(config)
            for name, predictor in program.named_predictors():
                predictor.config = settings.get(name, predictor.config)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BadVersion(number, f"it does not fit the program ({type(error).__name__}: {error})") from error
        return program

    def _config(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{number:04}.config.json"

    def _write(self, path: Path, text: str) -> None:
        """Write a file, all of it or nothing."""
        new = path.with_suffix(".new")
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
