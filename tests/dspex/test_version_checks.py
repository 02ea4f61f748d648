"""What a saved state may say when it is posted: what DSPy's own states say, and nothing that DSPy would merely take."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspex.serving.versions import Versions, check_state
from foundation.programs import BadVersion


class Two(dspy.Module):
    """Two predictors."""

    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict("question -> answer", temperature=0.3)
        self.check = dspy.ChainOfThought("question, answer -> ok: bool")


def saved() -> dict[str, Any]:
    """What DSPy saves, as it stands in a file."""
    return {**Two().dump_state(), "metadata": {"dependency_versions": {"python": "3.11"}}}


def changed(path: str, value: Any) -> dict[str, Any]:
    """A state in which something is different: ``...`` takes it away."""
    state = saved()
    place: Any = state
    *above, last = path.split("/")
    for step in above:
        place = place[int(step) if step.isdigit() else step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return state


async def test_what_dspy_saves_is_taken_as_it_is() -> None:
    demo = {"question": "q", "answer": {"nested": [1, None]}, "augmented": True}
    state = changed("draft/demos", [demo])
    state["draft"]["signature"]["instructions"] = "Be brief."
    versions = Versions(Two())
    await versions.add(state)
    assert versions.program.draft.demos == [demo]
    assert versions.program.draft.signature.instructions == "Be brief."
    assert versions.program.draft.config == {"temperature": 0.3}


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("draft/config", {"api_base": "http://evil/v1"}, "draft.config.api_base: is no setting that a version may"),
        ("draft/config", {"temperature": 2.0}, "draft.config.temperature"),
        ("draft/config", "text", "draft.config: is no object"),
        ("draft/lm", {"model": "openai/x", "api_base": "http://evil/v1"}, "draft.lm: the language model is chosen in"),
        ("draft/forward", 1, "draft.forward: there is no such part; there are traces, train, demos"),
        ("draft/callbacks", [], "draft.callbacks"),
        ("draft/__class__", "x", "draft.__class__"),
        ("draft/demos", {}, "draft.demos: is no list"),
        ("draft/demos", ["text"], "draft.demos.0: is no object"),
        ("draft/demos", ..., "draft.demos: is missing"),
        ("draft/signature", ..., "draft.signature: is missing"),
        ("draft/signature/instructions", 7, "draft.signature.instructions: is no str"),
        ("draft/signature/instructions", ..., "draft.signature: needs instructions, and 2 fields"),
        ("draft/signature/fields", [], "draft.signature: needs instructions, and 2 fields"),
        ("draft/signature/more", 1, "draft.signature.more: there is no such part"),
        ("draft/signature/fields/0/desc", "x", "draft.signature.fields.0.desc: there is no such part"),
        ("draft/signature/fields/0/prefix", None, "draft.signature.fields.0.prefix: is no str"),
        ("draft/signature/fields/0/prefix", ..., "draft.signature.fields.0: needs prefix and description"),
        ("draft", "text", "draft: is no object"),
        ("draft", ..., "draft: is missing"),
        ("third", {}, "third: there is no such part; there are draft, check.predict"),
    ],
)
async def test_what_it_may_not_say_is_refused_by_its_key_and_changes_nothing(path: str, value: Any, named: str) -> None:
    versions = Versions(Two())
    with pytest.raises(BadVersion, match="version 1: it does not fit the program") as caught:
        await versions.add(changed(path, value))
    assert named in str(caught.value)
    assert (versions.number, len(versions.list())) == (0, 1)


async def test_a_program_that_is_a_predictor_is_saved_without_a_name_for_it() -> None:
    """Its settings are its own."""
    state = {**dspy.Predict("text -> label").dump_state(), "metadata": {}}
    versions = Versions(dspy.Predict("text -> label"), settings=("temperature",))
    await versions.add({**state, "config": {"temperature": 0.5}})
    assert versions.program.config == {"temperature": 0.5}
    for key, value in (("config", {"api_base": "x"}), ("lm", {"model": "m"}), ("demos", [1]), ("self", {})):
        with pytest.raises(BadVersion, match=rf"\({key}"):
            await versions.add({**state, key: value})


async def test_settings_that_the_operator_allows_are_changed_and_the_others_kept() -> None:
    versions = Versions(Two(), settings=("max_tokens",))
    await versions.add(changed("draft/config", {"max_tokens": 7}))
    assert versions.program.draft.config == {"temperature": 0.3, "max_tokens": 7}
    with pytest.raises(BadVersion, match=r"draft.config.api_base: .* there are max_tokens"):
        await versions.add(changed("draft/config", {"api_base": "x"}))


def test_parts_of_parts_and_plain_parts_are_checked_too() -> None:
    """A part that is a program of its own has parts; a plain value has a type."""
    reference = {"inner": {"p": Two().draft.dump_state()}, "seed": 7}
    good = {"inner": {"p": Two().draft.dump_state()}, "seed": 8}
    assert check_state(1, good, reference, ()).state["seed"] == 8
    with pytest.raises(BadVersion, match=r"inner\.q: there is no such part"):
        check_state(1, {**good, "inner": {"q": 1}}, reference, ())
    with pytest.raises(BadVersion, match="seed: is no int"):
        check_state(1, {**good, "seed": "8"}, reference, ())
    with pytest.raises(BadVersion, match="the state: is no object"):
        check_state(1, [], reference, ())  # type: ignore[arg-type]
