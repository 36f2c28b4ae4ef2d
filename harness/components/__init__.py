"""One file per kind of component: what joins a task, an engine and a reward model behind the protocol."""
