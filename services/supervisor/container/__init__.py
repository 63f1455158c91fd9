"""Containers as the OCI runtime specification has them: states, what is on disk about them, hooks."""
