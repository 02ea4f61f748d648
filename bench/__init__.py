"""Benchmarks: each figure is measured beside its raw limit, in the same process and run."""
