"""What members may say of how probable their answers are: one rule, wherever that is read.

Each label has a finite number from 0, and one of them is above 0. Labels that are not named have what is missing to 1;
numbers that add up to more are counts, and divided by their sum. Whoever says something else has failed.

>>> checked_shares("probabilities", {"sport": 3, "tech": 1})
{'sport': 0.75, 'tech': 0.25}
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from numbers import Real
from typing import Any

import dspy

from foundation.options import finite, is_a
from supervision.errors import BadOption

#: The field in which a member may say how probable it finds each label.
PROBABILITIES = "probabilities"


class BadProbabilities(BadOption):
    """These are no probabilities of labels. The text says what would be."""


def checked_shares(
    what: str, told: Any, normal: Callable[[Any], Hashable] = lambda label: label
) -> dict[Hashable, float]:
    """Return how probable each label is.

    Args:
        what: whose probabilities these are, for the error.
        told: the number of each label.
        normal: makes of a label what is counted; labels that are the same are added up.

    Raises:
        BadProbabilities: they are none.
    """
    found: dict[Hashable, float] = {}
    for label, share in told.items() if isinstance(told, Mapping) else ():
        form, number = normal(label), _number(share)
        if form is None or number is None or number < 0:
            raise BadProbabilities(what, {label: share}, "give each label a finite number from 0")
        found[form] = found.get(form, 0.0) + number
    total = finite(sum(found.values()))
    if not total:
        raise BadProbabilities(what, told, "give a mapping of labels to numbers, of which one is above 0")
    return {form: share / max(1.0, total) for form, share in found.items()}


def told_shares(prediction: Any, field: str, normal: Callable[[Any], Hashable]) -> dict[Hashable, float] | None:
    """Return how probable a member finds each form of an answer; None if it does not say.

    Args:
        prediction: of the member.
        field: in which its answer is.
        normal: makes of a label what is counted.

    Raises:
        BadProbabilities: it says what makes no sense, or nothing of the answer that it gives.
    """
    told = prediction.get(PROBABILITIES) if isinstance(prediction, (dspy.Example, Mapping)) else None
    if told is None:
        return None
    found = checked_shares(PROBABILITIES, told, normal)
    form = normal(prediction.get(field))
    if form is not None and form not in found:
        raise BadProbabilities(PROBABILITIES, told, f"name the answer, too, which is {prediction.get(field)!r}")
    return found


def _number(share: Any) -> float | None:
    """Return a number, also one of numpy's; None for what cannot be counted with."""
    if isinstance(share, Real) and not is_a(share, (bool, int, float)):
        try:
            share = float(share)
        except (OverflowError, ValueError):
            return None
    return finite(share)
