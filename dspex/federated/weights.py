"""Weights of a model: arrays with names, as they travel and are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

#: How numbers travel: eight bytes each, the same on every machine.
FORMAT = "<f8"


class WeightArray(msgspec.Struct, frozen=True):
    """An array.

    Attributes:
        shape: its lengths.
        data: its numbers, row by row, as `FORMAT` says.

    Raises:
        ValueError: there are not as many numbers as the shape says.
    """

    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if any(length < 0 for length in self.shape) or len(self.data) != 8 * math.prod(self.shape):
            raise ValueError(f"{len(self.data)} bytes are no array of the shape {list(self.shape)}")


class Weights(msgspec.Struct, frozen=True):
    """Arrays with names, in the order of these. Two with the same numbers are equal.

    >>> weights = Weights.of({"slope": [1.0, 2.0], "constant": 3.0})
    >>> weights.vector().tolist(), weights.shapes
    ([3.0, 1.0, 2.0], {'constant': (), 'slope': (2,)})
    >>> weights.with_vector(np.array([4.0, 5.0, 6.0])).arrays()["slope"].tolist()
    [5.0, 6.0]
    """

    parts: dict[str, WeightArray]

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Weights:
        """Return the weights of arrays, or of what numpy makes arrays of.

        Raises:
            ValueError, TypeError: it cannot.
        """
        found = {name: np.asarray(array, dtype=FORMAT) for name, array in sorted(arrays.items())}
        return cls({name: WeightArray(array.shape, array.tobytes()) for name, array in found.items()})

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays, by their names."""
        return {name: part.shape for name, part in self.parts.items()}

    def arrays(self) -> dict[str, Any]:
        """Return the arrays, which are the caller's own."""
        return {
            name: np.frombuffer(part.data, FORMAT).reshape(part.shape).astype(float)
            for name, part in self.parts.items()
        }

    def vector(self) -> Any:
        """Return all numbers as one vector, array after array."""
        flat = [np.frombuffer(part.data, FORMAT) for part in self.parts.values()]
        return np.concatenate([np.empty(0), *flat])

    def with_vector(self, vector: Any) -> Weights:
        """Return weights of these names and shapes with the numbers of a vector."""
        found, begin = {}, 0
        for name, part in self.parts.items():
            end = begin + math.prod(part.shape)
            found[name] = WeightArray(part.shape, np.asarray(vector[begin:end], dtype=FORMAT).tobytes())
            begin = end
        return Weights(found)

    def in_order_of(self, others: Weights) -> Weights:
        """Return these arrays in the order of others.

        Raises:
            ValueError: they are not of the same names and shapes.
        """
        if self.shapes != others.shapes:
            raise ValueError(f"the arrays are {_told(self)}, and have to be {_told(others)}")
        return Weights({name: self.parts[name] for name in others.parts})


def _told(weights: Weights) -> str:
    shown = [f"{name} {list(shape)}" for name, shape in list(weights.shapes.items())[:5]]
    return ", ".join(shown + ["…"] * (len(weights.shapes) > 5)) or "none"
