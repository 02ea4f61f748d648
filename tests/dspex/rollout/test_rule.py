"""The rule of a rollout, and who meets which version: pure functions, with the published values."""

from __future__ import annotations

import pytest

from dspex.serving.rollout.bucketing import bucket, key_of
from dspex.serving.rollout.rule import bad_unit_steps, bounds, log_likelihood_ratio, ratio_against_bound


class Shy(str):
    """A text that can be neither compared nor shown."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise TypeError

    def __str__(self) -> str:
        raise TypeError


def test_E032_a_key_lies_where_it_lies_in_every_process() -> None:
    found = {key: bucket("triage", "2", key) for key in ("ada", "user-1", "user-2", "42", "a")}
    expected = {"ada": 0.392417, "user-1": 0.142056, "user-2": 0.213341, "42": 0.830993, "a": 0.692906}
    assert {key: round(value, 6) for key, value in found.items()} == expected
    assert [found[key] < 0.25 for key in ("user-1", "user-2", "ada", "42")] == [True, True, False, False]
    assert [key for key in found if found[key] < 0.2] == ["user-1"]


def test_E033_a_share_that_grows_takes_in_more_keys_and_drops_none() -> None:
    found = [bucket("triage", "2", f"u{number}") for number in range(100_000)]
    assert [sum(value < share for value in found) for share in (0.05, 0.10)] == [4_981, 9_975]
    few = found[:10_000]
    small, large = ({index for index, value in enumerate(few) if value < share} for share in (0.05, 0.25))
    assert small < large
    assert abs(len(small) / 10_000 - 0.05) < 0.01
    assert abs(len(large) / 10_000 - 0.25) < 0.01


def test_E033_another_rollout_is_met_by_others() -> None:
    both = sum(
        bucket("triage", "2", f"u{number}") < 0.1 and bucket("triage", "3", f"u{number}") < 0.1
        for number in range(100_000)
    )
    assert both == 992


def test_a_bucket_is_never_one_nor_does_any_text_fail() -> None:
    for key in ("", "\ud800", "\x1f", "🙂" * 1000):
        assert 0 <= bucket("p", "s", key) < 1


@pytest.mark.parametrize(
    ("inputs", "given", "key"),
    [
        ({"customer": "ada"}, "session", "ada"),
        ({"customer": 42}, "session", "42"),
        ({"customer": ""}, "session", "session"),
        ({"customer": None}, "session", "session"),
        ({"customer": True}, "session", "session"),
        ({"customer": ["ada"]}, "", ""),
        ({"customer": Shy("ada")}, "session", "ada"),
        ({"customer": 16**5000}, "session", "1" + 5000 * "0"),
        ({"customer": -7}, "session", "-7"),
        ({}, "session", "session"),
    ],
)
def test_who_asks_is_said_by_the_input_or_by_the_request(inputs: dict[str, object], given: str, key: str) -> None:
    assert key_of(inputs, "customer", given) == key
    assert key_of(inputs, None, given) == given


def test_E036_the_ratio_and_its_bounds_are_the_published_ones() -> None:
    assert round(log_likelihood_ratio(5, 0, 0.1, 2), 6) == 2.989185 > bounds(0.05, 0.05).reject
    assert round(log_likelihood_ratio(4, 0, 0.1, 2), 6) == 2.391348 < bounds(0.05, 0.05).reject
    found = [log_likelihood_ratio(0, 29, 0.1, 2), log_likelihood_ratio(0, 31, 0.1, 2)]
    assert [round(value, 6) for value in found] == [-2.763995, -2.954616]
    assert found[1] < bounds(0.05, 0.05).accept < found[0]
    assert [round(log_likelihood_ratio(10, bad, 0.1, 2), 6) for bad in (50, 90)] == [1.212861, -2.599546]
    assert [round(bound, 6) for bound in bounds(0.05, 0.05, 3)] == [4.043051, -2.978925]
    assert [round(step, 6) for step in bad_unit_steps(0.1, 2)] == [0.597837, -0.09531]
    assert [round(step, 6) for step in bad_unit_steps(0.5, 2)] == [0.287682, -0.405465]


def test_E043_counts_of_several_shares_are_not_added_up() -> None:
    parts = [log_likelihood_ratio(2, 198, 0.01, 2), log_likelihood_ratio(400, 400, 0.5, 2)]
    assert [round(part, 6) for part in parts] == [-0.603772, -47.113214]
    assert round(sum(parts), 6) == -47.716986


def test_E054_of_pairs_eleven_bad_ones_reject_and_ten_do_not() -> None:
    assert round(log_likelihood_ratio(10, 0, 0.5, 2), 6) == 2.876821 < bounds(0.05, 0.05).reject
    assert log_likelihood_ratio(11, 0, 0.5, 2) == pytest.approx(3.164502, abs=1e-6)
    assert log_likelihood_ratio(11, 0, 0.5, 2) > bounds(0.05, 0.05).reject


def test_what_is_promoted_is_held_against_its_bound_alone() -> None:
    """At the bound the ratio goes down; at twice the bound it goes up; a bound near 1 makes sense, too."""
    assert ratio_against_bound(20, 980, 0.02, 2) < 0 < ratio_against_bound(40, 960, 0.02, 2)
    assert ratio_against_bound(1000, 0, 0.9, 2) > 0
