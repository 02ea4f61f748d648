"""The command ``python -m dspex.evaluate SPEC.toml``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import dspy
import msgspec

from dspex.data.examples import BadExamples
from dspex.evaluate.comparison import Comparison, compare
from dspex.evaluate.errors import (
    EvaluationError,
    EvaluationFailed,
    EvaluationOverBudget,
    EvaluationSuspended,
    NoExamples,
    NotComparable,
    OtherEvaluation,
)
from dspex.evaluate.evaluation import evaluate, read_evaluation
from dspex.evaluate.result import EvaluationResult, RunCost
from dspex.evaluate.spec import BadSpec, LoadedSpec, load_spec
from dspex.fingerprints import NoFingerprint, metric_fingerprint
from dspex.models.local.weights import ModelMissing
from dspex.models.selection import BadSetting, language_model
from supervision import Runtime
from supervision.errors import BadOption, BadTime

#: What the command returns.
DONE, FAILED, USAGE, UNCOVERED, WORSE, OVER_BUDGET, SUSPENDED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 75, 130

_USAGE = (
    BadSpec,
    BadExamples,
    BadOption,
    BadTime,
    BadSetting,
    NoExamples,
    NotComparable,
    NoFingerprint,
    OtherEvaluation,
)
_ABOUT = """
Evaluates the program of a specification on its examples. What is done is kept: run again after a crash, an outage or
Ctrl-C, it goes on. Exit status: 0 done, 1 failed, 2 wrong usage, 3 too few examples count, 4 worse than --against
(p < .05), 5 over budget, 75 the language model is unavailable, 130 interrupted.
"""


class Evaluated(NamedTuple):
    """How a command has ended: its status, and what there is to say."""

    status: int
    state: str
    result: EvaluationResult | None = None
    comparison: Comparison | None = None
    error: str | None = None

    def as_json(self) -> bytes:
        """Return it as one JSON object."""
        return msgspec.json.format(msgspec.json.encode(self._asdict()))

    def as_text(self) -> str:
        """Return what was found as text; an empty one for nothing."""
        parts = [] if self.result is None else [str(self.result), _cost(self.result.run)]
        return "\n".join(parts if self.comparison is None else [*parts, str(self.comparison)])


_INTERRUPTED = Evaluated(INTERRUPTED, "interrupted", error="interrupted; what is done is kept: run it again to go on")


def _cost(run: RunCost) -> str:
    kept = f", {run.kept} results were kept" if run.resumed else ""
    return f"this run  {run.calls} calls of language models, {run.seconds:.1f} s{kept}"


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Evaluate, print what was found, and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        ended = _evaluated(options, os.environ if environ is None else environ)
    except _USAGE as error:
        ended = Evaluated(USAGE, "refused", error=str(error))
    except KeyboardInterrupt:
        ended = _INTERRUPTED
    except (EvaluationError, ModelMissing) as error:
        ended = Evaluated(FAILED, "failed", error=str(error))
    if options.json:
        print(ended.as_json().decode())
    elif text := ended.as_text():
        print(text)
    if ended.error is not None:
        print(f"dspex.evaluate: {ended.error}", file=sys.stderr)
    return ended.status


def end_process(status: int, patience: float = 0.5) -> NoReturn:
    """End the process: by force if a thread is left after so many seconds, as that of a metric that hangs.

    The interpreter would wait for it for ever. All is kept, and said, by then.
    """
    left = [each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()]
    for each in left:
        each.join(patience / len(left))
    if any(each.is_alive() for each in left):
        with suppress(OSError):  # nobody reads any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dspex.evaluate", description=_ABOUT)
    parser.add_argument("spec", type=Path, metavar="SPEC.toml", help="what is to be evaluated")
    parser.add_argument("--fresh", action="store_true", help="begin anew, beside what is kept")
    parser.add_argument("--against", type=Path, metavar="RUN", help="the folder, or journal, to compare with")
    parser.add_argument("--budget", type=float, metavar="DOLLARS", help="what may be spent in the folder, in all")
    parser.add_argument("--max-calls", type=int, metavar="N", help="how many calls of models may be made there, in all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _evaluated(options: argparse.Namespace, environ: Mapping[str, str]) -> Evaluated:
    loaded = load_spec(options.spec)
    old = None if options.against is None else _against(options.against, loaded)
    limits = {"budget": options.budget, "max_calls": options.max_calls}
    given = {name: value for name, value in limits.items() if value is not None}
    with _model(loaded, environ):
        return asyncio.run(_ended(loaded, old, fresh=options.fresh, **given))


async def _ended(loaded: LoadedSpec, old: EvaluationResult | None, **given: Any) -> Evaluated:
    """Evaluate, and return how it has ended."""
    try:
        result = await _result(loaded, **given)
    except EvaluationOverBudget as error:
        return Evaluated(OVER_BUDGET, "over_budget", error.result, error=str(error))
    except EvaluationSuspended as error:
        return Evaluated(SUSPENDED, "suspended", error.result, error=str(error))
    except EvaluationFailed as error:
        return Evaluated(FAILED, "failed", error.result, error=str(error))
    except asyncio.CancelledError:  # by Ctrl-C
        return _INTERRUPTED
    comparison = None if old is None else compare(old, result)
    if result.score is None:
        return Evaluated(UNCOVERED, "uncovered", result, comparison, "too few examples count for a score")
    worse = comparison is not None and comparison.verdict == "worse"
    return Evaluated(WORSE if worse else DONE, "done", result, comparison)


def _against(path: Path, loaded: LoadedSpec) -> EvaluationResult:
    """Return the evaluation to compare with, once it is known that it can be compared."""
    old = asyncio.run(read_evaluation(path))
    here, there = metric_fingerprint(loaded.metric, loaded.spec.metric_id), old.identity.get("metric")
    if here != there:
        raise NotComparable(f"metric {there} there, {here} here; evaluate both with one metric")
    return old


def _model(loaded: LoadedSpec, environ: Mapping[str, str]) -> AbstractContextManager[Any]:
    """Return the language model: that of the specification, of the environment, of the program, or the embedded one."""
    named = loaded.spec.model or environ.get("DSPEX_LM")
    own = all(predictor.lm is not None for predictor in loaded.program.predictors())
    if not named and (own or dspy.settings.lm is not None):
        return nullcontext()
    return language_model({**environ, "DSPEX_LM": named or "local"}, slots=min(loaded.spec.num_threads, 4))


async def _result(loaded: LoadedSpec, **given: Any) -> EvaluationResult:
    async with Runtime(reports=False) as runtime:
        return await evaluate(
            loaded.program,
            loaded.devset,
            loaded.metric,
            log_dir=loaded.log_dir,
            runtime=runtime,
            **{**loaded.spec.options(), **given},
        )
