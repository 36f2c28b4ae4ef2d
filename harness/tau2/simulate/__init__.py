"""Agent, user and environment take turns."""
