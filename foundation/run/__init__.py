"""The command: ``python -m foundation.run [TREE]`` starts a supervision tree and keeps it running."""

from foundation.run.command import main as main
from foundation.run.command import run as run
