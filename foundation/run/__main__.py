"""``python -m foundation.run``."""

import sys

from foundation.run.command import main

if __name__ == "__main__":
    sys.exit(main())
