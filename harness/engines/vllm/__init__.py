"""A managed vLLM server: found, started, watched, swapped between checkpoints, and reaped whatever happens. vLLM itself is
another process in, most often, another environment; nothing here imports it."""
