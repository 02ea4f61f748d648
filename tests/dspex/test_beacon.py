"""BEACON: real Bayesian optimisation, that survives."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import itertools
import sys
from pathlib import Path
from typing import Any

import dspy
import optuna
import pytest

from dspex import teleprompt
from dspex.teleprompt import beacon
from dspex.teleprompt.beacon import BEACON, TriedConfiguration
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task
from dspex.variables import BadConfiguration, Choice, Float
from supervision import Runtime

EXAMPLES, LABELS = task(60)
TRAIN, VALID = EXAMPLES[:20], EXAMPLES[20:]


pytestmark = pytest.mark.usefixtures("quiet", "supervised")


#: Instructions, of which some are better: the model takes advice.
SAID = {"self": ["Say the colour.", "Look closely: at the number.", "Look closely: twice. Look closely: again."]}


def options(runtime: Runtime, **more: Any) -> dict[str, Any]:
    """A small run."""
    small = {"num_trials": 12, "num_candidates": 3, "num_threads": 8, "instructions": SAID, "runtime": runtime}
    return {"metric": exact, "max_bootstrapped_demos": 2, "max_labeled_demos": 2, **small, **more}


def test_it_is_found_beside_the_other_optimisers() -> None:
    """It is imported when it is asked for, as it needs Optuna; what there is not is said as by any module."""
    assert teleprompt.BEACON is BEACON
    with pytest.raises(AttributeError, match="no attribute 'BEACONS'"):
        _ = teleprompt.BEACONS


async def compiled(runtime: Runtime, engine: ScriptedEngine, seed: int = 0, **more: Any) -> tuple[Any, BEACON]:
    """What it makes of a predictor."""
    beacon = BEACON(**options(runtime, **more))
    student = dspy.Predict("text -> label")
    with dspy.context(lm=scripted_lm(engine)):
        return await beacon.acompile(student, trainset=TRAIN, valset=VALID, seed=seed), beacon


def state(program: Any) -> Any:
    """What is compared."""
    return program.dump_state(), program.configuration, program.trial_logs


async def test_it_finds_better_programs_and_none_that_is_worse(runtime: Runtime) -> None:
    """The student is the first trial; the best of all comes back, with what it was made of."""
    engine = ScriptedEngine(LABELS)
    program, beacon = await compiled(runtime, engine)
    logs = program.trial_logs
    assert len(logs) == 12
    assert logs[0]["configuration"] == {"self.instruction": "own", "self.demos": "own"}
    assert beacon.report is not None
    best = max(log["score"] for log in logs.values() if not log["pruned"])
    assert best == beacon.report.best > logs[0]["score"] + 0.1
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS))):
        score = dspy.Evaluate(devset=VALID, metric=exact, num_threads=4, display_progress=False)(program).score
    assert score == pytest.approx(100 * best, abs=0.01)
    assert sum(log["pruned"] for log in logs.values()) > 0
    assert "pruned: True" in beacon.report.markdown()


@pytest.mark.once
async def test_a_seed_decides_and_nothing_else(runtime: Runtime) -> None:
    """Not how many workers there are, nor who is faster."""
    one, _ = await compiled(runtime, ScriptedEngine(LABELS), num_threads=1)
    many, _ = await compiled(runtime, ScriptedEngine(LABELS), num_threads=16)
    other, _ = await compiled(runtime, ScriptedEngine(LABELS), seed=1)
    assert state(one) == state(many)
    assert one.trial_logs != other.trial_logs


async def test_what_was_tried_before_is_not_asked_again(runtime: Runtime, tmp_path: Path) -> None:
    """It is a trial all the same, with the score that is known; what was given up goes on where it was, if at all."""
    engine = ScriptedEngine(LABELS)
    program, _ = await compiled(runtime, engine, num_trials=20, log_dir=tmp_path, parallel=5)
    logs = program.trial_logs
    scores: dict[str, set[float]] = {}
    for log in logs.values():
        if not log["pruned"]:
            scores.setdefault(str(log["configuration"]), set()).add(log["score"])
    assert len(logs) == 20
    assert len({str(log["configuration"]) for log in logs.values()}) < 15
    assert all(len(found) == 1 for found in scores.values())
    different = {str(log["configuration"]) for log in logs.values()}
    bootstrapped = len(TRAIN) * 3
    assert engine.calls <= len(different) * len(VALID) + bootstrapped
    asked = engine.calls
    again, _ = await compiled(runtime, engine, num_trials=20, log_dir=tmp_path, parallel=5)
    assert (state(again), engine.calls) == (state(program), asked)


async def test_a_journal_in_which_the_same_was_asked_again_goes_on_with_what_it_has(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if nothing had changed: scores that it has are those of their trials, also if they are not the same."""
    noise = itertools.count(1)

    def noisy(example: Any, prediction: Any, trace: Any = None) -> float:
        return exact(example, prediction, trace) + 1e-6 * next(noise)

    options: dict[str, Any] = {"num_trials": 20, "log_dir": tmp_path, "parallel": 5}
    options |= {"metric": noisy, "metric_id": "noisy"}
    with monkeypatch.context() as before:
        before.setattr(beacon._Search, "_digest", lambda _, trial, *more: str(trial.number))
        old, _ = await compiled(runtime, ScriptedEngine(LABELS), **options)
    engine = ScriptedEngine(LABELS)
    again, _ = await compiled(runtime, engine, **options)
    assert (state(again), engine.calls) == (state(old), 0)


