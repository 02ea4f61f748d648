"""``python -m dspex.evaluate``."""

from dspex.evaluate.command import end_process, main

if __name__ == "__main__":
    end_process(main())
