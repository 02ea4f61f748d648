"""Child specifications as values: what is accepted, what is filled in, what is refused and with which words."""

from __future__ import annotations

import itertools
import math
import random
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    Backoff,
    BadChildSpec,
    ChildLike,
    ChildSpec,
    DynamicSupervisor,
    SpecError,
    Supervisor,
    check_child_specs,
)
from supervision.errors import BadBackoff
from tests.supervision.probes import Probe


class Patient(Actor):
    """An actor whose class says how long it may take to stop."""

    shutdown = 42.0


async def start() -> Any:
    """Stand for a start function."""


def refused(field: str, value: Any, **fields: Any) -> SpecError:
    """Check that a specification with these fields is refused, naming the field and its value; return the error."""
    with pytest.raises(BadChildSpec) as caught:
        ChildSpec(**{"id": "a", "start": Probe, **fields})
    error = caught.value
    assert error.field == f"child {fields.get('id', 'a')!r}: {field}"
    assert error.value is value or error.value == value
    assert isinstance(error, ValueError)
    return error


# -- what is accepted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("shutdown", ["brutal_kill", 0, 1000, 0.5, "infinity"])
@pytest.mark.parametrize("type", ["worker", "supervisor"])
@pytest.mark.parametrize("starts", [Probe, Supervisor, start])
def test_S019_all_combinations_are_accepted_as_they_are(restart: Any, shutdown: Any, type: Any, starts: Any) -> None:
    """Every restart type goes with every shutdown and both types; the pure check gives the specification back."""
    spec = ChildSpec("a", starts, restart=restart, shutdown=shutdown, type=type)
    assert check_child_specs([spec]) == [spec]
    assert check_child_specs([spec])[0] is spec
    assert (spec.restart, spec.shutdown, spec.type) == (restart, shutdown, type)


@pytest.mark.parametrize(
    ("starts", "fields", "shutdown", "type"),
    [
        (Probe, {}, 5.0, "worker"),
        (Patient, {}, 42.0, "worker"),
        (Supervisor, {}, "infinity", "supervisor"),
        (DynamicSupervisor, {}, "infinity", "supervisor"),
        (start, {}, 5.0, "worker"),
        (start, {"type": "supervisor"}, "infinity", "supervisor"),
        (Patient, {"type": "supervisor"}, "infinity", "supervisor"),
        (Supervisor, {"type": "worker"}, "infinity", "worker"),
        (Supervisor, {"shutdown": 1}, 1, "supervisor"),
        (Probe, {"shutdown": "brutal_kill"}, "brutal_kill", "worker"),
    ],
)
def test_S015_defaults_follow_from_the_class_and_the_type(
    starts: Any, fields: dict[str, Any], shutdown: Any, type: str
) -> None:
    """A worker has 5 seconds to stop, or what its class says; a supervisor has no limit."""
    spec = ChildSpec("a", starts, **fields)
    assert (spec.shutdown, spec.type) == (shutdown, type)


@pytest.mark.parametrize("id", ["a", "", 0, 1.5, ("a", 1), frozenset("ab"), b"a", Probe, False])
def test_anything_hashable_is_an_id(id: Any) -> None:
    """As in OTP, where any term is."""
    assert ChildSpec(id, Probe).id == id
    assert len(check_child_specs([ChildSpec(id, Probe), ChildSpec("other", Probe)])) == 2


def test_the_class_of_a_child_is_known_if_there_is_one() -> None:
    """A start function may start anything."""
    assert ChildSpec("a", Probe).kind is Probe
    assert ChildSpec("a", start).kind is None
    assert ChildSpec("a", dict).kind is None


def test_a_specification_is_a_frozen_value() -> None:
    """It can be compared, shown and copied with other fields, not changed; its arguments are nobody else's."""
    spec = ChildSpec("a", Probe, kwargs={"trap_exit": True}, name="n")
    assert spec == ChildSpec("a", Probe, kwargs={"trap_exit": True}, name="n")
    assert spec != ChildSpec("a", Probe)
    assert "restart='permanent'" in repr(spec)
    with pytest.raises(AttributeError):
        spec.restart = "temporary"  # type: ignore[misc]
    other = msgspec.structs.replace(spec, restart="temporary")
    assert (other.restart, other.shutdown, spec.restart) == ("temporary", 5.0, "permanent")
    assert ChildSpec("a", Probe).kwargs is not ChildSpec("b", Probe).kwargs


# -- what is made into one ---------------------------------------------------------------------------------------------


