"""TODO supervision.testing.interruptions."""
