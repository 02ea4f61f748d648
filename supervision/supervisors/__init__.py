"""TODO supervision.supervisors."""
