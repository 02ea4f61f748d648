"""Routing: patterns against a definition in two lines, and the order of what matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import BadRoute, Router, matches

TYPES = st.lists(st.sampled_from("abc"), min_size=1, max_size=6)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=6)


def by_definition(pattern: list[str], parts: list[str]) -> bool:
    """What a pattern means: segment by segment, ``**`` being any number of them."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(by_definition(pattern[1:], parts[n:]) for n in range(len(parts) + 1))
    return bool(parts) and pattern[0] in ("*", parts[0]) and by_definition(pattern[1:], parts[1:])


@given(PATTERNS, TYPES)
def test_a_pattern_matches_what_it_means(pattern: list[str], parts: list[str]) -> None:
    """The matcher agrees with the definition for any pattern and type."""
    assert matches(".".join(pattern), ".".join(parts)) == by_definition(pattern, parts)


@given(st.lists(PATTERNS, max_size=8), TYPES)
def test_all_that_match_are_found_the_most_specific_first(patterns: list[list[str]], parts: list[str]) -> None:
    """A router finds every route that matches, once, ordered by wildcards, then segments, then declaration."""
    router = Router((".".join(pattern), n) for n, pattern in enumerate(patterns))
    expected = [n for n, pattern in enumerate(patterns) if by_definition(pattern, parts)]
    expected.sort(
        key=lambda n: (patterns[n].count("**"), patterns[n].count("*"), -sum("*" not in p for p in patterns[n]))
    )
    assert router.route(".".join(parts)) == tuple(expected)


@pytest.mark.parametrize("pattern", ["", ".", "a.", ".a", "a..b", "a*", "a.b*", "***", "a.***", None, 3])
def test_a_wrong_pattern_is_refused(pattern: object) -> None:
    """Empty segments, and stars that are only part of a segment, are an error where the route is declared."""
    with pytest.raises(BadRoute):
        Router([(pattern, 1)])  # type: ignore[list-item, arg-type]


def test_a_pattern_that_backtracks_much_is_quick() -> None:
    """Many ``**`` cost no exponential time."""
    assert not matches(".".join(["**", "a"] * 30), ".".join(["a"] * 200 + ["b"]))