def test_a_mapping_or_a_class_is_made_into_a_specification() -> None:
    """A mapping has the fields as its keys, others are ignored; a class is a child that is called as it is."""
    spec = ChildSpec("a", Probe, ([],), restart="transient")
    fields: dict[str, Any] = {"id": "a", "start": Probe, "args": ([],), "restart": "transient", "colour": "red"}
    assert ChildSpec.of(fields) == spec
    assert ChildSpec.of(MappingProxyType(fields)) == spec
    assert ChildSpec.of(spec) is spec
    assert ChildSpec.of(Probe) == ChildSpec("Probe", Probe)
    both: list[ChildLike] = [fields, Probe]
    assert check_child_specs(iter(both)) == [spec, ChildSpec("Probe", Probe)]


@pytest.mark.parametrize("spec", ["a", None, 3, ("a", Probe), [Probe], int, start])
def test_S017_anything_else_is_no_specification(spec: Any) -> None:
    """The error shows what was given, and says what to give."""
    with pytest.raises(BadChildSpec, match="give a ChildSpec, a mapping with its fields, or an Actor class") as caught:
        ChildSpec.of(spec)
    assert (caught.value.field, caught.value.value) == ("child spec", spec)


@pytest.mark.parametrize(("field", "spec"), [("id", {"start": Probe}), ("start", {"id": "a"}), ("id", {})])
def test_S017_id_and_start_are_needed(field: str, spec: dict[str, Any]) -> None:
    """A mapping without one of them is refused by its name (OTP's missing_id, missing_start)."""
    with pytest.raises(BadChildSpec) as caught:
        ChildSpec.of(spec)
    assert (caught.value.field, caught.value.value) == (f"child spec: {field}", spec)
    assert caught.value.remedy == f"{field} is missing"


# -- what is refused ---------------------------------------------------------------------------------------------------

WRONG: dict[str, list[Any]] = {
    "id": [None, [1], {}, set()],
    "start": [None, "Probe", 3, Probe.__name__],
    "args": [None, "ab", {"a"}, 3, iter(())],
    "kwargs": [None, [("a", 1)], "a"],
    "restart": [None, "", "always", "Permanent", 1, ["permanent"]],
    "shutdown": [-1, -0.5, math.nan, math.inf, True, "kill", "", "5", [5]],
    "type": ["", "agent", 1, ["worker"]],
    "significant": [None, 1, 3, "yes"],
    "backoff": [1.0, True, {"initial": 1.0}],
    "name": ["", 1, b"n", ["n"]],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in WRONG for value in WRONG[field]],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
def test_S017_a_wrong_field_is_named_with_its_value(field: str, value: Any) -> None:
    """Each field refuses what it cannot be, with a remedy in words."""
    error = refused(field, value, **{field: value})
    assert error.remedy
    assert field in str(error)


def test_S022_permanent_and_significant_contradict_each_other() -> None:
    """A permanent child never ends for good, so its end cannot mean anything."""
    error = refused("significant", True, significant=True)
    assert "permanent" in error.remedy
    for restart in ("transient", "temporary"):
        assert ChildSpec("a", Probe, significant=True, restart=restart).significant  # type: ignore[arg-type]


def test_S022_the_check_knows_the_mode_of_the_supervisor() -> None:
    """With `never` a significant child is refused, with the other modes it is not."""
    spec = ChildSpec("a", Probe, significant=True, restart="transient")
    with pytest.raises(BadChildSpec, match="bad_combination"):
        check_child_specs([spec])
    for mode in ("any_significant", "all_significant"):
        assert check_child_specs([spec], mode) == [spec]  # type: ignore[arg-type]


def test_S019_an_id_stands_once() -> None:
    """Equal ids are one id, however they are written."""
    for one, two in (("a", "a"), (1, 1.0), (("a", 1), ("a", 1))):
        with pytest.raises(BadChildSpec, match="duplicate_child_name") as caught:
            check_child_specs([ChildSpec(one, Probe), ChildSpec("x", Probe), ChildSpec(two, Probe)])
        assert caught.value.value == two


@pytest.mark.parametrize("specs", ["ab", b"ab", 3, None, {"id": "a", "start": Probe}, Probe, ChildSpec("a", Probe)])
def test_the_check_takes_a_list(specs: Any) -> None:
    """One specification instead of a list of them is refused as such."""
    with pytest.raises(BadChildSpec, match="give a list of child specifications") as caught:
        check_child_specs(specs)
    assert (caught.value.field, caught.value.value) == ("children", specs)


