"""tau2-bench: domains, their tasks, tools and databases, and what happens to them. No scoring, no model."""
