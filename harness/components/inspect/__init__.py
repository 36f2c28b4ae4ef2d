"""Tasks of Inspect AI."""
