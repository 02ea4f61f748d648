"""Everything that touches DSPy's inside: what is not in its documentation, or differs between its versions.

Written against DSPy 3.4. The rest of the package uses public names (``dspy.X``) and this one, so that a new version of
DSPy is a change here:

- `programs`: programs whose calls go to a dispatcher, and the fields of their signatures;
- `language_models`: models whose requests another component answers, and `engines`: requests, answers and errors;
- `attempts`: what is asked of engines, observed below retries and cache;
- `settings`, `streaming`, `usage`: what surrounds a call, and what it costs;
- `classes`, `definitions`, `remote`: what crosses a process, and the proxies in the other one;
- `parsing`: what surrounds the reading of an answer, and `choices`, how probable it was;
- `teleprompters`: parts of DSPy's optimisers; `evaluation`: how these try programs on examples.
"""

from dspex._compat.attempts import OBSERVER as OBSERVER
from dspex._compat.attempts import UNPARSED as UNPARSED
from dspex._compat.attempts import Attempt as Attempt
from dspex._compat.attempts import Attempted as Attempted
from dspex._compat.attempts import Observer as Observer
from dspex._compat.attempts import error_name as error_name
from dspex._compat.attempts import observer as observer
from dspex._compat.attempts import usage_figures as usage_figures
from dspex._compat.choices import ToldChoice as ToldChoice
from dspex._compat.classes import DSPY_CLASSES as DSPY_CLASSES
from dspex._compat.classes import HANDLERS as HANDLERS
from dspex._compat.classes import annotation_parts as annotation_parts
from dspex._compat.classes import checked_request as checked_request
from dspex._compat.classes import declared_by as declared_by
from dspex._compat.classes import hints_of as hints_of
from dspex._compat.classes import is_module as is_module
from dspex._compat.classes import is_part as is_part
from dspex._compat.classes import is_shared as is_shared
from dspex._compat.classes import is_signature as is_signature
from dspex._compat.classes import made_annotation as made_annotation
from dspex._compat.classes import made_signature as made_signature
from dspex._compat.classes import signature_parts as signature_parts
from dspex._compat.definitions import same_state as same_state
from dspex._compat.definitions import signature_state as signature_state
from dspex._compat.engines import ChatEndpoint as ChatEndpoint
from dspex._compat.engines import chat_messages as chat_messages
from dspex._compat.engines import http_error as http_error
from dspex._compat.engines import lm15 as lm15
from dspex._compat.engines import plain_response as plain_response
from dspex._compat.engines import streamed_words as streamed_words
from dspex._compat.engines import text_of as text_of
from dspex._compat.engines import with_capability_planning as with_capability_planning
from dspex._compat.evaluation import ItemOutcome as ItemOutcome
from dspex._compat.evaluation import taken_over as taken_over
from dspex._compat.evaluation import watched as watched
from dspex._compat.language_models import CLIENT_KEYS as CLIENT_KEYS
from dspex._compat.language_models import INFRASTRUCTURE as INFRASTRUCTURE
from dspex._compat.language_models import LM_ERRORS as LM_ERRORS
from dspex._compat.language_models import OVERLOADED as OVERLOADED
from dspex._compat.language_models import UNREACHABLE as UNREACHABLE
from dspex._compat.language_models import DirectLM as DirectLM
from dspex._compat.language_models import delegating_lm as delegating_lm
from dspex._compat.language_models import dump_response as dump_response
from dspex._compat.language_models import engine_lm as engine_lm
from dspex._compat.language_models import fingerprint as fingerprint
from dspex._compat.language_models import is_away as is_away
from dspex._compat.language_models import is_greedy as is_greedy
from dspex._compat.language_models import is_infrastructure as is_infrastructure
from dspex._compat.language_models import is_refused as is_refused
from dspex._compat.language_models import load_response as load_response
from dspex._compat.language_models import retry_hint as retry_hint
from dspex._compat.parsing import PARSING as PARSING
from dspex._compat.parsing import THOUGHTS as THOUGHTS
from dspex._compat.parsing import FinishReason as FinishReason
from dspex._compat.parsing import fallback_scope as fallback_scope
from dspex._compat.parsing import next_models as next_models
from dspex._compat.parsing import parsing_reporter as parsing_reporter
from dspex._compat.programs import OWN_ARGUMENTS as OWN_ARGUMENTS
from dspex._compat.programs import PART_MARK as PART_MARK
from dspex._compat.programs import Routed as Routed
from dspex._compat.programs import annotation_allows_none as annotation_allows_none
from dspex._compat.programs import apply_output_field_defaults as apply_output_field_defaults
from dspex._compat.programs import bare_acall as bare_acall
from dspex._compat.programs import bare_call as bare_call
from dspex._compat.programs import description as description
from dspex._compat.programs import entry_point as entry_point
from dspex._compat.programs import format_field_value as format_field_value
from dspex._compat.programs import get_annotation_name as get_annotation_name
from dspex._compat.programs import inner_program as inner_program
from dspex._compat.programs import is_async as is_async
from dspex._compat.programs import is_own as is_own
from dspex._compat.programs import is_predicted_outputs as is_predicted_outputs
from dspex._compat.programs import label as label
from dspex._compat.programs import parse_value as parse_value
from dspex._compat.programs import routed_class as routed_class
from dspex._compat.programs import unrouted as unrouted
from dspex._compat.programs import untyped as untyped
from dspex._compat.programs import written_as_text as written_as_text
from dspex._compat.remote import active_call_id as active_call_id
from dspex._compat.remote import call_back as call_back
from dspex._compat.remote import describe_lm as describe_lm
from dspex._compat.remote import BaseCallback as BaseCallback
from dspex._compat.remote import is_callback as is_callback
from dspex._compat.remote import is_language_model as is_language_model
from dspex._compat.remote import is_proxy as is_proxy
from dspex._compat.remote import module_paths as module_paths
from dspex._compat.remote import note_cache_hit as note_cache_hit
from dspex._compat.remote import note_history as note_history
from dspex._compat.remote import note_trace as note_trace
from dspex._compat.remote import note_unparsed as note_unparsed
from dspex._compat.remote import note_usage_of as note_usage_of
from dspex._compat.remote import proxy_callback as proxy_callback
from dspex._compat.remote import proxy_lm as proxy_lm
from dspex._compat.remote import remote_settings as remote_settings
from dspex._compat.remote import send_piece as send_piece
from dspex._compat.remote import settings_to_send as settings_to_send
from dspex._compat.remote import under_call as under_call
from dspex._compat.settings import inside_of as inside_of
from dspex._compat.settings import load_configured as load_configured
from dspex._compat.settings import overrides as overrides
from dspex._compat.settings import run_callbacks as run_callbacks
from dspex._compat.settings import run_settings as run_settings
from dspex._compat.settings import settings as settings
from dspex._compat.streaming import StreamedPiece as StreamedPiece
from dspex._compat.streaming import is_streamed as is_streamed
from dspex._compat.streaming import passing_pieces as passing_pieces
from dspex._compat.streaming import relayed as relayed
from dspex._compat.teleprompters import append_a_demo as append_a_demo
from dspex._compat.teleprompters import append_a_rule as append_a_rule
from dspex._compat.teleprompters import demo_sets as demo_sets
from dspex._compat.teleprompters import HasSeveralModels as HasSeveralModels
from dspex._compat.teleprompters import models_for_sampling as models_for_sampling
from dspex._compat.teleprompters import propose_instructions as propose_instructions
from dspex._compat.usage import CostHistory as CostHistory
from dspex._compat.usage import Meter as Meter
from dspex._compat.usage import Metered as Metered
from dspex._compat.usage import abandon_run as abandon_run
from dspex._compat.usage import answer_cost as answer_cost
from dspex._compat.usage import bounded_history as bounded_history
from dspex._compat.usage import charge as charge
from dspex._compat.usage import metered as metered
from dspex._compat.usage import note_usage as note_usage
from dspex._compat.usage import request_size as request_size
from dspex._compat.usage import token_price as token_price
from dspex._compat.usage import tracks_alone as tracks_alone
from dspex._compat.usage import wait_wanted as wait_wanted
