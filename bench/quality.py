"""Suite ``quality``: how good the programs of optimisers are, with a real, small language model and real data.

The model is the embedded one. Each method is given the same examples to learn from; the programs are scored on test
examples that no method has seen, the same for all methods and seeds. Another seed is another sample of examples to
learn from, and other chance in the method. What a method spends are calls of the model, counted at its engine; an
answer to a prompt that was asked before comes from a file, and counts as a call all the same.

BEACON is compared at equal budget: with itself, over the same space and with as many trials, but with configurations
drawn at random; neither gives up trials early. DSPy's random search scores as many candidates on as many examples.

Figure ``surface`` compares the two again on a published function, where there is no noise and a trial costs nothing.

Instructions, and the rules that SIMBA adds, are taken from a fixed list, as a model of this size cannot write them.

Methods that see how probable each answer is correct the model's bias, or put several wordings together
(`quality_bias`); "BEACON, with ways" may choose that as a variable. Methods are compared in pairs, on the same test
examples: the scores of an example are averaged over the seeds first; then the mean difference has an interval by the
bootstrap, and a p by Wilcoxon.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import logging
import sqlite3
import statistics
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from random import Random
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import dspy
import msgspec
import optuna
from msgspec.structs import replace

from bench.quality_bias import WAYS, Chooses, Listening
from bench.quality_data import FOLDER, PACKAGES, TASKS, DataMissing, Task
from bench.quality_surface import Surface, surface
from dspex._compat import chat_messages, lm15, plain_response
from dspex.models.local.adapter import CompactAdapter
from dspex.models.local.engine import ChoiceEngine, choice_of
from dspex.models.local.process import command
from dspex.models.local.weights import ModelMissing, find_model
from dspex.models.selection import EMBEDDED, EMBEDDED_MAX_TOKENS
from dspex.statistics import bootstrap, wilcoxon
from dspex.teleprompt import SIMBA
from dspex.teleprompt.beacon import BEACON
from dspex.variables import Choice, Integer

#: What is measured if nobody says otherwise: each task takes a quarter of an hour or more on one core.
DEFAULT = ("movie", "topics", "surface")
#: What can be measured: each task, and BEACON's sampler by itself.
NAMES = (*TASKS, "surface")
#: How many examples there are to learn from, to validate on, and to test on.
TRAIN, VALIDATION, TEST = 24, 16, 150
#: How many configurations are tried.
TRIALS = 16
#: How many demonstrations a prompt has at most, and how many sets of them there are to choose from.
SHOTS, SETS = 4, 6


class Result(msgspec.Struct, frozen=True):
    """What has become of one method with one seed.

    Attributes:
        test: the accuracy on the test examples.
        validation: that on the validation examples; None if the method does not tell.
        calls: how often the language model was asked, the test not counted.
        right: for each test example, whether it was right.
    """

    test: float
    validation: float | None
    calls: int
    right: list[bool]


# -- the model -----------------------------------------------------------------------------------------------


class Answers:
    """What the model has answered, by prompt, in a file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = wal")
        self._database.execute("PRAGMA synchronous = off")
        self._database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, shares TEXT)")
        self._lock = threading.Lock()
        #: How many prompts were new.
        self.new = 0

    def shares(self, key: str, ask: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return how probable each answer to a prompt is; ``ask`` is called if that is not known."""
        with self._lock:
            row = self._database.execute("SELECT shares FROM answers WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return dict(json.loads(row[0]))
        found = ask()
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(found)))
            self.new += 1
        return found

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class CountingEngine:
    """The engine of one method and one seed: it counts calls, and draws by the seed.

    Args:
        engine: that is asked.
        answers: that are known.
        seed: of what is drawn at a temperature above 0: the nth answer to a prompt is always the same.
    """

    supports_response_schema = True
    supported_params = ChoiceEngine.supported_params

    def __init__(self, engine: ChoiceEngine, answers: Answers, seed: int) -> None:
        self._engine, self._answers, self._seed = engine, answers, seed
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.calls = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> CountingEngine:
        return self

    def shares_of(self, request: Any) -> dict[str, float]:
        """Return how probable each answer to a request for a choice is."""
        choice = choice_of(request)
        if choice is None:
            raise lm15.UnsupportedFeatureError("this suite asks for choices only")
        key = _key(request, choice)
        return self._answers.shares(key, lambda: self._engine.complete(request).provider_data["choices"])

    def complete(self, request: Any) -> Any:
        """Answer a request for a choice."""
        shares, choice = self.shares_of(request), choice_of(request)
        assert choice is not None
        key = _key(request, choice)
        with self._lock:
            self.calls += 1
            self._asked[key] += 1
            number = self._asked[key]
        temperature = request.config.temperature or 0.0
        if temperature:
            weights = [share ** (1 / temperature) for share in shares.values()]
            picked = Random(f"{self._seed}:{key}:{number}").choices(list(shares), weights)[0]
        else:
            picked = max(shares, key=lambda text: shares[text])
        return plain_response(request, json.dumps({choice.field: picked}))

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer in one piece."""
        return iter(lm15.response_to_events(self.complete(request)))


def _key(request: Any, choice: Any) -> str:
    asked = [chat_messages(request), choice.title, choice.values]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class RuleEngine:
    """Writes the rules that SIMBA adds: the instructions of the task, one after the other.

    Args:
        rules: the instructions.
    """

    supports_response_schema = False

    def __init__(self, rules: Sequence[str]) -> None:
        self._rules = itertools.cycle(rules)

    def __deepcopy__(self, memo: dict[int, Any]) -> RuleEngine:
        return self

    def complete(self, request: Any) -> Any:
        """Answer with the next rule."""
        return plain_response(request, json.dumps({"discussion": "", "module_advice": {"self": next(self._rules)}}))

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer in one piece."""
        return iter(lm15.response_to_events(self.complete(request)))


class AsyncEngine:
    """An engine for ``acall``.

    Args:
        engine: that answers.
    """

    supported_params = ChoiceEngine.supported_params

    def __init__(self, engine: CountingEngine | RuleEngine | Listening) -> None:
        self._engine = engine
        self.supports_response_schema = engine.supports_response_schema

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncEngine:
        return self

    async def complete(self, request: Any) -> Any:
        """Answer a request."""
        return await asyncio.to_thread(self._engine.complete, request)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        """Answer in one piece."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event


def _lm(engine: CountingEngine | RuleEngine | Listening) -> Any:
    options = {"cache": False, "temperature": 0.0, "max_tokens": EMBEDDED_MAX_TOKENS}
    return dspy.LM(EMBEDDED, engine=engine, async_engine=AsyncEngine(engine), **options)


@contextmanager
def served(model: Path, threads: int = 1) -> Generator[str]:
    """Serve a model, and yield where."""
    arguments = command(model, f"--threads={threads}", "--slots=2")
    with Popen(arguments, stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the model {model.name} cannot be served")
            yield json.loads(line)["url"]
        finally:
            process.terminate()


# -- the methods ---------------------------------------------------------------------------------------------


class Lesson(msgspec.Struct, frozen=True):
    """What a method is given.

    Attributes:
        task: the task.
        train: examples to learn from.
        validation: examples to choose by.
        seed: of the method's chance.
        engine: that is asked.
    """

    task: Task
    train: list[Any]
    validation: list[Any]
    seed: int
    engine: CountingEngine | None = None

    def student(self) -> Any:
        """Return the program as it is."""
        return dspy.Predict(self.task.signature)

    def chooses(self, way: str) -> Chooses:
        """Return the program that sees how probable each label is."""

        def listen() -> tuple[Any, Listening]:
            listening = Listening(self.engine)
            return _lm(listening), listening

        return Chooses(self.task, self.train, way, listen)

    def metric(self, example: Any, prediction: Any, trace: Any = None) -> float:
        """Return 1 if the answer is right."""
        field = self.task.field()
        return float(example[field] == prediction[field])


#: The program, and its accuracy on the validation examples, if it is known.
Compiled = tuple[Any, float | None]


def _zero_shot(lesson: Lesson) -> Compiled:
    return lesson.student(), None


def _way(way: str) -> Callable[[Lesson], Compiled]:
    """Return the method that takes one way of making an answer of probabilities."""

    def method(lesson: Lesson) -> Compiled:
        program = lesson.chooses(way)
        program(**lesson.train[0].inputs())  # what it has to know of the examples to learn from is asked for here
        return program, None

    return method


def _bootstrap(lesson: Lesson) -> Compiled:
    teleprompter = dspy.BootstrapFewShot(metric=lesson.metric, max_bootstrapped_demos=SHOTS, max_labeled_demos=SHOTS)
    return teleprompter.compile(lesson.student(), trainset=lesson.train), None


def _random_search(lesson: Lesson) -> Compiled:
    # It scores three candidates that are not drawn, besides.
    teleprompter = dspy.BootstrapFewShotWithRandomSearch(
        metric=lesson.metric,
        max_bootstrapped_demos=SHOTS,
        max_labeled_demos=SHOTS,
        num_candidate_programs=TRIALS - 3,
        num_threads=1,
    )
    found = teleprompter.compile(lesson.student(), trainset=lesson.train, valset=lesson.validation)
    return found, found.candidate_programs[0]["score"] / 100


def _simba(lesson: Lesson) -> Compiled:
    teleprompter = SIMBA(
        metric=lesson.metric,
        bsize=8,
        num_candidates=3,
        max_steps=3,
        max_demos=SHOTS,
        prompt_model=_lm(RuleEngine(lesson.task.instructions)),
        num_threads=1,
        display_progress=False,
    )
    return teleprompter.compile(lesson.student(), trainset=lesson.train + lesson.validation, seed=lesson.seed), None


def _beacon(lesson: Lesson, student: Any = None, more: Sequence[Any] = (), **options: Any) -> Compiled:
    labels = ", ".join(lesson.task.signature.output_fields[lesson.task.field()].annotation.__args__)
    endings = {"none": "", "word": " Answer with one word.", "labels": f" Answer with one of: {labels}."}
    ending = Choice(name="ending", choices=endings, default="none")
    shots = Integer(name="shots", low=1, high=SHOTS, default=SHOTS)
    order = Choice(name="order", choices={"own": 1, "reversed": -1}, default="own")

    def apply(program: Any, values: Mapping[str, Any]) -> None:
        (predictor,) = program.predictors()
        text = predictor.signature.instructions + ending.value(values["ending"])
        predictor.signature = predictor.signature.with_instructions(text)
        predictor.demos = predictor.demos[: values["shots"]][:: order.value(values["order"])]
        for variable in more:
            setattr(program, variable.name, values[variable.name])

    teleprompter = BEACON(
        metric=lesson.metric,
        num_trials=TRIALS,
        num_candidates=SETS,
        max_bootstrapped_demos=SHOTS,
        max_labeled_demos=SHOTS,
        instructions={"self" if student is None else "predict": lesson.task.instructions},
        variables=[ending, shots, order, *more],
        apply=apply,
        parallel=1,
        num_threads=1,
        display_progress=False,
        **{"prune": None, **options},
    )
    program = lesson.student() if student is None else student
    found = teleprompter.compile(program, trainset=lesson.train, valset=lesson.validation, seed=lesson.seed)
    return found, max(log["score"] for log in found.trial_logs.values() if not log["pruned"])


def _at_random(lesson: Lesson) -> Compiled:
    return _beacon(lesson, sampler=lambda seed: optuna.samplers.RandomSampler(seed=seed))


def _beacon_with_ways(lesson: Lesson) -> Compiled:
    way = Choice(name="way", choices={name: name for name in WAYS}, default=WAYS[0])
    return _beacon(lesson, lesson.chooses(WAYS[0]), [way])


METHODS: dict[str, Callable[[Lesson], Compiled]] = {
    "zero-shot": _zero_shot,
    **{way: _way(way) for way in WAYS[1:]},
    "BootstrapFewShot": _bootstrap,
    "random search": _random_search,
    "SIMBA": _simba,
    "BEACON": _beacon,
    "BEACON, at random": _at_random,
    "BEACON, with ways": _beacon_with_ways,
}


# -- the suite -----------------------------------------------------------------------------------------------


def _measured(method: str, lesson: Lesson, test: Sequence[Any], engine: CountingEngine) -> Result:
    """Return what a method makes of a lesson."""
    with dspy.context(lm=_lm(engine), adapter=CompactAdapter()):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            program, validation = METHODS[method](lesson)
        calls = engine.calls
        right = [lesson.metric(example, program(**example.inputs())) == 1 for example in test]
    return Result(sum(right) / len(test), validation, calls, right)


def _lesson(task: Task, examples: Sequence[Any], seed: int) -> Lesson:
    """Return a sample of the examples."""
    drawn = Random(seed).sample(list(examples), TRAIN + VALIDATION)
    return Lesson(task, drawn[:TRAIN], drawn[TRAIN:], seed)


def _run(tasks: Sequence[str], seeds: Sequence[int], url: str, answers: Answers) -> dict[str, dict[str, list[Result]]]:
    results: dict[str, dict[str, list[Result]]] = {}
    everything = [(name, seed, method) for name in tasks for seed in seeds for method in METHODS]
    examples = {name: TASKS[name].examples() for name in tasks}
    engine = ChoiceEngine(lambda: url)
    for n, (name, seed, method) in enumerate(everything, 1):
        step = f"[{n}/{len(everything)}] {name}, seed {seed}: {method}, {answers.new} prompts asked"
        print(f"\r{step:<79}", end="", file=sys.stderr, flush=True)
        counting = CountingEngine(engine, answers, seed)
        lesson = replace(_lesson(TASKS[name], examples[name][TEST:], seed), engine=counting)
        found = _measured(method, lesson, examples[name][:TEST], counting)
        results.setdefault(name, {}).setdefault(method, []).append(found)
    print(f"\r{'':<79}\r", end="", file=sys.stderr, flush=True)
    return results


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


class Found(msgspec.Struct, frozen=True):
    """What a run of the suite has found: results by task and method, one of each seed."""

    versions: dict[str, str]
    results: dict[str, dict[str, list[Result]]]
    surface: Surface | None


def _table(found: Found, seeds: int) -> str:
    sizes = f"{TRAIN} examples to learn from, {VALIDATION} to validate on, {TEST} to test on; {TRIALS} trials"
    lines = [", ".join(f"{name} {version}" for name, version in found.versions.items())]
    if found.results:
        lines.append(f"{sizes}; {seeds} seeds")
    for task, methods in found.results.items():
        lines += ["", f"{task:<22}{'test':>8}{'spread':>8}{'least':>8}{'most':>8}{'validation':>12}{'LM calls':>10}"]
        for method, runs in methods.items():
            tests = [result.test for result in runs]
            mean, spread = _spread(tests)
            own = [result.validation for result in runs if result.validation is not None]
            seen = f"{statistics.mean(own):>12.3f}" if own else f"{'':>12}"
            calls = statistics.mean(result.calls for result in runs)
            lines.append(
                f"{method:<22}{mean:>8.3f}{spread:>8.3f}{min(tests):>8.3f}{max(tests):>8.3f}{seen}{calls:>10,.0f}"
            )
        for one, other in PAIRS:
            if one in methods and other in methods:
                lines.append(_paired(one, methods[one], other, methods[other]))
    if found.surface is not None:
        lines += ["", found.surface.table()]
    return "\n".join(lines)


#: Which methods are compared, example by example.
PAIRS = (
    *((method, "zero-shot") for method in METHODS if method != "zero-shot"),
    ("BEACON", "BEACON, at random"),
    ("BEACON", "random search"),
    ("BEACON, with ways", "BEACON"),
)


def _paired(one: str, mine: Sequence[Result], other: str, theirs: Sequence[Result]) -> str:
    """Return how much better a method does, averaged over the seeds for each example first, and how sure that is."""
    rights = [[run.right for run in runs] for runs in (mine, theirs)]
    means = [[statistics.fmean(column) for column in zip(*rows, strict=True)] for rows in rights]
    differences = [a - b for a, b in zip(*means, strict=True)]
    low, high = bootstrap(differences)
    p = wilcoxon(differences).p
    text = f"{statistics.fmean(differences):+.3f}, {low:+.3f} to {high:+.3f} at 95%, p {p:.3f}"
    return f"    {one} - {other}: {text}"


def _versions(model: Path, digest: str) -> dict[str, str]:
    packages = ["dspy", "optuna", "xllamacpp"]
    data = dict(package.split("==") for package in PACKAGES)
    return {model.name: f"({digest[:12]})", **{name: metadata.version(name) for name in packages}, **data}


def main(
    seed: int, seeds: int, tasks: Sequence[str], *, as_json: bool, write: Callable[[str], None] | None = None
) -> int:
    """Run the suite and print what it has found.

    Args:
        seed: the first seed.
        seeds: how many there are.
        tasks: which of `NAMES`.
        as_json: print one JSON object instead of a table.
        write: is given the table.
    """
    logging.disable(logging.WARNING)
    real = [name for name in tasks if name in TASKS]
    try:
        model = find_model()
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        versions = _versions(model, digest)
        results: dict[str, dict[str, list[Result]]] = {}
        if real:
            answers = Answers(FOLDER / f"answers-{digest[:12]}-{versions['xllamacpp']}.sqlite")
            with contextlib.closing(answers), served(model) as url:
                results = _run(real, range(seed, seed + seeds), url, answers)
    except (ModelMissing, DataMissing) as error:
        print(f"python -m bench quality: {error}", file=sys.stderr)
        return 1
    found = Found(versions, results, surface(seed) if "surface" in tasks else None)
    table = _table(found, seeds)
    print(msgspec.json.encode(found).decode() if as_json else table)
    if write is not None:
        write(table)
    return 0
