"""tau2-bench simulations: joins domains (tasks/tau2) and rewards (reward_models/tau2), which do not know each other."""
