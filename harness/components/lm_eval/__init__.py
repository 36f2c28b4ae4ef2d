"""Benchmarks of lm-eval."""
