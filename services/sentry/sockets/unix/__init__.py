"""Unix domain sockets (unix(7))."""
