"""TODO dspex.models."""
