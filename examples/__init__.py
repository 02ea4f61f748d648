"""Small things that run, each of them also under test."""
