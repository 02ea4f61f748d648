"""The event loop whose time jumps to the next timer when nothing else can happen.

- `virtual_loop`: the loop, `run` and `advance`, and the errors for what would wait for ever.
- `_threads` and `_files`: whether a thread, a process or a connection works for the loop, so that time must not jump.
- `_waiting`: what waits on a loop, and where, for errors and logs.

The loop asks the three private parts; they know Python's own waits, and the kernel's, but not the loop.
"""
