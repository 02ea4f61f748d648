"""Checkpoints: agents as bytes with a checksum, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import msgspec

from agents.core.agent import Agent
from agents.core.directives import Cron
from agents.core.structs import checked, fields_of
from agents.durability.delta import lost, says_any
from agents.errors import BadCheckpoint, BadState, NotSaved, SchemaMismatch

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType

T = TypeVar("T")
#: By declared type, whether it says `Any` somewhere.
_open: dict[Any, bool] = {}

#: What a checkpoint says about the rest. Format 1 had no owners, turns or rows; its cron jobs are in the checkpoint.
FORMAT = 2
_READ = (1, 2)
_TOO_DEEP = "it is nested too deeply, or within itself: give data that end"
_NEVER_SAVED = frozenset({"steps"})


class Checkpoint(msgspec.Struct, frozen=True):
    """What is saved of an agent.

    Attributes:
        format: of the checkpoint.
        type: the name of the agent's type.
        id: of the agent.
        partition: of the agent.
        version: of the agent.
        state: its fields.
        slices: of plugins and the strategy, by key.
        crons: the cron jobs of its server; in format 1 only.
        schema: of the agent's type then.
    """

    format: int
    type: str
    id: str
    partition: str
    version: int
    state: Any
    slices: Mapping[str, Any] = {}
    crons: tuple[Cron, ...] = ()
    schema: int = 1


def key_of(agent: Agent[Any]) -> str:
    """Return the key under which an agent is saved."""
    return f"{agent.partition}/{agent.type}/{agent.id}"


def with_checksum(body: bytes) -> bytes:
    """Return bytes with a checksum before them."""
    return crc32(body).to_bytes(4, "big") + body


def without_checksum(key: str, data: bytes) -> bytes:
    """Return bytes without their checksum.

    Raises:
        BadCheckpoint: it does not fit.
    """
    if len(data) < 4 or crc32(data[4:]) != int.from_bytes(data[:4], "big"):
        raise BadCheckpoint(key, "its checksum is wrong: restore a backup, or delete it to begin anew")
    return data[4:]


def encoded(value: Any, where: str, key: str, kind: Any = None) -> bytes:
    """Return a value as bytes.

    Args:
        value: what is saved.
        where: what it is, for the error, such as ``"Emit"``.
        key: under which it is saved.
        kind: as what it is read again, if that is tried at once; None if not. What is written is not checked: an
            attribute of another type than is declared would be found when it is too late.

    Raises:
        NotSaved: a part of it cannot be saved, or not be read again; the error says which.
    """
    try:
        body = msgspec.msgpack.encode(value)
    except RecursionError:
        raise NotSaved(key, f"{where} cannot be saved: {_TOO_DEEP}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise NotSaved(key, f"{_unencodable_path(value, where)} cannot be saved: {error}") from None
    if kind is not None:
        try:
            msgspec.msgpack.decode(body, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise NotSaved(key, f"{where} could not be read again: {error}") from None
    return with_checksum(body)


def decoded(key: str, data: bytes, kind: type[T], where: str = "") -> T:
    """Return a value from bytes.

    Args:
        key: under which they were saved.
        data: the bytes.
        kind: the type of the value.
        where: what they are, for the error, such as ``"an entry of the journal: "``.

    Raises:
        BadCheckpoint: the checksum is wrong, or they are of another type.
    """
    try:
        return msgspec.msgpack.decode(without_checksum(key, data), type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadCheckpoint(key, f"{where}{error}") from error


def _unencodable_path(value: Any, where: str) -> str:
    """Return the path of the innermost part that cannot be encoded."""
    parts: Mapping[Any, Any] = {}
    if isinstance(value, msgspec.Struct):
        parts = {f".{name}": part for name, part in fields_of(value).items()}
    elif isinstance(value, Mapping):
        parts = {f"[{name!r}]": part for name, part in value.items()}
    elif isinstance(value, (list, tuple)):
        parts = {f"[{number}]": part for number, part in enumerate(value)}
    for name, part in parts.items():
        try:
            msgspec.msgpack.encode(part)
        except (TypeError, ValueError, OverflowError):
            return _unencodable_path(part, f"{where}{name}")
    return where


def saved_slices(kind: type[AgentType[Any]], agent: Agent[Any]) -> dict[str, Any]:
    """Return the slices of an agent that are saved, as their plugins want it."""
    plugins = {one.key: one.plugin for one in kind.mounted}
    saved = {}
    for key, value in agent.slices.items():
        if key in plugins:
            value = plugins[key].checkpoint(value)  # noqa: PLW2901 - as the plugin wants it
        if value is not None and key not in _NEVER_SAVED:
            saved[key] = value
    return saved


def checkpoint_of(kind: type[AgentType[Any]], agent: Agent[Any]) -> bytes:
    """Return an agent as bytes.

    Raises:
        NotSaved: a part of it cannot be saved; the error says which.
    """
    slices = saved_slices(kind, agent)
    of = (FORMAT, agent.type, agent.id, agent.partition, agent.version)
    checkpoint = Checkpoint(*of, agent.state, slices, schema=kind.schema)
    return encoded(checkpoint, agent.type, key_of(agent))


def check_kept(kind: Any, value: Any, where: str, key: str) -> None:
    """Check that a value is the same when it is read again: what is declared is, what is not may be something else.

    Raises:
        NotSaved: a part of it would be another one; the error says which.
    """
    if kind not in _open:
        _open[kind] = says_any(kind)
    if _open[kind]:
        try:
            back = decoded(key, encoded(value, where, key), kind)
            path = lost(value, back, where)
        except BadCheckpoint as error:
            raise NotSaved(key, f"{where} could not be read again: {error.__cause__}") from None
        except RecursionError:
            raise NotSaved(key, f"{where} cannot be saved: {_TOO_DEEP}") from None
        if path is not None:
            why = "declare its type, or give text, numbers, bytes, times with a zone, and lists and dicts of them"
            raise NotSaved(key, f"{path} would be read again as something else: {why}")


def read_checkpoint(key: str, data: bytes) -> Checkpoint:
    """Return the checkpoint in bytes.

    Raises:
        BadCheckpoint: it cannot be read.
    """
    checkpoint = decoded(key, data, Checkpoint)
    if checkpoint.format not in _READ:
        raise BadCheckpoint(key, f"it has format {checkpoint.format}, and this version reads up to {FORMAT}")
    return checkpoint


def restored(kind: type[AgentType[Any]], fresh: Agent[Any], checkpoint: Checkpoint, key: str) -> Agent[Any]:
    """Return the agent of a checkpoint.

    Args:
        kind: its type.
        fresh: a new agent of that type, for what was not saved.
        checkpoint: what was saved.
        key: under which.

    Raises:
        BadCheckpoint: it does not fit the type as it is now, or a plugin cannot restore its slice.
        SchemaMismatch: it is of another schema, and the type does not say how that becomes its own.
    """
    if checkpoint.type != fresh.type or checkpoint.id != fresh.id or checkpoint.partition != fresh.partition:
        raise BadCheckpoint(key, f"it is of {checkpoint.type} {checkpoint.id!r}, not of {fresh.type} {fresh.id!r}")
    state = state_of(kind, checkpoint.state, checkpoint.schema, key)
    agent = msgspec.structs.replace(fresh, state=state, version=checkpoint.version)
    plugins = {one.key: one for one in kind.mounted}
    for name, value in checkpoint.slices.items():
        try:
            if name in plugins:
                agent = plugins[name].with_slice(agent, plugins[name].plugin.restore(value))
            elif name in fresh.slices:
                agent = agent.with_slice(name, checked(type(fresh.slices[name]), value))
        except Exception as error:
            raise BadCheckpoint(key, f"slice {name!r}: {type(error).__name__}: {error}") from error
    return agent


def state_of(kind: type[AgentType[Any]], state: Any, schema: int, key: str) -> Any:
    """Return a state that was saved with some schema as one of the type as it is now.

    Args:
        kind: the type.
        state: its fields as they were saved. They may be changed.
        schema: with which it was saved.
        key: under which.

    Raises:
        BadCheckpoint: it does not fit, or `AgentType.migrate` has failed.
        SchemaMismatch: there is no way from that schema.
    """
    if schema == kind.schema:
        return _checked(kind, state, key, strict=False)
    if schema > kind.schema:
        raise SchemaMismatch(key, kind.__name__, schema, kind.schema)
    where = f"{kind.__name__}.migrate from schema {schema} to {kind.schema}"
    try:
        made = kind.migrate(state, schema)
    except NotImplementedError as error:
        raise SchemaMismatch(key, kind.__name__, schema, kind.schema) from error
    except Exception as error:
        raise BadCheckpoint(key, f"{where} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, (Mapping, kind.state_type)):
        raise BadCheckpoint(key, f"{where} returned {made!r}: give a {kind.state_type.__name__}, or its fields")
    # A field that the state does not have is an error here: it would be lost, and nobody would know.
    return _checked(kind, made, key, strict=True, where=f"{where}: ")


def _checked(kind: type[AgentType[Any]], state: Any, key: str, *, strict: bool, where: str = "") -> Any:
    try:
        return kind.validate(state, strict=strict)
    except BadState as error:
        raise BadCheckpoint(key, f"{where}{error}") from error
