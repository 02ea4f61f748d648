"""Inputs that come as the parts of a form: images, files and sounds, and texts beside them."""

from __future__ import annotations

import json
import mimetypes
import types
import typing
from base64 import b64encode
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import dspy

from foundation.programs import FormPart

#: Of which media types a file may be that is given for an input of such a type.
_FILES: Mapping[Any, str] = {dspy.Image: "image/*", dspy.Audio: "audio/*", dspy.File: "*/*", bytes: "*/*"}


class FileInput(NamedTuple):
    """What an input takes that may be a file: of which ``type``, and whether there may be ``many``."""

    type: Any
    many: bool

    @property
    def media_types(self) -> str:
        """Of which media types a file may be."""
        return _FILES[self.type]


def file_input(annotation: Any) -> FileInput | None:
    """Return what of an input may be a file; None if nothing.

    >>> file_input(dspy.Image | None).media_types
    'image/*'
    >>> file_input(list[bytes])
    FileInput(type=<class 'bytes'>, many=True)
    """
    if annotation in _FILES:
        return FileInput(annotation, many=False)
    inner = [found for each in typing.get_args(annotation) if (found := file_input(each)) is not None]
    if not inner or typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return inner[0] if inner else None
    return FileInput(inner[0].type, many=True) if _is_many(annotation) else None


def is_form(value: object) -> bool:
    """Return whether an input is a part of a form, or several."""
    return isinstance(value, FormPart) or (type(value) is list and bool(value) and isinstance(value[0], FormPart))


def form_value(annotation: Any, value: Any) -> Any:
    """Return what the parts of a form stand for: what the input's type can be made of.

    Args:
        annotation: the type of the input; Any for a text.
        value: the parts.

    Raises:
        ValueError: they cannot stand for it.
    """
    parts = value if isinstance(value, list) else [value]
    file = file_input(annotation)
    if file is not None and parts[0].filename is not None:
        made = [_file(file, part) for part in parts]
        return made if file.many or len(made) > 1 else made[0]
    texts = [_text(annotation, part) for part in parts]
    return texts if len(texts) > 1 or (_is_many(annotation) and not isinstance(texts[0], list)) else texts[0]


def _file(file: FileInput, part: FormPart) -> Any:
    media_type = part.media_type
    if media_type == "application/octet-stream":
        media_type = mimetypes.guess_type(part.filename or "")[0] or media_type
    kind = file.media_types.removesuffix("*")
    if kind != "*/" and not media_type.startswith(kind):
        raise ValueError(f"a file of type {media_type} is no {file.media_types}")
    if file.type is bytes:
        return part.data
    encoded = b64encode(part.data).decode()
    if file.type is dspy.Audio:
        return {"data": encoded, "audio_format": media_type.removeprefix(kind).removeprefix("x-")}
    url = f"data:{media_type};base64,{encoded}"
    return {"url": url} if file.type is dspy.Image else {"file_data": url, "filename": part.filename}


def _text(annotation: Any, part: FormPart) -> Any:
    try:
        text = part.data.decode()
    except UnicodeDecodeError:
        raise ValueError("no text in UTF-8") from None
    if annotation is Any or _may_be_text(annotation):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _may_be_text(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(map(_may_be_text, typing.get_args(annotation)))
    if typing.get_origin(annotation) is typing.Literal:
        return all(isinstance(value, str) for value in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, str)


def _is_many(annotation: Any) -> bool:
    kind = typing.get_origin(annotation)
    return isinstance(kind, type) and issubclass(kind, Collection) and not issubclass(kind, Mapping)
