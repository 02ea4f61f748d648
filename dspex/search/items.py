"""The items of a race: examples in an order by chance in which any beginning is like the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any, TypeAlias

from supervision.errors import BadOption

#: What an example belongs to: the name of a field, or a function of it; None to look for a label that repeats.
Strata: TypeAlias = "str | Callable[[Any], Hashable] | None"


def stratified(examples: Sequence[Any], seed: int, by: Strata = None) -> list[int]:
    """Return the numbers of examples in an order by chance, in which each beginning has of all strata its share.

    >>> import dspy
    >>> examples = [dspy.Example(text=str(n), label=n < 8).with_inputs("text") for n in range(12)]
    >>> [[number < 8 for number in stratified(examples, seed)][:6].count(True) for seed in range(5)]
    [4, 4, 4, 4, 4]

    Args:
        examples: of ``dspy``.
        seed: of the order.
        by: what tells the strata.

    Raises:
        BadOption: no example has a field of this name.
    """
    key = by if callable(by) else _field(examples, by)
    strata: defaultdict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        strata[repr(key(example))].append(number)
    placed = []
    for name, numbers in sorted(strata.items()):
        chance = Random(f"{seed}/race/{name}")
        chance.shuffle(numbers)
        placed += [((at + chance.random()) / len(numbers), number) for at, number in enumerate(numbers)]
    return [number for _, number in sorted(placed)]


def _field(examples: Sequence[Any], name: str | None) -> Callable[[Any], Hashable]:
    if name is not None:
        if not any(name in example for example in examples):
            known = ", ".join(sorted({field for example in examples for field in example.keys()}))  # noqa: SIM118
            raise BadOption("strata", name, f"no example has this field; they have {known}")
        return lambda example: example.get(name)
    labels = set().union(*(set(example.labels().keys()) for example in examples))
    if len(labels) == 1:
        (label,) = labels
        if 2 * len({repr(example.get(label)) for example in examples}) <= len(examples):
            return lambda example: example.get(label)
    return lambda example: None


def split_off(order: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """Return numbers in two parts, of which the second is a share of them, and never all.

    >>> split_off([3, 1, 2, 0], 0.25), split_off([0], 0.9)
    (([3, 1, 2], [0]), ([0], []))
    """
    size = min(round(share * len(order)), len(order) - 1)
    return list(order[: len(order) - size]), list(order[len(order) - size :])
