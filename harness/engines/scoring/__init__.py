"""Token ids in, nats out."""
