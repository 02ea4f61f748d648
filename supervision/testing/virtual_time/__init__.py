"""TODO supervision.testing.virtual_time."""