def test_nothing_to_check_is_fine() -> None:
    """A supervisor may have no children."""
    assert check_child_specs([]) == []


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "restart": st.sampled_from(["permanent", "transient", "temporary", "junk", None]),
        "shutdown": st.sampled_from([None, 0, 2.5, "infinity", "brutal_kill", -1, "junk"]),
        "type": st.sampled_from([None, "worker", "supervisor", "junk"]),
        "significant": st.sampled_from([True, False, 3]),
        "name": st.sampled_from([None, "n", ""]),
    },
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(FIELDS, st.sampled_from(["never", "any_significant", "all_significant"]))
def test_a_specification_is_taken_exactly_if_each_field_is_right(fields: dict[str, Any], mode: Any) -> None:
    """No field makes up for another, and a specification that was taken is complete and is taken again."""
    junk = {"junk", -1, "", 3} & set(fields.values()) or fields.get("restart", "permanent") is None
    significant = fields.get("significant", False)
    contradiction = significant and (fields.get("restart", "permanent") == "permanent" or mode == "never")
    given = {"id": "a", "start": Probe, **fields}
    if junk or contradiction:
        with pytest.raises(BadChildSpec):
            check_child_specs([given], mode)
        return
    (spec,) = check_child_specs([given], mode)
    assert None not in (spec.shutdown, spec.type)
    assert ChildSpec.of(msgspec.structs.asdict(spec)) == spec
    for field, value in fields.items():
        if value is not None:
            assert getattr(spec, field) == value


# -- pauses before restarts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["initial", "maximum", "factor", "jitter"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None, True])
def test_each_field_of_a_back_off_is_a_number(field: str, value: Any) -> None:
    """The error names the field and the value."""
    with pytest.raises(BadBackoff) as caught:
        Backoff(**{field: value})
    assert caught.value.field == f"Backoff.{field}"
    assert caught.value.value is value


def test_a_back_off_that_begins_late_needs_no_second_argument() -> None:
    assert (Backoff(initial=10).maximum, Backoff(initial=1).maximum) == (10, 5.0)


@pytest.mark.parametrize(
    "fields", [{"factor": 0.9}, {"jitter": 1.1}, {"initial": 6.0, "maximum": 5.0}, {"maximum": 0.05}]
)
def test_the_fields_of_a_back_off_go_together(fields: dict[str, float]) -> None:
    """It does not shrink, is not negative, and its longest pause is not shorter than its first."""
    with pytest.raises(BadBackoff, match="factor is at least 1, jitter at most 1, maximum at least initial") as caught:
        Backoff(**fields)
    assert caught.value.field == "Backoff"


BACKOFFS = st.builds(
    lambda initial, more, factor, jitter: Backoff(initial, initial + more, factor, jitter),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(1, 1e12),
    st.floats(0, 1),
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(BACKOFFS, st.integers(1, 10_000), st.integers())
def test_a_pause_lies_between_its_bounds_and_grows(backoff: Backoff, attempt: int, seed: int) -> None:
    """From the first attempt to the ten thousandth, and however fast it grows."""
    pause = backoff.delay(attempt, random.Random(seed))
    sure = 1.0 - backoff.jitter
    assert backoff.initial * sure <= pause * (1 + 1e-9)
    assert pause <= backoff.longest
    steady = msgspec.structs.replace(backoff, jitter=0.0)
    pauses = [steady.delay(n, random.Random(seed)) for n in sorted({1, 2, attempt, attempt + 1, attempt + 500})]
    assert pauses[0] == backoff.initial
    assert all(one <= two for one, two in itertools.pairwise(pauses))


def test_the_pauses_of_a_back_off_are_known_without_jitter() -> None:
    """They double, say, up to the longest; a first pause of nothing stays nothing."""
    chance = random.Random(1)
    assert [Backoff(1.0, 10.0, 2.0, 0.0).delay(n, chance) for n in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert [Backoff(0.0, 10.0, 1e300, 0.0).delay(n, chance) for n in (1, 2, 3, 1000)] == [0.0] * 4
    assert [Backoff(1.0, 10.0, 1e300, 0.0).delay(n, chance) for n in (1, 2, 3, 1000)] == [1.0, 10.0, 10.0, 10.0]


def test_jitter_shortens_a_pause_by_chance_alone() -> None:
    """The same source of chance gives the same pauses, another one others."""
    backoff = Backoff(initial=1.0, maximum=1.0, jitter=0.5)
    first = [backoff.delay(1, chance) for chance in [random.Random(1)] for _ in range(50)]
    again = [backoff.delay(1, chance) for chance in [random.Random(1)] for _ in range(50)]
    other = [backoff.delay(1, chance) for chance in [random.Random(2)] for _ in range(50)]
    assert first == again != other
    assert 0.5 < min(first) < 0.6 < 0.9 < max(first) <= 1.0
