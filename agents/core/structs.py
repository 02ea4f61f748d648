"""Values of declared types: checked, and changed field by field."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, get_args

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def fields_of(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct, but for those that are unset."""
    items = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return {name: value for name, value in items.items() if value is not msgspec.UNSET}


def encoded_names(kind: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields by the names under which a type of structs encodes them; names that it does not know stay."""
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    return {names.get(name, name): value for name, value in fields.items()}


def made(kind: type[S], fields: Mapping[str, Any]) -> S:
    """Return a struct with these fields, each checked against its declared type.

    Raises:
        msgspec.ValidationError: one does not fit.
    """
    return msgspec.convert(encoded_names(kind, fields), kind)


def checked(kind: Any, value: Any) -> Any:
    """Return a value of the declared type ``kind``, its fields checked too if it is a struct.

    Raises:
        msgspec.ValidationError: it does not fit.
    """
    if isinstance(value, msgspec.Struct):
        value = made(type(value), fields_of(value))
    return msgspec.convert(value, kind)


#: What is checked by its class alone.
_SIMPLE: Mapping[Any, type] = {kind: kind for kind in (bool, int, str, bytes, float, type(None))}


class _Checks(dict[Any, tuple[tuple[str, tuple[type, ...]], ...]]):
    """The mapping `checks`; an item is made when it is first asked for."""

    def __missing__(self, kind: Any) -> tuple[tuple[str, tuple[type, ...]], ...]:
        found = []
        for field in msgspec.structs.fields(kind):
            options = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
            simple = all(option in _SIMPLE for option in options)
            found.append((field.name, tuple(_SIMPLE[option] for option in options) if simple else ()))
        self[kind] = checks = tuple(found)
        return checks


#: For each type of structs its fields, each with the classes of which a value is as declared, whatever it is.
checks = _Checks()


def refuse_unknown(kind: Any, fields: Mapping[str, Any]) -> None:
    """Check that a type of structs has all these fields.

    Raises:
        msgspec.ValidationError: it has not.
    """
    known = kind.__struct_encode_fields__
    for name in fields:
        if name not in known:
            raise msgspec.ValidationError(f"there is no field {name!r}; there are {', '.join(known)}")


def patched(state: S, patch: Mapping[str, Any], *, merge: bool) -> S:
    """Return a state with some fields changed.

    Args:
        state: the state.
        patch: new values by the name of the field.
        merge: whether mappings are merged, at any depth, with what is there.

    Raises:
        msgspec.ValidationError: the state has no such field, or the value does not fit it.
    """
    fields = fields_of(state)
    for name, value in patch.items():
        if name not in type(state).__struct_fields__:
            raise msgspec.ValidationError(f"the state has no field {name!r}")
        fields[name] = _merged(fields.get(name), value) if merge else value
    return made(type(state), fields)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def differences(before: Any, after: Any) -> dict[str, Any]:
    """Return the fields of a struct that differ from those of another one of its type."""
    return {
        name: value
        for name in after.__struct_fields__
        if (value := getattr(after, name)) is not getattr(before, name) and value != getattr(before, name)
    }
