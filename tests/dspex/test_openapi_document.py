"""The OpenAPI document of programs is valid and true: a client that is generated from it works against the server."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import datetime
import enum
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dspy
import httpx
import openapi_spec_validator
import pydantic
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from dspex import ProgramActor
from dspex.serving.forms import file_input
from dspex.serving.interface import Contract
from foundation.events import Serving
from foundation.http import HttpServer
from foundation.http.openapi import document
from foundation.http.operations import Served
from foundation.http.operations import schemas as own_schemas
from foundation.programs import FormPart, InvalidInputs
from supervision import Runtime
from tests.dspex.samples import scripted

PNG = bytes.fromhex("89504e470d0a1a0a")


class Mood(enum.Enum):
    """How somebody is."""

    HAPPY = "happy"
    SAD = "sad"


class Address(pydantic.BaseModel):
    """Where."""

    street: str
    moods: list[Mood] = []


class Person(pydantic.BaseModel):
    """Who."""

    name: str
    home: Address | None = None
    friends: list[Person] = []


class Everything(dspy.Signature):
    """Take all that can be said in JSON."""

    person: Person = dspy.InputField(desc="who it is about")
    mood: Mood = dspy.InputField()
    when: datetime.date | None = dspy.InputField()
    tags: list[str] = dspy.InputField()
    image: dspy.Image = dspy.InputField()
    pages: list[dspy.File] = dspy.InputField()
    sound: dspy.Audio | None = dspy.InputField()
    history: dspy.History | None = dspy.InputField()
    tools: list[dspy.Tool] | None = dspy.InputField()
    who: Person = dspy.OutputField()
    calls: dspy.ToolCalls = dspy.OutputField()
    picture: dspy.Image = dspy.OutputField()
    style: Literal["a", "b"] = dspy.OutputField()


class Echo(dspy.Module):
    """Gives back what it gets, as its signature says."""

    signature = Everything

    async def aforward(self, **inputs: Any) -> Any:
        """Give it back."""
        calls = dspy.ToolCalls.from_dict_list([{"name": "search", "args": {"q": len(inputs["pages"])}}])
        return dspy.Prediction(who=inputs["person"], calls=calls, picture=inputs["image"], style="a")


class Greet(dspy.Module):
    """Greets somebody."""

    async def aforward(self, person: Person, mood: Mood = Mood.HAPPY, note: str | None = None) -> Address:
        """Greet."""
        return Address(street=f"{person.name}, {mood.value}, {note}", moods=[mood])


INPUTS: dict[str, Any] = {
    "person": {"name": "Ada", "home": {"street": "High", "moods": ["sad"]}, "friends": [{"name": "Bob"}]},
    "mood": "happy",
    "when": "2026-11-29",
    "tags": ["a"],
    "image": {"url": "data:image/png;base64,AA=="},
    "pages": [{"file_id": "x"}],
    "history": {"messages": [{"question": "?", "answer": "!"}]},
}


def test_a_document_of_everything_is_valid() -> None:
    """By the OpenAPI 3.1 schema; models, enums, images, files, histories and tools are components of their names."""
    programs = {"every/thing": Contract(Echo()).interface, "greet": Contract(Greet()).interface}
    made = json.loads(json.dumps(document(programs, served=Served(runs=True))))
    openapi_spec_validator.validate(made)
    assert "$defs" not in json.dumps(made)
    schemas = made["components"]["schemas"]
    models = "Person Address Mood Image File Audio History Tool ToolCalls ToolCall"
    assert set(schemas) - set(own_schemas()) == {"Problem", *models.split()}
    greet = made["paths"]["/programs/greet"]["post"]
    outputs = greet["responses"]["200"]["content"]["application/json"]["schema"]
    assert outputs["properties"] == {"result": {"$ref": "#/components/schemas/Address"}}
    inputs = greet["requestBody"]["content"]["application/json"]["schema"]
    assert inputs["properties"]["person"]["$ref"] == "#/components/schemas/Person"


def test_inputs_that_fit_the_document_fit_the_program() -> None:
    """What its schemas allow is what the program takes."""
    made = json.loads(json.dumps(document({"p": Contract(Echo()).interface})))
    schema = made["paths"]["/programs/p"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema["components"] = made["components"]
    Draft202012Validator(schema).validate(INPUTS)
    assert Contract(Echo()).check(INPUTS)["person"].friends == [Person(name="Bob")]
    assert not Draft202012Validator(schema).is_valid({**INPUTS, "tools": [{"name": "x"}]})
    with pytest.raises(InvalidInputs, match="tools"):
        Contract(Echo()).check({**INPUTS, "tools": [{"name": "x"}]})


# -- forms -----------------------------------------------------------------------------------------------------------


def formed(annotation: Any, *parts: FormPart) -> Any:
    """What parts become for an input of a type."""

    class Takes(dspy.Module):
        async def aforward(self, it: Any) -> Any:
            """Take it."""

    Takes.aforward.__annotations__["it"] = annotation
    value = list(parts) if len(parts) > 1 else parts[0]
    return Contract(Takes()).check({"it": value})["it"]


IMAGE = FormPart(PNG, "image/png", "a.png")


@pytest.mark.parametrize(
    ("annotation", "parts", "value"),
    [
        (dspy.Image, [IMAGE], dspy.Image("data:image/png;base64,iVBORw0KGgo=")),
        (
            dspy.Image | None,
            [FormPart(PNG, "application/octet-stream", "a.png")],
            dspy.Image("data:image/png;base64,iVBORw0KGgo="),
        ),
        (list[dspy.Image], [IMAGE, IMAGE], [dspy.Image("data:image/png;base64,iVBORw0KGgo=")] * 2),
        (list[dspy.Image], [IMAGE], [dspy.Image("data:image/png;base64,iVBORw0KGgo=")]),
        (
            dspy.File,
            [FormPart(b"1", "text/csv", "a.csv")],
            dspy.File(file_data="data:text/csv;base64,MQ==", filename="a.csv"),
        ),
        (
            dspy.File,
            [FormPart(b"1", "application/octet-stream", "a")],
            dspy.File(file_data="data:application/octet-stream;base64,MQ==", filename="a"),
        ),
        (dspy.Audio, [FormPart(b"1", "audio/x-wav", "a.wav")], dspy.Audio(data="MQ==", audio_format="wav")),
        (bytes, [FormPart(b"\xff", "x/y", "a")], b"\xff"),
        (dspy.Image, [FormPart(b'{"url": "https://x/y.png"}')], dspy.Image("https://x/y.png")),
        (str, [FormPart(b"5")], "5"),
        (str, [FormPart(b"text of a file", "text/plain", "a.txt")], "text of a file"),
        (str | None, [FormPart(b"5")], "5"),
        (Literal["5"], [FormPart(b"5")], "5"),
        (Literal[5], [FormPart(b"5")], 5),
        (int, [FormPart(b"5")], 5),
        (bool, [FormPart(b"true")], True),
        (datetime.date, [FormPart(b"2026-11-29")], datetime.date(2026, 11, 29)),
        (list[str], [FormPart(b"a")], ["a"]),
        (list[str], [FormPart(b"a"), FormPart(b"b")], ["a", "b"]),
        (list[int], [FormPart(b"[1, 2]")], [1, 2]),
        (dict[str, int], [FormPart(b'{"a": 1}', "application/json")], {"a": 1}),
        (Any, [FormPart(b"5")], "5"),
    ],
)
def test_parts_of_a_form_become_what_the_input_declares(annotation: Any, parts: list[FormPart], value: Any) -> None:
    """Files by their types, texts by what they say; what comes several times is a list."""
    assert formed(annotation, *parts) == value


@pytest.mark.parametrize(
    ("annotation", "parts", "why"),
    [
        (dspy.Image, [FormPart(b"1", "text/csv", "a.csv")], r"a file of type text/csv is no image/\*"),
        (dspy.Image, [IMAGE, IMAGE], "not Image"),
        (str, [FormPart(b"\xff", "x/y", "a")], "no text in UTF-8"),
        (int, [FormPart(b"five")], "not int"),
        (list[int], [FormPart(b"[" * 100_000)], "not list"),
    ],
)
def test_parts_that_stand_for_nothing_are_named(annotation: Any, parts: list[FormPart], why: str) -> None:
    """With what is wrong with them."""
    with pytest.raises(InvalidInputs, match=why) as caught:
        formed(annotation, *parts)
    assert list(caught.value.wrong) == ["it"]


def test_which_inputs_may_be_files() -> None:
    """Those of these types, also if they are optional, or many."""
    assert file_input(dict[str, bytes]) is None
    assert file_input(int) is None
    fields = {field.name: field.file for field in Contract(Echo()).interface.inputs if field.file}
    assert fields == {"image": "image/*", "pages": "*/*", "sound": "audio/*"}


def test_a_form_may_have_inputs_that_nobody_declares() -> None:
    """They are texts, or named as what they are."""

    class Loose(dspy.Module):
        def forward(self, image: dspy.Image, **more: Any) -> Any:
            """Take it."""

    parts = {"image": IMAGE, "more": FormPart(b"x"), "config": FormPart(b"{}")}
    with pytest.raises(InvalidInputs) as caught:
        Contract(Loose()).check(parts)
    assert list(caught.value.wrong) == ["config"]
    del parts["config"]
    assert Contract(Loose()).check(parts)["more"] == "x"


# -- a client that is generated ----------------------------------------------------------------------------------------


def generate(served: Any, folder: Path) -> Callable[[str], Any]:
    """Generate a client of a document with openapi-python-client; return what imports its modules."""
    (folder / "openapi.json").write_text(json.dumps(served))
    # Lines of JSON are a text for it.
    overrides = "content_type_overrides: {application/jsonl: text/plain}"
    (folder / "config.yaml").write_text(f"post_hooks: []\n{overrides}\n")
    options = ["--path", "openapi.json", "--output-path", "client_of_test", "--meta", "none", "--config", "config.yaml"]
    command = [sys.executable, "-m", "openapi_python_client", "generate", *options, "--fail-on-warning"]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for module in (folder / "client_of_test" / "api" / "default").glob("run_*.py"):
        # Version 0.29 forgets an import where a body may have one of two types.
        module.write_text(module.read_text().replace("import Response, UNSET\n", "import Response, UNSET, Unset\n"))
    return lambda name: importlib.import_module(f"client_of_test.{name}")


async def test_a_generated_client_works_against_the_server(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models go in and come out as the client's own classes, images and files as a form, and errors as problems."""
    urls: list[str] = []
    runtime.subscribe(lambda event: urls.append(event.url), Serving)  # type: ignore[attr-defined]
    await runtime.spawn(ProgramActor, Echo, lm=scripted(), name="program:every thing")
    await runtime.spawn(ProgramActor, Greet, lm=scripted(), name="program:greet")
    server = await runtime.spawn(HttpServer, port=0)
    async with httpx.AsyncClient(base_url=urls[0]) as plain:
        served = (await plain.get("/openapi.json")).json()
    openapi_spec_validator.validate(served)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = await asyncio.to_thread(generate, served, tmp_path)
    models, types = module("models"), module("types")
    client = module("client").Client(base_url=urls[0])
    greet, everything = module("api.default.run_greet"), module("api.default.run_every_thing")
    async with client:
        body = models.RunGreetBody(person=models.Person(name="Ada"), mood=models.Mood.SAD)
        answer = await greet.asyncio(client=client, body=body)
        assert isinstance(answer.result, models.Address)
        assert (answer.result.street, answer.result.moods) == ("Ada, sad, None", [models.Mood.SAD])

        answer = await everything.asyncio(client=client, body=models.RunEveryThingJsonBody.from_dict(INPUTS))
        assert answer.who.to_dict() == INPUTS["person"] | {"friends": [{"name": "Bob", "home": None, "friends": []}]}
        assert (answer.picture.url, answer.style.value) == ("data:image/png;base64,AA==", "a")

        file = types.File(payload=io.BytesIO(PNG), file_name="a.png", mime_type="image/png")
        form = models.RunEveryThingFilesBody(
            person=models.Person(name="Ada"), mood=models.Mood.SAD, tags=["x", "y"], image=file, pages=[file, file]
        )
        answer = await everything.asyncio(client=client, body=form)
        assert answer.picture.url == "data:image/png;base64,iVBORw0KGgo="
        assert answer.calls.tool_calls[0].args.to_dict() == {"q": 2}

        wrong = models.RunGreetBody.from_dict({"person": {"name": "Ada"}, "mood": "happy"})
        wrong.mood = type("Other", (), {"value": "cross"})
        refused = await greet.asyncio_detailed(client=client, body=wrong)
        assert (refused.status_code, refused.parsed.type_) == (422, "about:blank#invalid-inputs")
    await server.stop()
