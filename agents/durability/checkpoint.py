"""Checkpoints: agents as bytes with a checksum, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import msgspec

from agents.core.agent import Agent
from agents.core.directives import Cron
from agents.core.structs import checked, fields_of
from agents.errors import BadCheckpoint, BadState, NotSaved

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType

T = TypeVar("T")

#: What the first bytes of a checkpoint say about the rest.
FORMAT = 1
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
        crons: the cron jobs of its server.
    """

    format: int
    type: str
    id: str
    partition: str
    version: int
    state: Any
    slices: Mapping[str, Any] = {}
    crons: tuple[Cron, ...] = ()


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


def encoded(value: Any, where: str, key: str) -> bytes:
    """Return a value as bytes.

    Raises:
        NotSaved: a part of it cannot be saved; the error says which.
    """
    try:
        return with_checksum(msgspec.msgpack.encode(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise NotSaved(key, f"{_unencodable_path(value, where)} cannot be saved: {error}") from None


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
    except (msgspec.MsgspecError, ValueError) as error:
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


def checkpoint_of(kind: type[AgentType[Any]], agent: Agent[Any], crons: tuple[Cron, ...]) -> bytes:
    """Return an agent as bytes.

    Raises:
        NotSaved: a part of it cannot be saved; the error says which.
    """
    slices = saved_slices(kind, agent)
    checkpoint = Checkpoint(FORMAT, agent.type, agent.id, agent.partition, agent.version, agent.state, slices, crons)
    return encoded(checkpoint, agent.type, key_of(agent))


def read_checkpoint(key: str, data: bytes) -> Checkpoint:
    """Return the checkpoint in bytes.

    Raises:
        BadCheckpoint: it cannot be read.
    """
    checkpoint = decoded(key, data, Checkpoint)
    if checkpoint.format != FORMAT:
        raise BadCheckpoint(key, f"it has format {checkpoint.format}, and this version reads {FORMAT}")
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
    """
    if checkpoint.type != fresh.type or checkpoint.id != fresh.id or checkpoint.partition != fresh.partition:
        raise BadCheckpoint(key, f"it is of {checkpoint.type} {checkpoint.id!r}, not of {fresh.type} {fresh.id!r}")
    agent = msgspec.structs.replace(fresh, state=_state(kind, checkpoint.state, key), version=checkpoint.version)
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


def _state(kind: type[AgentType[Any]], state: Any, key: str) -> Any:
    try:
        return kind.validate(state, strict=False)
    except BadState as error:
        raise BadCheckpoint(key, str(error)) from error
