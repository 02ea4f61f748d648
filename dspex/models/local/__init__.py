"""The embedded language model: a small real model, served by an operating-system process of its own."""
