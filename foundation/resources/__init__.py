"""Resources: limits, what is used of them, pressure, and leases that are tied to the life of who holds them."""

# What a caller uses.
from foundation.resources.resources import Resource as Resource
from foundation.resources.resources import Lease as Lease

# The actor that measures, for a tree, and its limits.
from foundation.resources.resources import Resources as Resources
from foundation.resources.limits import Limit as Limit
from foundation.resources.limits import Level as Level

# What they raise.
from foundation.resources.errors import ResourceError as ResourceError
from foundation.resources.errors import ResourceExhausted as ResourceExhausted
from foundation.resources.errors import Overloaded as Overloaded
