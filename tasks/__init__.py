"""What is measured: fields, benchmarks, domains. Imports nothing of reward_models or engines."""
