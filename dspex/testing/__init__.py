"""For tests: DSPy's own tests through agents (`dspex.testing.route`), and language models whose course is known."""
