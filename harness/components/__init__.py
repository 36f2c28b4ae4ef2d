"""A folder per kind of component: each joins a task, an engine and a reward model behind the protocol."""
