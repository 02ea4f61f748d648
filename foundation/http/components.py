"""The schemas of an OpenAPI document: each stands there once, under a name of its own, wherever it is used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

_WHERE = "#/components/schemas/"


class Components:
    """Collects schemas under names.

    What two programs define alike is one schema. What has one name and differs has the name of its program before it.

    >>> components = Components()
    >>> inner = {"Place": {"type": "object"}}
    >>> components.placed({"$ref": "#/$defs/Place", "$defs": inner}, "map")
    {'$ref': '#/components/schemas/Place'}
    >>> components.placed({"$ref": "#/$defs/Place", "$defs": {"Place": {"type": "string"}}}, "trip")
    {'$ref': '#/components/schemas/trip.Place'}

    Attributes:
        schemas: the schemas, by name.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}

    def add(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Add a schema, and return the reference to it."""
        wanted = key(name)
        names = (wanted if number == 1 else f"{wanted}-{number}" for number in count(1))
        found = next(each for each in names if self._free(each, schema))
        self.schemas[found] = schema
        return {"$ref": _WHERE + found}

    def placed(self, schema: Mapping[str, Any], owner: str, *, out: bool = False) -> dict[str, Any]:
        """Return a schema whose ``$defs`` are here.

        Args:
            schema: of a field.
            owner: the name of its program.
            out: whether it comes from the program; a model may have one form when it goes in and another there.
        """
        definitions: Mapping[str, Any] = schema.get("$defs", {})
        own = {name: value for name, value in schema.items() if name != "$defs"}
        named = (self._named(definitions, *affixes) for affixes in _affixes(owner, out=out))
        moved, where = next(found for found in named if found is not None)
        self.schemas.update(moved)
        placed: dict[str, Any] = _moved(own, where)
        return placed

    def _named(
        self, definitions: Mapping[str, Any], before: str, after: str
    ) -> tuple[dict[str, Any], dict[str, str]] | None:
        """Return the definitions under new names, and where each is to be found; None if a name stands for another."""
        keys: dict[str, str] = {}
        for found in definitions:
            keys[found] = key(before + found + after)
            while list(keys.values()).count(keys[found]) > 1:
                keys[found] += "_"
        where = {f"#/$defs/{found}": _WHERE + placed for found, placed in keys.items()}
        moved = {keys[found]: _moved(value, where) for found, value in definitions.items()}
        return (moved, where) if all(self._free(*each) for each in moved.items()) else None

    def _free(self, name: str, schema: Any) -> bool:
        return name not in self.schemas or self.schemas[name] == schema


def _affixes(owner: str, *, out: bool) -> Iterator[tuple[str, str]]:
    """Return what may stand before and after the names of definitions, the plainest first."""
    for before in ("", f"{owner}."):
        yield before, ""
        if out:
            yield before, "-Output"
    yield from ((f"{owner}.", f"-{number}") for number in count(2))


def _moved(schema: Any, where: Mapping[str, str]) -> Any:
    """Return a schema whose references lead to where the definitions are now."""
    if isinstance(schema, Mapping):
        return dict(_entries(schema, where))
    return [_moved(part, where) for part in schema] if isinstance(schema, (list, tuple)) else schema


def _entries(schema: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name, value in schema.items():
        if name == "$ref" and isinstance(value, str):
            yield name, where.get(value, value)
        elif name == "discriminator" and isinstance(value, Mapping) and "mapping" in value:
            mapping = {word: where.get(to, to) for word, to in value["mapping"].items()}
            yield name, {**value, "mapping": mapping}
        else:
            yield name, _moved(value, where)


def key(name: str) -> str:
    """Return a name as it may stand among the schemas of a document.

    >>> key("Box[int]")
    'Box_int_'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
