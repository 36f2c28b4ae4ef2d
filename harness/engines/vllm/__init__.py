"""A managed vLLM server: finding, starting, watching and ending it, and swapping checkpoints on it. vLLM itself is another process,
usually in another environment; nothing here imports it."""
