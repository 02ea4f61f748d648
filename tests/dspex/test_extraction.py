"""The space of a program: taken from it, applied to it, read back."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._compat import lm15, plain_response
from dspex.teleprompt.beacon import BEACON
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task
from dspex.variables import BadConfiguration, BadVariable, Float, extract
from dspex.variables.structure import PredictWithAdapter
from supervision import Runtime

DEMO = dspy.Example(text="one", label="red").with_inputs("text")
OTHER = dspy.Example(text="two", label="blue").with_inputs("text")


class Own(dspy.Predict):  # type: ignore[misc]
    """A predictor of one's own."""


class Program(dspy.Module):  # type: ignore[misc]
    """Has predictors in all places where DSPy finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("text -> topic", temperature=0.5)
        self.second = dspy.ChainOfThought("text, topic -> label")
        self.listed = [dspy.Predict("text -> a"), dspy.ChainOfThought("text -> b")]
        self.named = {"x": dspy.Predict("text -> c")}
        self.fixed = (dspy.Predict("text -> d"),)
        self.tools = dspy.ReAct("text -> e", tools=[])
        self.frozen = dspy.ChainOfThought("text -> f")
        self.frozen._compiled = True
        self.second.predict.demos = [DEMO]

    def forward(self, text: str) -> Any:
        """Label a text."""
        return self.second(text=text, topic=self.first(text=text).topic)


class Twice(dspy.Module):  # type: ignore[misc]
    """Answers, and gives the answer a name."""

    def __init__(self, signature: Any) -> None:
        super().__init__()
        self.draft = dspy.Predict(signature)
        self.name = dspy.Predict("draft -> name")


SMALL, LARGE = dspy.LM("known/small"), dspy.LM("known/large")


def whole(program: Any) -> Any:
    """Everything that can be chosen in a program."""
    names = [name for name, _ in program.named_predictors()]
    return extract(
        program,
        instructions={name: ["Be brief.", "Be exact."] for name in names},
        demos={name: [[OTHER], [DEMO, OTHER]] for name in names},
        temperature=True,
        adapters=True,
        modules={"Twice": Twice},
        lms={"small": SMALL, "large": LARGE},
        variables=[Float(name="mine", low=0.0, high=1.0, default=0.5)],
    )


PROGRAM = Program()
SPACE = whole(PROGRAM)


def state(program: Any) -> str:
    """What DSPy writes to a file."""
    return json.dumps(program.dump_state())


@given(st.integers(), st.sets(st.sampled_from(sorted(set(SPACE.variables) - {"mine"}))))
def test_what_is_applied_is_read_back(seed: int, names: set[str]) -> None:
    """Whatever is chosen; and the program that is given stays as it is."""
    drawn = SPACE.draw(Random(seed))
    chosen = {name: drawn[name] for name in names}
    before = state(PROGRAM)
    made = SPACE.apply(PROGRAM, json.loads(json.dumps(chosen)))
    assert SPACE.read(made) == SPACE.complete(chosen)
    assert state(PROGRAM) == before
    again = SPACE.apply(PROGRAM, chosen)
    assert state(again) == state(made)


def test_the_defaults_are_the_program() -> None:
    """Byte for byte, as DSPy writes it."""
    assert state(SPACE.apply(PROGRAM, {})) == state(PROGRAM)
    assert SPACE.read(PROGRAM) == SPACE.defaults


def test_what_there_is_to_choose() -> None:
    """Places in modules of DSPy's own, and in compiled programs, are left alone."""
    modules = {name: value for name, value in SPACE.defaults.items() if name.endswith(".module")}
    assert modules == {
        "first.module": "Predict",
        "second.module": "ChainOfThought",
        "listed[0].module": "Predict",
        "listed[1].module": "ChainOfThought",
        "named['x'].module": "Predict",
        "fixed[0].module": "Predict",
    }
    assert SPACE.defaults["temperature"] == 0.5
    assert not any(name.startswith("frozen") for name in SPACE.variables)
    assert "tools.react.instruction" in SPACE.variables
    assert list(whole(PROGRAM).variables) == list(SPACE.variables)


def test_a_module_takes_the_place_of_another_with_all_it_has() -> None:
    changes = {
        "second.module": "Predict",
        "listed[1].module": "Predict",
        "named['x'].module": "ChainOfThought",
        "fixed[0].module": "Twice",
        "second.predict.instruction": "1",
        "temperature": 0.25,
        "lm": "small",
        "adapter": "json",
    }
    made = SPACE.apply(PROGRAM, changes)
    assert type(made.second) is PredictWithAdapter
    assert made.second.signature.instructions == "Be brief."
    assert made.second.demos == [DEMO]
    assert list(made.second.signature.output_fields) == ["label"]
    assert type(made.named["x"]) is dspy.ChainOfThought
    assert made.named["x"].predict.lm is SMALL
    assert made.named["x"].predict.config == {"temperature": 0.25}
    assert type(made.fixed[0]) is Twice
    assert SPACE.read(made) == SPACE.complete(changes)


@pytest.mark.parametrize("kind", [dspy.Predict, dspy.ChainOfThought])
def test_the_program_itself_may_be_replaced(kind: Any) -> None:
    program = kind("text -> label")
    space = extract(program, modules=True)
    other = "ChainOfThought" if kind is dspy.Predict else "Predict"
    made = space.apply(program, {"self.module": other})
    assert type(made).__name__ == other
    assert space.read(made) == {"self.module": other}
    with dspy.context(lm=dspy.utils.DummyLM([{"reasoning": "so", "label": "red"}])):
        assert made(text="x").label == "red"


