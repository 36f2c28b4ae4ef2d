"""Clients of models that answer: the wire format, retries, served checkpoints."""
