"""A reference mixing agent and what it needs: domain spaces, trajectories to learn from. Imported by the command line alone."""
