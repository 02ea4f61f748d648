# ruff: noqa: E402  # whose the packages are is looked at before they are imported
"""DSPy programs as supervised agents, with a small real language model that runs offline."""

from foundation.installation import require_own

require_own("supervision", "agents", "bridge")

try:
    import dspy as dspy
except ModuleNotFoundError as error:
    if error.name != "dspy":
        raise
    raise ModuleNotFoundError("dspex needs DSPy; run: pip install 'foundation-otp[dspy]'", name="dspy") from error

from dspex._compat import INFRASTRUCTURE as _INFRASTRUCTURE
from dspex.agent import agent as agent
from dspex.agent import proxy as proxy
from dspex.agent import start_agent as start_agent
from dspex.door import Door as Door
from dspex.errors import AgentDown as AgentDown
from dspex.errors import AgentTimeout as AgentTimeout
from dspex.errors import MailboxFull as MailboxFull
from dspex.gateway import Gateway as Gateway
from dspex.gateway import gateway_lm as gateway_lm
from dspex.home import Home as Home
from dspex.home import default_home as default_home
from dspex.interface import Contract as Contract
from dspex.language_model import language_model as language_model
from dspex.lm import BadSetting as BadSetting
from dspex.lm import Selected as Selected
from dspex.lm import embedded as embedded
from dspex.lm import select as select
from dspex.local.adapter import CompactAdapter as CompactAdapter
from dspex.local.address import LANGUAGE_MODEL as LANGUAGE_MODEL
from dspex.local.address import Locator as Locator
from dspex.local.address import NotServing as NotServing
from dspex.local.choice import AsyncChoiceEngine as AsyncChoiceEngine
from dspex.local.choice import ChoiceEngine as ChoiceEngine
from dspex.local.model_file import ModelMissing as ModelMissing
from dspex.local.model_file import find_model as find_model
from dspex.local.server import Endpoint as Endpoint
from dspex.local.server import LanguageModelServer as LanguageModelServer
from dspex.pool import PoolDoor as PoolDoor
from dspex.pool import start_pool as start_pool
from dspex.process import NotTransferable as NotTransferable
from dspex.process import ProcessRunner as ProcessRunner
from dspex.program import BadProgram as BadProgram
from dspex.program import ProgramActor as ProgramActor
from dspex.program_pool import ProgramPool as ProgramPool
from dspex.runner import Runner as Runner
from dspex.slots import ProgramCancelled as ProgramCancelled
from dspex.supervisor import agents_supervisor as agents_supervisor
from dspex.usage import Accounts as Accounts
from dspex.usage import ProgramRan as ProgramRan
from dspex.usage import Usage as Usage
from dspex.usage import VersionChanged as VersionChanged
from dspex.workflow.retry import count_as_transient as _count_as_transient
from foundation.versions import BadVersion as BadVersion
from foundation.versions import ListVersions as ListVersions
from foundation.versions import Swap as Swap
from foundation.versions import UseVersion as UseVersion
from foundation.versions import Version as Version

# The workflows' own code does not know DSPy.
_count_as_transient(*_INFRASTRUCTURE)

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
