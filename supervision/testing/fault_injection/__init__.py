"""TODO supervision.testing.fault_injection."""
