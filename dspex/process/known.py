"""What a parent has declared to the process of a program: all that it has sent there, and what that names."""

from __future__ import annotations

import dataclasses
import enum
import typing
from typing import Any

import pydantic

from dspex._compat import DSPY_CLASSES, declared_by, is_part, is_shared


class Known:
    """Collects classes whose instances may come back, and objects that may be named.

    Attributes:
        items: what there is, in an order that both processes have.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._seen = {id(kind) for kind in DSPY_CLASSES.values()}

    def notice(self, value: Any) -> None:
        """Note something that is sent."""
        if isinstance(value, type):
            self._note_class(value)
            return
        if is_shared(value):
            self._note(value)
        self._note_class(type(value))

    def _note(self, value: Any) -> bool:
        new = id(value) not in self._seen
        if new:
            self._seen.add(id(value))
            self.items.append(value)
        return new

    def _note_class(self, kind: Any) -> None:
        kind = getattr(kind, "dspex_bare", kind)
        if _has_data(kind) and self._note(kind):
            for annotation in declared_by(kind):
                self._note_annotation(annotation)

    def _note_annotation(self, annotation: Any) -> None:
        if isinstance(annotation, type):
            self._note_class(annotation)
        for inner in typing.get_args(annotation):
            self._note_annotation(inner)


def _has_data(kind: type) -> bool:
    if kind.__module__ == "builtins":
        return False
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    own = issubclass(kind, (pydantic.BaseModel, enum.Enum, Exception)) or is_part(kind)
    return named or own or dataclasses.is_dataclass(kind)
