"""What runs a model. Of what measures, only this room imports torch."""
