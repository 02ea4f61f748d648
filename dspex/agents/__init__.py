"""Programs that run for their callers in supervised actors.

A call goes from the program that the caller holds to the actor that runs it:

- `agent` starts an agent for a program, and returns the program, whose calls go to the agent; `pool` does so for
  several agents. They know everything below.
- `background` has a runtime on a thread, for code without an event loop.
- `dispatcher` sends a call to the agent, waits for a restart, and says what went wrong. It knows the request of
  `runner`, and not what answers it.
- `runner` is the actor: it runs a module in a task or a thread, in the context of its caller. `concurrency` limits how
  many run at the same time, and `usage` has what they have used.
- `process` is the same in an OS process; its actor is a `runner.ProgramRunner`. `agent` and `pool` choose it by
  ``isolation="process"``, which is why these two folders know each other.

Programs that are served under a name are in `dspex.serving`, on top of this.
"""
