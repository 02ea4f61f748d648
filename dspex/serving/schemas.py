"""The JSON schemas of what a program takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import dspy
import pydantic
from pydantic.json_schema import GenerateJsonSchema

from dspex._compat import written_as_text
from foundation.programs import json_form

Mode = Literal["validation", "serialization"]


def type_adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    """Return what checks values against a type, also against a class that pydantic does not know."""
    try:
        return pydantic.TypeAdapter(annotation)
    except pydantic.PydanticSchemaGenerationError:
        return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))


def json_schema(adapter: pydantic.TypeAdapter[Any], mode: Mode) -> dict[str, Any]:
    """Return the schema of a type; the models in it are among its ``$defs``. Empty if there is none.

    Args:
        adapter: of the type.
        mode: whether it is that of a value that comes in, or of one that goes out.
    """
    try:
        found, more = pydantic.TypeAdapter.json_schemas([(0, mode, adapter)], schema_generator=_Schemas)
    except pydantic.PydanticUserError:
        return {}
    return {**found[0, mode], **({"$defs": more["$defs"]} if "$defs" in more else {})}


class _Schemas(GenerateJsonSchema):
    """What has no form in JSON, such as a function, cannot be given in JSON; and it may be anything when it comes."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # as pydantic declares it

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {"not": {}} if self.mode == "validation" else {}

    def model_schema(self, schema: Any) -> dict[str, Any]:
        found = super().model_schema(schema)
        kind = schema["cls"]
        text = self.mode == "serialization" and issubclass(kind, dspy.Type) and written_as_text(kind)
        return {"type": "string", "title": found["title"]} if text else found

    def ser_schema(self, schema: Any) -> dict[str, Any] | None:
        # DSPy's types are written into prompts in one way, and as JSON in another.
        return None if schema.get("function") is _IN_PROMPTS else super().ser_schema(schema)


_IN_PROMPTS: Callable[..., Any] = dspy.Type.serialize_model


@json_form.register
def _(value: dspy.Type) -> object:
    if written_as_text(type(value)):
        return value.format()
    return {name: getattr(value, name) for name in type(value).model_fields}
