"""Routing: patterns against a definition in two lines, and the order of what matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import BadRoute, Route, Router, matches

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


ROUTES = st.builds(
    lambda pattern, priority, exclusive, wanted: (".".join(pattern), priority, exclusive, wanted),
    PATTERNS,
    st.integers(-2, 2),
    st.booleans(),
    st.sampled_from([None, True, False]),
)


@given(st.lists(ROUTES, max_size=8), st.lists(TYPES, min_size=1, max_size=3))
def test_priority_comes_before_specificity_and_exclusive_routes_cut(
    routes: list[tuple[str, int, bool, bool | None]], types: list[list[str]]
) -> None:
    """Higher priorities come first; a condition that does not hold leaves a route out; an exclusive one ends all."""

    def rank(n: int) -> tuple[int, ...]:
        parts = routes[n][0].split(".")
        return -routes[n][1], parts.count("**"), parts.count("*"), -sum("*" not in part for part in parts), n

    made = [
        Route(pattern, n, priority, None if wanted is None else (lambda signal, wanted=wanted: wanted), exclusive)  # type: ignore[misc]
        for n, (pattern, priority, exclusive, wanted) in enumerate(routes)
    ]
    router = Router(made)
    for parts in types + types:
        expected: list[int] = []
        for n in sorted(range(len(routes)), key=rank):
            pattern, _, exclusive, wanted = routes[n]
            if by_definition(pattern.split("."), parts) and wanted is not False:
                expected.append(n)
                if exclusive:
                    break
        assert router.route(".".join(parts)) == tuple(expected)


def test_a_condition_sees_the_signal_and_to_raise_is_to_say_no() -> None:
    """A route with a condition is taken for the signals that it wants, and for no others."""
    router = Router([Route("a", "big", when=lambda data: data["n"] > 3), Route("a", "any")])
    assert router.route("a", {"n": 4}) == ("big", "any")
    assert router.route("a", {"n": 3}) == ("any",)
    assert router.route("a", {}) == ("any",)


@pytest.mark.parametrize("priority", [101, -101, 1.5, True, "high"])
def test_a_wrong_priority_is_refused(priority: object) -> None:
    """Priorities are whole numbers from -100 to 100."""
    with pytest.raises(BadRoute, match="from -100 to 100"):
        Route("a", 1, priority)  # type: ignore[arg-type]


def test_what_is_remembered_of_types_does_not_grow_without_end() -> None:
    """A router that meets ever new types forgets what it knew of them, and finds the same."""
    router = Router([("a.*", 1)])
    for n in range(10_050):
        assert router.route(f"a.{n}") == (1,)
    assert len(router._known) <= 10_000
