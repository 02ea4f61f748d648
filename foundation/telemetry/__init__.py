"""What is known of work on its way through many actors: the facts bound to it, and its trace.

`bound` and `CarryContext` need nothing else; `foundation.telemetry.tracing` needs ``opentelemetry-api`` (the extra
``otel``).
"""

from foundation.telemetry.context import CarryContext as CarryContext
from foundation.telemetry.context import bound as bound
from foundation.telemetry.context import facts as facts
from foundation.telemetry.context import facts_of as facts_of
from foundation.telemetry.context import request as request
