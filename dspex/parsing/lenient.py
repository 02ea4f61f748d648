r"""Reads answers that miss the form they were asked for by little: no further call, and nothing is made up.

What is understood: the fields as a JSON object, in a fence or between sentences, also with the mistakes that
``json_repair`` mends; the fields under headings that look a little different, such as ``**label:** yes``; a value that
is one of a few, in other letters or quotes. Prose is no answer, and neither is an empty text where one is required.

>>> import dspy
>>> read(dspy.Signature("q -> a: int"), 'Sure! ```json\n{"a": 1,}\n``` Anything else?')
{'a': 1}
>>> read(dspy.Signature("q -> a: int, why: str"), "**a:** 2\n**why:** Twice one.")
{'a': 2, 'why': 'Twice one.'}
>>> print(read(dspy.Signature("q -> a: int"), "I think so"))
None
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import json_repair
import pydantic

from dspex._compat import (
    THOUGHTS,
    apply_output_field_defaults,
    get_annotation_name,
    parse_value,
)

#: How an answer to DSPy's `ChatAdapter` ends.
_END = "completed"
#: What is longer, or has more brackets in it, is read as JSON only if it is: to mend it takes too long.
_LONGEST, _BRACKETS = 20_000, 200
_FENCE = re.compile(r"```[\w-]*\s*\n?(.*?)```", re.DOTALL)
_DECORATION = " \t\r\n\"'`*."
_FAILED_FIELD = re.compile(r"Failed to parse field (\w+)")


def read(signature: Any, text: str) -> dict[str, Any] | None:
    """Return the output fields of a signature as an answer has them; None if it does not have them all."""
    for found in (*_objects(signature, text), _sections(signature, text)):
        values = read_fields(signature, found)
        if values is not None:
            return values
    return None


def read_fields(signature: Any, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return output fields with the types that they are declared with; None if they are not all there, or do not fit.

    Args:
        signature: declares them.
        found: what is known of them: texts, or values as JSON has them.
    """
    fields = signature.output_fields
    try:
        values = {name: _value(found[name], fields[name].annotation) for name in fields if name in found}
    except ValueError:
        return None
    values = apply_output_field_defaults(signature, values)
    complete = values.keys() == fields.keys() and bool(found)
    return values if complete and not empty_fields(signature, values) else None


def empty_fields(signature: Any, values: Mapping[str, Any]) -> list[str]:
    """Return the texts that are required and have nothing in them. A model's own thoughts may be left out."""
    return [
        name
        for name, field in signature.output_fields.items()
        if field.annotation is str
        and field.is_required()
        and name not in THOUGHTS
        and isinstance(values.get(name), str)
        and not values[name].strip()
    ]


def wrong_fields(signature: Any, error: Any) -> dict[str, str]:
    """Return what is wrong with each field of an answer that cannot be read, without a word of the answer.

    Args:
        signature: of the question.
        error: the ``dspy.AdapterParseError``.
    """
    fields = signature.output_fields
    named = _FAILED_FIELD.match(str(error))
    if named and named[1] in fields:
        return {named[1]: f"is no {get_annotation_name(fields[named[1]].annotation)}"}
    there = error.parsed_result if isinstance(error.parsed_result, Mapping) else {}
    empty = set(empty_fields(signature, there))
    missing = {
        name: "is empty" if name in empty else "is missing" for name in fields if name in empty or name not in there
    }
    return missing or dict.fromkeys(fields, "cannot be read")


def _objects(signature: Any, text: str) -> Iterator[dict[str, Any]]:
    """Return the output fields of each JSON object in a text, the likeliest first."""
    names = {_plain(name): name for name in signature.output_fields}
    only = [name for name, field in signature.output_fields.items() if _structured(field.annotation)]
    for part in (*_FENCE.findall(text), text):
        found = _json(part, "{", "}")
        if isinstance(found, Mapping):
            yield {names[_plain(key)]: value for key, value in found.items() if _plain(key) in names}
        if len(names) == len(only) == 1:  # perhaps it is the value of the only field
            yield {only[0]: found}
            yield {only[0]: _json(part, "[", "]")}


def _structured(annotation: Any) -> bool:
    """Return whether the values of a type are objects or lists in JSON."""
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, (list, dict, set, tuple, pydantic.BaseModel))


def _json(text: str, first: str, last: str) -> Any:
    """Return what is written between two brackets, also with small mistakes; None if nothing is."""
    begin, end = text.find(first), text.rfind(last)
    if not -1 < begin < end or "[[ ##" in text:
        return None
    written = text[begin : end + 1]
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        few = len(written) <= _LONGEST and written.count("{") + written.count("[") <= _BRACKETS
        return json_repair.loads(written) if few else None


def _plain(name: Any) -> str:
    return re.sub(r"[\s_-]+", "_", str(name).strip().casefold())


def _sections(signature: Any, text: str) -> dict[str, str]:
    """Return the output fields of an answer with a heading for each; what belongs to no heading is left out."""
    names = {_plain(name): name for name in (*signature.output_fields, _END)}
    words = "|".join(re.sub("_", r"[\\s_-]+", re.escape(name)) for name in names)
    heading = re.compile(
        rf"^[ \t]*(?:(?:[\[#*<`_]+[ #]*)(?P<decorated>{words})[ #]*(?:[\]#*>`_]+:?|:)[*`_]*|(?P<bare>{words})[ \t]*:)",
        re.IGNORECASE | re.MULTILINE,
    )
    found: dict[str, str] = {}
    matches = list(heading.finditer(text))
    for number, match in enumerate(matches):
        end = matches[number + 1].start() if number + 1 < len(matches) else len(text)
        name = names[_plain(match["decorated"] or match["bare"])]
        found.setdefault(name, re.sub(r"</\w+>\s*$", "", text[match.end() : end]).strip())
    found.pop(_END, None)
    return found


def _value(found: Any, annotation: Any) -> Any:
    """Return a value of a type.

    Raises:
        ValueError: it is none.
    """
    try:
        return parse_value(found, annotation)
    except ValueError:
        if not isinstance(found, str):
            raise
    bare = found.strip(_DECORATION)
    for value in _choices(annotation):
        if str(value).casefold() == bare.casefold():
            return parse_value(value, annotation)
    return parse_value(bare, annotation)


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(member.value for member in annotation)
    return ()
