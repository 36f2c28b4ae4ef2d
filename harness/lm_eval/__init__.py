"""All that lm-eval loads or writes: the model, tau2's tasks, result files."""
