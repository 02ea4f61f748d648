"""Programs, and the fields of their signatures."""

from __future__ import annotations

from typing import Any

from dspy.adapters.utils import annotation_allows_none as annotation_allows_none
from dspy.adapters.utils import apply_output_field_defaults as apply_output_field_defaults
from dspy.adapters.utils import format_field_value as format_field_value
from dspy.adapters.utils import get_annotation_name as get_annotation_name
from dspy.adapters.utils import parse_value as parse_value
from dspy.utils.constants import IS_TYPE_UNDEFINED


def is_async(program: Any) -> bool:
    """Return whether a program can run as a coroutine by itself (``acall``)."""
    return hasattr(program, "aforward")


def untyped(field: Any) -> bool:
    """Return whether a field of a signature was declared without a type, as in ``"question -> answer"``."""
    return bool(field.json_schema_extra.get(IS_TYPE_UNDEFINED, False))


def description(name: str, field: Any) -> str:
    """Return what the author of a signature wrote about a field, or an empty string."""
    text = field.json_schema_extra.get("desc") or ""
    return "" if text == f"${{{name}}}" else str(text)


def label(field: Any) -> str:
    """Return how a field is called in prompts, such as ``Sentiment``."""
    return str(field.json_schema_extra["prefix"]).rstrip().removesuffix(":")
