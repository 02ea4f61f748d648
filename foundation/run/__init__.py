"""The command: ``python -m foundation.run [TREE]`` starts a supervision tree and keeps it running."""

# The command, as a process of its own and inside of one.
from foundation.run.command import run as run
from foundation.run.command import main as main