async def test_it_survives(runtime: Runtime, tmp_path: Path) -> None:
    """Workers, coordinator and process die; the program is the same, and no finished call is made again."""
    theirs = ScriptedEngine(LABELS)
    whole, _ = await compiled(runtime, theirs)
    killed = 0

    def kill(number: int) -> None:
        nonlocal killed
        if number % 60 == 0:
            killed += 1
            victims = [ref for name, ref in runtime.names().items() if ".workers." in name]
            victims[number % len(victims)].kill()
        if number == 100:
            next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()

    cut = asyncio.Event()
    engine = ScriptedEngine(LABELS, before=lambda number: cut.set() if number == 200 else kill(number))
    first = asyncio.ensure_future(compiled(runtime, engine, log_dir=tmp_path))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    program, beacon = await compiled(runtime, engine, log_dir=tmp_path)
    assert state(program) == state(whole)
    assert beacon.report is not None
    assert beacon.report.resumed
    threads = options(runtime)["num_threads"]
    # A worker's own call; and those of all threads with the coordinator, and with the process.
    unfinished = killed + 2 * threads
    assert theirs.calls <= engine.calls <= theirs.calls + unfinished


@pytest.mark.once
async def test_variables_are_chosen_with_the_rest(runtime: Runtime) -> None:
    """By what they are worth, within their conditions and constraints; and put into the program as one says."""
    tone = Choice(name="tone", choices={"dull": "Say it.", "sharp": "Look closely: now."}, default="dull")
    heat = Float(name="heat", low=0.0, high=1.0, default=0.0, when=lambda found: found["tone"] == "sharp")
    seen: list[Any] = []

    def apply(program: Any, values: Any) -> Any:
        seen.append(dict(values))
        program.signature = program.signature.with_instructions(tone.value(values["tone"]))
        return program if values["tone"] == "sharp" else None

    cool = {"cool": lambda found: found["heat"] < 0.5}
    program, _ = await compiled(
        runtime,
        ScriptedEngine(LABELS, advice=0.3),
        variables=[tone, heat],
        constraints=cool,
        apply=apply,
        instructions={},
        max_bootstrapped_demos=0,
        max_labeled_demos=0,
        prune=None,
    )
    assert program.configuration["tone"] == "sharp"
    assert program.signature.instructions == "Look closely: now."
    assert all(values["heat"] < 0.5 for values in seen)
    assert not any(log["pruned"] for log in program.trial_logs.values())
    with pytest.raises(BadConfiguration, match="never does not hold"):
        await compiled(
            runtime,
            ScriptedEngine(LABELS),
            variables=[tone],
            constraints={"never": _never_after_the_first()},
            parallel=1,
        )


def _never_after_the_first() -> Any:
    left = [True] * 3  # for the defaults; for the first trial, chosen and applied
    return lambda _: bool(left and left.pop())


@pytest.mark.once
async def test_history_makes_for_a_warm_start(runtime: Runtime) -> None:
    """What was tried before is known to the sampler; what cannot be chosen any more is left out."""
    _, first = await compiled(runtime, ScriptedEngine(LABELS))
    gone = TriedConfiguration({"other": 1}, 1.0)
    warm, second = await compiled(runtime, ScriptedEngine(LABELS), history=[*first.tried, gone], num_trials=5)
    assert len(first.tried) > 5
    assert len(warm.trial_logs) == 5
    assert second.report is not None
    assert second.report.best >= first.report.best  # type: ignore[union-attr]


