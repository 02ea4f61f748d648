"""Imported once by the fork server of `bench.rollout_kills`, so that its processes begin with DSPy imported."""

from importlib import import_module

for name in ("dspy", "dspex"):
    import_module(name)
