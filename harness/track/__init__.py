"""Experiment trackers: every vector of a run, written to wandb, trackio, TensorBoard or mlflow as well. Decides nothing about a run."""
