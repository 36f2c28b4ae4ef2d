"""What runs a model. torch is imported here and nowhere else."""
