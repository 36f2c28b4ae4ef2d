"""Verdict, cause and review of a simulation."""
