"""An adapter for small models: a short prompt, and a choice where the answer is one of a few values.

DSPy's own adapters explain their format in some 200 tokens, which drown a model of 135 million parameters.
This one says what the signature says, and no more.
"""

from __future__ import annotations

import copy
import enum
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import dspy

from dspex._compat import (
    apply_output_field_defaults,
    description,
    format_field_value,
    get_annotation_name,
    label,
    parse_value,
    with_capability_planning,
)


def choices_of(annotation: Any) -> tuple[Any, ...]:
    """Return the values of a type, as JSON has them, if they can be listed: of a ``Literal``, a ``bool``, an enum.

    >>> choices_of(Literal["yes", "no"]), choices_of(bool), choices_of(str)
    (('yes', 'no'), (True, False), ())
    """
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if annotation is bool:
        return (True, False)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(member.value for member in annotation)
    return ()


def response_format(signature: Any) -> dict[str, Any] | None:
    """Return the format that asks for a choice: a JSON schema with one ``enum``.

    None unless the signature has one output, whose values can be listed. The format is OpenAI's, so it means the same
    to every server that knows schemas.
    """
    outputs = signature.output_fields
    if len(outputs) != 1:
        return None
    ((name, field),) = outputs.items()
    values = choices_of(field.annotation)
    if not values:
        return None
    properties = {name: {"title": label(field), "enum": list(values)}}
    schema = {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


class CompactAdapter(dspy.Adapter):  # type: ignore[misc]
    """Writes short prompts, and makes a choice of a single output that is a ``Literal``, a ``bool`` or an enum.

    The system message is the signature's instructions, and the descriptions of fields if the author gave any.
    Inputs and demonstrations are lines ``Label: value``. If the language model knows JSON schemas and the
    signature has one output with listed values, these go into ``response_format`` and the prompt says nothing
    of a format; otherwise the prompt asks for one line ``Label: value`` for each output, and the answer is
    read as such. An answer that is a JSON object with the output fields is understood in either case.

    Args:
        explain: whether the prompt says how to answer: None for only when it has to.
        callbacks: see ``dspy.Adapter``.
    """

    def __init__(self, explain: bool | None = None, callbacks: list[Any] | None = None) -> None:
        super().__init__(callbacks=callbacks)
        self.explain = explain

    @with_capability_planning  # type: ignore[untyped-decorator]
    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: Any,
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Ask a language model; see ``dspy.Adapter``.

        Raises:
            dspy.AdapterParseError: the answer does not hold the output fields.
            dspy.LMError: there was no answer.
        """
        adapter, options = self._plan(lm, lm_kwargs, signature)
        answers: list[dict[str, Any]] = super(CompactAdapter, adapter).__call__(lm, options, signature, demos, inputs)
        return answers

    @with_capability_planning  # type: ignore[untyped-decorator]
    async def acall(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: Any,
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Ask a language model without blocking; otherwise the same as a plain call."""
        adapter, options = self._plan(lm, lm_kwargs, signature)
        answers: list[dict[str, Any]] = await super(CompactAdapter, adapter).acall(
            lm, options, signature, demos, inputs
        )
        return answers

    def _plan(self, lm: Any, lm_kwargs: Mapping[str, Any], signature: Any) -> tuple[CompactAdapter, dict[str, Any]]:
        """Return the adapter and the options with which to ask ``lm``."""
        wanted = response_format(signature)
        possible = wanted is not None and bool(lm.supports_response_schema)
        options = {"response_format": wanted, **lm_kwargs} if possible else dict(lm_kwargs)
        if self.explain is not None:
            return self, options
        adapter = copy.copy(self)
        adapter.explain = not possible
        return adapter, options

    # -- prompts ---------------------------------------------------------------------------------------------

    def format_system_message(self, signature: Any) -> str:
        """Return the instructions, what is known of the fields, and, if need be, how to answer."""
        parts = [self.format_task_description(signature), self.format_field_description(signature)]
        if self.explain is not False:
            parts.append(self.format_field_structure(signature))
        return "\n".join(part for part in parts if part)

    def format_task_description(self, signature: Any) -> str:
        """Return the instructions."""
        return textwrap.dedent(signature.instructions).strip()

    def format_field_description(self, signature: Any) -> str:
        """Return a line for each field that its author described."""
        described = ((label(field), description(name, field)) for name, field in signature.fields.items())
        return "\n".join(f"{name}: {text}" for name, text in described if text)

    def format_field_structure(self, signature: Any) -> str:
        """Return how the answer has to look."""
        lines = (f"{label(field)}: <{_kind(field.annotation)}>" for field in signature.output_fields.values())
        return "Answer with one line for each of these, and nothing else:\n" + "\n".join(lines)

    def format_user_message_content(
        self,
        signature: Any,
        inputs: dict[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        """Return the inputs, a line each."""
        lines = _lines(signature.input_fields, inputs)
        return "\n".join(part for part in (prefix, *lines, suffix) if part)

    def format_assistant_message_content(
        self, signature: Any, outputs: dict[str, Any], missing_field_message: str | None = None
    ) -> str:
        """Return the outputs, a line each, as the model should have written them."""
        absent = {} if missing_field_message is None else dict.fromkeys(signature.output_fields, missing_field_message)
        return "\n".join(_lines(signature.output_fields, {**absent, **outputs}))

    # -- answers ---------------------------------------------------------------------------------------------

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Read an answer: a JSON object, or lines ``Label: value``, or the bare value if there is one output.

        Raises:
            dspy.AdapterParseError: an output is missing, or has a value that its type does not allow.
        """
        found = _json_object(signature, completion) or _labelled(signature, completion)
        values: dict[str, Any] = {}
        for name, value in found.items():
            try:
                values[name] = parse_value(value, signature.output_fields[name].annotation)
            except ValueError as error:
                raise self._unreadable(signature, completion, values, f"{name} = {value!r}: {error}") from error
        values = apply_output_field_defaults(signature, values)
        if values.keys() != signature.output_fields.keys():
            raise self._unreadable(signature, completion, values, None)
        return values

    def _unreadable(self, signature: Any, completion: str, values: Any, why: str | None) -> Exception:
        error: Exception = dspy.AdapterParseError(
            adapter_name=type(self).__name__,
            signature=signature,
            lm_response=completion,
            message=why,
            parsed_result=values,
        )
        return error


def _kind(annotation: Any) -> str:
    values = choices_of(annotation)
    return " or ".join(str(value) for value in values) if values else str(get_annotation_name(annotation))


def _lines(fields: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        if name in values:
            yield f"{label(field)}: {format_field_value(field, values[name])}"


def _json_object(signature: Any, completion: str) -> dict[str, Any]:
    """Return the output fields of an answer that is a JSON object; nothing of any other."""
    try:
        answer = json.loads(completion)
    except ValueError:
        return {}
    if not isinstance(answer, dict):
        return {}
    return {name: answer[name] for name in signature.output_fields if name in answer}


def _labelled(signature: Any, completion: str) -> dict[str, str]:
    """Return the output fields of an answer in lines. A value goes on until the next label."""
    names = {label(field).casefold(): name for name, field in signature.output_fields.items()}
    labels = "|".join(re.escape(text) for text in names)
    pieces = re.split(rf"^\s*({labels})\s*:", completion, flags=re.IGNORECASE | re.MULTILINE)
    found: dict[str, str] = {}
    for text, value in zip(pieces[1::2], pieces[2::2], strict=True):
        found.setdefault(names[text.casefold()], value.strip())
    if not found and len(names) == 1 and completion.strip():
        found = {name: completion.strip() for name in names.values()}
    return found
