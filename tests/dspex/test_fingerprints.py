"""What tells inputs, metrics, programs and models apart: their content, in every process the same."""

from __future__ import annotations

import base64
import datetime
import enum
import functools
import io
import math
import subprocess
import sys
import textwrap
import threading
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

import dspy
import msgspec
import numpy as np
import pydantic
import pytest
from dspy.utils.callback import BaseCallback

from dspex.fingerprints import (
    NoFingerprint,
    adapter_fingerprint,
    canonical,
    content,
    content_digest,
    metric_fingerprint,
    model_fingerprint,
    models_fingerprint,
    program_fingerprint,
    versions,
)
from dspex.search import Race
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm


class Colour(enum.StrEnum):
    """An enumeration."""

    RED = "red"
    BLUE = "blue"


class Document:
    """A plain object: its repr is an address."""

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def words(self) -> int:
        """Computed of the rest."""
        return len(self.text.split())


class Page(pydantic.BaseModel):
    """A model of pydantic's."""

    model_config = pydantic.ConfigDict(extra="allow")
    text: str


class Row(msgspec.Struct):
    """A struct of msgspec's."""

    text: str


class Nothing:
    """Has nothing that it could be told by."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse."""
        raise RuntimeError("no")


def image(data: bytes) -> Any:
    """An image, by its bytes."""
    return dspy.Image(url="data:image/png;base64," + base64.b64encode(data).decode())


# -- data ------------------------------------------------------------------------------------------------------


def test_a_result_has_the_key_of_the_reference() -> None:
    """The vector of llmops §2.3, in either order of keys, as an example and as plain data."""
    given: dict[str, Any] = {"inputs": {"text": "hello"}, "labels": {"label": "yes"}}
    turned = dict(reversed(given.items()))
    example = dspy.Example(label="yes", text="hello").with_inputs("text")
    assert {content_digest(one)[:16] for one in (given, turned, example)} == {"49d553192201e8a4"}


@pytest.mark.parametrize(
    "make",
    [
        lambda text: dspy.Example(picture=image(text.encode())).with_inputs("picture"),
        lambda text: dspy.Example(text=text),
        lambda text: dspy.Prediction(text=text),
        Document,
        Row,
        lambda text: Page(text=text),
        lambda text: Page.model_validate({"text": "", "more": text}),
        lambda text: [text, {text: {text}}],
        lambda text: {1: text, "$a": (text,)},
        lambda text: frozenset([text, 1, None]),
        lambda text: text.encode(),
        lambda text: memoryview(text.encode()),
        io.StringIO,
        lambda text: io.BytesIO(text.encode()),
        lambda text: Path("/no/such/folder", text),
        lambda text: deque([text]),
        lambda text: np.array([len(text), 2.0]),
        lambda text: datetime.date(2026, 1, len(text)),
        lambda text: 10 ** (500 * len(text)),
        lambda text: float("inf") * (len(text) - 4),
        lambda text: Colour.RED if text == "dog!" else Colour.BLUE,
        lambda text: str.upper if text == "dog!" else str.lower,
        lambda text: len if text == "dog!" else math,
        lambda text: Document if text == "dog!" else Page,
        lambda text: ... if text == "dog!" else NotImplemented,
    ],
)
def test_E028_values_are_told_apart_by_content(make: Any) -> None:
    """Equal contents in different objects are one; different contents are two, also where their repr is the same."""
    assert content_digest(make("dog!")) == content_digest(make("dog!"))
    assert content_digest(make("dog!")) != content_digest(make("bison"))


def test_E028_an_image_is_not_its_repr() -> None:
    """As in the report of this fault: two images of the same size."""
    assert repr(image(b"cat!")) == repr(image(b"dog!"))
    assert content_digest(image(b"cat!")) != content_digest(image(b"dog!"))


