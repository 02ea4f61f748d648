"""Tests of served teams, on virtual time."""
