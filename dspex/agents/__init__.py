"""TODO dspex.agents."""
