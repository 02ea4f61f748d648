"""The test kit: a loop with virtual time, so that tests of time-outs, windows and back-offs neither sleep nor flake."""

from supervision.testing.barrier import barrier as barrier
from supervision.testing.barrier import settled as settled
from supervision.testing.virtual_clock import VirtualClockLoop as VirtualClockLoop
from supervision.testing.virtual_clock import VirtualClockPolicy as VirtualClockPolicy
from supervision.testing.virtual_clock import advance as advance
from supervision.testing.virtual_clock import run as run
