"""Where checkpoints are measured: in this process, or by several of them."""
