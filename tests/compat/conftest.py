"""Fixtures of the tests of compatibility. With them comes a folder of their own for DSPy's cache."""

from tests.dspex.conftest import quiet as quiet
