"""Log-probabilities of a field's answers."""
