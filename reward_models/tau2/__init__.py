"""The reward of a tau2 simulation: five components, their combination, and means over tasks. Pure arithmetic."""
