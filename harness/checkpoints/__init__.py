"""Finding, ordering, identifying and opening checkpoints."""
