"""Durable workflows: the ground under whatever takes long, costs money, and must not be done twice."""
