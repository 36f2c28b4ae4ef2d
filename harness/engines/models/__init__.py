"""Models in memory: loaded, kept over a sweep, staged ahead, or live in a trainer."""
