"""TODO agents.core."""
