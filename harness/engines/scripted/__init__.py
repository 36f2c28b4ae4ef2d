"""Models that follow a script, in process and over HTTP."""
