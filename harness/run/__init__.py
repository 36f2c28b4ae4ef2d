"""Everything about a run folder: what is measured into it, and what is known before it is."""
