"""Metrics whose code holds sets of what refers to itself, to see whether they are the same in each process."""

from __future__ import annotations

from typing import Any


class First:
    """Refers to the others."""

    others: frozenset[Any] = frozenset()


class Second(First):
    """One of these."""


def third() -> Any:
    """Another one."""
    return First.others, fourth


def fourth() -> Any:
    """Another one."""
    return First.others, third


First.others = frozenset({Second, third, fourth, "text", 1})


def of_a_class(example: Any, prediction: Any) -> Any:
    """A metric that uses a class."""
    return First


def of_a_function(example: Any, prediction: Any) -> Any:
    """A metric that uses a function."""
    return third


METRICS = (of_a_class, of_a_function)
