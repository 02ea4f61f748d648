"""The model that a served program uses is the one that was chosen, and the choice is told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from dspex import ProgramActor
from dspex.models.local.adapter import CompactAdapter
from dspex.models.selection import BadSetting
from dspex.parsing.adapter import unguarded
from dspex.serving.model import LanguageModelChosen
from foundation.programs import RunProgram
from supervision import ChildSpec, Runtime, StartError, Supervisor
from tests.dspex.samples import Probe, ask, scripted

SETTINGS: Any = sys.modules["dspy.dsp.utils.settings"]
COMPAT: Any = sys.modules["dspex._compat.settings"]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """DSPy's configuration is that of the process: it is what it was when the test is over."""
    before, owners = (
        dict(SETTINGS.main_thread_config),
        (SETTINGS.config_owner_thread_id, SETTINGS.config_owner_async_task),
    )
    yield
    SETTINGS.main_thread_config.clear()
    SETTINGS.main_thread_config.update(before)
    SETTINGS.config_owner_thread_id, SETTINGS.config_owner_async_task = owners
    COMPAT._configured.clear()
    for name in ("tests.dspex.configuring", "tests.dspex.configuring_too"):
        sys.modules.pop(name, None)


def configure(**settings: Any) -> None:
    """Configure DSPy, whoever has done so before."""
    SETTINGS.main_thread_config.update(settings)


@pytest.fixture
def told(runtime: Runtime) -> list[LanguageModelChosen]:
    """The choices that are told."""
    events: list[LanguageModelChosen] = []
    runtime.subscribe(events.append, LanguageModelChosen)  # type: ignore[arg-type]
    return events


async def used(runtime: Runtime, program: Any = Probe, **options: Any) -> tuple[Any, Any]:
    """The model and the adapter that a program runs with."""
    options.setdefault("environ", {})
    actor = await runtime.spawn(ProgramActor, program, **options)
    outputs = (await actor.call(RunProgram({}))).outputs
    return outputs["lm"], unguarded(outputs["adapter"])


def choice(event: LanguageModelChosen) -> tuple[str, str, str]:
    """What an event says."""
    return event.model, event.source, event.instead_of


async def test_nothing_chosen_is_the_embedded_model(runtime: Runtime, told: list[Any]) -> None:
    """With its adapter."""
    lm, adapter = await used(runtime)
    assert (lm.model, type(adapter)) == ("local/smollm2", CompactAdapter)
    assert choice(told[0]) == ("local/smollm2", "embedded", "")


async def test_what_is_configured_is_used(runtime: Runtime, told: list[Any]) -> None:
    """Before the actor starts, by whoever has the program."""
    mine, adapter = scripted(), dspy.JSONAdapter()
    configure(lm=mine, adapter=adapter)
    assert await used(runtime) == (mine, adapter)
    assert choice(told[0]) == ("dummy", "configured", "")


async def test_a_configured_adapter_goes_with_any_model(runtime: Runtime) -> None:
    """Also with the embedded one, which would bring another; only an argument overrides it."""
    adapter, other = dspy.JSONAdapter(), dspy.ChatAdapter()
    configure(adapter=adapter)
    assert (await used(runtime))[1] is adapter
    assert (await used(runtime, adapter=other))[1] is other


