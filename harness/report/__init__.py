"""A run as one HTML file that people read: what was measured, what changed, why it failed. Computes no statistics of its own."""
