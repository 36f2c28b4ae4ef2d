"""Files of simulations, upstream's and ours: read, rescored, converted."""
