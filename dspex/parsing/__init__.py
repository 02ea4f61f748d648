"""What is done about an answer of a language model that cannot be read, or a prompt that is too long for it.

`steps` has the policy, as values; `lenient` reads answers that miss their form by little, for nothing; `adapter` gives
an adapter of DSPy the policy; `errors` and `events` say what came of it.
"""

from dspex.parsing.adapter import guarded as guarded
from dspex.parsing.errors import AnswerRefused as AnswerRefused
from dspex.parsing.errors import PromptTooLong as PromptTooLong
from dspex.parsing.errors import UnparsedAnswer as UnparsedAnswer
from dspex.parsing.events import AnswerRepaired as AnswerRepaired
from dspex.parsing.events import AnswerUnparsed as AnswerUnparsed
from dspex.parsing.steps import NextModel as NextModel
from dspex.parsing.steps import MoreTokens as MoreTokens
from dspex.parsing.steps import OnUnparsed as OnUnparsed
from dspex.parsing.steps import OtherAdapter as OtherAdapter
from dspex.parsing.steps import Reask as Reask
from dspex.parsing.steps import Repair as Repair
from dspex.parsing.steps import Shorten as Shorten
