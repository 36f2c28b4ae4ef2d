"""Records, protocols and errors that every room shares. Imports nothing else of ours."""
