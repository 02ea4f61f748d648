"""Forms: images and files come as parts of a body, and what is wrong with one is said."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from foundation.http.app import application
from foundation.http.forms import MOST_PARTS, parse_form
from foundation.http.limits import Limits, ProgramLimits
from foundation.http.problems import Problem
from foundation.programs import Answer, DescribeProgram, FormPart, Interface, ProgramField, RunProgram, program_name
from supervision import Actor, Runtime, handle

FORM = b"multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n'


class Sizes(Actor):
    """Tells how long the parts are that it gets; it takes a picture, or no file."""

    def __init__(self, file: str = "image/*") -> None:
        self._file = file

    @handle
    def run(self, request: RunProgram) -> Answer:
        """Measure."""
        return Answer({name: [len(part.data), part.media_type, part.filename] for name, part in request.inputs.items()})

    @handle
    def describe(self, request: DescribeProgram) -> Interface:
        """Say what it takes."""
        picture = ProgramField("picture", "Picture", "shows it", schema={"type": "object"}, file=self._file)
        return Interface("Sizes", "", (picture, ProgramField("note", "str", schema={"type": "string"})), ())


async def client_of(runtime: Runtime, program: Any, *args: Any, **options: Any) -> httpx.AsyncClient:
    """A client of a program."""
    await runtime.spawn(program, *args, name=program_name("p"))
    transport = httpx.ASGITransport(application(runtime, **options))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@given(some.lists(some.tuples(some.text("abcé", min_size=1, max_size=3), some.binary(max_size=50)), max_size=5))
@settings(deadline=None)
def test_what_a_client_puts_into_a_form_comes_out(parts: list[tuple[str, bytes]]) -> None:
    """Whatever is in it, each name with all that was given for it, in order."""
    request = httpx.Request("POST", "http://x", files=[(name, ("f.bin", data)) for name, data in parts] or {"z": b""})
    request.read()
    found = parse_form(request.content, request.headers["content-type"].encode())
    for name in {name for name, _ in parts}:
        given_for_it = [data for other, data in parts if other == name]
        value = found[name]
        assert [part.data for part in (value if isinstance(value, list) else [value])] == given_for_it
        assert isinstance(value, list) == (len(given_for_it) > 1)


def test_a_text_and_a_file() -> None:
    """A file has a name and a type; a text has neither."""
    request = httpx.Request("POST", "http://x", files={"a": ("ü.png", b"\r\n--y", "image/png")}, data={"b": "é"})
    request.read()
    assert parse_form(request.content, request.headers["content-type"].encode()) == {
        "a": FormPart(b"\r\n--y", "image/png", "ü.png"),
        "b": FormPart("é".encode()),
    }
    assert parse_form(b"--x--", FORM) == {}


@pytest.mark.parametrize(
    ("body", "said", "why"),
    [
        (PART, b"multipart/form-data", "what stands between its parts"),
        (b"", FORM, "its end is missing"),
        (PART, FORM, "its end is missing"),
        (PART + b"--x\r\n", FORM, "its end is missing"),
        (b"--x\r\nno head\r\n--x--", FORM, "a part has no head"),
        (PART.replace(b"v", b"").replace(b"form-data;", b"form-data;" + b" " * 9000) + b"--x--", FORM, "too long"),
        (PART.replace(b"form-data", b"attachment") + b"--x--", FORM, "a part has no name"),
        (PART.replace(b' name="a"', b"") + b"--x--", FORM, "a part has no name"),
        (PART.replace(b"Content-Disposition", b"Other") + b"--x--", FORM, "a part has no name"),
        (PART * (MOST_PARTS + 1) + b"--x--", FORM, f"more than {MOST_PARTS} parts"),
        (PART.replace(b'"a"', b"(" * 4000) + b"--x--", FORM, "a head cannot be read|a part has no name"),
    ],
)
def test_what_is_no_form_is_a_problem_that_says_why(body: bytes, said: bytes, why: str) -> None:
    """Before anything is done with it."""
    with pytest.raises(Problem, match=why) as caught:
        parse_form(body, said)
    assert (caught.value.status, caught.value.word) == (400, "bad-form")


def test_as_many_parts_as_there_may_be() -> None:
    """The last one counts too."""
    assert len(parse_form(PART * MOST_PARTS + b"--x--", FORM)["a"]) == MOST_PARTS


async def test_a_program_that_takes_files_gets_them(runtime: Runtime) -> None:
    """As `curl -F picture=@a.png -F note=hi` sends them."""
    async with await client_of(runtime, Sizes) as client:
        files = {"picture": ("a.png", b"12345", "image/png")}
        response = await client.post("/programs/p", files=files, data={"note": "hi"})
        assert response.json() == {"picture": [5, "image/png", "a.png"], "note": [2, "text/plain", None]}
        response = await client.post("/programs/p", content=b"x", headers={"content-type": FORM.decode()})
        assert (response.status_code, response.json()["type"]) == (400, "about:blank#bad-form")
        document = (await client.get("/openapi.json")).json()
        content = document["paths"]["/programs/p"]["post"]["requestBody"]["content"]
        form = content["multipart/form-data"]["schema"]
        picture = {"type": "string", "format": "binary", "contentMediaType": "image/*", "description": "shows it"}
        assert form["properties"] == {"picture": picture, "note": {"type": "string"}}


async def test_a_program_that_takes_no_files_takes_no_forms(runtime: Runtime) -> None:
    """It says what it takes."""
    async with await client_of(runtime, Sizes, "") as client:
        response = await client.post("/programs/p", files={"picture": b"1"})
        assert (response.status_code, response.headers["accept"]) == (415, "application/json")
        document = (await client.get("/openapi.json")).json()
        assert list(document["paths"]["/programs/p"]["post"]["requestBody"]["content"]) == ["application/json"]


async def test_the_limit_of_the_program_counts_for_its_forms(runtime: Runtime) -> None:
    """More for this one, as it takes pictures."""
    limits = Limits(max_body=100, programs={"p": ProgramLimits(max_body=3000)})
    async with await client_of(runtime, Sizes, limits=limits) as client:
        assert (await client.post("/programs/p", files={"picture": b"1" * 2000})).status_code == 200
        assert (await client.post("/programs/p", files={"picture": b"1" * 3000})).status_code == 413
