"""Counts by program, version and what else there is, with few labels however many versions there were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

#: So many versions of a program are told apart, the latest; all others count as one.
VERSIONS = 5
OTHER_VERSIONS = "other"

_Key = tuple[str, int | None, tuple[str, ...]]


class VersionCounter:
    """Counts by program, version and further labels. Of each program, only the latest versions are told apart.

    >>> counter = VersionCounter()
    >>> for version in range(7):
    ...     counter.add("triage", version, "answered")
    >>> [(version, count) for _, version, _, count in counter]
    [('other', 2), ('2', 1), ('3', 1), ('4', 1), ('5', 1), ('6', 1)]
    """

    def __init__(self) -> None:
        self._counts: Counter[_Key] = Counter()
        #: The versions of each program that are told apart, the earliest first.
        self._latest: dict[str, list[int]] = {}

    def add(self, program: str, version: int, *labels: str) -> None:
        """Count one more."""
        latest = self._latest.setdefault(program, [])
        if version not in latest:
            latest.append(version)
            latest.sort()
            if len(latest) > VERSIONS:
                self._fold(program, latest.pop(0))
        self._counts[program, version if version in latest else None, labels] += 1

    def _fold(self, program: str, version: int) -> None:
        """Count what a version had with the others that are not told apart."""
        for key in [key for key in self._counts if key[:2] == (program, version)]:
            self._counts[program, None, key[2]] += self._counts.pop(key)

    def __iter__(self) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
        order = sorted(self._counts.items(), key=lambda each: (each[0][0], -1 if each[0][1] is None else each[0][1]))
        for (program, version, labels), count in order:
            yield program, OTHER_VERSIONS if version is None else str(version), labels, count