def test_a_file_is_what_is_in_it(tmp_path: Path) -> None:
    """Wherever it lies, and also if it is open; what was read of it stays read."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")
    with one.open("rb") as opened:
        opened.read(2)
        assert content(one) == content(two) == content(opened)
        assert opened.read() == b"me"
    two.write_text("other")
    assert content(one) != content(two)


def test_numbers_and_texts_of_any_class_are_plain() -> None:
    """numpy's and an enumeration's bases too; lone surrogates can be had."""
    assert content([np.float64(0.5), np.str_("a"), True, -0.0]) == [0.5, "a", True, -0.0]
    assert canonical(content(-0.0)) != canonical(content(0.0))
    assert canonical(content("\ud800")) == b'"\xed\xa0\x80"'


def test_what_is_only_computed_does_not_count() -> None:
    document = Document("a b")
    before = content_digest(document)
    assert document.words == 2
    assert content_digest(document) == before


def test_a_value_may_contain_itself() -> None:
    """It comes to an end; where it is too deep, it is refused."""
    knot: list[Any] = []
    knot.append(knot)
    assert content(knot) == [{"$inside": 1}]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for told in (content, content_digest):
        with pytest.raises(NoFingerprint, match="too deep"):
            told(deep)


def test_too_deep_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be read and not be written is refused the same way."""

    def fail(plain: Any) -> bytes:
        raise RecursionError

    monkeypatch.setattr("dspex.fingerprints.data.canonical", fail)
    with pytest.raises(NoFingerprint, match="too deep"):
        content_digest([])


def test_what_has_no_content_is_refused() -> None:
    """With what it is, why, and the remedy."""
    for value in (threading.Lock(), Nothing(), iter(()).__class__):
        if isinstance(value, type):
            continue
        with pytest.raises(NoFingerprint, match="give the class a __getstate__"):
            content(value)
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(NoFingerprint, match="cannot be read twice"):
        content(closed)


# -- code ------------------------------------------------------------------------------------------------------


def made(text: str, name: str = "metric", **around: Any) -> Any:
    """A function as a module of the user's own has it."""
    module = ModuleType("__main__")
    vars(module).update(around)
    exec(textwrap.dedent(text), vars(module))
    return vars(module)[name]


def changed(text: str, old: str, new: str) -> bool:
    """Whether a change makes another metric."""
    assert old in text
    return metric_fingerprint(made(text)) != metric_fingerprint(made(text.replace(old, new)))


def test_a_metric_is_its_code_and_what_it_uses() -> None:
    """Its helpers, constants, classes, defaults; not its comments."""
    text = """
    import functools, math
    LIMIT, TABLE, KINDS = 0.5, {"a": ["b"]}, {"x"}
    def helper(text): return text.lower()
    @functools.cache
    def cached(text): return len(text)
    class Judge:
        share: float = 0.25
        def __call__(self, text): return 75
        @property
        def name(self): return "judge"
        @staticmethod
        def plain(): return 76
    judge = functools.partial(Judge(), 77)
    bound = Judge().__call__
    def metric(example, prediction, trace=None, *, weight=78):
        # a word
        def inner(): return 79
        if helper(prediction) in TABLE: return inner() + math.floor(LIMIT)
        return cached(example) + judge() + bound() + len(KINDS) + metric(1)
    """
    for old, new in [("0.5", "0.6"), ('"b"', '"c"'), ('{"x"}', '{"y"}'), ("lower", "upper"), ("len(text)", "1")]:
        assert changed(text, old, new), old
    for number in (*range(75, 80), "0.25", '"judge"'):
        assert changed(text, str(number), "33"), number
    assert metric_fingerprint(made(text)) == metric_fingerprint(made(text))


def test_what_a_metric_assigns_to_is_no_part_of_it() -> None:
    """Neither a counter, nor a cache that fills; another table is."""
    text = """
    count = 0
    cache, table = {}, {1: 2}
    def metric(example, prediction):
        global count
        count += 1
        cache[count] = prediction
        return table[1]
    """
    metric = made(text)
    before = metric_fingerprint(metric)
    metric(1, 2)
    assert metric_fingerprint(metric) == before
    metric.__globals__["table"] = {1: 3}
    assert metric_fingerprint(metric) != before


