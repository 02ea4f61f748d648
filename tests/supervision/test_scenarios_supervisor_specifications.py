"""Scenarios of the reference, section 4.1: what a supervisor refuses, before it starts anything."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import (
    Actor,
    BadChildSpec,
    ChildNotFound,
    DynamicSupervisor,
    Runtime,
    Supervisor,
    check_child_specs,
    get_child_spec,
    start_child,
    which_children,
)
from supervision.errors import BadStrategy
from tests.supervision.probes import Probe, error_of, rec, refs


async def test_S015_defaults_are_filled_in(runtime: Runtime) -> None:
    """`get_child_spec` shows all fields: permanent, 5 seconds, worker; infinity for supervisors."""
    sup = await runtime.spawn(
        Supervisor,
        [
            {"id": 1, "start": Probe},
            {"id": 2, "start": Probe, "shutdown": "brutal_kill"},
            {"id": 3, "start": Probe, "type": "supervisor"},
            {"id": 4, "start": Supervisor},
            {"id": 5, "start": Supervisor, "shutdown": 1.0, "type": "worker"},
            Probe,
        ],
    )
    plain = await get_child_spec(sup, 1)
    assert (plain.restart, plain.shutdown, plain.type, plain.significant) == ("permanent", 5.0, "worker", False)
    assert (plain.args, plain.kwargs, plain.backoff, plain.name) == ((), {}, None, None)
    found = [await get_child_spec(sup, id) for id in (2, 3, 4, 5, "Probe")]
    assert [(spec.shutdown, spec.type) for spec in found] == [
        ("brutal_kill", "worker"),
        ("infinity", "supervisor"),
        ("infinity", "supervisor"),
        (1.0, "worker"),
        (5.0, "worker"),
    ]
    error = await error_of(get_child_spec(sup, 6))
    assert isinstance(error, ChildNotFound)
    assert error.id == 6


FAULTY = [
    ("no id", {"start": Probe}, "child spec: id", "id is missing"),
    ("no start", {"id": "a"}, "child spec: start", "start is missing"),
    ("no mapping", "a", "child spec", "give a ChildSpec"),
    ("not an actor", int, "child spec", "give a ChildSpec"),
    ("bad restart", {"id": "a", "start": Probe, "restart": "maybe"}, "child 'a': restart", "permanent, transient"),
    ("bad shutdown", {"id": "a", "start": Probe, "shutdown": -1}, "child 'a': shutdown", "brutal_kill"),
]


@pytest.mark.parametrize(("spec", "field", "remedy"), [row[1:] for row in FAULTY], ids=[row[0] for row in FAULTY])
async def test_S017_faulty_specifications(runtime: Runtime, spec: Any, field: str, remedy: str) -> None:
    """A wrong specification fails the start before any child is started; in `start_child` it changes nothing."""
    log: list[Any] = []
    good = rec(log, "good")
    error = await error_of(runtime.spawn(Supervisor, [good, spec]))
    assert log == []
    sup = await runtime.spawn(Supervisor, [good])
    for found in (error, await error_of(start_child(sup, spec))):
        assert isinstance(found, BadChildSpec)
        assert found.field == field
        assert remedy in found.remedy
        assert field in str(found)
    assert list(await refs(sup)) == ["good"]
    assert log == ["+good"]


async def test_S017_unknown_keys_are_ignored(runtime: Runtime) -> None:
    """A mapping may hold more than a specification needs."""
    sup = await runtime.spawn(Supervisor, [{"id": "a", "start": Probe, "colour": "red"}])
    assert list(await refs(sup)) == ["a"]


@pytest.mark.parametrize("children", ["ab", b"ab", 5, {"id": "a", "start": Probe}, None, Probe])
@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_children_are_a_list(runtime: Runtime, kind: type[Actor], children: Any) -> None:
    """Anything else is refused by name, before anything starts."""
    error = await error_of(runtime.spawn(kind, children))
    assert isinstance(error, BadChildSpec)
    assert (error.field, error.value) == ("children", children)
    assert list(runtime.actors()) == []


@pytest.mark.parametrize("field", ["strategy", "auto_shutdown"])
@pytest.mark.parametrize("value", ["one_for_some", "", None, 3, ["never"]])
async def test_wrong_flags_fail_the_start_before_any_child(runtime: Runtime, field: str, value: Any) -> None:
    """The error names the flag, the value and the choices; no child was started."""
    log: list[Any] = []
    error = await error_of(runtime.spawn(Supervisor, [rec(log, "a")], **{field: value}))
    assert isinstance(error, BadStrategy)
    assert (error.field, error.value) == (field, value)
    assert "choose one of" in error.remedy
    assert log == []


async def test_S019_one_id_twice(runtime: Runtime) -> None:
    """Two children with one id are refused as the pure check refuses them, and neither starts."""
    log: list[Any] = []
    children = [rec(log, "a"), rec(log, "b"), rec(log, "a")]
    for error in (await error_of(runtime.spawn(Supervisor, children)), error_from(children)):
        assert isinstance(error, BadChildSpec)
        assert (error.field, error.value) == ("child spec: id", "a")
        assert "duplicate_child_name" in error.remedy
    assert log == []


def error_from(children: Any, *more: Any) -> BaseException:
    """Return what the pure check raises."""
    with pytest.raises(BadChildSpec) as caught:
        check_child_specs(children, *more)
    return caught.value


async def test_S022_significant_children_need_a_supervisor_that_shuts_down(runtime: Runtime) -> None:
    """With `never` a significant child is refused, at the start and by `start_child`; with the others it is taken."""
    log: list[Any] = []
    spec = rec(log, "a", restart="transient", significant=True)
    sup = await runtime.spawn(Supervisor)
    for error in (
        await error_of(runtime.spawn(Supervisor, [spec])),
        await error_of(start_child(sup, spec)),
        await error_of(start_child(await runtime.spawn(DynamicSupervisor), spec)),
        error_from([spec]),
    ):
        assert isinstance(error, BadChildSpec)
        assert (error.field, error.value) == ("child 'a': significant", True)
        assert "bad_combination" in error.remedy
    assert await which_children(sup) == []
    assert log == []
    for mode in ("any_significant", "all_significant"):
        other = await runtime.spawn(Supervisor, [spec], auto_shutdown=mode)
        assert await start_child(other, rec(log, "b", restart="temporary", significant=True)) is not None


async def test_S022_a_permanent_child_cannot_be_significant(runtime: Runtime) -> None:
    """Whatever the supervisor's mode."""
    sup = await runtime.spawn(Supervisor, auto_shutdown="any_significant")
    for value in (True, 3, None):
        error = await error_of(start_child(sup, {"id": "a", "start": Probe, "significant": value}))
        assert isinstance(error, BadChildSpec)
        assert (error.field, error.value) == ("child 'a': significant", value)
    assert await which_children(sup) == []
