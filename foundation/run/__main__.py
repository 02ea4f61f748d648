"""``python -m foundation.run``."""

from foundation.run.command import run

if __name__ == "__main__":
    run()