def closed(limit: Any, late: bool = False) -> Any:
    """A metric that is a closure."""

    def metric(example: Any, prediction: Any) -> Any:
        return limit if example else other

    if late:
        other = 1
    return metric


def test_closures_count_for_what_is_in_them() -> None:
    """Also if it is not there yet."""
    assert metric_fingerprint(closed(1)) == metric_fingerprint(closed(1)) != metric_fingerprint(closed(2))
    assert metric_fingerprint(closed(1)) != metric_fingerprint(closed(1, late=True))
    lock = threading.Lock()
    assert metric_fingerprint(closed(lock)) == metric_fingerprint(closed(threading.Lock()))
    assert metric_fingerprint(closed(None)) != metric_fingerprint(closed(lock))


def test_two_functions_on_one_line_are_two() -> None:
    one, two = (lambda e, p: 1 + len(e)), (lambda e, p: 2 + len(e))
    assert metric_fingerprint(one) != metric_fingerprint(two)
    assert metric_fingerprint(lambda e: [x + 2 for x in e]) != metric_fingerprint(lambda e: [x + 1 for x in e])


class Threshold:
    """A metric that is an object."""

    def __init__(self, least: float) -> None:
        self.least = least

    def __call__(self, example: Any, prediction: Any) -> bool:
        """Judge."""
        return prediction.score > self.least


def test_a_metric_may_be_an_object_or_a_program() -> None:
    """It is told by its class and by what it holds; a method by its object as well."""
    assert metric_fingerprint(Threshold(1)) == metric_fingerprint(Threshold(1)) != metric_fingerprint(Threshold(2))
    assert metric_fingerprint(Threshold(1).__call__) != metric_fingerprint(Threshold(2).__call__)
    judge, other = dspy.Predict("text -> good: bool"), dspy.Predict("text -> bad: bool")
    assert metric_fingerprint(judge) == metric_fingerprint(judge.deepcopy()) != metric_fingerprint(other)
    assert metric_fingerprint(len).startswith("len ")


def test_whoever_gives_an_id_vouches() -> None:
    assert metric_fingerprint(exact, metric_id="v1") == metric_fingerprint(len, metric_id="v1") == "v1"


def test_modules_of_ones_own_count_for_what_is_used_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of others count by their names."""
    helpers = ModuleType("helpers")
    helpers.__file__ = "/home/somebody/helpers.py"
    monkeypatch.setitem(sys.modules, "helpers", helpers)
    vars(helpers).update(limit=1, unused=1)
    metric = made("def metric(e, p): return helpers.limit + math.floor(p)", helpers=helpers, math=math)
    before = metric_fingerprint(metric)
    vars(helpers).update(unused=2)
    metric = made("def metric(e, p): return helpers.limit + math.floor(p)", helpers=helpers, math=math)
    assert metric_fingerprint(metric) == before
    vars(helpers).update(limit=2)
    metric = made("def metric(e, p): return helpers.limit + math.floor(p)", helpers=helpers, math=math)
    assert metric_fingerprint(metric) != before


def test_another_process_says_the_same() -> None:
    """Whatever its hash seed is."""
    text = (
        "from dspex.fingerprints import *; from dspex.testing.engine import exact; import dspy;"
        "print(metric_fingerprint(exact), program_fingerprint(dspy.ChainOfThought('a, b -> c')),"
        "content_digest({'a', 'b', 'c', 1, 2.5}), adapter_fingerprint(dspy.JSONAdapter()));"
        "from tests.dspex.metrics_of_sets import METRICS; print(*map(metric_fingerprint, METRICS))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", text],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "5")
    ]
    assert outputs[0] != ""
    assert len({*outputs}) == 1


def test_what_this_package_does_is_no_part_of_a_metric_also_in_a_clone() -> None:
    """It is known by its name, as all that is installed."""
    metric = made("def metric(e, p): return Race and exact(e, p)", Race=Race, exact=exact)
    other = type("Race", (), {"__module__": Race.__module__, "__qualname__": Race.__qualname__})
    assert metric_fingerprint(metric) == metric_fingerprint(
        made("def metric(e, p): return Race and exact(e, p)", Race=other, exact=exact)
    )


# -- programs --------------------------------------------------------------------------------------------------


class Answer(pydantic.BaseModel):
    """What is asked for."""

    text: str = pydantic.Field(description="in one word")


class Ask(dspy.Signature):  # type: ignore[misc]
    """Say it."""

    question: str = dspy.InputField()
    answers: list[Answer] = dspy.OutputField()
    first: Answer = dspy.OutputField()


def tool(text: str) -> str:
    """A tool."""
    return text


class Program(dspy.Module):  # type: ignore[misc]
    """A program of one's own."""

    def __init__(self, limit: int = 3, **config: Any) -> None:
        super().__init__()
        self.limit = limit
        self.ask = dspy.Predict(Ask, **config)
        self.tools = [dspy.Tool(tool)]
        self.inner = {"again": self.ask}
        self.lock = threading.Lock()
        self.judge = dspy.LM("openai/judge")
        self.seen = (1, {2}, {"a": 3.5})

    def __deepcopy__(self, memo: Any) -> Any:
        """A lock cannot be copied."""
        return Program()

    def forward(self, question: str) -> Any:
        """Ask."""
        return self.ask(question=question)


