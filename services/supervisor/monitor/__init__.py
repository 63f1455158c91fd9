"""The monitor: the one process that owns a sandbox from its start to its end."""
