"""Specs: the YAML, its rows made ready, the table of component kinds."""
