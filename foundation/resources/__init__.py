"""Resources: limits, what is used of them, pressure, and tokens that are tied to the life of who holds them."""

from foundation.resources.errors import Overloaded as Overloaded
from foundation.resources.errors import ResourceError as ResourceError
from foundation.resources.errors import ResourceExhausted as ResourceExhausted
from foundation.resources.pressure import Level as Level
from foundation.resources.pressure import Limit as Limit
from foundation.resources.resources import Resource as Resource
from foundation.resources.resources import Resources as Resources
from foundation.resources.resources import Token as Token
