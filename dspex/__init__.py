# ruff: noqa: E402  # whose the packages are is looked at before they are imported
"""DSPy programs as supervised agents, with a small real language model that runs offline.

- `dspex.agents` runs programs for their callers; `dspex.serving` serves them under a name.
- `dspex.models` has language models: the gateway, and the embedded one.
- `dspex.workflow` has durable steps; `dspex.teleprompt` has optimisers that stand on them.
- `dspex.variables` says what of a program can be chosen.
- `dspex.testing` has DSPy's own tests through agents, and language models whose answers are scripted.
"""

from foundation.installation import require_own

require_own("supervision", "agents", "bridge")

try:
    import dspy as dspy
except ModuleNotFoundError as error:
    if error.name != "dspy":
        raise
    raise ModuleNotFoundError("dspex needs DSPy; run: pip install 'foundation-otp[dspy]'", name="dspy") from error

# Programs as supervised agents.
from dspex.agents.agent import agent as agent
from dspex.agents.agent import start_program_agent as start_program_agent
from dspex.agents.pool import start_program_pool as start_program_pool
from dspex.agents.background import agents_supervisor as agents_supervisor
from dspex.agents.agent import proxy as proxy

# Programs that are served under a name, and their versions.
from dspex.serving.program import ProgramActor as ProgramActor
from dspex.serving.pool import ProgramPool as ProgramPool
from foundation.programs import Swap as Swap
from foundation.programs import UseVersion as UseVersion
from foundation.programs import ListVersions as ListVersions
from foundation.programs import Version as Version

# Language models.
from dspex.models.selection import language_model as language_model
from dspex.models.gateway import Gateway as Gateway
from dspex.models.gateway import gateway_lm as gateway_lm
from dspex.models.local.server import LanguageModelServer as LanguageModelServer
from dspex.models.local.adapter import CompactAdapter as CompactAdapter

# What is done about answers that cannot be read.
from dspex.parsing import AnswerRefused as AnswerRefused
from dspex.parsing import AnswerRepaired as AnswerRepaired
from dspex.parsing import AnswerUnparsed as AnswerUnparsed
from dspex.parsing import OnUnparsed as OnUnparsed
from dspex.parsing import PromptTooLong as PromptTooLong
from dspex.parsing import UnparsedAnswer as UnparsedAnswer

# Optimisations as jobs.
from dspex.jobs import BudgetReached as BudgetReached
from dspex.jobs import JobMoved as JobMoved
from dspex.optimise import Optimisations as Optimisations
from dspex.evaluate.actor import Evaluations as Evaluations

# Usage, and events.
from dspex.agents.usage import ProgramRan as ProgramRan
from dspex.serving.model import LanguageModelChosen as LanguageModelChosen
from dspex.serving.versions import VersionChanged as VersionChanged
from dspex.serving.versions import VersionSkipped as VersionSkipped
from dspex.agents.usage import ProgramUsage as ProgramUsage
from dspex.agents.usage import UsageTotals as UsageTotals

# Errors.
from dspex.agents.dispatcher import AgentDown as AgentDown
from dspex.agents.dispatcher import ProgramTimeout as ProgramTimeout
from dspex.agents.dispatcher import ProgramOverloaded as ProgramOverloaded
from dspex.agents.concurrency import ProgramCancelled as ProgramCancelled
from dspex.agents.process import NotSendable as NotSendable
from dspex.agents.agent import BadProgram as BadProgram
from foundation.programs import BadVersion as BadVersion
from dspex.models.selection import BadSetting as BadSetting
from dspex.models.local.weights import ModelMissing as ModelMissing
from dspex.models.local.server import NotServing as NotServing

from dspex._compat import INFRASTRUCTURE as _INFRASTRUCTURE
from dspex._compat import is_refused as _is_refused
from dspex.workflow.retry import count_as_refusal as _count_as_refusal
from dspex.workflow.retry import count_as_transient as _count_as_transient

# The workflows' own code does not know DSPy.
_count_as_transient(*_INFRASTRUCTURE)
_count_as_refusal(_is_refused)

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