def test_a_program_is_its_predictors_and_its_code() -> None:
    """Instructions, demonstrations, configuration, attributes; not its history, nor its models."""
    program = Program()
    same = program_fingerprint(program)
    program.ask.lm = scripted_lm(ScriptedEngine({}))
    program.history.append(1)
    program.ask.traces.append(1)
    assert program_fingerprint(program) == program_fingerprint(Program()) == same
    others = [Program(4), Program(temperature=0.5), Program(), Program(), Program()]
    others[2].ask.demos = [dspy.Example(question="a", answers=[], first=Answer(text="b"))]
    others[3].ask.signature = Ask.with_instructions("Whisper it.")
    others[4].seen = (1, {2}, {"a": 4.5})
    assert len({same, *(program_fingerprint(one) for one in others)}) == 6
    assert len({program_fingerprint(dspy.Predict(text)) for text in ("a -> b", "a -> c", "a -> b: int")}) == 3


def test_a_model_is_its_name_and_settings() -> None:
    """Without what changes no answer, and without secrets."""
    lm = dspy.LM(
        "openai/gpt-4o",
        api_key="k",
        api_base="http://x",
        timeout=3,
        aws_session_token="t",
        max_tokens=5,
        cache=False,
        num_retries=9,
        response_format={"type": "json"},
    )
    found = model_fingerprint(lm)
    assert set(found) == {"model", "type", "max_tokens", "response_format"}
    assert found == model_fingerprint(dspy.LM("openai/gpt-4o", max_tokens=5, response_format={"type": "json"}))
    scripted = model_fingerprint(scripted_lm(ScriptedEngine({})))
    assert scripted["engine"] == "dspex.testing.engine.ScriptedEngine"
    assert model_fingerprint(dspy.utils.DummyLM([]))["class"] == "dspy.utils.dummies.DummyLM"
    program = dspy.Predict("a -> b")
    assert models_fingerprint(program, None) == {"lm": None}
    program.lm = lm
    assert models_fingerprint(program, lm) == {"lm": found, "self": found}


def test_adapters_and_versions() -> None:
    assert adapter_fingerprint(None) == "default"
    chat = adapter_fingerprint(dspy.ChatAdapter())
    assert chat == adapter_fingerprint(dspy.ChatAdapter(callbacks=[BaseCallback()]))
    assert chat != adapter_fingerprint(dspy.ChatAdapter(use_native_function_calling=True))
    assert versions("optuna") == {"dspy": dspy.__version__, "optuna": __import__("optuna").__version__}
