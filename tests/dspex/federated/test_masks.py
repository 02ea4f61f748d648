"""Secure sums: masks that are gone in the sum, whoever drops out, or no sum at all."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from dspex.federated import (
    BadFederation,
    BadUpdate,
    CannotMerge,
    MaskKey,
    SecretShare,
    SecureSum,
    dequantised,
    masked,
    quantised,
    secret_of,
    shares_of,
)
from dspex.federated.masks import SECRET_BITS
from supervision.errors import BadOption

ROWS = np.arange(12).reshape(4, 3)
NAMES = ("a", "b", "c", "d")
CHANCE = random.Random(1)
KEYS = {name: MaskKey.of(CHANCE.getrandbits(SECRET_BITS)) for name in NAMES}
PUBLIC = {name: key.public for name, key in KEYS.items()}
SHARES = {name: shares_of(key.secret, 4, 3, CHANCE.randrange) for name, key in KEYS.items()}


def row(number: int, label: str = "round 1") -> Any:
    name = NAMES[number]
    return masked(ROWS[number], name, KEYS[name], PUBLIC, label)


def summed(*numbers: int) -> SecureSum:
    found = SecureSum(PUBLIC, threshold=3, label="round 1")
    for number in numbers:
        found.report(NAMES[number], row(number))
    return found


def test_T072_the_sum_is_that_of_the_plain_numbers() -> None:
    assert summed(0, 1, 2, 3).result().tolist() == [18, 22, 26]
    for number in range(4):
        assert set(row(number).tolist()).isdisjoint(ROWS[number].tolist())
        assert (row(number) != row(number, "round 2")).all()


def test_T072_of_a_client_that_drops_out_the_masks_are_rebuilt_of_enough_shares() -> None:
    found = summed(0, 2, 3)
    assert found.dropped == ["b"]
    for share in SHARES["b"][1:]:
        found.reveal("b", share)
    assert found.result().tolist() == (ROWS[0] + ROWS[2] + ROWS[3]).tolist()


def test_T072_with_fewer_shares_the_round_is_void() -> None:
    found = summed(0, 2, 3)
    for share in (*SHARES["b"][:2], SHARES["b"][0]):  # one of them twice
        found.reveal("b", share)
    with pytest.raises(CannotMerge, match="b has dropped out, and 2 of 3 shares are there"):
        found.result()
    with pytest.raises(CannotMerge, match="2 of 3 clients have reported"):
        summed(0, 1).result()


def test_shares_of_something_else_make_no_sum() -> None:
    found = summed(0, 2, 3)
    for at in (1, 2, 3):
        found.reveal("b", SecretShare(at, at + 1))
    with pytest.raises(CannotMerge, match="not those of the secret of b"):
        found.result()


def test_what_makes_no_sense_is_refused() -> None:
    found = summed(0)
    with pytest.raises(BadUpdate, match="x is no party"):
        found.report("x", row(0))
    with pytest.raises(BadUpdate, match="the shape"):
        found.report("b", np.zeros(2))
    with pytest.raises(BadUpdate, match="a has not dropped out"):
        found.reveal("a", SHARES["a"][0])
    found.report("a", row(1))  # the first one counts
    for threshold in (1, 5):
        with pytest.raises(BadFederation):
            SecureSum(PUBLIC, threshold, "round 1")
    for public in (0, 1, -5, 2**2048):
        with pytest.raises(BadUpdate, match="no public key"):
            masked(ROWS[0], "a", KEYS["a"], {"a": 1, "b": public}, "round 1")
    with pytest.raises(BadOption):
        MaskKey.of(0)


def test_fewer_shares_than_the_threshold_say_nothing() -> None:
    secret = KEYS["a"].secret
    assert secret_of(SHARES["a"][1:]) == secret
    assert secret_of(SHARES["a"][:2]) != secret
    assert secret_of(shares_of(secret, 3, 1, CHANCE.randrange)[2:]) == secret
    for count, threshold, number in ((2, 3, 1), (3, 0, 1), (3, 2, -1), (3, 2, 2**521)):
        with pytest.raises((BadFederation, BadOption)):
            shares_of(number, count, threshold, CHANCE.randrange)


def test_numbers_survive_being_made_whole() -> None:
    values = np.array([[-9.0, -0.5, 0.0], [0.25, 7.0, 100.0]])
    total = sum(quantised(row) for row in values)
    assert dequantised(total, 2) == pytest.approx([-7.75, 6.5, 8.0], abs=1e-5)
    with pytest.raises(BadUpdate, match="NaN"):
        quantised([np.nan])
    with pytest.raises(BadFederation, match="give less than 1024"):
        dequantised(total, 1024)
