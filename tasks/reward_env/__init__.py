"""The fields of the log-prob reward environment, as lm-eval YAML tasks and as loaders of (q, r) pairs."""