@pytest.mark.once
async def test_another_sampler_says_what_to_try(runtime: Runtime) -> None:
    """It is made with the seed, and the journal tells it from others."""
    made: list[int] = []

    def sampler(seed: int) -> optuna.samplers.BaseSampler:
        made.append(seed)
        return optuna.samplers.RandomSampler(seed=seed)

    drawn, beacon = await compiled(runtime, ScriptedEngine(LABELS), sampler=sampler, prune=None, num_trials=20)
    modelled, other = await compiled(runtime, ScriptedEngine(LABELS), prune=None, num_trials=20)
    assert drawn.trial_logs != modelled.trial_logs
    assert drawn.trial_logs[0] == modelled.trial_logs[0]
    assert (beacon.parameters()["sampler"], other.parameters()["sampler"]) == ("RandomSampler", "TPESampler")
    assert set(made) == {0}


@pytest.mark.once
async def test_instructions_are_written_by_a_model(runtime: Runtime) -> None:
    """As for MIPROv2, by a prompt model that is shown program, data and demonstrations; a teacher may make these."""

    class Writer(ScriptedEngine):
        def answer(self, messages: Any) -> str:
            text = "\n\n".join(f"[[ ## {name} ## ]]\nLook closely: here." for name in _outputs(messages))
            return f"{text}\n\n[[ ## completed ## ]]"

    writer, engine = Writer(LABELS), ScriptedEngine(LABELS)
    program, _ = await compiled(
        runtime,
        engine,
        instructions=None,
        prompt_model=scripted_lm(writer),
        teacher_settings={"lm": scripted_lm(ScriptedEngine(LABELS, base=1.0))},
        metric=_two,
    )
    assert writer.calls > 0
    assert "Look closely" in str(program.trial_logs) or program.configuration["self.instruction"] in ("own", "1")


def _two(example: Any, prediction: Any) -> float:
    """A metric that takes no trace."""
    return exact(example, prediction)


def _outputs(messages: Any) -> list[str]:
    import re

    outputs = messages[0]["content"].split("Your output fields are:")[-1].split("All interactions")[0]
    return re.findall(r"`(\w+)` \(", outputs)


def test_without_optuna_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an error from inside Optuna is its own."""
    real = builtins.__import__
    for missing, match in (("optuna", "foundation-otp"), ("other", "other")):

        def absent(name: str, *args: Any, missing: str = missing, **kwargs: Any) -> Any:
            if name == "optuna":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
            return real(name, *args, **kwargs)

        monkeypatch.delitem(sys.modules, "dspex.teleprompt.beacon")
        monkeypatch.setattr(builtins, "__import__", absent)
        with pytest.raises(ModuleNotFoundError, match=match):
            importlib.import_module("dspex.teleprompt.beacon")
        monkeypatch.undo()


async def test_demonstrations_may_be_examples_alone(runtime: Runtime) -> None:
    """With none of the program's own answers, the sets are samples of the examples, each another one."""
    program, _ = await compiled(
        runtime, ScriptedEngine(LABELS), instructions={}, max_bootstrapped_demos=0, max_labeled_demos=2
    )
    assert {log["configuration"]["self.demos"] for log in program.trial_logs.values()} == {"own", "1", "2", "3"}
    assert len(program.demos) == 2
    assert all(demo in TRAIN for demo in program.demos)


class _Way(dspy.Module):  # type: ignore[misc]
    """Fails at once, or is right once another one has failed."""

    failed: asyncio.Event

    def __init__(self) -> None:
        super().__init__()
        self.which = "good"

    async def aforward(self, text: str) -> Any:
        if self.which == "bad":
            self.failed.set()
            raise ValueError("bad")
        await self.failed.wait()
        return dspy.Prediction(label=LABELS[text])


async def test_that_nothing_can_be_scored_is_said_when_all_of_a_generation_had_their_chance(runtime: Runtime) -> None:
    """However soon the worst of them has failed."""
    _Way.failed = asyncio.Event()

    def changed(program: Any, values: Any) -> None:
        program.which = values["which"]

    more = {
        "variables": [Choice(name="which", choices={"good": "good", "bad": "bad"}, default="good")],
        "apply": changed,
        "instructions": {},
    }
    beacon = BEACON(
        **options(
            runtime, **more, max_bootstrapped_demos=0, max_labeled_demos=0, num_trials=8, parallel=8, num_threads=100
        )
    )
    found = await beacon.acompile(_Way(), trainset=TRAIN, valset=VALID, seed=0)
    assert {log["configuration"]["which"] for log in found.trial_logs.values()} == {"good", "bad"}
    assert found.which == "good"