def test_a_program_that_does_not_fit_is_refused() -> None:
    """With all that is wrong, and nothing changed."""
    bare = dspy.Predict("text -> label")
    with pytest.raises(BadConfiguration, match="predictor 'first': the program has none"):
        SPACE.apply(bare, {})
    small = extract(bare, instructions={"self": ["Be brief."]}, modules=True)
    with pytest.raises(BadConfiguration, match="module 'self': it is a Program"):
        small.read(PROGRAM)
    with pytest.raises(BadConfiguration, match="module 'second': it is not there"):
        SPACE.read(bare)
    strange = bare.deepcopy()
    strange.signature = strange.signature.with_instructions("Sing.")
    with pytest.raises(BadConfiguration, match=r"'self\.instruction': the program has something else"):
        small.read(strange)
    with pytest.raises(BadConfiguration, match="predictor 'self': the program has none"):
        extract(bare, demos={}).read(PROGRAM)
    with pytest.raises(BadConfiguration, match="choose one of"):
        small.apply(bare, {"self.module": "Dance"})


@pytest.mark.parametrize(
    ("program", "options", "complaint"),
    [
        (dspy.Predict("a -> b"), {"instructions": {"x": []}}, "'x.instruction': there is no such predictor; .* self"),
        (dspy.Predict("a -> b"), {"demos": {"x": []}}, "'x.demos'"),
        (Own("a -> b"), {"adapters": True}, "'self' is a Own"),
    ],
)
def test_what_cannot_be_extracted(program: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadVariable, match=complaint):
        extract(program, **options)


def test_a_predictor_of_ones_own_is_not_replaced() -> None:
    space = extract(Own("a -> b"), instructions={}, modules=True)
    assert space.defaults == {"self.instruction": "own"}


@pytest.mark.parametrize(
    ("program", "settings", "default"),
    [
        (dspy.Predict("a -> b"), {}, 1.0),
        (dspy.Predict("a -> b"), {"lm": dspy.LM("a/b", temperature=0.3)}, 0.3),
        (dspy.Predict("a -> b", temperature=1.5), {}, 1.5),
    ],
)
def test_the_temperature_is_what_it_is_now(program: Any, settings: dict[str, Any], default: float) -> None:
    with dspy.context(**settings):
        space = extract(program, temperature=True)
    assert space.defaults == {"temperature": default}
    cool = extract(program, temperature=Float(name="temperature", low=0.0, high=2.0, default=0.1))
    assert cool.apply(program, {"temperature": 2.0}).config == {"temperature": 2.0}


class Picky:
    """An engine that is right if it is asked for JSON, with reasons, coolly; else it says the same to everybody."""

    supports_response_schema = False

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels

    def __deepcopy__(self, memo: dict[int, Any]) -> Picky:
        return self

    def complete(self, request: Any) -> Any:
        """Answer."""
        said = str(request.system[0].text if isinstance(request.system, (list, tuple)) else request.system)
        asked = request.messages[-1].parts[0].text
        text = next(text for text in sorted(self.labels, key=len, reverse=True) if text in asked)
        as_json, thinking = "JSON" in asked, "reasoning" in said
        wishes = [as_json, thinking, (request.config.temperature or 0.0) < 0.5]
        label = self.labels[text] if sum(wishes) * 20 > int(text.split()[-1]) else "wrong"
        if as_json:
            fields = {"reasoning": "so", "label": label} if thinking else {"label": label}
            return plain_response(request, json.dumps(fields))
        reasons = "[[ ## reasoning ## ]]\nso\n\n" if thinking else ""
        return plain_response(request, f"{reasons}[[ ## label ## ]]\n{label}\n\n[[ ## completed ## ]]")


@pytest.mark.once
@pytest.mark.usefixtures("quiet", "supervised")
async def test_beacon_chooses_modules_adapters_and_temperature(runtime: Runtime) -> None:
    """And language models; what comes back has what was found best, and its own models."""
    examples, labels = task(60)
    lm = dspy.LM("known/picky", engine=Picky(labels), cache=False, temperature=0.9)
    dull = scripted_lm(ScriptedEngine({}, base=0.0))
    beacon = BEACON(
        metric=exact,
        num_trials=40,
        instructions={},
        max_bootstrapped_demos=0,
        max_labeled_demos=0,
        choose={"temperature": True, "adapters": {"json": dspy.JSONAdapter()}, "modules": True, "lms": {"dull": dull}},
        runtime=runtime,
        prune=None,
    )
    student = dspy.Predict("text -> label")
    with dspy.context(lm=lm):
        best = await beacon.acompile(student, trainset=examples)
        found = best.configuration
        assert (found["self.module"], found["adapter"], found["lm"]) == ("ChainOfThought", "json", "own")
        assert found["temperature"] < 0.5
        assert best.predict.lm is None
        prediction = await dspy.asyncify(best)(text=examples[-1].text)
    assert prediction.label == examples[-1].label


async def test_an_adapter_of_its_own_wins_sync_and_async() -> None:
    """Over the settings; DSPy's files do not have it, and can be loaded without."""
    program = dspy.Predict("text -> label")
    made = extract(program, adapters=True).apply(program, {"adapter": "json"})
    lm = dspy.LM("known/picky", engine=Picky({"case 1": "red"}), async_engine=Async(), cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        assert (await made.acall(text="case 1")).label == "async"
        assert made(text="case 1").label == "red"
    program.load_state(made.dump_state())
    assert type(program) is dspy.Predict


class Async:
    """An async engine that answers in JSON only."""

    async def complete(self, request: Any) -> Any:
        """Answer."""
        if "JSON" not in request.messages[-1].parts[0].text:
            raise lm15.InvalidRequestError("JSON, please")
        return plain_response(request, '{"label": "async"}')
