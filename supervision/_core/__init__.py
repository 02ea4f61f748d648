"""TODO supervision._core."""
