"""Benchmarks: the paper's suites as a table, lm-eval's tasks built for them, the scores of answers, and a sandbox for programs."""
