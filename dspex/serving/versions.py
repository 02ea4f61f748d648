"""Versions of a program: kept as DSPy's own files, swapped while the program serves, and back.

A folder of versions has for each a file ``0001.json``, as ``program.save`` writes it and ``program.load`` reads it;
beside it ``0001.config.json``, with what DSPy does not save (``Predict.config``: temperature and the like); and a file
``current``, with the number of the current version.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from foundation.programs import BadVersion, Version
from supervision import Ref
from supervision.events import Event

#: What DSPy writes beside the parts of a program: versions of libraries.
METADATA = "metadata"
#: What DSPy saves of a predictor, with the type that it has; ``fields`` only if a decision has any.
KEYS: Mapping[str, type] = {"traces": list, "train": list, "demos": list, "signature": dict, "fields": dict}
SIGNATURE: Mapping[str, type] = {"instructions": str, "fields": list}
FIELD: Mapping[str, type] = {"prefix": str, "description": str}


class VersionChanged(Event, frozen=True, kw_only=True):
    """A program serves another version from now on: ``version`` is its number."""

    ref: Ref
    path: str
    program: str
    version: int


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
        """The program of the current version."""
        return self._programs[self.number]

    def list(self) -> list[Version]:
        """Return the versions, the oldest first."""
        return [Version(number, number == self.number) for number in sorted(self._programs)]

    def use(self, number: int) -> Version:
        """Make a version current.

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
        """Keep another version, and make it current.

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


# -- states, checked --------------------------------------------------------------------------------------------------


class Checked(NamedTuple):
    """A state that may be loaded, and the settings of each predictor that it changes."""

    state: dict[str, Any]
    config: dict[str, dict[str, Any]]


def check_state(
    number: int, state: Mapping[str, Any], reference: Mapping[str, Any], settings: Collection[str]
) -> Checked:
    """Return a state if it has allowed keys only.

    Args:
        number: the version that it is to be.
        state: the state.
        reference: what the program as it was written would save.
        settings: which settings it may change.

    Raises:
        BadVersion: it says more, or something else. The key is named.
    """
    checker = _Checker(number, frozenset(settings))
    parts = {name: value for name, value in checker.mapping("", state).items() if name != METADATA}
    # DSPy saves a program that is nothing but a predictor as that.
    check = checker.predictor if "signature" in reference else checker.program
    return Checked(check("", parts, reference), checker.config)


class _Checker:
    def __init__(self, number: int, settings: frozenset[str]) -> None:
        self._number = number
        self._settings = settings
        self.config: dict[str, dict[str, Any]] = {}

    def program(self, where: str, state: Any, reference: Mapping[str, Any]) -> dict[str, Any]:
        """Check a program: each of its parts, and no other."""
        parts = self.mapping(where, state)
        self._only(where, parts, reference)
        for name in reference:
            if name not in parts:
                raise self._wrong(where + name, "is missing")
        return {name: self._part(where + name, value, reference[name]) for name, value in parts.items()}

    def _part(self, where: str, state: Any, reference: Any) -> Any:
        if not isinstance(reference, Mapping):
            return state if type(state) is type(reference) else self._raise(where, f"is no {type(reference).__name__}")
        if "signature" not in reference:
            return self.program(f"{where}.", state, reference)
        return self.predictor(where, self.mapping(where, state), reference)

    def predictor(self, where: str, state: dict[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
        """Check a predictor."""
        dot = where and f"{where}."
        config = state.pop("config", None)
        if config is not None:
            self.config[where or "self"] = self._allowed(f"{dot}config", config)
        if state.get("lm") is not None:
            raise self._wrong(f"{dot}lm", "the language model is chosen in the tree, not by a version")
        self._typed(dot, {name: value for name, value in state.items() if name != "lm"}, KEYS)
        for name in ("demos", "signature"):
            if name not in state:
                raise self._wrong(dot + name, "is missing")
        self._signature(f"{dot}signature", state["signature"], reference["signature"])
        for index, demo in enumerate(state["demos"]):
            self.mapping(f"{dot}demos.{index}", demo)
        return {"lm": None, **state}

    def _signature(self, where: str, state: Mapping[str, Any], reference: Mapping[str, Any]) -> None:
        self._typed(f"{where}.", state, SIGNATURE)
        fields, known = state.get("fields"), reference["fields"]
        if "instructions" not in state or fields is None or len(fields) != len(known):
            raise self._wrong(where, f"needs instructions, and {len(known)} fields")
        for index, field in enumerate(fields):
            place = f"{where}.fields.{index}"
            self._typed(f"{place}.", self.mapping(place, field), FIELD)
            if len(field) != len(FIELD):
                raise self._wrong(place, f"needs {' and '.join(FIELD)}")

    def _allowed(self, where: str, config: Any) -> dict[str, Any]:
        given = self.mapping(where, config)
        for name in given:
            if name not in self._settings:
                there = ", ".join(sorted(self._settings)) or "none"
                raise self._wrong(f"{where}.{name}", f"is no setting that a version may change; there are {there}")
        return given

    def _typed(self, where: str, state: Mapping[str, Any], types: Mapping[str, type]) -> None:
        self._only(where, state, types)
        for name, value in state.items():
            if not isinstance(value, types[name]):
                raise self._wrong(where + name, f"is no {types[name].__name__}")

    def _only(self, where: str, state: Mapping[str, Any], known: Collection[str]) -> None:
        for name in state:
            if name not in known:
                raise self._wrong(where + str(name), f"there is no such part; there are {', '.join(map(str, known))}")

    def mapping(self, where: str, state: Any) -> dict[str, Any]:
        """Return a state as a dict of its own."""
        return dict(state) if isinstance(state, Mapping) else self._raise(where, "is no object")

    def _raise(self, where: str, why: str) -> Any:
        raise self._wrong(where, why)

    def _wrong(self, where: str, why: str) -> BadVersion:
        return BadVersion(self._number, f"it does not fit the program ({where or 'the state'}: {why})")
