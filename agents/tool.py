"""Tools: actions as language models see them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

from agents.action import Action


def tool(action: type[Action[Any]]) -> dict[str, Any]:
    """Return the description of an action as a tool for language models, in the form of OpenAI's function tools.

    The arguments with which a model calls it are the parameters: ``cmd(agent, (Action, arguments))``. They are checked
    as any others.

    Args:
        action: the class. Its docstring is the description; its fields are the parameters.

    >>> from agents import Action, Context
    >>> class GetWeather(Action[dict[str, str]]):
    ...     '''Tell the weather of a city.'''
    ...
    ...     city: str
    ...     days: int = 1
    >>> tool(GetWeather)["function"]["name"], tool(GetWeather)["function"]["description"]
    ('get_weather', 'Tell the weather of a city.')
    >>> tool(GetWeather)["function"]["parameters"]["properties"]
    {'city': {'type': 'string'}, 'days': {'type': 'integer', 'default': 1}}
    """
    (schema,), definitions = msgspec.json.schema_components([action], ref_template="#/$defs/{name}")
    own = definitions.pop(schema["$ref"].rsplit("/", 1)[-1])
    parameters = {key: own[key] for key in ("type", "properties", "required") if key in own}
    parameters["additionalProperties"] = False
    if definitions:
        parameters["$defs"] = definitions
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", action.__name__).lower()
    description = inspect.cleandoc(action.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
