"""Everything that touches DSPy's inside: what is not in its documentation, or differs between its versions.

Written against DSPy 3.4. The rest of the package uses public names (``dspy.X``) and this one.
"""

from dspex._compat.answering import INFRASTRUCTURE as INFRASTRUCTURE
from dspex._compat.answering import Answering as Answering
from dspex._compat.answering import answering_lm as answering_lm
from dspex._compat.answering import dump_response as dump_response
from dspex._compat.answering import fingerprint as fingerprint
from dspex._compat.answering import is_infrastructure as is_infrastructure
from dspex._compat.answering import load_response as load_response
from dspex._compat.answering import retry_hint as retry_hint
from dspex._compat.engines import ChatDoor as ChatDoor
from dspex._compat.engines import chat_messages as chat_messages
from dspex._compat.engines import http_error as http_error
from dspex._compat.engines import lm15 as lm15
from dspex._compat.engines import plain_response as plain_response
from dspex._compat.engines import streamed_words as streamed_words
from dspex._compat.engines import text_of as text_of
from dspex._compat.engines import with_capability_planning as with_capability_planning
from dspex._compat.programs import annotation_allows_none as annotation_allows_none
from dspex._compat.programs import apply_output_field_defaults as apply_output_field_defaults
from dspex._compat.programs import description as description
from dspex._compat.programs import format_field_value as format_field_value
from dspex._compat.programs import get_annotation_name as get_annotation_name
from dspex._compat.programs import is_async as is_async
from dspex._compat.programs import label as label
from dspex._compat.programs import parse_value as parse_value
from dspex._compat.programs import untyped as untyped
from dspex._compat.routed import Routed as Routed
from dspex._compat.routed import bare_acall as bare_acall
from dspex._compat.routed import bare_call as bare_call
from dspex._compat.routed import routed_class as routed_class
from dspex._compat.routed import unrouted as unrouted
from dspex._compat.settings import adopt as adopt
from dspex._compat.settings import inside_of as inside_of
from dspex._compat.settings import overrides as overrides
from dspex._compat.settings import run_settings as run_settings
from dspex._compat.settings import settings as settings
from dspex._compat.settings import start_in as start_in
from dspex._compat.streaming import StreamedPiece as StreamedPiece
from dspex._compat.streaming import is_streamed as is_streamed
from dspex._compat.streaming import passing_pieces as passing_pieces
from dspex._compat.streams import relayed as relayed
from dspex._compat.teleprompters import append_a_demo as append_a_demo
from dspex._compat.teleprompters import append_a_rule as append_a_rule
from dspex._compat.teleprompters import demo_sets as demo_sets
from dspex._compat.teleprompters import prepare_models_for_resampling as prepare_models_for_resampling
from dspex._compat.teleprompters import propose_instructions as propose_instructions
from dspex._compat.usage import Bill as Bill
from dspex._compat.usage import Meter as Meter
from dspex._compat.usage import Metered as Metered
from dspex._compat.usage import metered as metered
from dspex._compat.usage import note_usage as note_usage
from dspex._compat.usage import tracks_alone as tracks_alone