async def test_the_environment_overrides_what_is_configured_and_that_is_said_aloud(
    runtime: Runtime, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """With the name of the model that is not used."""
    configure(lm=scripted())
    lm, _ = await used(runtime, environ={"DSPEX_LM": "openai/m"})
    assert lm.model == "openai/m"
    assert choice(told[0]) == ("openai/m", "environment", "dummy")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "language_model_chosen" in record.message
    assert "instead_of=dummy" in record.message


async def test_an_argument_overrides_both(runtime: Runtime, told: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Whether as `lm`, or among the settings; what nobody has configured is not overridden."""
    caplog.set_level(logging.INFO)
    mine, own = scripted(), scripted()
    assert (await used(runtime, lm=own, environ={"DSPEX_LM": "openai/m"}))[0] is own
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    configure(lm=mine)
    assert (await used(runtime, settings={"lm": own}))[0] is own
    assert (await used(runtime, lm=mine))[0] is mine
    assert [choice(event) for event in told] == [
        ("dummy", "argument", ""),
        ("dummy", "argument", "dummy"),
        ("dummy", "argument", ""),
    ]


async def test_predictors_have_what_they_were_given(runtime: Runtime, told: list[Any]) -> None:
    """If all have a model of their own, no other is needed; with one that has none, it is."""
    both = Two()
    both.first.lm = scripted("blue")
    both.second.lm = scripted("red")
    actor = await runtime.spawn(ProgramActor, both, environ={})
    assert (await actor.call(RunProgram({"question": "?"}))).outputs == {"answer": "red"}
    assert choice(told[0]) == ("", "predictors", "")
    assert told[0].predictors == {"first": "dummy", "second": "dummy"}
    both.second.lm = None
    await runtime.spawn(ProgramActor, both, environ={})
    assert choice(told[1]) == ("local/smollm2", "embedded", "")
    assert told[1].predictors == {"first": "dummy"}


class Two(dspy.Module):  # type: ignore[misc]
    """Asks twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = ask(), ask()

    def forward(self, question: str) -> Any:
        """Ask."""
        return self.second(question=self.first(question=question).answer)


@pytest.mark.parametrize("variable", ["DSPEX_API_KEY", "DSPEX_API_BASE", "DSPEX_TEMPERATURE"])
async def test_variables_of_a_model_that_is_not_chosen_are_refused(runtime: Runtime, variable: str) -> None:
    """They would be ignored; values are not shown."""
    configure(lm=scripted())
    with pytest.raises(StartError, match="set DSPEX_LM too, to use another") as caught:
        await used(runtime, environ={variable: "0.5"})
    assert isinstance(caught.value.__cause__, BadSetting)
    assert "0.5" not in str(caught.value)


async def test_a_program_has_what_its_module_configures(runtime: Runtime, told: list[Any]) -> None:
    """Each its own, also after a restart, and whoever has configured DSPy before; a third one has neither's."""
    SETTINGS.config_owner_thread_id = -1  # somebody else's thread
    specs = [
        ChildSpec(name, ProgramActor, (f"tests.dspex.{module}:answers",), {"environ": {}}, name=name)
        for name, module in [("mine", "configuring"), ("yours", "configuring_too")]
    ]
    await runtime.spawn(Supervisor, specs)

    async def answers() -> list[str]:
        calls = [runtime.name(name).call(RunProgram({"question": "?"})) for name in ("mine", "yours")]
        return [(await call).outputs["answer"] for call in calls]

    assert await answers() == ["mine", "yours"]
    for name in ("mine", "yours"):
        ref = runtime.whereis(name)
        assert ref is not None
        ref.kill()
        await ref.join()
        assert await runtime.wait_for_name(name, until=runtime.clock.time() + 60)
    assert await answers() == ["mine", "yours"]
    assert [choice(event) for event in told] == [("dummy", "configured", "")] * 4
    assert SETTINGS.config_owner_thread_id == -1
    lm, adapter = await used(runtime)
    assert (lm.model, type(adapter)) == ("local/smollm2", CompactAdapter)


async def test_all_that_its_module_configures_counts(runtime: Runtime) -> None:
    """Not only the model."""
    actor = await runtime.spawn(ProgramActor, "tests.dspex.configuring:answers", environ={})
    settings = actor.actor.settings  # type: ignore[attr-defined]
    module = sys.modules["tests.dspex.configuring"]
    assert (settings["lm"], settings["adapter"], settings["max_errors"]) == (module.LM, module.ADAPTER, 77)


async def test_a_module_that_fails_while_it_is_loaded_leaves_the_configuration_to_its_owner(runtime: Runtime) -> None:
    """Whoever that is."""
    SETTINGS.config_owner_thread_id = -1

    def failing() -> Any:
        raise KeyError("no program")

    with pytest.raises(StartError):
        await runtime.spawn(ProgramActor, failing, environ={})
    assert SETTINGS.config_owner_thread_id == -1
