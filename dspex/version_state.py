"""What the saved state of a program may say: instructions, demonstrations, fields, and settings that are allowed.

DSPy keeps every key of a state as an attribute of the predictor, ``config`` with the address of a server among them. A
state that comes from outside is therefore compared, key by key, with what the program itself would save.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from foundation.versions import BadVersion

#: What DSPy writes beside the parts of a program: versions of libraries.
METADATA = "metadata"
#: What DSPy saves of a predictor, with the type that it has; ``fields`` only if a decision has any.
KEYS: Mapping[str, type] = {"traces": list, "train": list, "demos": list, "signature": dict, "fields": dict}
SIGNATURE: Mapping[str, type] = {"instructions": str, "fields": list}
FIELD: Mapping[str, type] = {"prefix": str, "description": str}


class Checked(NamedTuple):
    """A state that may be loaded, and the settings of each predictor that it changes."""

    state: dict[str, Any]
    config: dict[str, dict[str, Any]]


def check_state(
    number: int, state: Mapping[str, Any], reference: Mapping[str, Any], settings: Collection[str]
) -> Checked:
    """Return a state if it says nothing that it may not.

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
