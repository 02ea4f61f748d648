"""TODO dspex.serving."""
