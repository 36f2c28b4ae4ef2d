"""tau2-bench: domains, their tasks, tools and databases, recordings and their replay. No scoring, no model."""
