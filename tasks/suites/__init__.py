"""Benchmarks: the paper's suites as a table, lm-eval's tasks built for them, and what their answers are worth."""
