"""Runs of simulations and their folders."""
