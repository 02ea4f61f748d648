"""Every public awaitable of the platform, interrupted at every point where it waits; and given nasty arguments."""

from tests.foundation.interrupted import coordination as coordination
from tests.foundation.interrupted import kept as kept
from tests.foundation.interrupted import protection as protection
from tests.foundation.interrupted import together as together
from tests.foundation.interrupted.table import TABLE as TABLE
