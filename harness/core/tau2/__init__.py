"""What both halves of tau2-bench speak of: tasks, simulations, end states. Records only; no tools, no scoring."""
