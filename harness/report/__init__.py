"""A run as one HTML file: what was measured, what changed, why it failed. Computes no statistics of its own."""
