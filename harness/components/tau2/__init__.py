"""Domains of tau2-bench."""
