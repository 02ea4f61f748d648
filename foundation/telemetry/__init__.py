"""What is known of work on its way through many actors: the facts bound to it, and its trace.

`bound` and `ContextPropagator` need nothing else; `foundation.telemetry.tracing` needs ``opentelemetry-api`` (the extra
``otel``).
"""

# Facts bound to a piece of work: into logs, spans and errors.
from foundation.telemetry.context import bound as bound
from foundation.telemetry.context import facts as facts
from foundation.telemetry.context import facts_of as facts_of
from foundation.telemetry.context import has_private_text as has_private_text
from foundation.telemetry.context import keep_text_private as keep_text_private

# What makes them travel with messages, and come in with a request.
from foundation.telemetry.context import ContextPropagator as ContextPropagator
from foundation.telemetry.context import incoming_request as incoming_request
