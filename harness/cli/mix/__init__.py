"""Verbs of the mixing agent."""
