"""For tests: a scripted engine, a pytest plugin that routes calls through agents, and a command that compares.

- `engine` has language models whose answers are scripted.
- `route` is the plugin; `compat` runs tests with it and without, and compares what becomes of them.
"""
