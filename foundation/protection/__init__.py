"""Protection: what stands between a caller and something that fails, is slow, or must not be asked too often.

Each guard can be used alone (``await guard.call(function, ...)``), as a decorator (``@guard``), around an address
(``guard.around(ref).call(request)``), or together with others in a `Policy`. What is guarded runs in the caller's task.
"""

# Several guards around one call.
from foundation.protection.policy import Policy as Policy

# After a failure, or beside a slow attempt.
from foundation.protection.retry import Retry as Retry
from foundation.protection.retry import RetryBudget as RetryBudget
from foundation.protection.retry import Hedge as Hedge

# Circuit breakers, and the actor that watches over them.
from foundation.protection.breaker import CircuitBreaker as CircuitBreaker
from foundation.protection.breaker import BreakerOptions as BreakerOptions
from foundation.protection.breaker import Breakers as Breakers

# How often, how many at once, how long.
from foundation.protection.limits import RateLimit as RateLimit
from foundation.protection.limits import Bulkhead as Bulkhead
from foundation.protection.limits import TimeLimit as TimeLimit

# For guards of one's own.
from foundation.protection.guard import Guard as Guard
from foundation.protection.guard import Guarded as Guarded

# What they raise.
from foundation.protection.errors import ProtectionError as ProtectionError
from foundation.protection.errors import CircuitOpen as CircuitOpen
from foundation.protection.errors import RateLimited as RateLimited
from foundation.protection.errors import BulkheadFull as BulkheadFull
from foundation.protection.errors import TimeLimitExceeded as TimeLimitExceeded
