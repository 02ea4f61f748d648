"""Evaluations: how well a program does on examples, how sure that is, and whether another one does better.

- `evaluation` runs a program on examples, durably; `outcomes` says what became of each, and `result` what of all.
- `comparison` compares two evaluations on the examples that they have in common.
- `actor` owns evaluations as jobs (`dspex.jobs`), each of which is the `work` on a `spec`.
- `spec` reads what is to be evaluated from a file, and `command` is ``python -m dspex.evaluate``; `progress` is shown.
"""

from dspex.evaluate.evaluation import evaluate as evaluate
from dspex.evaluate.evaluation import read_evaluation as read_evaluation
from dspex.evaluate.comparison import compare as compare
from dspex.evaluate.comparison import Comparison as Comparison
from dspex.evaluate.result import EvaluationResult as EvaluationResult
from dspex.evaluate.result import ExampleResult as ExampleResult
from dspex.evaluate.result import RunCost as RunCost

# Events.
from dspex.evaluate.events import ExampleScored as ExampleScored
from dspex.evaluate.events import EvaluationWaits as EvaluationWaits
from dspex.evaluate.events import EvaluationGoesOn as EvaluationGoesOn
from dspex.evaluate.events import EvaluationEnded as EvaluationEnded

# Errors.
from dspex.evaluate.errors import EvaluationError as EvaluationError
from dspex.evaluate.errors import NoExamples as NoExamples
from dspex.evaluate.errors import OtherEvaluation as OtherEvaluation
from dspex.evaluate.errors import EvaluationJournalError as EvaluationJournalError
from dspex.evaluate.errors import EvaluationFailed as EvaluationFailed
from dspex.evaluate.errors import EvaluationRefused as EvaluationRefused
from dspex.evaluate.errors import EvaluationOverBudget as EvaluationOverBudget
from dspex.evaluate.errors import EvaluationSuspended as EvaluationSuspended
from dspex.evaluate.errors import NotComparable as NotComparable
